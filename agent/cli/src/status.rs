//! `mailready status`: where users stand, a line each.

use std::collections::{BTreeMap, HashMap};

use mailready_bus::{AgentProxy, Details, State, UserStatus};

use crate::agent::answer;
use crate::args::StatusArgs;
use crate::exit::{Exit, Failure};
use crate::{background, json, terminal, when};

pub(crate) async fn run(agent: &AgentProxy<'_>, args: &StatusArgs) -> Result<Exit, Failure> {
    let users: Vec<&str> = args.users.iter().map(String::as_str).collect();
    let found = answer(agent.status(&users, HashMap::new())).await?;
    let stopped = background::stopped_because(agent).await;
    if args.json {
        let users = found.iter().map(Into::into).collect();
        json::print(&json::StatusOutput { version: json::VERSION, stopped: stopped.as_deref(), users });
        return Ok(Exit::Ok);
    }
    if let Some(why) = &stopped {
        terminal::say(&background::stopped(why));
    }
    for line in table(&found, when::now()) {
        terminal::say(&line);
    }
    if args.users.is_empty() {
        terminal::say(&totals(&found));
    }
    Ok(Exit::Ok)
}

fn table(users: &[UserStatus], now: u64) -> Vec<String> {
    // Columns are measured as they will be seen.
    let names: Vec<String> = users.iter().map(|u| terminal::shown(&u.user)).collect();
    let wide = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).clamp(4, 32);
    let mut lines = Vec::new();
    if !users.is_empty() {
        lines.push(format!("{:wide$}  {:10}  {:9}  DETAILS", "USER", "STATE", "SINCE"));
    }
    for (name, user) in names.iter().zip(users) {
        let since = user.details.since.map(|since| when::ago(since, now)).unwrap_or_default();
        let line = format!("{name:wide$}  {:10}  {since:9}  {}", user.state, about(user));
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// The one thing worth knowing about a user in this state.
pub(crate) fn about(user: &UserStatus) -> String {
    let details = &user.details;
    match user.known_state() {
        Some(State::Staging | State::Committing | State::RollingBack) => far(details),
        Some(State::Maildir) => {
            details.messages.map(|n| format!("{} messages", terminal::grouped(n))).unwrap_or_default()
        }
        Some(State::Held) => {
            let mut parts = vec![details.by.as_ref().map_or_else(String::new, |by| format!("by {by}"))];
            parts
                .push(details.until.map_or_else(String::new, |until| format!("until {}", when::show(until))));
            parts.push(details.reason.clone().unwrap_or_default());
            parts.retain(|part| !part.is_empty());
            parts.join(", ")
        }
        _ => reason(details),
    }
}

fn far(details: &Details) -> String {
    match (details.bytes, details.bytes_total) {
        (Some(bytes), Some(total)) if total > 0 => {
            format!("{}% of {}", u128::from(bytes) * 100 / u128::from(total), terminal::size(total))
        }
        _ => String::new(),
    }
}

/// Reason and mending step, as far as there are any.
pub(crate) fn reason(details: &Details) -> String {
    match (&details.reason, &details.mend) {
        (Some(reason), Some(mend)) => format!("{reason}; {mend}"),
        (Some(reason), None) => reason.clone(),
        (None, _) => details.ahead.map(|n| format!("{n} ahead")).unwrap_or_default(),
    }
}

fn totals(users: &[UserStatus]) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for user in users {
        *counts.entry(user.state.as_str()).or_default() += 1;
    }
    let each: Vec<String> =
        counts.iter().map(|(state, n)| format!("{} {state}", terminal::grouped(*n))).collect();
    match each.as_slice() {
        [] => "no users known yet: nobody has arrived, been converted or been held".to_owned(),
        each => each.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_matters_in_each_state() {
        let staging = Details { bytes: Some(50), bytes_total: Some(200), ..Details::default() };
        let blocked = Details {
            reason: Some("there is a Maildir already".into()),
            mend: Some("move it away".into()),
            since: Some(40),
            ..Details::default()
        };
        let users = [
            UserStatus::new("ann", State::Staging, staging),
            UserStatus::new("bob\u{1b}[2J", State::Blocked, blocked),
            UserStatus::new("cy", State::Mbox, Details::default()),
        ];
        let lines = table(&users, 100);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "ann           staging                25% of 200 bytes");
        assert_eq!(
            lines[2],
            "bob\\u{1b}[2J  blocked     1m ago     there is a Maildir already; move it away"
        );
        assert_eq!(lines[3], "cy            mbox");
        assert_eq!(totals(&users), "1 blocked, 1 mbox, 1 staging");
    }
}
