//! Where mail may have come to an old place, and when that is looked after.
//!
//! The spool is watched by inotify, and looked at once a minute whatever that says. The old places of folders are in the user's home, where there is no watching for root: a worker looks at them when the user
//! arrives, and once a minute while one of the user's sessions lives, since nobody else would see what it finds.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use mailready_config::Probe;
use mailready_worker::{RunId, tombstone};

use super::crew::is_resting;
use super::dovecot::Dovecot;
use super::spool::{Archive, Make};
use super::{Bind, Flow, drain, settle_back, stray};
use crate::account::MailboxKey;
use crate::records::{Phase, Record};
use crate::settings::Settings;

/// All converted mailboxes are glanced at this often, whatever inotify says; and the folders of those who have a session.
const RESCAN: Duration = Duration::from_secs(60);

/// A drain that failed is tried again after this, and each time after twice as long; at once if the user arrives.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(5 * 60);

/// The Maildir's path of a user who was rolled back is looked at once a minute for so long, in seconds, and whenever that user arrives.
const AFTER_ROLLBACK: u64 = 60 * 60;

/// The folders of one user are not looked at more often than this, however often that user arrives.
const BETWEEN_ARRIVALS: Duration = Duration::from_secs(5);

/// What of a mailbox is to be drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Entry 0 of the archive may not be what the record says: its content decides what of it is new.
    pub(super) by_content: bool,
    /// The folders' old places too.
    pub(super) folders: bool,
    /// What stands at the spool's place stays there, if it is our tombstone: only what was taken from there before is carried over.
    pub(super) keep_place: bool,
}

impl Mark {
    fn and(self, other: Self) -> Self {
        Self {
            by_content: self.by_content || other.by_content,
            folders: self.folders || other.folders,
            keep_place: self.keep_place && other.keep_place,
        }
    }
}

/// What is remembered of late mail.
#[derive(Default)]
pub(super) struct Late {
    marked: HashMap<MailboxKey, Mark>,
    /// Not before then, since it failed or was done a moment ago.
    rests: HashMap<MailboxKey, Instant>,
    /// How long a mailbox rested last whose drain failed.
    failing: HashMap<MailboxKey, Duration>,
    /// How far the entries of a run are drained.
    drained: HashMap<(RunId, u64), u64>,
    last_scan: Option<Instant>,
    last_roll_call: Option<Instant>,
}

impl Late {
    /// Whether entry 0 of a mailbox waits to be drained by its content.
    pub(super) fn is_marked_by_content(&self, key: &MailboxKey) -> bool {
        self.marked.get(key).is_some_and(|mark| mark.by_content)
    }
}

impl Flow {
    fn mark_as(&self, key: &MailboxKey, mark: Mark) {
        let mut memory = self.memory();
        let slot = memory.late.marked.entry(key.clone()).or_default();
        *slot = slot.and(mark);
    }

    /// Something has come to the old place.
    pub(super) fn mark(&self, key: &MailboxKey) {
        self.mark_as(key, Mark::default());
    }

    /// The original may have changed between the commit and its being set aside.
    pub(super) fn mark_by_content(&self, record: &Record) {
        self.mark_as(
            &record.key(),
            Mark { by_content: true, folders: record.has_folders(), ..Mark::default() },
        );
    }

    /// A user arrives who may be on Maildir.
    pub(super) fn mark_arrival(&self, key: &MailboxKey) {
        let Some(record) = self.records.latest(key) else { return };
        let of_interest =
            record.phase == Phase::Undone || (record.phase == Phase::Converted && record.has_folders());
        if of_interest {
            self.mark_as(key, Mark { folders: true, ..Mark::default() });
        }
        let late = &mut self.memory().late;
        if late.failing.contains_key(key) {
            late.rests.remove(key);
        }
    }

    pub(super) fn drained_to(&self, run: &RunId, entry: u64) -> Option<u64> {
        self.memory().late.drained.get(&(run.clone(), entry)).copied()
    }

    pub(super) fn set_drained_to(&self, run: &RunId, entry: u64, to: u64) {
        self.memory().late.drained.insert((run.clone(), entry), to);
    }

    /// Looks where something may have come, and drains what is marked.
    pub(super) fn look_after_late_mail(&self, settings: &Settings) {
        self.find_changes();
        self.call_the_roll(settings);
        for (key, mark) in self.due_marks() {
            self.drain_one(settings, &key, mark);
        }
    }

    fn due_marks(&self) -> Vec<(MailboxKey, Mark)> {
        let mut memory = self.memory();
        let Late { marked, rests, .. } = &mut memory.late;
        let now = Instant::now();
        rests.retain(|_, until| *until > now);
        marked.extract_if(|key, _| !rests.contains_key(key)).collect()
    }

    fn drain_one(&self, settings: &Settings, key: &MailboxKey, mark: Mark) {
        let Some(record) = self.records.latest(key) else { return };
        let Some(_turn) = self.turn(key) else { return self.mark_as(key, mark) };
        // The others' late mail waits for each drain, one after the other.
        if is_resting(record.uid) {
            self.memory().late.rests.insert(key.clone(), Instant::now() + RETRY);
            return self.mark_as(key, mark);
        }
        match record.phase {
            Phase::Converted => {}
            Phase::Undone => return self.take_stray(settings, &record, key, mark),
            Phase::Begun | Phase::RollingBack => return,
        }
        let rest = match drain::drain(self, settings, &record, mark) {
            Ok(drained) => {
                self.memory().late.failing.remove(key);
                if drained.left > 0 {
                    self.mark_as(key, mark);
                }
                mark.folders.then_some(BETWEEN_ARRIVALS)
            }
            Err(why) => {
                tracing::warn!(user = ?record.user, run = record.run, "mail at the old place cannot be carried over yet: {why}");
                self.mark_as(key, mark);
                let failing = &mut self.memory().late.failing;
                let rest = failing.get(key).map_or(RETRY, |last| (*last * 2).min(LONGEST_RETRY));
                failing.insert(key.clone(), rest);
                Some(rest)
            }
        };
        if let Some(rest) = rest {
            self.memory().late.rests.insert(key.clone(), Instant::now() + rest);
        }
    }

    fn take_stray(&self, settings: &Settings, record: &Record, key: &MailboxKey, mark: Mark) {
        let rest = match stray::take(self, settings, record) {
            Ok(left) => {
                if left > 0 {
                    self.mark_as(key, mark);
                }
                BETWEEN_ARRIVALS
            }
            Err(why) => {
                tracing::warn!(user = ?record.user, run = record.run, "whether mail came to the Maildir that was rolled back is not known: {why}");
                LONGEST_RETRY
            }
        };
        self.memory().late.rests.insert(key.clone(), Instant::now() + rest);
    }

    /// Marks those who were rolled back a short while ago: a deliverer that had seen the marker before may still be at work.
    fn mark_rolled_back(&self, records: &[Arc<Record>]) {
        let now = super::unix_seconds();
        for record in records.iter().filter(|record| record.phase == Phase::Undone) {
            let key = record.key();
            let is_latest = || self.records.latest(&key).is_some_and(|latest| latest.run == record.run);
            if now.saturating_sub(record.kept.since) < AFTER_ROLLBACK && is_latest() {
                self.mark_as(&key, Mark::default());
            }
        }
    }

    /// Marks the mailboxes of whose archive entries something is left to drain: a dead agent had begun, or mail came to a set-aside spool while nobody watched. No event tells of that, and the place
    /// itself may be quiet.
    pub(super) fn mark_leftovers(&self, records: &[Arc<Record>]) {
        let mut archives: HashMap<&Path, Leftovers> = HashMap::new();
        for record in records.iter().filter(|record| record.phase == Phase::Converted) {
            let leftovers = archives.entry(&record.archive).or_insert_with(|| Leftovers::of(&record.archive));
            let length = record.inbox().map_or(0, |source| source.length);
            if leftovers.runs.contains(&record.run) || leftovers.original(&record.run) > length {
                self.mark(&record.key());
            }
        }
    }

    /// Clears what rollbacks left in the archive folders that were done but for that.
    pub(super) fn clear_undone(&self, records: &[Arc<Record>]) {
        let mut archives: HashMap<&Path, Leftovers> = HashMap::new();
        for record in records.iter().filter(|record| record.phase == Phase::Undone) {
            let leftovers = archives.entry(&record.archive).or_insert_with(|| Leftovers::of(&record.archive));
            if leftovers.runs.contains(&record.run)
                && let Some(_turn) = self.turn(&record.key())
                && let Err(why) = settle_back::clear(record)
            {
                tracing::warn!(user = ?record.user, run = record.run, "{why}");
            }
        }
    }

    /// Marks the mailboxes at whose old places something has come.
    fn find_changes(&self) {
        let changes = self.watch.lock().unwrap_or_else(PoisonError::into_inner).changes();
        let rescan = self.is_due(changes.everything, |late| &mut late.last_scan);
        if !rescan && changes.files.is_empty() {
            return;
        }
        let records = self.records.all();
        if rescan {
            self.mark_leftovers(&records);
        }
        for record in records.iter().filter(|record| record.phase == Phase::Converted) {
            let Some(inbox) = record.inbox() else { continue };
            let hit =
                inbox.path.parent().zip(inbox.path.file_name()).is_some_and(|(folder, name)| {
                    changes.files.contains(&(folder.to_owned(), name.to_owned()))
                }) || changes.files.iter().any(|(folder, name)| {
                    *folder == record.archive && name.to_string_lossy().starts_with(&record.run)
                });
            if hit || (rescan && !looks_quiet(&inbox.path)) {
                self.mark(&record.key());
            }
        }
    }

    /// Marks the folders of those who have a session now.
    fn call_the_roll(&self, settings: &Settings) {
        if !self.is_due(false, |late| &mut late.last_roll_call) {
            return;
        }
        let records = self.records.all();
        self.mark_rolled_back(&records);
        let with_folders: Vec<_> = records
            .iter()
            .filter(|record| record.phase == Phase::Converted && record.has_folders())
            .collect();
        if with_folders.is_empty() {
            return;
        }
        let mut present = HashSet::new();
        if settings.config.sessions.probe == Probe::Dovecot {
            for config in &settings.config.site.dovecot_config {
                match Dovecot::new(config).everybody() {
                    Ok(users) => present.extend(users),
                    Err(error) => tracing::debug!("who has a session is not known: {error}"),
                }
            }
        }
        for record in with_folders {
            let key = record.key();
            if present.contains(&record.user) || !self.sessions.living(&key, Bind::Ready).is_empty() {
                self.mark_as(&key, Mark { folders: true, ..Mark::default() });
            }
        }
    }

    /// Whether it is time again, or has to be done now; notes that it is done.
    fn is_due(&self, now: bool, last: impl FnOnce(&mut Late) -> &mut Option<Instant>) -> bool {
        let mut memory = self.memory();
        let last = last(&mut memory.late);
        let due = now || last.is_none_or(|last| last.elapsed() > RESCAN);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// An archive folder as a start or a rescan finds it.
struct Leftovers {
    archive: Option<Archive>,
    /// Runs that have more in it than their original: entries to be drained, or the lock of a dead drain.
    runs: HashSet<String>,
}

impl Leftovers {
    /// Nothing in a folder that is not believed: whoever drains says so.
    fn of(path: &Path) -> Self {
        let archive = Archive::open(path, Make::No).ok();
        let names = archive.as_ref().and_then(|archive| archive.names().ok()).unwrap_or_default();
        let other = |name: &String| {
            name.rsplit_once('.').filter(|(_, kind)| *kind != "0").map(|(run, _)| run.to_owned())
        };
        Self { archive, runs: names.iter().filter_map(other).collect() }
    }

    /// Bytes of a run's original.
    fn original(&self, run: &str) -> u64 {
        self.archive.as_ref().and_then(|archive| archive.size(&format!("{run}.0"))).unwrap_or(0)
    }
}

/// Whether a file of exactly a tombstone's size stands there; only a hint for the rescan.
fn looks_quiet(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == tombstone::TOMBSTONE_LEN)
}
