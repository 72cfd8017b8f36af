//! Whether the names in the records still mean the people that they meant.
//!
//! Accounts are removed, and names are given to others. A mailbox is known by uid and path, so nothing is done to the mail of somebody else; but Dovecot's deliverers find a Maildir by the name alone, in the map. A record whose name
//! has another uid by now is left out of it: mail for the new person must not go to the Maildir of the old one. A name that is gone, or that a name service does not tell, changes nothing.

use std::collections::HashSet;

use nix::unistd::User;

use super::Flow;
use crate::records::{Phase, Record};
use crate::settings::Settings;

/// Names asked for in one pass, so that a slow name service is not kept busy by us.
const AT_ONCE: usize = 500;

/// What is known of them.
#[derive(Default)]
pub(super) struct Names {
    /// Runs whose user's name is another's now.
    estranged: HashSet<String>,
    /// Where the next pass goes on.
    next: usize,
}

impl Names {
    pub(super) fn means_another(&self, record: &Record) -> bool {
        self.estranged.contains(&record.run)
    }
}

impl Flow {
    /// Asks for some of the names, and writes the map anew if that changes it. Blocks for as long as the name service takes.
    pub(super) fn check_names(&self, settings: &Settings) {
        let records = self.records.all();
        let converted: Vec<_> = records.iter().filter(|record| record.phase == Phase::Converted).collect();
        if converted.is_empty() {
            return;
        }
        let from = {
            let names = &mut self.memory().names;
            let from = if names.next < converted.len() { names.next } else { 0 };
            names.next = from + AT_ONCE;
            from
        };
        let mut changed = false;
        for record in converted.iter().skip(from).take(AT_ONCE) {
            let Ok(Some(user)) = User::from_name(&record.user) else { continue };
            let uid = user.uid.as_raw();
            let names = &mut self.memory().names.estranged;
            if uid == record.uid {
                changed |= names.remove(&record.run);
            } else if names.insert(record.run.clone()) {
                changed = true;
                tracing::warn!(
                    user = ?record.user,
                    run = record.run,
                    was = record.uid,
                    uid,
                    "this name belongs to another account than the one that was converted, and is taken out of the map"
                );
            }
        }
        if changed {
            self.write_map_of_all(settings);
        }
    }
}
