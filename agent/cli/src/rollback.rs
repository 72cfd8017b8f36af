//! `mailready rollback`: ask, ask the agent, watch, tell.

use std::collections::HashMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use mailready_bus::{AgentProxy, Answer, Converted, Error, State};
use tokio::signal::ctrl_c;

use crate::args::RollbackArgs;
use crate::exit::{Exit, Failure};
use crate::progress::{Bars, watch};
use crate::{agent, json, terminal};

pub(crate) fn run(config: Option<&Path>, args: RollbackArgs) -> Result<Exit, Failure> {
    agent::with(config, async |agent| {
        let users = if args.all { on_maildir(&agent).await? } else { args.users.clone() };
        if users.is_empty() {
            terminal::complain("mailready: nobody is on Maildir, so there is nobody to roll back");
            return Ok(Exit::Ok);
        }
        if !args.yes && !is_sure(&users)? {
            return Ok(Exit::Interrupted);
        }
        let answers = tokio::select! {
            answers = roll_back(&agent, &users) => answers?,
            _ = ctrl_c() => {
                terminal::complain("mailready: no longer watching; the agent finishes what it has begun (`mailready status`)");
                return Ok(Exit::Interrupted);
            }
        };
        if args.json {
            let users = answers.iter().map(Into::into).collect();
            json::print(&json::RollbackOutput { version: json::VERSION, users });
        } else {
            for answer in &answers {
                terminal::say(&line(answer));
            }
        }
        Ok(exit(&answers))
    })
}

/// Everybody whose mail is in a Maildir.
async fn on_maildir(agent: &AgentProxy<'_>) -> Result<Vec<String>, Failure> {
    let all = agent::answer(agent.status(&[], HashMap::new())).await?;
    let converted = all.into_iter().filter(|user| user.known_state() == Some(State::Maildir));
    Ok(converted.map(|user| user.user).collect())
}

/// Asks on the terminal. A script has nobody to ask, and has to say `--yes`.
fn is_sure(users: &[String]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "a rollback ends IMAP sessions and makes logins wait for a moment; say --yes where nobody can be asked",
        ));
    }
    let whom = match users {
        [user] => user.clone(),
        [first, .., last] => format!("{} users ({first} ... {last})", terminal::grouped(users.len() as u64)),
        [] => String::new(),
    };
    let question = format!("Give {whom} the mail back as mbox? Open IMAP sessions are ended. [y/N] ");
    let mut answer = String::new();
    let asked = io::stderr()
        .write_all(terminal::shown(&question).as_bytes())
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    Ok(asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// One after the other: each has all of the disk, and the first that goes wrong is seen before the last is begun.
async fn roll_back(agent: &AgentProxy<'_>, users: &[String]) -> Result<Vec<Converted>, Failure> {
    let mut answers = Vec::with_capacity(users.len());
    for user in users {
        // Listening begins before the request, so that no change falls between them.
        let changes = agent.receive_mailbox_changed().await.map_err(Error::ZBus)?;
        let mut bars = Bars::new();
        let answer = tokio::select! {
            answer = agent.rollback(user) => answer,
            never = watch(changes, &mut bars) => match never {},
        };
        match answer {
            Ok(answer) => answers.push(answer),
            // What is wrong with one name does not keep the others from theirs.
            Err(Error::NoSuchUser(text) | Error::AccessDenied(text) | Error::InvalidArgs(text)) => {
                answers.push(Converted::new(user.clone(), Answer::Refused, text));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answers)
}

fn line(answer: &Converted) -> String {
    let word = match answer.known_answer() {
        Some(Answer::RolledBack) => "rolled back to mbox",
        Some(Answer::OnMbox) => "on mbox already",
        _ => &answer.answer,
    };
    match answer.text.as_str() {
        "" => format!("{}: {word}", answer.user),
        text => format!("{}: {word}: {text}", answer.user),
    }
}

/// Zero only when all are on mbox.
fn exit(answers: &[Converted]) -> Exit {
    let known: Vec<_> = answers.iter().map(Converted::known_answer).collect();
    let is_fine = |answer: &Option<Answer>| answer.is_some_and(Answer::is_on_mbox);
    let passes = |answer: &Option<Answer>| {
        is_fine(answer) || matches!(answer, Some(Answer::Waiting | Answer::Failed | Answer::Stopped))
    };
    if known.iter().all(is_fine) {
        Exit::Ok
    } else if known.iter().all(passes) {
        Exit::Temporary
    } else {
        Exit::Data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_on_mbox_is_success() {
        use Answer::*;
        let exit_of = |answers: &[Answer]| {
            let answers: Vec<_> = answers.iter().map(|a| super::Converted::new("ann", *a, "")).collect();
            exit(&answers)
        };
        assert_eq!(exit_of(&[RolledBack, OnMbox]), Exit::Ok);
        assert_eq!(exit_of(&[RolledBack, Waiting]), Exit::Temporary);
        assert_eq!(exit_of(&[Blocked, Waiting]), Exit::Data);
        assert_eq!(exit_of(&[Answer::Converted]), Exit::Data);
    }
}
