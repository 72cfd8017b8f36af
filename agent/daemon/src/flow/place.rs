//! A rollback's mboxes put where they belong: the folders by the worker, the spool by us.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mailready_worker::RunId;
use mailready_worker::wire::{Order, Report};

use super::crew::{Worker, WorkerError};
use super::spool::{self, AtPath, Spool};
use super::{Flow, drain};
use crate::records::Record;
use crate::settings::Settings;

/// How long somebody may have a tombstone open or locked before it is left for the next round.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries for the spool's locks within that.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(100);

fn placed(
    worker: &mut Worker,
    order: Order,
    file: Option<&std::os::fd::OwnedFd>,
) -> Result<(u64, u64), String> {
    placed_by(worker, order, file, None)
}

/// The same under locks, which are not held for longer than until `due`.
fn placed_by(
    worker: &mut Worker,
    order: Order,
    file: Option<&std::os::fd::OwnedFd>,
    due: Option<Instant>,
) -> Result<(u64, u64), String> {
    worker.order(order, file.map(AsFd::as_fd)).map_err(|error| error.to_string())?;
    let answer = match due {
        Some(due) => worker.answer_by(due),
        None => worker.answer(&|| false, &mut |_, _, _| {}),
    };
    if matches!(answer, Err(WorkerError::Late)) {
        worker.reap();
    }
    match answer.map_err(|error| error.to_string())? {
        Report::BackPlaced { messages, folders_left, .. } => Ok((messages, folders_left)),
        other => Err(worker.out_of_turn(other).to_string()),
    }
}

/// Every folder; gives how many late messages were added.
pub(super) fn folders(worker: &mut Worker) -> Result<u64, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut late = 0;
    loop {
        let (messages, left) = placed(worker, Order::BackFolders, None)?;
        late += messages;
        if left == 0 {
            return Ok(late);
        }
        if Instant::now() > deadline {
            return Err(super::reasons::folders_in_use(left));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The spool, with what has come behind its tombstone; gives how many late messages were added. Nothing is done where that was done before.
///
/// How far the tombstone's file has been carried over is in the record before the exchange, or nobody would know after a death whether the file may go. Written without locks: a state folder
/// on a slow disk must not keep deliverers waiting.
pub(super) fn spool(
    flow: &Flow,
    settings: &Settings,
    record: &mut Record,
    spool: &Spool,
    run: &RunId,
    worker: &mut Worker,
    note: &dyn Fn(&'static str),
) -> Result<u64, String> {
    let fail = |error: spool::SpoolError| error.to_string();
    let deadline = Instant::now() + PATIENCE;
    let mut late = 0;
    loop {
        if spool.is_back(run).map_err(fail)? {
            // Seen is not synced.
            spool.sync().map_err(fail)?;
            return Ok(late);
        }
        let (file, stat) = match spool.at_path().map_err(fail)? {
            AtPath::File(file, stat) if spool::is_tombstone(&file, run) => (file, stat),
            AtPath::Foreign(what) => return Err(format!("{what} stands where the spool was")),
            // Somebody removed the tombstone, or a program has put an mbox of its own there: a fresh tombstone, and what is new in that mbox.
            AtPath::Nothing | AtPath::File(..) => {
                if drain::rotate(flow, settings, spool, run)? {
                    late += take_newest(spool, run, worker)?;
                    continue;
                }
                if Instant::now() > deadline {
                    return Err("the file at the spool's place is locked or open".to_owned());
                }
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let size = spool::size(&file).map_err(|errno| errno.to_string())?;
        if record.tombstone_taken != size {
            record.tombstone_taken = size;
            flow.records.put(record).map_err(|error| error.to_string())?;
        }
        let locks = flow.lock_set(settings);
        if let Some(locked) =
            spool.lock(&file, run, worker.pid(), locks, LOCK_PATIENCE, note).map_err(fail)?
            && spool.is_at_path(&stat).map_err(fail)?
            && spool::size(&file) == Ok(size)
        {
            let due = Instant::now() + super::convert::LONGEST_COMMIT;
            late += placed_by(worker, Order::BackRest, Some(&file), Some(due))?.0;
            // Whoever waits in open(2) for our lease is going to append to the tombstone: after that.
            if locked.is_untouched() {
                note("back_spool");
                spool.exchange_back(run, &stat)?;
                note("sync_back_spool");
                spool.sync().map_err(fail)?;
                return Ok(late);
            }
        }
        if Instant::now() > deadline {
            return Err("the tombstone at the spool's place is locked or open".to_owned());
        }
        std::thread::sleep(PAUSE);
    }
}

/// What is new in the archive entry that was made last, if it is an mbox; it stays in the archive.
fn take_newest(spool: &Spool, run: &RunId, worker: &mut Worker) -> Result<u64, String> {
    let fail = |error: spool::SpoolError| error.to_string();
    let newest = spool.entries(run).map_err(fail)?.pop().filter(|entry| *entry > 0);
    let Some(file) = newest.map(|entry| spool.open_entry(run, entry)).transpose().map_err(fail)?.flatten()
    else {
        return Ok(0);
    };
    if spool::is_tombstone(&file, run) { Ok(0) } else { Ok(placed(worker, Order::BackRest, Some(&file))?.0) }
}
