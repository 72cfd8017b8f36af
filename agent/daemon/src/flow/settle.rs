//! A run that began and of which nobody says how it ended: the disk is asked, and the run brought to its end.
//!
//! Committed means: a Maildir with this run's marker stands at its place. Then the spool is set aside if it is not, by the very exchange that
//! a conversion makes; otherwise stage, tombstone and record go, and the mbox was never anything but the mail. Both ways can be gone any number of times.

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::crew::{Worker, WorkerError};
use super::gate::{self, IndexState};
use super::spool::{Make, Spool};
use super::told::Told;
use super::{Bind, Flow, Standing, drain, reasons};
use crate::outcome::{Outcome, Reason};
use crate::records::Record;
use crate::settings::Settings;

/// Brings a run to its end, or says why that has to wait; a run that has to wait is tried again by the tick.
pub(super) fn settle(flow: &Flow, settings: &Settings, record: &Record) -> Outcome {
    let Some(run) = RunId::parse(&record.run) else {
        return Outcome::Failed(reasons::no_run_id());
    };
    let account = super::account_of(record);
    let spool = match Spool::open(&account.inbox, &account.archive, account.uid, Make::No) {
        Ok(spool) => spool,
        Err(error) => return reasons::spool(&error),
    };
    // The worker holds the work folder's lock as long as it lives: having got it means that a worker left over from a dead agent is gone, and it is only now that looking makes sense.
    let (mut worker, found) = match probe(flow, settings, record) {
        Ok(answer) => answer,
        Err(error) => return reasons::worker(&error, &account),
    };
    match spool.remove_dead_dotlock(&run) {
        Ok(true) => tracing::info!(run = run.as_str(), "removed the dotlock of a dead run"),
        Ok(false) => {}
        Err(error) => return reasons::spool(&error),
    }
    if !found.committed {
        tracing::info!(user = ?record.user, run = run.as_str(), "a run that had not come to its commit is undone; the mbox is the mail");
        // Synced, or a power cut might bring tombstone and dotlock back, and not the record by which they are known.
        if let Err(error) = spool.remove_tombstone(&run, 0).and_then(|()| spool.sync()) {
            return reasons::spool(&error);
        }
        flow.stages.remember(record);
        if let Err(error) = flow.records.remove(run.as_str()) {
            return Outcome::Failed(Reason::new("state", error.to_string(), "see to the state folder"));
        }
        flow.set_standing(record.key(), Standing::Mbox);
        flow.settled(record);
        return Outcome::Failed(Reason::new(
            "interrupted",
            "the conversion was interrupted before its commit; the mbox is in use as before",
            "",
        ));
    }
    let mut record = record.clone();
    record.source[0].length = found.length;
    record.boxes = found.folders + 1;
    // Where the mail is does not wait for the spool: what stands there is drained, now or later.
    flow.set_standing(record.key(), Standing::Maildir { run: record.run.clone() });
    if let Err(why) = set_aside(flow, settings, &record, &spool, &run, &mut worker, found.folders_left) {
        tracing::warn!(user = ?record.user, run = run.as_str(), "the mboxes are not all set aside yet: {why}");
        return Outcome::Converted { run: record.run, messages: 0 };
    }
    let _ = worker.order(Order::Release, None);
    if !worker.finish() || spool.has_left_dotlock() {
        tracing::warn!(user = ?record.user, run = run.as_str(), "locks of this run could not be removed yet");
        return Outcome::Converted { run: record.run, messages: 0 };
    }
    // In this order: it is unsettled again if the record cannot be written.
    flow.settled(&record);
    flow.set_converted(settings, &mut record);
    flow.mark_by_content(&record);
    tracing::info!(user = ?record.user, run = run.as_str(), "a run that had come to its commit is rolled forward; the Maildir is the mail");
    Outcome::Converted { run: record.run, messages: 0 }
}

/// What the disk says.
struct Found {
    /// The Maildir is in place.
    committed: bool,
    /// Bytes of the spool that it holds.
    length: u64,
    /// Folders in it.
    folders: u64,
    /// Of those, how many still stand at their old places.
    folders_left: u64,
}

fn probe(flow: &Flow, settings: &Settings, record: &Record) -> Result<(Worker, Found), WorkerError> {
    let job = flow.job(settings, record, Purpose::Drain);
    let mut worker = Worker::start(&settings.worker, &job, None)?;
    worker.order(Order::Probe, None)?;
    match worker.answer(&|| false, &mut |_, _, _| {})? {
        Report::Probed { committed, length, folders, folders_left, .. } => {
            Ok((worker, Found { committed, length, folders, folders_left }))
        }
        other => Err(worker.out_of_turn(other)),
    }
}

/// The exchanges that a run did not come to, or came to and could not say so. Between the death of the run and now nobody held any lock: a session that had decided for the mbox before the commit may have
/// opened it and stored flags, so this goes through the gate like any commit, and under Dovecot's own locks.
fn set_aside(
    flow: &Flow,
    settings: &Settings,
    record: &Record,
    spool: &Spool,
    run: &RunId,
    worker: &mut Worker,
    folders_left: u64,
) -> Result<(), String> {
    let account = &super::account_of(record);
    let spool_is_set_aside = drain::is_set_aside(spool, run)?;
    if spool_is_set_aside {
        // Seen is not synced, and perhaps not root's yet.
        spool.sync().map_err(|error| error.to_string())?;
        if let Some(original) = spool.open_entry(run, 0).map_err(|error| error.to_string())? {
            spool.take_over(&original).map_err(|error| error.to_string())?;
        }
        if folders_left == 0 {
            return Ok(());
        }
    }
    tracing::debug!(step = "gate", who = "agent", run = run.as_str());
    gate::end_sessions(flow, settings, account, Bind::Stay).map_err(|outcome| format!("{outcome:?}"))?;
    // The stage is committed: of what Dovecot says nothing is needed but that it has written.
    let mut look = |_: Option<&Told>| {
        worker.order(Order::Refresh, None)?;
        match worker.answer(&|| false, &mut |_, _, _| {})? {
            Report::Staged { indexed, index_changes, .. } => {
                Ok(IndexState { indexed, changes: index_changes })
            }
            other => Err(worker.out_of_turn(other)),
        }
    };
    let quiet = gate::write_out(settings, account, &record.served.prefix, &mut look)
        .map_err(|error: WorkerError| error.to_string())?;
    let confirmed = quiet
        && matches!(
            worker
                .order(Order::Confirm, None)
                .and_then(|()| worker.answer(&|| false, &mut |_, _, _| {}))
                .map_err(|error| error.to_string())?,
            Report::Confirmed { .. }
        );
    if !confirmed {
        return Err("Dovecot's index of it keeps changing".to_owned());
    }
    if folders_left > 0 {
        let set_aside = worker
            .order(Order::SetAside, None)
            .and_then(|()| worker.answer(&|| false, &mut |_, _, _| {}))
            .map_err(|error| error.to_string())?;
        match set_aside {
            Report::Committed { folders_left: 0 } => {}
            Report::Committed { folders_left } => return Err(reasons::folders_left(folders_left)),
            other => return Err(worker.out_of_turn(other).to_string()),
        }
    }
    if spool_is_set_aside { Ok(()) } else { drain::set_aside_late(flow, settings, spool, run) }
}
