//! Mail that still comes to the old place of a converted user, carried into the Maildir exactly once.
//!
//! Whatever stands at the path with anything behind our tombstone, or without a tombstone, is exchanged for a fresh tombstone (`rotate`): one atomic step, after
//! which it is an entry of the archive folder that nobody else can name. Entries are drained by a worker under a file lease, so that no deliverer is in the middle of a
//! message, and forgotten while that lease says that nobody else has them open.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::Flow;
use super::crew::{Worker, WorkerError};
use super::file_lease::FileLease;
use super::late::Mark;
use super::reasons;
use super::spool::{self, AtPath, Make, Ownership, Spool, Taken};
use crate::records::{Originals, Record};
use crate::settings::Settings;

/// Tries for the place's locks; a deliverer has them for the time of one message.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// An entry is kept at least this long: a program that had found the file by its path just before the exchange may still be on its way to opening it.
const LINGER: Duration = Duration::from_secs(2);

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Messages carried over.
    pub(super) messages: u64,
    /// Entries that could not be finished yet.
    pub(super) left: usize,
}

/// One pass over one converted mailbox.
pub(super) fn drain(
    flow: &Flow,
    settings: &Settings,
    record: &Record,
    mark: Mark,
) -> Result<Drained, String> {
    let by_content = mark.by_content;
    let run = RunId::parse(&record.run).ok_or("the record has no run id")?;
    let source = record.inbox().ok_or("the record has no inbox")?;
    let spool = Spool::open(&source.path, &record.archive, record.uid, Make::No)
        .map_err(|error| super::reasons::of(&error))?;
    let mut drained = Drained::default();
    // One mailbox has one turn, and one state folder one agent: a dotlock of this run that stands now is a dead agent's.
    if spool.remove_dead_dotlock(&run).map_err(|error| error.to_string())? {
        tracing::info!(run = run.as_str(), "removed the dotlock of a dead drain");
    }
    let stays = if mark.keep_place { spool.is_tombstone_at_path(&run) } else { spool.is_quiet(&run) };
    let mut worker = None;
    let rotated = if stays.map_err(|error| error.to_string())? {
        Ok(true)
    } else {
        // Name and number may have been given to another person, whose mbox this is: nothing is taken from the place, and nothing put there, unless the Maildir of this run is still where it was.
        worker = Some(start_standing(flow, settings, record)?);
        rotate(flow, settings, &spool, &run)
    };
    if rotated == Ok(false) {
        drained.left += 1;
    }
    let mut older_mbox_waits = false;
    for entry in spool.entries(&run).map_err(|error| error.to_string())? {
        let Some(file) = spool.open_entry(&run, entry).map_err(|error| error.to_string())? else { continue };
        let size = spool::size(&file).map_err(|errno| errno.to_string())?;
        // An mbox, the original or one that had reappeared, is kept; of it only what comes later is of interest.
        let is_mbox = !spool::is_tombstone(&file, &run);
        let known = flow.drained_to(&run, entry).or((entry == 0 && !by_content).then_some(source.length));
        if is_mbox && known.is_some_and(|known| size <= known) {
            continue;
        }
        // What a reader wrote back may hold mail that came to an older mbox: one at a time, the oldest first.
        if is_mbox && older_mbox_waits {
            drained.left += 1;
            continue;
        }
        // Somebody is writing, or reads it: later.
        let Some(lease) = FileLease::try_take(&file).map_err(|errno| errno.to_string())? else {
            older_mbox_waits |= is_mbox;
            drained.left += 1;
            continue;
        };
        let worker = match &mut worker {
            Some(worker) => worker,
            none => none.insert(start(flow, settings, record)?),
        };
        let from = (entry == 0 && !by_content).then_some(source.length);
        worker
            .order(Order::Extract { entry, from }, Some(file.as_fd()))
            .map_err(|error| error.to_string())?;
        let to = match worker.answer(&|| false, &mut |_, _, _| {}).map_err(|error| error.to_string())? {
            Report::Extracted { messages, to } => {
                drained.messages += messages;
                to
            }
            other => return Err(worker.out_of_turn(other).to_string()),
        };
        flow.set_drained_to(&run, entry, to);
        if is_mbox {
            continue;
        }
        let all = to >= spool::size(&file).map_err(|errno| errno.to_string())?;
        if !(all && lease.is_untouched() && has_lingered(entry)) {
            drained.left += 1;
            continue;
        }
        // In this order: an entry that came back after a power cut, with its position gone, would be delivered again.
        tracing::debug!(step = "forget", who = "agent", run = run.as_str(), entry);
        spool.forget(&run, entry).map_err(|error| error.to_string())?;
        spool.sync().map_err(|error| error.to_string())?;
        worker.order(Order::Forgotten { entry }, None).map_err(|error| error.to_string())?;
    }
    if mark.folders {
        let worker = match &mut worker {
            Some(worker) => worker,
            none => none.insert(start(flow, settings, record)?),
        };
        let (messages, left) = drain_folders(worker, record).map_err(|error| error.to_string())?;
        drained.messages += messages;
        drained.left += left;
    }
    if let Some(mut worker) = worker {
        worker.order(Order::Release, None).map_err(|error| error.to_string())?;
        if !worker.finish() {
            // Dotlocks on folders: their owner is dead, and its successor removes them.
            flow.set_unsettled(record, true);
        }
    }
    if spool.has_left_dotlock() {
        return Err("the spool's dotlock cannot be removed".to_owned());
    }
    if drained.messages > 0 {
        tracing::info!(user = ?record.user, run = run.as_str(), messages = drained.messages, "carried mail over that came to the old place");
    }
    // Something foreign at the place does not keep back what was taken from there before.
    rotated?;
    Ok(drained)
}

fn start(flow: &Flow, settings: &Settings, record: &Record) -> Result<Worker, String> {
    let job = flow.job(settings, record, Purpose::Drain);
    Worker::start(&settings.worker, &job, None).map_err(|error| error.to_string())
}

/// A worker that has seen the Maildir of this run at its place.
fn start_standing(flow: &Flow, settings: &Settings, record: &Record) -> Result<Worker, String> {
    let job = flow.job(settings, record, Purpose::Drain);
    let look = || {
        let mut worker = Worker::start(&settings.worker, &job, None)?;
        worker.order(Order::Stands, None)?;
        match worker.answer(&|| false, &mut |_, _, _| {})? {
            Report::Obeyed => Ok(worker),
            other => Err(worker.out_of_turn(other)),
        }
    };
    look().map_err(|error| match error {
        // The home is gone, or another's, or holds no such Maildir.
        WorkerError::Blocked(..) => reasons::not_standing(&record.user, &record.run, &error.to_string()),
        _ => error.to_string(),
    })
}

/// The folders' old places, which are the worker's alone: rotated, extracted and delivered by it. Gives the messages, and how many places have to be looked at again.
fn drain_folders(worker: &mut Worker, record: &Record) -> Result<(u64, usize), WorkerError> {
    let let_go = record.kept.originals != Originals::Kept;
    worker.order(Order::DrainFolders { let_go }, None)?;
    match worker.answer(&|| false, &mut |_, _, _| {})? {
        Report::Drained { messages, left, strangers } => {
            if strangers > 0 {
                tracing::warn!(user = ?record.user, run = record.run, strangers, "mbox files that appeared below the mbox root since the conversion are no folders of the Maildir, and no client sees them");
            }
            Ok((messages, usize::try_from(left).unwrap_or(usize::MAX)))
        }
        other => Err(worker.out_of_turn(other)),
    }
}

/// Exchanges what stands at the path for a fresh tombstone. False: somebody has it locked or open.
pub(super) fn rotate(flow: &Flow, settings: &Settings, spool: &Spool, run: &RunId) -> Result<bool, String> {
    let fail = |error: spool::SpoolError| error.to_string();
    let entry = flow.next_entry();
    let (file, stat) = match spool.at_path().map_err(fail)? {
        AtPath::File(file, stat) => (file, stat),
        AtPath::Foreign(what) => return Err(format!("{what} stands where the spool was, and is left alone")),
        AtPath::Nothing => {
            // Somebody removed the tombstone. A deliverer would make a new mbox, which is drained too, but a reader would see an empty one.
            let ownership = spool.usual_ownership().map_err(fail)?;
            spool.make_tombstone(run, entry, ownership).map_err(fail)?;
            let placed = spool.place(run, entry);
            if placed.is_err() {
                spool.remove_tombstone(run, entry).map_err(fail)?;
            }
            return Ok(placed.is_ok());
        }
    };
    exchange(flow, settings, spool, run, entry, &file, &stat)
}

fn exchange(
    flow: &Flow,
    settings: &Settings,
    spool: &Spool,
    run: &RunId,
    entry: u64,
    file: &std::os::fd::OwnedFd,
    stat: &nix::sys::stat::FileStat,
) -> Result<bool, String> {
    let fail = |error: spool::SpoolError| error.to_string();
    spool.make_tombstone(run, entry, Ownership::of(stat)).map_err(fail)?;
    let note = |step: &'static str| tracing::debug!(step, who = "agent", run = run.as_str());
    let locked = spool
        .lock(file, run, std::process::id(), flow.lock_set(settings), LOCK_PATIENCE, &note)
        .map_err(fail)?;
    let still_there = spool.is_at_path(stat).map_err(fail)?;
    if locked.is_none() || !still_there {
        spool.remove_tombstone(run, entry).map_err(fail)?;
        return Ok(false);
    }
    let step = if entry == 0 { "set_aside" } else { "rotate" };
    tracing::debug!(step, who = "agent", run = run.as_str(), entry);
    let taken = spool.take(run, entry, stat)?;
    if entry == 0 {
        tracing::debug!(step = "sync_set_aside", who = "agent", run = run.as_str());
    }
    spool.sync().map_err(fail)?;
    // What came in instead of it is the user's own too, but its names are not known to us: it stays the user's.
    if taken == Taken::Locked {
        spool.take_over(file).map_err(fail)?;
    }
    Ok(true)
}

/// Whether the original is in the archive. Asked of the archive, never of the place: some program may have written an mbox back there since.
pub(super) fn is_set_aside(spool: &Spool, run: &RunId) -> Result<bool, String> {
    let entry = spool.open_entry(run, 0).map_err(|error| error.to_string())?;
    Ok(entry.is_some_and(|entry| !spool::is_tombstone(&entry, run)))
}

/// The exchange, if the place's locks can be had.
pub(super) fn set_aside_late(
    flow: &Flow,
    settings: &Settings,
    spool: &Spool,
    run: &RunId,
) -> Result<(), String> {
    let fail = |error: spool::SpoolError| error.to_string();
    match spool.at_path().map_err(fail)? {
        AtPath::File(file, stat) => match exchange(flow, settings, spool, run, 0, &file, &stat)? {
            true => Ok(()),
            false => Err("the old mbox is locked or open".to_owned()),
        },
        AtPath::Foreign(what) => Err(format!("{what} stands where the spool was")),
        // Gone: nothing to set aside but the place to be taken.
        AtPath::Nothing => {
            spool.create_empty().map_err(fail)?;
            Err("the old mbox was gone".to_owned())
        }
    }
}

/// Entries are numbered by the nanosecond of their making.
fn has_lingered(entry: u64) -> bool {
    let made = UNIX_EPOCH + Duration::from_nanos(entry);
    // A clock that was set back makes it wait for longer, never for less.
    SystemTime::now().duration_since(made).is_ok_and(|age| age > LINGER)
}
