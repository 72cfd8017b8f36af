//! The originals removed, when `keep.original_days` are over.
//!
//! What goes: the spool `RUNID.0` with the mboxes that were rotated out after it, and the folders' originals in `WORK/aside-RUNID`. What stays: the tombstones, since mail may come to the old places for ever, the
//! record, since it says whose Maildir this is, and everything that may hold mail which is nowhere else. The Maildir of a user who was rolled back stays too, in `WORK/withdrawn-RUNID`: it is the user's own, and mail
//! may have been delivered into it late.
//!
//! The order: the time is over by both clocks ([`Kept::is_over`]); under the mailbox's turn a last drain that leaves nothing; the Maildir of this run is in its place; the record says `going`, synced; then each file, under a lease
//! that says that nobody has it open, and if it is no longer than what was taken from it; folders synced; the record says `gone`. A death anywhere leaves `going`, and that is gone through again: each step is
//! idempotent. Nobody takes what is missing for lost from `going` on.
//!
//! It has a thread of its own, one mailbox at a time: removing a file of gigabytes takes its time, and drains do not wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::crew::{Worker, WorkerError};
use super::file_lease::FileLease;
use super::late::Mark;
use super::spool::{self, Make, Spool};
use super::{Flow, drain, unix_seconds};
use crate::records::{Kept, Originals, Phase, Record};
use crate::settings::Settings;

/// Whose time is over is asked this often.
const LOOK: Duration = Duration::from_secs(60);

/// A mailbox whose originals could not go is tried again after this, and each time after twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is remembered of the work.
#[derive(Default)]
pub(super) struct Retention {
    at_work: bool,
    last_look: Option<Instant>,
    /// Runs that could not be done: not before then, and how long they rest.
    rests: HashMap<String, (Instant, Duration)>,
}

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    All,
    /// Something is written, read or locked: later.
    NotYet,
}

impl Flow {
    /// How long the originals of a run that ends now have been kept: not at all.
    pub(super) fn kept_from_now(&self) -> Kept {
        Kept { since: unix_seconds(), seen: self.passed.seen(), ..Kept::default() }
    }

    /// Called by the tick: starts a pass if it is time for one and none is under way.
    pub(super) fn look_after_originals(self: &Arc<Self>, settings: &Arc<Settings>) {
        {
            let mut memory = self.memory();
            let retention = &mut memory.retention;
            if retention.at_work || retention.last_look.is_some_and(|last| last.elapsed() < LOOK) {
                return;
            }
            retention.last_look = Some(Instant::now());
            retention.at_work = true;
        }
        let (flow, settings) = (Arc::clone(self), Arc::clone(settings));
        let pass = move || {
            flow.let_all_go(&settings);
            flow.check_names(&settings);
            tracing::debug!("looked after originals and names");
            flow.memory().retention.at_work = false;
        };
        if let Err(error) = std::thread::Builder::new().name("retention".to_owned()).spawn(pass) {
            self.memory().retention.at_work = false;
            tracing::warn!("no thread for the originals whose time is over: {error}");
        }
    }

    fn let_all_go(&self, settings: &Settings) {
        let (now, seen) = (unix_seconds(), self.passed.seen());
        let days = settings.config.keep.original_days;
        for record in self.records.all() {
            let over = match record.kept.originals {
                Originals::Kept => record.kept.is_over(days, record.started, now, seen),
                // Begun, perhaps by an agent that is dead.
                Originals::Going => true,
                Originals::Gone => false,
            };
            if over && self.may_go(&record) && !self.rests(&record.run) {
                self.let_one_go(settings, &record);
            }
        }
    }

    /// The latest conversion of a mailbox, or one that was rolled back; and nothing of it waits to be drained by its content.
    fn may_go(&self, record: &Record) -> bool {
        let key = record.key();
        match record.phase {
            Phase::Converted => {
                let latest = self.records.latest(&key).is_some_and(|latest| latest.run == record.run);
                let memory = self.memory();
                latest && !memory.late.is_marked_by_content(&key)
            }
            Phase::Undone => true,
            Phase::Begun | Phase::RollingBack => false,
        }
    }

    fn rests(&self, run: &str) -> bool {
        self.memory().retention.rests.get(run).is_some_and(|(until, _)| *until > Instant::now())
    }

    fn let_one_go(&self, settings: &Settings, record: &Record) {
        let Some(_turn) = self.turn(&record.key()) else { return };
        // It may have been rolled back, or verified and doubted, since the list was made.
        let Some(record) = self.records.get(&record.run).filter(|now| now.phase == record.phase) else {
            return;
        };
        if record.kept.originals == Originals::Kept && record.kept.doubted.is_some() {
            return;
        }
        let went = let_go(self, settings, &record);
        match &went {
            Ok(Went::All) => {
                self.memory().retention.rests.remove(&record.run);
                tracing::info!(user = ?record.user, run = record.run, "the originals are removed, their time is over");
                return;
            }
            Ok(Went::NotYet) => {
                tracing::debug!(user = ?record.user, run = record.run, "originals whose time is over are in use, and stay for now");
            }
            Err(why) => {
                tracing::warn!(user = ?record.user, run = record.run, "originals whose time is over stay for now: {why}");
            }
        }
        let mut memory = self.memory();
        let rests = &mut memory.retention.rests;
        let length = rests.get(&record.run).map_or(FIRST_RETRY, |(_, last)| (*last * 2).min(LONGEST_RETRY));
        rests.insert(record.run.clone(), (Instant::now() + length, length));
    }

    /// A verification has found the Maildir sound, or not: as long as it is not, the originals stay.
    pub(super) fn note_verified(&self, record: &Record, is_sound: bool) {
        let doubted = (!is_sound).then(unix_seconds);
        if record.kept.doubted.is_some() == doubted.is_some() {
            return;
        }
        let noted = Record { kept: Kept { doubted, ..record.kept.clone() }, ..record.clone() };
        if let Err(error) = self.records.put(&noted) {
            tracing::error!(
                run = record.run,
                "what the verification found cannot be noted in the record: {error}"
            );
        }
    }
}

fn let_go(flow: &Flow, settings: &Settings, record: &Record) -> Result<Went, String> {
    let run = RunId::parse(&record.run).ok_or("the record has no run id")?;
    let account = super::account_of(record);
    let is_converted = record.phase == Phase::Converted;
    if is_converted {
        let mark = Mark { folders: record.has_folders(), ..Mark::default() };
        if drain::drain(flow, settings, record, mark)?.left > 0 {
            // Of the folders nobody else would think before the user arrives.
            flow.mark_arrival(&record.key());
            return Ok(Went::NotYet);
        }
    }
    let spool = Spool::open(&account.inbox, &account.archive, account.uid, Make::No)
        .map_err(|error| error.to_string())?;
    let job = flow.job(settings, record, Purpose::Drain);
    let mut worker = Worker::start(&settings.worker, &job, None).map_err(text)?;
    if is_converted {
        // A Maildir that was lost is made again from the originals, by hand.
        worker.order(Order::Stands, None).map_err(text)?;
        match worker.answer(&|| false, &mut |_, _, _| {}).map_err(text)? {
            Report::Obeyed => {}
            other => return Err(worker.out_of_turn(other).to_string()),
        }
    }
    let mut record = record.clone();
    if record.kept.originals == Originals::Kept {
        record.kept = Kept { originals: Originals::Going, since: unix_seconds(), ..record.kept };
        note(&run, "going");
        flow.records.put(&record).map_err(|error| error.to_string())?;
    }
    let mut left = 0;
    if record.has_folders() {
        worker.order(Order::LetGo, None).map_err(text)?;
        left += match worker.answer(&|| false, &mut |_, _, _| {}).map_err(text)? {
            Report::Drained { left, .. } => left,
            other => return Err(worker.out_of_turn(other).to_string()),
        };
    }
    left += spools(flow, &record, &spool, &run, &mut worker)?;
    worker.order(Order::Release, None).map_err(text)?;
    worker.finish();
    if left > 0 {
        return Ok(Went::NotYet);
    }
    record.kept = Kept { originals: Originals::Gone, since: unix_seconds(), ..record.kept };
    note(&run, "gone");
    flow.records.put(&record).map_err(|error| error.to_string())?;
    Ok(Went::All)
}

/// The entries of the archive folder; tells how many have to stay for now.
fn spools(
    flow: &Flow,
    record: &Record,
    spool: &Spool,
    run: &RunId,
    worker: &mut Worker,
) -> Result<u64, String> {
    let fail = |error: spool::SpoolError| error.to_string();
    let length = record.inbox().map(|inbox| inbox.length);
    let (mut left, mut gone) = (0, Vec::new());
    for entry in spool.entries(run).map_err(fail)? {
        // What came to the old place of a user who was rolled back since may be nowhere else.
        if record.phase == Phase::Undone && entry > 0 {
            tracing::debug!(run = run.as_str(), entry, "this archive entry may hold late mail, and stays");
            continue;
        }
        let Some(file) = spool.open_entry(run, entry).map_err(fail)? else { continue };
        let known = flow.drained_to(run, entry).or(length.filter(|_| entry == 0));
        // A tombstone here is one with late mail, or the place was never exchanged.
        if spool::is_tombstone(&file, run) {
            left += 1;
            continue;
        }
        let lease = FileLease::try_take(&file).map_err(|errno| errno.to_string())?;
        let size = spool::size(&file).map_err(|errno| errno.to_string())?;
        let drained = known.is_some_and(|known| size <= known);
        if !(drained && lease.is_some_and(|lease| lease.is_untouched() && remove(spool, run, entry))) {
            left += 1;
            continue;
        }
        gone.push(entry);
    }
    spool.sync().map_err(fail)?;
    // In this order: an entry that came back after a power cut, with its position gone, would be delivered again.
    for entry in gone {
        worker.order(Order::Forgotten { entry }, None).map_err(text)?;
    }
    Ok(left)
}

/// While the lease is held.
fn remove(spool: &Spool, run: &RunId, entry: u64) -> bool {
    tracing::debug!(step = "let_go", who = "agent", run = run.as_str(), entry);
    spool
        .let_go(run, entry)
        .inspect_err(|error| tracing::warn!(run = run.as_str(), entry, "an original stays: {error}"))
        .is_ok()
}

fn note(run: &RunId, step: &'static str) {
    tracing::debug!(step, who = "agent", run = run.as_str());
}

fn text(error: WorkerError) -> String {
    error.to_string()
}
