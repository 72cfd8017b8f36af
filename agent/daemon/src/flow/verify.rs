//! One verification: Dovecot reads the originals again, and the worker compares what it shows with the receipts and the Maildir.
//!
//! Not with our receipts alone, since what we misread once we would misread again. The original is root's and is only lent to the worker for reading; Dovecot's own tool runs with the user's rights, on copies in the
//! work folder, with a configuration that the worker writes: nothing of the live mailbox is touched.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};
use mailready_worker::{CHECK_ARGUMENTS, RunId};
use tokio::sync::watch as channel;

use super::crew::{Worker, WorkerError};
use super::spool::{Make, Spool};
use super::{Checked, Flow, reasons};
use crate::account::Account;
use crate::outcome::Outcome;
use crate::records::{Originals, Record};
use crate::settings::Settings;

/// Verifies one converted mailbox.
pub(super) fn verify(
    flow: &Flow,
    settings: &Settings,
    record: &Record,
    stop: &channel::Receiver<bool>,
) -> Result<Checked, Outcome> {
    let account = super::account_of(record);
    if record.kept.originals != Originals::Kept {
        return Err(Outcome::Blocked(reasons::originals_gone(record.kept.since)));
    }
    let run = RunId::parse(&record.run).ok_or_else(|| Outcome::Failed(reasons::no_run_id()))?;
    let spool = Spool::open(&account.inbox, &account.archive, account.uid, Make::No)
        .map_err(|e| reasons::spool(&e))?;
    let original = spool.open_original(&run).map_err(|error| reasons::spool(&error))?;
    let original = original.ok_or_else(|| Outcome::Blocked(reasons::no_original(&account.archive)))?;
    let failed = |error: WorkerError| reasons::worker(&error, &account);
    let job = flow.job(settings, record, Purpose::Verify);
    // The copies take as much room as the originals, and somebody has to know of them if this agent dies.
    flow.stages.remember(record);
    let mut worker = Worker::start(&settings.worker, &job, Some(original.as_fd())).map_err(failed)?;
    let checked = check(&mut worker, &account, &run, &|| *stop.borrow());
    match checked {
        Ok(checked) => {
            // Has the copies removed.
            worker.order(Order::Release, None).map_err(failed)?;
            if worker.finish() {
                flow.stages.forget(&record.key());
            } else {
                flow.set_unsettled(record, true);
            }
            Ok(checked)
        }
        Err(outcome) => {
            // Its copies go later, then.
            if worker.abort() {
                flow.stages.forget(&record.key());
            } else {
                flow.set_unsettled(record, true);
            }
            Err(outcome)
        }
    }
}

fn check(
    worker: &mut Worker,
    account: &Account,
    run: &RunId,
    stop: &dyn Fn() -> bool,
) -> Result<Checked, Outcome> {
    let failed = |error: WorkerError| reasons::worker(&error, account);
    worker.order(Order::CheckPrepare, None).map_err(failed)?;
    let (boxes, missing) = match worker.answer(stop, &mut |_, _, _| {}).map_err(failed)? {
        Report::CheckPrepared { boxes, missing, .. } => (boxes, missing),
        other => return Err(failed(worker.out_of_turn(other))),
    };
    let mut reader =
        Reader::start(account, run).map_err(|error| Outcome::Failed(reasons::doveadm(&error)))?;
    let shown = reader.0.stdout.take().ok_or_else(|| Outcome::Failed(reasons::thread_ended()))?;
    worker.order(Order::CheckCompare, Some(shown.as_fd())).map_err(failed)?;
    // The worker is the only one that reads: when it is gone, the writer ends too.
    drop(shown);
    match worker.answer(stop, &mut |_, _, _| {}).map_err(failed)? {
        Report::Checked { same, gone, lost, damaged, unknown, unseen } => {
            Ok(Checked { same, gone, lost, damaged, unknown, unseen, boxes, missing })
        }
        other => Err(failed(worker.out_of_turn(other))),
    }
}

/// Dovecot's tool, with the user's rights. It is the user's own process, and what it prints is only compared.
struct Reader(Child);

impl Reader {
    fn start(account: &Account, run: &RunId) -> io::Result<Self> {
        let config = account.work.join(format!("check-{run}")).join("dovecot.conf");
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Besides these two, the supplementary groups go: std clears them for a child that gets another uid.
        let child = Command::new("doveadm")
            .arg("-c")
            .arg(config)
            .args(CHECK_ARGUMENTS)
            .uid(account.uid)
            .gid(account.gid)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It has ended, or nobody reads what it prints any more.
        let _ = self.0.kill();
        if let Err(error) = self.0.wait() {
            tracing::error!(%error, "doveadm could not be reaped");
        }
    }
}
