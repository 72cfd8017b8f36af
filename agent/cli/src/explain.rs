//! `mailready explain`: one page on one user.

use std::collections::HashMap;

use mailready_bus::{AgentProxy, Details, State, UserStatus};

use crate::agent::answer;
use crate::args::ExplainArgs;
use crate::exit::{Exit, Failure};
use crate::{status, terminal, when};

pub(crate) async fn run(agent: &AgentProxy<'_>, args: &ExplainArgs) -> Result<Exit, Failure> {
    let found = answer(agent.status(&[args.user.as_str()], HashMap::new())).await?;
    let Some(user) = found.first() else {
        return Err(Failure::new(Exit::NoUser, format!("the agent knows no user {}", args.user)));
    };
    for line in page(user, when::now()) {
        terminal::say(&line);
    }
    Ok(Exit::Ok)
}

fn page(user: &UserStatus, now: u64) -> Vec<String> {
    let details = &user.details;
    let mut lines = vec![format!("{}: {}", user.user, headline(user))];
    let mut add = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {label:9}{text}"));
        }
    };
    add("mail", details.mail.clone().unwrap_or_default());
    let gone = || Some(format!("removed {}, after keep.original_days", when::show(details.original_gone?)));
    add("original", details.original.clone().or_else(gone).unwrap_or_default());
    add(
        "since",
        details.since.map(|s| format!("{} ({})", when::show(s), when::ago(s, now))).unwrap_or_default(),
    );
    add("why", why(user));
    add("reason", details.code.clone().unwrap_or_default());
    add("run", details.run.clone().unwrap_or_default());
    add("next", next(user));
    lines
}

fn headline(user: &UserStatus) -> &str {
    match user.known_state() {
        Some(State::Mbox) => "the mail is in the mbox; nothing is under way",
        Some(State::Staging) => "the mail is in the mbox; the Maildir is being written",
        Some(State::Staged) => "the mail is in the mbox; a Maildir is prepared",
        Some(State::Waiting) => "the mail is in the mbox; the conversion waits",
        Some(State::Committing) => "the change from mbox to Maildir is being made at this moment",
        Some(State::Maildir) => "the mail is in the Maildir",
        Some(State::Held) => "the mail is in the mbox and stays there: there is a hold",
        Some(State::Blocked) => "the mail is in the mbox and cannot be converted as things are",
        Some(State::Failed) => "the mail is in the mbox; the last conversion went wrong",
        Some(State::RollingBack) => {
            "the mail is being given back as mbox; logins wait for the last moment of it"
        }
        Some(State::RolledBack) => "the mail is in the mbox again, after a rollback",
        None => &user.state,
        Some(_) => &user.state,
    }
}

fn why(user: &UserStatus) -> String {
    match user.known_state() {
        Some(State::Maildir) => match user.details.messages {
            Some(n) => format!("converted, with {} messages at that time", terminal::grouped(n)),
            None => "converted".to_owned(),
        },
        Some(State::Mbox) => match &user.details.reason {
            Some(reason) => reason.clone(),
            None => "nobody has asked for this user, and no arrival was to convert it".to_owned(),
        },
        _ => status::about(user),
    }
}

/// What the operator may do, or wait for.
fn next(user: &UserStatus) -> String {
    let Details { mend, until, .. } = &user.details;
    let name = &user.user;
    match (user.known_state(), mend, until) {
        (Some(State::Held), _, Some(until)) => {
            format!("the hold ends {}; `mailready release {name}` ends it now", when::show(*until))
        }
        (Some(State::Held), ..) => format!("`mailready release {name}` ends the hold"),
        (Some(State::RolledBack), ..) => {
            format!("stays so, whoever arrives, until an operator says `mailready convert {name}`")
        }
        (Some(State::Maildir), Some(mend), _) => mend.clone(),
        (_, Some(mend), _) => format!("{mend}; then `mailready convert {name}`"),
        (Some(State::RollingBack), ..) => {
            "nothing to do: it is under way; should it wait for something, the journal of mailready-agent says for what"
                .to_owned()
        }
        (Some(State::Mbox | State::Staged), ..) => {
            format!(
                "`mailready convert {name}` converts now; `mailready hold {name}` keeps it from being converted"
            )
        }
        (Some(State::Waiting), ..) => {
            "nothing to do: it goes on when the sessions have ended or its turn has come".to_owned()
        }
        (Some(State::Failed), _, Some(until)) => format!("the next try comes {}", when::show(*until)),
        (Some(State::Failed | State::Blocked), ..) => format!("`mailready convert {name}` tries again"),
        (Some(State::Staging | State::Committing), ..) => "nothing to do: it is under way".to_owned(),
        (Some(State::Maildir), ..) if details_gone(user) => format!(
            "nothing to do: mail that still arrives at the old place is carried over; there is no original left to verify against, `mailready rollback {name}` still makes mboxes of the Maildir"
        ),
        (Some(State::Maildir), ..) => format!(
            "nothing to do: mail that still arrives at the old place is carried over; `mailready verify {name}` proves the conversion, `mailready rollback {name}` undoes it"
        ),
        (Some(_) | None, ..) => String::new(),
    }
}

fn details_gone(user: &UserStatus) -> bool {
    user.details.original_gone.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_page_that_says_where_the_mail_is_and_what_next() {
        for state in State::ALL {
            let lines = page(&UserStatus::new("ann", state, Details::default()), 0);
            assert!(lines[0].starts_with("ann: "), "{state}");
            assert!(lines[0].contains("mbox") || lines[0].contains("Maildir"), "{state}");
            assert!(lines.iter().any(|l| l.starts_with("  next     ")), "{state}");
        }
    }

    #[test]
    fn a_block_is_told_with_its_mending_step() {
        let details = Details {
            mail: Some("/var/mail/ann".into()),
            reason: Some("/home/ann/Maildir exists already".into()),
            code: Some("maildir-exists".into()),
            mend: Some("move it away".into()),
            since: Some(0),
            ..Details::default()
        };
        let lines = page(&UserStatus::new("ann", State::Blocked, details), 7200);
        assert_eq!(lines[1], "  mail     /var/mail/ann");
        assert!(lines[2].ends_with("(2h ago)"));
        assert_eq!(lines[3], "  why      /home/ann/Maildir exists already; move it away");
        assert_eq!(lines[4], "  reason   maildir-exists");
        assert_eq!(lines[5], "  next     move it away; then `mailready convert ann`");
    }
}
