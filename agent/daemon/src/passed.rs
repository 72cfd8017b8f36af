//! How much time has passed, as the agent itself has seen it: what a wall clock says can be changed by anybody who sets it, a dead battery included.
//!
//! The seconds are those of the kernel's clock since boot, which nobody sets. Within one boot all of it counts, also while no agent ran; across a boot only what was written down before it. So the count
//! never runs ahead of the time, and may lag behind it: what waits for it comes late, and never early.
//!
//! `STATE/passed` (TOML): `version = 1`, `seen` (seconds), `boot` (the kernel's boot id), `at` (seconds since that boot when it was written). If it is lost the count goes on from the highest that any record knows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
const NAME: &str = "passed";
/// It is written this often, and a boot costs as much at most.
const WRITE_AFTER: u64 = 60 * 60;

/// The count at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    version: u32,
    seen: u64,
    boot: String,
    at: u64,
}

impl Count {
    fn new(seen: u64, boot: &str, at: u64) -> Self {
        Self { version: VERSION, seen, boot: boot.to_owned(), at }
    }

    /// The count now, `at` seconds after `boot`.
    fn seen(&self, boot: &str, at: u64) -> u64 {
        if self.boot == boot { self.seen + at.saturating_sub(self.at) } else { self.seen }
    }
}

/// The agent's count.
#[derive(Debug)]
pub struct Passed {
    file: PathBuf,
    boot: String,
    written: Mutex<Count>,
}

impl Passed {
    /// Goes on with the count in a state folder; `known`: the highest that any record has.
    pub fn open(state: &Path, known: u64) -> Self {
        let file = state.join(NAME);
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim().to_owned();
        let read = match fs::read_to_string(&file) {
            Ok(text) => toml::from_str::<Count>(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Count::new(0, "", 0)),
            Err(error) => Err(error.to_string()),
        };
        let old = match read {
            Ok(count) if count.version == VERSION => count,
            Ok(_) | Err(_) => {
                tracing::warn!(
                    "{} cannot be read; originals are kept for longer than they had to be",
                    file.display()
                );
                Count::new(0, "", 0)
            }
        };
        let at = since_boot();
        let count = Count::new(old.seen(&boot, at).max(known), &boot, at);
        let passed = Self { file, boot, written: Mutex::new(count.clone()) };
        passed.write(&count);
        passed
    }

    /// Seconds so far. Written down now and then, so this may block for a sync.
    pub fn seen(&self) -> u64 {
        let at = since_boot();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = written.seen(&self.boot, at);
        if seen >= written.seen + WRITE_AFTER {
            *written = Count::new(seen, &self.boot, at);
            self.write(&written);
        }
        seen
    }

    fn write(&self, count: &Count) {
        let written = toml::to_string(count).map_err(io::Error::other).and_then(|text| {
            let unfinished = self.file.with_file_name(".tmp-passed");
            fs::write(&unfinished, text)?;
            fs::File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, &self.file)
        });
        if let Err(error) = written {
            tracing::warn!("{} cannot be written: {error}", self.file.display());
        }
    }
}

/// Seconds since boot, sleep included.
fn since_boot() -> u64 {
    // It is always there on Linux; 0 would make the count stand still, which is the safe side.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn within_a_boot_everything_counts_and_across_one_what_was_written() {
        let count = Count::new(100, "a", 50);
        assert_eq!(count.seen("a", 80), 130);
        assert_eq!(count.seen("b", 9999), 100);
        assert_eq!(count.seen("a", 20), 100, "never back");
    }

    #[test]
    fn it_goes_on_after_a_restart_and_from_what_records_know_when_it_is_lost() {
        let state = tempfile::tempdir().unwrap();
        let first = Passed::open(state.path(), 7000);
        assert!(first.seen() >= 7000 && first.seen() < 7100);
        assert!(Passed::open(state.path(), 0).seen() >= 7000, "it was written");
        fs::write(state.path().join(NAME), "seen = 99999999999\n").unwrap();
        let lost = Passed::open(state.path(), 30).seen();
        assert!((30..130).contains(&lost), "{lost}");
    }
}
