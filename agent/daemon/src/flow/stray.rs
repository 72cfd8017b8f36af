//! Mail that a deliverer has put into a Maildir of its own making, at the path of a user who was rolled back: carried into the mbox, under the spool's locks.
//!
//! A worker finds it and writes it, as the user; the agent locks. While nothing is there, which is nearly always, nothing is locked.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::Flow;
use super::crew::{Worker, WorkerError};
use super::spool::{AtPath, Make, Spool};
use crate::records::Record;
use crate::settings::Settings;

/// Tries for the spool's locks.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// It writes and syncs what may be a few messages.
const LONGEST_HOLD: Duration = Duration::from_secs(15);

/// Carries it over; gives how many messages are left for the next time.
pub(super) fn take(flow: &Flow, settings: &Settings, record: &Record) -> Result<u64, String> {
    let run = RunId::parse(&record.run).ok_or("the record has no run id")?;
    let account = super::account_of(record);
    let job = flow.job(settings, record, Purpose::Drain);
    let mut worker = match Worker::start(&settings.worker, &job, None) {
        Ok(worker) => worker,
        // No home, no Maildir in it.
        Err(WorkerError::Blocked(..)) => return Ok(0),
        Err(error) => return Err(error.to_string()),
    };
    let (_, mut left) = ask(&mut worker, None)?;
    if left > 0 {
        let fail = |error: super::spool::SpoolError| error.to_string();
        let spool = Spool::open(&account.inbox, &account.archive, account.uid, Make::No).map_err(fail)?;
        spool.remove_dead_dotlock(&run).map_err(fail)?;
        let (file, stat) = match spool.at_path().map_err(fail)? {
            AtPath::File(file, stat) => (file, stat),
            AtPath::Foreign(what) => return Err(format!("{what} stands where the spool is")),
            AtPath::Nothing => {
                spool.create_empty().map_err(fail)?;
                return Ok(left);
            }
        };
        let note = |step: &'static str| tracing::debug!(step, who = "agent", run = run.as_str());
        let locks = flow.lock_set(settings);
        let locked = spool.lock(&file, &run, worker.pid(), locks, LOCK_PATIENCE, &note).map_err(fail)?;
        if locked.is_some() && spool.is_at_path(&stat).map_err(fail)? {
            let taken = ask(&mut worker, Some(file.as_fd()));
            if taken.is_err() {
                // It may still write: seen to its end before the locks go.
                worker.reap();
            }
            let messages;
            (messages, left) = taken?;
            tracing::info!(user = ?record.user, run = run.as_str(), messages, "carried mail over that came to the Maildir after the rollback");
            // What is left now is no mail, and is looked at again when the user arrives.
            left = if messages > 0 { 0 } else { left };
        }
    }
    worker.order(Order::Release, None).map_err(|error| error.to_string())?;
    worker.finish();
    Ok(left)
}

fn ask(worker: &mut Worker, spool: Option<BorrowedFd<'_>>) -> Result<(u64, u64), String> {
    worker.order(Order::TakeStray, spool).map_err(|error| error.to_string())?;
    // With the spool in hand, deliverers wait for its locks.
    let answer = match spool {
        Some(_) => worker.answer_by(Instant::now() + LONGEST_HOLD),
        None => worker.answer(&|| false, &mut |_, _, _| {}),
    };
    match answer.map_err(|error| error.to_string())? {
        Report::Drained { messages, left, .. } => Ok((messages, left)),
        other => Err(worker.out_of_turn(other).to_string()),
    }
}
