//! `mailready verify`: the agent has Dovecot read the originals again; a table of what was found.

use mailready_bus::{AgentProxy, Answer, Checked, Error, Verified};
use tokio::signal::ctrl_c;

use crate::args::VerifyArgs;
use crate::exit::{Exit, Failure};
use crate::{json, terminal};

const HEADS: [&str; 8] = ["USER", "MAILBOXES", "SAME", "GONE SINCE", "LOST", "DAMAGED", "UNKNOWN", "UNSEEN"];

pub(crate) async fn run(agent: &AgentProxy<'_>, args: &VerifyArgs) -> Result<Exit, Failure> {
    let found = tokio::select! {
        found = verify(agent, &args.users) => found?,
        _ = ctrl_c() => return Ok(Exit::Interrupted),
    };
    if args.json {
        let users = found.iter().map(Into::into).collect();
        json::print(&json::VerifyOutput { version: json::VERSION, users });
    } else {
        for line in table(&found).iter().chain(&verdicts(&found)) {
            terminal::say(line);
        }
    }
    Ok(exit(&found))
}

async fn verify(agent: &AgentProxy<'_>, users: &[String]) -> Result<Vec<Verified>, Failure> {
    let mut found = Vec::with_capacity(users.len());
    for user in users {
        found.push(match agent.verify(user).await {
            Ok(verified) => verified,
            Err(Error::NoSuchUser(text) | Error::AccessDenied(text) | Error::InvalidArgs(text)) => {
                Verified::not(user.clone(), Answer::Refused, text)
            }
            Err(error) => return Err(error.into()),
        });
    }
    Ok(found)
}

/// Those that could be checked.
fn table(found: &[Verified]) -> Vec<String> {
    let figures = |checked: &Checked| {
        let Checked { same, gone, lost, damaged, unknown, unseen, mailboxes, .. } = *checked;
        [mailboxes, same, gone, lost, damaged, unknown, unseen]
            .map(|n| n.map_or_else(String::new, terminal::grouped))
    };
    let checked: Vec<_> = found.iter().filter(|each| each.checked.same.is_some()).collect();
    if checked.is_empty() {
        return Vec::new();
    }
    let wide = checked
        .iter()
        .map(|each| terminal::shown(&each.user).chars().count())
        .max()
        .unwrap_or(0)
        .clamp(4, 32);
    let row = |user: &str, cells: [&str; 7]| {
        let mut line = format!("{user:wide$}");
        for (head, cell) in HEADS[1..].iter().zip(cells) {
            line.push_str(&format!("  {cell:>width$}", width = head.len().max(6)));
        }
        line
    };
    let [user, heads @ ..] = HEADS;
    let mut lines = vec![row(user, heads)];
    for each in checked {
        let cells = figures(&each.checked);
        lines.push(row(&terminal::shown(&each.user), cells.each_ref().map(String::as_str)));
    }
    lines
}

fn verdicts(found: &[Verified]) -> Vec<String> {
    let mut lines = Vec::new();
    for Verified { user, answer, checked } in found {
        let missing = checked.missing.unwrap_or(0);
        match Answer::parse(answer) {
            Some(Answer::Verified) => lines.push(format!(
                "{user}: every message that Dovecot shows in the original is in the Maildir, byte for byte, or was deleted since"
            )),
            Some(Answer::Damaged) => lines.push(format!(
                "{user}: NOT all that was in the original is in the Maildir; the journal of mailready-agent names the messages, and the original is kept"
            )),
            Some(Answer::OnMbox) => lines.push(format!("{user}: on mbox, so there is nothing to verify")),
            _ => lines.push(format!("{user}: {answer}: {}", checked.reason.as_deref().unwrap_or("no reason was given"))),
        }
        if missing > 0 {
            lines.push(format!(
                "{user}: the originals of {missing} mailboxes are not there any more; those were not checked"
            ));
        }
    }
    lines
}

/// Zero only if all could be verified and nothing is lost or damaged.
fn exit(found: &[Verified]) -> Exit {
    let known: Vec<_> = found.iter().map(Verified::known_answer).collect();
    if known.iter().all(|answer| matches!(answer, Some(Answer::Verified))) {
        Exit::Ok
    } else if known.iter().all(|answer| {
        matches!(answer, Some(Answer::Verified | Answer::Waiting | Answer::Failed | Answer::Stopped))
    }) {
        Exit::Temporary
    } else {
        Exit::Data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lost: u64) -> Checked {
        Checked {
            same: Some(1204),
            gone: Some(12),
            lost: Some(lost),
            damaged: Some(0),
            unknown: Some(0),
            unseen: Some(0),
            mailboxes: Some(3),
            missing: Some(0),
            reason: None,
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_that_was_checked() {
        let found = [
            Verified::new("ann", Answer::Verified, checked(0)),
            Verified::new("bob", Answer::Damaged, checked(2)),
            Verified::not("cy", Answer::Blocked, "the original is not there"),
        ];
        let lines = table(&found);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "USER  MAILBOXES    SAME  GONE SINCE    LOST  DAMAGED  UNKNOWN  UNSEEN");
        assert_eq!(lines[1], "ann           3   1,204          12       0        0        0       0");
        let verdicts = verdicts(&found);
        assert!(verdicts[0].contains("byte for byte"));
        assert!(verdicts[1].contains("NOT"));
        assert_eq!(verdicts[2], "cy: blocked: the original is not there");
        assert_eq!(exit(&found), Exit::Data);
        assert_eq!(exit(&found[..1]), Exit::Ok);
        assert_eq!(exit(&[Verified::not("ann", Answer::Waiting, "")]), Exit::Temporary);
    }
}
