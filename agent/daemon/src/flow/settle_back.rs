//! A rollback that did not come to its end: the disk is asked.
//!
//! A Maildir with the marker in its place means that the rollback had not come to its commit, and it is undone as if it had never begun. A withdrawn one means that it had, and it is rolled forward: the
//! mboxes are written again from it, for every place where our tombstone still stands. Both ways can be gone any number of times.

use std::os::fd::AsFd;

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::crew::{Worker, WorkerError};
use super::rollback;
use super::spool::{AtPath, Make, Ownership, Spool};
use super::{Bind, Flow, gate};
use crate::account::Account;
use crate::records::Record;
use crate::settings::Settings;

/// How it was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The Maildir is the mail.
    Maildir,
    /// The mboxes are, with so many messages added late.
    Mbox(u64),
}

/// Brings a rollback to its end, or says why that has to wait.
pub(super) fn settle(flow: &Flow, settings: &Settings, record: &Record) -> Result<Settled, String> {
    let run = RunId::parse(&record.run).ok_or("the archive record has no run id")?;
    let account = super::account_of(record);
    let spool = Spool::open(&account.inbox, &account.archive, account.uid, Make::No)
        .map_err(|error| super::reasons::of(&error))?;
    let mut record = record.clone();
    // It holds the work folder's lock: a worker that a dead agent left over is gone now.
    let (committed, withdrawn) = probe(flow, settings, &record).map_err(|error| error.to_string())?;
    if spool.remove_dead_dotlock(&run).map_err(|error| error.to_string())? {
        tracing::info!(run = run.as_str(), "removed the dotlock of a dead rollback");
    }
    if withdrawn {
        return roll_forward(flow, settings, &mut record, &account, &spool, &run).map(Settled::Mbox);
    }
    if !committed {
        return Err(format!(
            "the Maildir is neither at {} nor in {}",
            record.maildir.display(),
            record.work.display()
        ));
    }
    let scratch = spool.make_scratch().map_err(|error| error.to_string())?;
    let worker = start(flow, settings, &record, &scratch).map_err(|error| error.to_string())?;
    // Takes the mark away.
    if !worker.abort() {
        return Err("the worker did not live to undo what had been begun".to_owned());
    }
    // Again if something of it stays behind.
    flow.settled(&record);
    rollback::give_up(flow, settings, &mut record, &spool, &run);
    flow.sessions.reopen(&record.key());
    tracing::info!(user = ?record.user, run = run.as_str(), "a rollback that had not come to its commit is undone; the Maildir is the mail");
    Ok(Settled::Maildir)
}

fn roll_forward(
    flow: &Flow,
    settings: &Settings,
    record: &mut Record,
    account: &Account,
    spool: &Spool,
    run: &RunId,
) -> Result<u64, String> {
    let text = |error: WorkerError| error.to_string();
    let back = if spool.is_back(run).map_err(|error| error.to_string())? {
        // The spool is in its place already, and so nobody is in the way; what the worker writes for it is of no use.
        spool.make_scratch()
    } else {
        tracing::debug!(step = "back_gate", who = "agent", run = run.as_str());
        // Some may have gone by the disk alone while nobody answered them.
        for told in [Bind::Ready, Bind::Stay] {
            gate::end_sessions(flow, settings, account, told).map_err(|outcome| format!("{outcome:?}"))?;
        }
        let ownership = match spool.at_path().map_err(|error| error.to_string())? {
            AtPath::File(_, stat) => Ownership::of(&stat),
            AtPath::Foreign(what) => return Err(format!("{what} stands where the spool was")),
            AtPath::Nothing => spool.usual_ownership().map_err(|error| error.to_string())?,
        };
        spool.make_back(run, ownership)
    };
    let back = back.map_err(|error| error.to_string())?;
    let mut worker = start(flow, settings, record, &back).map_err(text)?;
    if let Some(original) = spool.open_original(run).map_err(|error| error.to_string())? {
        worker.order(Order::Spool, Some(original.as_fd())).map_err(text)?;
    }
    worker.order(Order::Probe, None).map_err(text)?;
    match worker.answer(&|| false, &mut |_, _, _| {}).map_err(text)? {
        Report::Probed { withdrawn: true, .. } => {}
        other => return Err(worker.out_of_turn(other).to_string()),
    }
    let messages = rollback::finish(flow, settings, record, spool, run, &mut worker, 0)?;
    tracing::info!(user = ?record.user, run = run.as_str(), "a rollback that had come to its commit is rolled forward");
    Ok(messages)
}

fn start(
    flow: &Flow,
    settings: &Settings,
    record: &Record,
    back: &std::os::fd::OwnedFd,
) -> Result<Worker, WorkerError> {
    let job = flow.job(settings, record, Purpose::Rollback);
    Worker::start(&settings.worker, &job, Some(back.as_fd()))
}

/// Removes the tombstone of a rollback whose agent died after it had written the rollback down as done.
pub(super) fn clear(record: &Record) -> Result<(), String> {
    let run = RunId::parse(&record.run).ok_or("the archive record has no run id")?;
    let account = super::account_of(record);
    let spool = Spool::open(&account.inbox, &account.archive, account.uid, Make::No)
        .map_err(|error| super::reasons::of(&error))?;
    // Of one that died while it carried stray mail over.
    spool.remove_dead_dotlock(&run).map_err(|error| error.to_string())?;
    spool.forget_tombstone(&run, record.tombstone_taken).map_err(|error| error.to_string())
}

/// Whether the Maildir is in its place, and whether it is withdrawn.
fn probe(flow: &Flow, settings: &Settings, record: &Record) -> Result<(bool, bool), WorkerError> {
    let job = flow.job(settings, record, Purpose::Drain);
    let mut worker = Worker::start(&settings.worker, &job, None)?;
    worker.order(Order::Probe, None)?;
    match worker.answer(&|| false, &mut |_, _, _| {})? {
        Report::Probed { committed, withdrawn, .. } => {
            worker.order(Order::Release, None)?;
            worker.finish();
            Ok((committed, withdrawn))
        }
        other => Err(worker.out_of_turn(other)),
    }
}
