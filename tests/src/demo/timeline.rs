//! One login as a list of moments: what the client saw, and between that what the agent and its worker said they did.

use std::time::Instant;

use crate::lab::{Event, Imap, Log, Machine, Result, User, events};

use super::paper::Paper;

/// The steps of ARCHITECTURE.md that a person wants to hear of, in that person's words.
const STEPS: [(&str, &str); 8] = [
    ("record", "written down and synced: a conversion of this mailbox begins"),
    ("stage", "the mbox is read, a complete Maildir written beside the mail, read back and compared"),
    ("gate", "new sessions wait from here on"),
    ("lock", "mbox locked: deliverers wait"),
    ("commit", "committed: one rename, and the Maildir is the mail"),
    ("set_aside", "the original goes to the archive, a tombstone stands in its place"),
    ("unlock", "locks dropped: deliverers go on"),
    ("converted", "written down: converted"),
];

/// What happened when.
pub(super) struct Timeline {
    begun: Instant,
    moments: Vec<(Instant, &'static str, String)>,
}

impl Timeline {
    /// Logs in and selects the inbox, watching. Gives back the session.
    pub fn record(machine: &Machine, user: &User, agent: &Log) -> Result<(Self, Imap)> {
        let mut client = Imap::connect(machine)?;
        let before = agent.len();
        let mut line = Self { begun: Instant::now(), moments: Vec::new() };
        line.now("client", format!("LOGIN {} and the password", user.name));
        client.ok(&format!("LOGIN {} {}", user.name, user.password))?;
        line.now("client", "told OK, logged in".into());
        let selected = client.ok("SELECT INBOX")?;
        let exists = selected.untagged.iter().find(|r| r.get(1).is_some_and(|word| word.text() == "EXISTS"));
        let exists = exists.map_or_else(|| "?".into(), |response| response[0].text());
        line.now("client", format!("SELECT INBOX answered: {exists} messages"));

        // The agent answers the session first and does its own paperwork then.
        if machine.exists(&format!("{}/Maildir/mailready-marker", user.home()))? {
            agent.wait_from(before, "the agent says that it has finished", |text| {
                text.contains("\"converted\"")
            })?;
        }
        let mut told = false;
        let begun = line.begun;
        for event in events(agent).iter().filter(|event| event.at >= begun) {
            line.add(event, &mut told);
        }
        line.moments.sort_by_key(|moment| moment.0);
        Ok((line, client))
    }

    fn now(&mut self, who: &'static str, what: String) {
        self.moments.push((Instant::now(), who, what));
    }

    fn add(&mut self, event: &Event, told: &mut bool) {
        if let Some(step) = event.get("step") {
            if let Some((_, words)) = STEPS.iter().find(|(name, _)| *name == step) {
                let who = if event.get("who") == Some("worker") { "worker" } else { "agent" };
                self.moments.push((event.at, who, (*words).into()));
            }
        } else if !*told && event.get("user").is_some() {
            *told = true;
            self.moments.push((event.at, "agent", "told by the PAM module: the password was right".into()));
        }
    }

    /// Writes it down.
    pub fn tell(&self, paper: &Paper) {
        for (at, who, what) in &self.moments {
            let after = at.saturating_duration_since(self.begun);
            paper.moment(after.as_secs_f64() * 1000.0, who, what);
        }
    }
}
