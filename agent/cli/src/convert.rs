//! `mailready convert`: ask the agent, watch, tell.

use mailready_bus::{AgentProxy, Answer, ConvertOptions, Converted, Error};
use tokio::signal::ctrl_c;

use crate::args::ConvertArgs;
use crate::exit::{Exit, Failure};
use crate::progress::{Bars, watch};
use crate::{json, terminal};

pub(crate) async fn run(agent: &AgentProxy<'_>, args: ConvertArgs) -> Result<Exit, Failure> {
    // Listening begins before the request, so that no change falls between them.
    let changes = agent.receive_mailbox_changed().await.map_err(Error::ZBus)?;
    let users: Vec<&str> = args.users.iter().map(String::as_str).collect();
    let options = ConvertOptions {
        all: args.all.then_some(true),
        wait: args.wait.then_some(true),
        dry_run: args.dry_run.then_some(true),
    };
    let mut bars = Bars::new();
    let answers = tokio::select! {
        answers = agent.convert(&users, options) => answers?,
        never = watch(changes, &mut bars) => match never {},
        _ = ctrl_c() => {
            terminal::complain("mailready: no longer watching; the agent goes on (`mailready status`)");
            return Ok(Exit::Interrupted);
        }
    };
    drop(bars);
    if args.json {
        let users = answers.iter().map(Into::into).collect();
        json::print(&json::ConvertOutput { version: json::VERSION, users });
    } else {
        for answer in &answers {
            terminal::say(&line(answer));
        }
        if answers.is_empty() {
            terminal::complain(
                "mailready: the configuration allows nobody (users.convert), so there was nobody to convert",
            );
        }
    }
    Ok(exit(&answers, args.dry_run))
}

fn line(answer: &Converted) -> String {
    let word = match answer.known_answer() {
        Some(Answer::Converted) => "converted",
        Some(Answer::Already) => "on Maildir already",
        Some(Answer::WouldConvert) => "could be converted",
        _ => &answer.answer,
    };
    match answer.text.as_str() {
        "" => format!("{}: {word}", answer.user),
        // "held: held by root" says it twice.
        text if text.starts_with(word) => format!("{}: {text}", answer.user),
        text => format!("{}: {word}: {text}", answer.user),
    }
}

/// Zero only when all are where they were to be. Otherwise what needs a person outweighs what passes by itself: a
/// script that tries again on 75 must not do so for ever.
fn exit(answers: &[Converted], dry_run: bool) -> Exit {
    let is_fine = |answer: Option<Answer>| match answer {
        Some(Answer::WouldConvert) => dry_run,
        Some(answer) => answer.is_on_maildir(),
        None => false,
    };
    let passes = |answer: Option<Answer>| {
        matches!(answer, Some(Answer::Waiting | Answer::Failed | Answer::Stopped)) || is_fine(answer)
    };
    let known: Vec<_> = answers.iter().map(Converted::known_answer).collect();
    if known.iter().all(|answer| is_fine(*answer)) {
        Exit::Ok
    } else if known.iter().all(|answer| passes(*answer)) {
        Exit::Temporary
    } else {
        Exit::Data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(answers: &[Answer], dry_run: bool) -> Exit {
        let answers: Vec<_> = answers.iter().map(|a| Converted::new("ann", *a, "")).collect();
        exit(&answers, dry_run)
    }

    #[test]
    fn only_all_on_maildir_is_success() {
        use Answer::*;
        assert_eq!(exit_of(&[Converted, Already], false), Exit::Ok);
        assert_eq!(exit_of(&[Converted, Waiting], false), Exit::Temporary);
        assert_eq!(exit_of(&[Waiting, Blocked, Converted], false), Exit::Data);
        assert_eq!(exit_of(&[Held], false), Exit::Data);
        assert_eq!(exit_of(&[WouldConvert, Already], true), Exit::Ok);
        assert_eq!(exit_of(&[WouldConvert], false), Exit::Data);
        let unknown =
            super::Converted { user: "ann".into(), answer: "teleported".into(), text: String::new() };
        assert_eq!(exit(&[unknown], false), Exit::Data, "a word we do not know is no success");
    }
}
