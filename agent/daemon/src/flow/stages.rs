//! Stages that a run without commit has left for the next one of its mailbox.
//!
//! Killed, stopped or put off, a conversion leaves `WORK/kept-RUNID`, and the next one takes its message files over instead of writing them again. Usually that comes soon:
//! at the user's next arrival, or when the queue tries a busy mailbox again. If it does not, the room must not be taken for ever, so each is remembered here, one file a run under
//! `STATE/stages`, until a conversion has used it or [`KEPT_FOR`] has passed; then a worker removes it. The mail hangs on none of this: with the folder deleted, a stage that nobody comes for stays in its user's
//! work folder until somebody does.
//!
//! Copies that a verification has Dovecot read are remembered in the same way while it lasts: an agent that dies meanwhile leaves them behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::Flow;
use super::crew::{Worker, WorkerError};
use crate::account::MailboxKey;
use crate::durable::Shelf;
use crate::records::{RECORD_VERSION, Record};
use crate::settings::Settings;

/// Longer than a weekend in which nobody reads mail.
const KEPT_FOR: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// After a failure, and between two looks.
const RETRY: Duration = Duration::from_secs(60 * 60);

/// What is remembered of kept stages.
pub(super) struct Stages {
    /// `None`: it cannot be had, and nothing is remembered.
    shelf: Option<Shelf>,
    of: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    record: Record,
    /// When its removal failed last.
    tried: Option<Instant>,
}

impl Stages {
    pub(super) fn open(state: &Path) -> Self {
        let path = state.join("stages");
        let shelf = Shelf::open(path.clone())
            .inspect_err(|error| {
                tracing::warn!("{}: kept stages are not remembered: {error}", path.display())
            })
            .ok();
        let mut of = BTreeMap::new();
        for name in shelf.iter().flat_map(|shelf| shelf.names().unwrap_or_default()) {
            let text = shelf.as_ref().and_then(|shelf| std::fs::read_to_string(shelf.path_of(&name)).ok());
            // Of another version, or damaged: it costs room, and nothing is done that was not understood.
            let record = text.and_then(|text| toml::from_str::<Record>(&text).ok());
            if let Some(record) = record.filter(|each| each.version == RECORD_VERSION && each.run == name) {
                of.insert(name, Entry { record, tried: None });
            }
        }
        Self { shelf, of: Mutex::new(of) }
    }

    fn of(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Single insertions and removals.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run without commit may have left its stage.
    pub(super) fn remember(&self, record: &Record) {
        let Some(shelf) = &self.shelf else { return };
        let written = toml::to_string(record)
            .map_err(std::io::Error::other)
            .and_then(|text| shelf.put(&record.run, text.as_bytes()));
        match written {
            Ok(()) => {
                self.of().insert(record.run.clone(), Entry { record: record.clone(), tried: None });
            }
            Err(error) => tracing::debug!(run = record.run, "a kept stage is not remembered: {error}"),
        }
    }

    /// A conversion has used what there was, or removed it.
    pub(super) fn forget(&self, key: &MailboxKey) {
        let used: Vec<String> = self
            .of()
            .iter()
            .filter(|(_, entry)| entry.record.key() == *key)
            .map(|(run, _)| run.clone())
            .collect();
        used.iter().for_each(|run| self.remove(run));
    }

    fn remove(&self, run: &str) {
        self.of().remove(run);
        if let Some(Err(error)) = self.shelf.as_ref().map(|shelf| shelf.remove(run)) {
            tracing::debug!(run, "a stage that is gone is still remembered: {error}");
        }
    }

    /// One that nobody has come for; `now` in unix seconds. A clock that was set back makes it due, too.
    fn due(&self, now: u64) -> Option<Record> {
        let of = self.of();
        let is_due = |entry: &&Entry| {
            entry.record.started.abs_diff(now) > KEPT_FOR.as_secs()
                && entry.tried.is_none_or(|tried| tried.elapsed() > RETRY)
        };
        of.values().find(is_due).map(|entry| entry.record.clone())
    }

    fn failed(&self, run: &str) {
        if let Some(entry) = self.of().get_mut(run) {
            entry.tried = Some(Instant::now());
        }
    }
}

/// Removes one kept stage that nobody has come for, if there is one.
pub(super) fn sweep(flow: &Flow, settings: &Settings) {
    let Some(record) = flow.stages.due(super::unix_seconds()) else { return };
    let Some(_turn) = flow.turn(&record.key()) else { return };
    match discard(flow, settings, &record) {
        Ok(()) => {
            tracing::info!(user = ?record.user, run = record.run, "removed a stage that nobody came for");
            flow.stages.forget(&record.key());
        }
        Err(error) => {
            tracing::debug!(user = ?record.user, run = record.run, "a kept stage is not removed yet: {error}");
            flow.stages.failed(&record.run);
        }
    }
}

fn discard(flow: &Flow, settings: &Settings, record: &Record) -> Result<(), WorkerError> {
    let job = flow.job(settings, record, Purpose::Drain);
    let mut worker = Worker::start(&settings.worker, &job, None)?;
    worker.order(Order::Discard, None)?;
    worker.order(Order::Release, None)?;
    match worker.answer(&|| false, &mut |_, _, _| {})? {
        Report::Done => {
            worker.finish();
            Ok(())
        }
        other => Err(worker.out_of_turn(other)),
    }
}
