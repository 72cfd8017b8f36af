//! What the guest had promised when its power went, by its console.

use std::collections::BTreeSet;

use mailready_tests::lab::event;
use mailready_tests::power::inside::SIGN;

/// What the mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The mbox.
    Mbox,
    /// The Maildir.
    Maildir,
}

/// What must be kept.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// Letters that the deliverer has acknowledged: each must be there once.
    pub acknowledged: BTreeSet<String>,
    /// Letters that it had begun with: each may be there once.
    pub tried: BTreeSet<String>,
    /// What the agent has answered, unless it has been asked for something else since.
    pub answered: Option<Ended>,
    /// The last step that was logged.
    pub step: Option<String>,
    /// Something that must never be said.
    pub wrong: Option<String>,
}

impl Promises {
    /// Takes in a line of the console.
    pub fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        let Some(words) = line.strip_prefix(SIGN) else {
            // Parsed only where it can matter: there are many lines.
            if line.contains("step")
                && let Some(step) =
                    event(std::time::Instant::now(), line).and_then(|e| e.get("step").map(str::to_owned))
            {
                self.step = Some(step);
            }
            return;
        };
        match words.split_once(' ').unwrap_or((words, "")) {
            ("trying", id) => drop(self.tried.insert(id.to_owned())),
            ("ack", id) => drop(self.acknowledged.insert(id.to_owned())),
            ("asking", _) => self.answered = None,
            ("said", "converted") => self.answered = Some(Ended::Maildir),
            ("said", "rolledback") => self.answered = Some(Ended::Mbox),
            (word, _) if word.starts_with("wrong") => self.wrong = Some(words.to_owned()),
            _ => {}
        }
    }

    /// Takes in a whole console.
    pub fn hear_all(&mut self, lines: &[String]) {
        lines.iter().for_each(|line| self.hear(line));
    }
}

/// The parts of the protocol that coverage is told by.
pub fn part_of(step: &str) -> &'static str {
    match step {
        "record" | "stage" | "verify" | "abort" => "staging",
        "gate" | "refresh" | "tombstone" | "folder_tombstone" | "dotlock" | "lock" | "lease"
        | "lock_folders" | "confirm" => "locking",
        "seal" | "commit" | "sync_commit" => "commit",
        "set_aside_folder"
        | "sync_set_aside_folders"
        | "set_aside"
        | "sync_set_aside"
        | "unlock"
        | "unlock_folders"
        | "map"
        | "converted" => "set-aside",
        "rotate" | "rotate_folder" | "extract" | "extracted" | "deliver" | "delivered" | "forget"
        | "forget_folder" => "drain",
        "probe" => "recovery",
        step if step.starts_with("back_") || step.contains("_back_") => "rollback",
        "unmap" | "withdraw" | "sync_withdraw" | "undone" => "rollback",
        _ => "other",
    }
}
