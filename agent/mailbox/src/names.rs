//! Names of message files: `SECONDS.MmicrosQsequenceRrandom[Bpass|Eentry].mailready,S=size,W=virtual size`, and `:2,flags` behind it.
//!
//! Unique over all runs by the run's random half. In the order of the mbox by seconds and micros, because a server that loses its
//! uidlist gives UIDs in the order of exactly those (formats.md 3.4). `S=` and `W=` are exact: a wrong one disconnects clients.

use crate::RunId;
use crate::extract::ArchiveEntry;
use std::fmt::Write;

/// Names for one pass over a mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Namer {
    seconds: u64,
    tail: String,
}

impl Namer {
    /// `seconds` is the present time, `pass` the number of this pass in the run: no two may give the same names.
    pub(crate) fn new(run: &RunId, pass: u64, seconds: u64) -> Self {
        let pass = if pass == 0 { String::new() } else { format!("B{pass}") };
        Namer { seconds, tail: format!("R{}{pass}.mailready", run.random()) }
    }

    /// For mail out of an archive entry.
    pub(crate) fn of_entry(run: &RunId, entry: ArchiveEntry, seconds: u64) -> Self {
        let ArchiveEntry { position, number } = entry;
        let of = if position == 0 { String::new() } else { format!("{position}-") };
        Namer { seconds, tail: format!("R{}E{of}{number}.mailready", run.random()) }
    }

    /// Writes the name of message number `sequence` into `name`, without flags.
    pub(crate) fn base(&self, name: &mut String, sequence: u64, size: u64, virtual_size: u64) {
        name.clear();
        let (seconds, micros) = (self.seconds + sequence / 1_000_000, sequence % 1_000_000);
        // Writing to a String cannot fail.
        let _ = write!(name, "{seconds}.M{micros:06}Q{sequence}{},S={size},W={virtual_size}", self.tail);
    }
}

/// Present time in seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
