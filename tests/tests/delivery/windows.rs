//! The windows of a conversion, a drain and a rollback, as the agent's log tells of them, and the deliveries that fell into each.

use std::collections::BTreeMap;
use std::time::Instant;

use mailready_tests::lab::Event;

/// A window: its name, the step that opens it, and the one that ends it.
const WINDOWS: [(&str, &str, &str); 7] = [
    ("look to lock", "refresh", "dotlock"),
    ("lock to commit", "lock", "commit"),
    ("commit to set-aside", "commit", "sync_set_aside"),
    ("after the set-aside", "sync_set_aside", "converted"),
    ("drain", "rotate", "delivered"),
    ("rollback, marked", "back_mark", "withdraw"),
    ("rollback, withdrawn", "withdraw", "undone"),
];

/// A time in which one user's mailbox was in a window.
struct Open {
    user: String,
    window: &'static str,
    from: Instant,
    to: Instant,
}

/// How often each window was open, and how many deliveries were under way in it.
pub fn count(
    events: &[Event],
    deliveries: &[(String, Instant, Instant)],
) -> BTreeMap<&'static str, (usize, usize)> {
    let all = windows(events);
    let mut counts: BTreeMap<_, _> = WINDOWS.iter().map(|(name, ..)| (*name, (0, 0))).collect();
    for open in &all {
        let within = |(user, from, to): &&(String, Instant, Instant)| {
            *user == open.user && *from <= open.to && *to >= open.from
        };
        let hit = deliveries.iter().filter(within).count();
        let count = counts.entry(open.window).or_default();
        count.0 += 1;
        count.1 += hit;
    }
    counts
}

fn windows(events: &[Event]) -> Vec<Open> {
    // Steps name the run; whose it is some of them tell.
    let mut users: BTreeMap<&str, String> = BTreeMap::new();
    for event in events {
        if let (Some(run), Some(user)) = (event.get("run"), event.get("user")) {
            users.entry(run).or_insert_with(|| user.trim_matches('"').to_owned());
        }
    }
    let mut open: BTreeMap<(&str, &str), Instant> = BTreeMap::new();
    let mut found = Vec::new();
    for event in events {
        let (Some(step), Some(run)) = (event.get("step"), event.get("run")) else { continue };
        for (window, from, to) in WINDOWS {
            if step == to
                && let Some(since) = open.remove(&(run, window))
                && let Some(user) = users.get(run)
            {
                found.push(Open { user: user.clone(), window, from: since, to: event.at });
            }
            if step == from {
                open.insert((run, window), event.at);
            }
        }
    }
    found
}
