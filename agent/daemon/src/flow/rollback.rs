//! One rollback: the Maildir becomes mboxes again, with everything that has happened since.
//!
//! Up to the worker's `withdraw` it can be undone by forgetting it: mboxes that nobody sees, a mark by which logins wait, a record that says so. From then on it is roll-forward, and what was written can be
//! written again from the withdrawn Maildir, which is kept. The last thing to come back is the spool, under its locks, since deliverers have been appending to the tombstone all the while.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mailready_config::{Deliverer, Reader};
use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use super::crew::{Worker, WorkerError};
use super::late::Mark;
use super::settle_back::{self, Settled};
use super::spool::{AtPath, Make, Ownership, Spool, SpoolError};
use super::told::Told;
use super::{Ask, Bind, Flow, RolledBack, Standing, drain, gate, location, place, reasons};
use crate::account::Account;
use crate::outcome::{Outcome, Progress, Stage};
use crate::records::{Layout, Originals, Phase, Record};
use crate::settings::Settings;

/// Rounds of gate and confirmation before a mailbox that keeps changing is left for later.
const ROUNDS: usize = 8;

/// What is waited for the drain that comes first: an entry is kept for two seconds after it was rotated.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// A login that decided for the Maildir just before the mark has its session listed by then; and Dovecot, which looks whether the map has changed once a second, has seen that it has.
const ON_ITS_WAY: Duration = Duration::from_millis(1200);

/// Why it did not come to its end.
pub(super) enum End {
    /// The Maildir is the mail as before.
    Not(Outcome),
    /// The Maildir is taken out of its place, or only the disk knows.
    Unsure(String),
}

impl From<SpoolError> for End {
    fn from(error: SpoolError) -> Self {
        Self::Not(reasons::spool(&error))
    }
}

struct Attempt<'a> {
    flow: &'a Flow,
    settings: &'a Settings,
    account: Account,
    ask: &'a Ask,
    run: RunId,
    record: Record,
    progress: Progress,
}

/// Gives the user mboxes again.
pub(super) fn rollback(
    flow: &Flow,
    settings: &Settings,
    record: &Record,
    ask: &Ask,
) -> Result<RolledBack, Outcome> {
    let account = super::account_of(record);
    location::check_back(settings, &account, record).map_err(Outcome::Blocked)?;
    let run = RunId::parse(&record.run).ok_or_else(|| Outcome::Failed(reasons::no_run_id()))?;
    let progress = Progress { stage: Stage::Staging, messages: 0, bytes: 0, bytes_total: 0 };
    Attempt { flow, settings, account, ask, run, record: record.clone(), progress }.run()
}

impl Attempt<'_> {
    fn run(mut self) -> Result<RolledBack, Outcome> {
        let spool = Spool::open(&self.account.inbox, &self.account.archive, self.account.uid, Make::No)
            .map_err(|error| reasons::spool(&error))?;
        let mut worker = None;
        let key = self.record.key();
        match self.attempt(&spool, &mut worker) {
            Ok(messages) => Ok(RolledBack { run: self.run.to_string(), messages }),
            Err(End::Not(outcome)) => {
                tracing::debug!(user = ?self.account.name, run = self.run.as_str(), ?outcome, "not rolled back");
                // Takes the mark away, for which no login is to wait any longer.
                if worker.is_none_or(Worker::abort) {
                    self.forget(&spool);
                    self.flow.sessions.reopen(&key);
                } else {
                    self.flow.set_unsettled(&self.record, false);
                }
                Err(outcome)
            }
            Err(End::Unsure(why)) => {
                tracing::error!(user = ?self.account.name, run = self.run.as_str(), "the rollback is not at its end, asking the disk: {why}");
                drop(worker);
                self.flow.set_unsettled(&self.record, false);
                match settle_back::settle(self.flow, self.settings, &self.record) {
                    Ok(Settled::Mbox(late)) => {
                        Ok(RolledBack { run: self.run.to_string(), messages: self.progress.messages + late })
                    }
                    Ok(Settled::Maildir) => Err(Outcome::Failed(reasons::rollback_given_up(&why))),
                    Err(why) => Err(Outcome::Busy(reasons::rolling_forward(&why))),
                }
            }
        }
    }

    /// Puts map and record back and removes what was written for the spool; the worker has removed the rest.
    fn forget(&mut self, spool: &Spool) {
        give_up(self.flow, self.settings, &mut self.record, spool, &self.run);
    }

    fn attempt(&mut self, spool: &Spool, slot: &mut Option<Worker>) -> Result<u64, End> {
        self.drain()?;
        // From here on a death leaves something behind that the next start has to find.
        self.put_record(Phase::RollingBack)?;
        let ownership = self.ownership(spool)?;
        let back = spool.make_back(&self.run, ownership)?;
        let job = self.flow.job(self.settings, &self.record, Purpose::Rollback);
        let worker =
            Worker::start(&self.settings.worker, &job, Some(back.as_fd())).map_err(|e| self.not(e))?;
        let worker = slot.insert(worker);
        if let Some(original) = spool.open_original(&self.run)? {
            self.order(worker, Order::Spool, Some(original.as_fd()))?;
        }
        self.report(Stage::Staging);
        self.stage(worker)?;
        // From the mark on the post-login script believes us and not the marker: no session may be told anything until this is over.
        self.flow.sessions.close(&self.record.key());
        self.obey(worker, Order::BackMark)?;
        // Before the pause: whoever still finds the user in the map, LDA and LMTP, would make a Maildir where this one has been taken away.
        self.step("unmap");
        self.flow.write_map(self.settings, &self.record);
        if self.has_dovecot() {
            std::thread::sleep(ON_ITS_WAY);
        }
        for round in 0..ROUNDS {
            self.report(Stage::Gate);
            self.step("back_gate");
            self.end_sessions()?;
            let messages = self.stage(worker)?;
            if let Some(messages) = self.withdraw(worker, messages)? {
                let finished =
                    finish(self.flow, self.settings, &mut self.record, spool, &self.run, worker, messages);
                return finished.map_err(End::Unsure);
            }
            std::thread::sleep(Duration::from_millis(20 << round.min(4)));
        }
        Err(End::Not(Outcome::Busy(reasons::changing())))
    }

    /// What has come to the old places, carried over first, so that what comes later is little. That stays behind the tombstone, and is taken last of all.
    fn drain(&self) -> Result<(), End> {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        let mut mark = Mark { folders: self.record.has_folders(), ..Mark::default() };
        loop {
            match drain::drain(self.flow, self.settings, &self.record, mark) {
                Ok(drained) if drained.left == 0 => return Ok(()),
                Ok(_) if Instant::now() > deadline => return Err(End::Not(Outcome::Busy(reasons::in_use()))),
                Ok(_) => std::thread::sleep(Duration::from_millis(250)),
                Err(why) => return Err(End::Not(Outcome::Failed(reasons::not_drained(&why)))),
            }
            mark.keep_place = true;
            self.check_stop()?;
        }
    }

    /// Whether a Dovecot reads or delivers here.
    fn has_dovecot(&self) -> bool {
        let site = &self.settings.config.site;
        let delivers = |each: &Deliverer| matches!(each, Deliverer::DovecotLda | Deliverer::DovecotLmtp);
        site.readers.contains(&Reader::Dovecot) || site.deliverers.iter().any(delivers)
    }

    /// As the tombstone has it, which has it from the mbox.
    fn ownership(&self, spool: &Spool) -> Result<Ownership, End> {
        match spool.at_path()? {
            AtPath::File(_, stat) => Ok(Ownership::of(&stat)),
            AtPath::Foreign(what) => {
                Err(End::Not(Outcome::Blocked(reasons::foreign_spool(&self.account.inbox, what))))
            }
            AtPath::Nothing => Ok(spool.usual_ownership()?),
        }
    }

    /// Has every mailbox written that has changed; gives the messages.
    fn stage(&mut self, worker: &mut Worker) -> Result<u64, End> {
        let told = told(self.settings, &self.account, &self.record);
        self.order(worker, Order::BackStage, told.as_ref().map(Told::as_fd))?;
        match self.answer(worker)? {
            Report::BackStaged { messages, length, boxes, .. } => {
                self.progress = Progress { messages, bytes: length, bytes_total: length, ..self.progress };
                tracing::debug!(user = ?self.account.name, run = self.run.as_str(), messages, boxes, "written back");
                self.check_limit(length)?;
                Ok(messages)
            }
            other => Err(self.not(worker.out_of_turn(other))),
        }
    }

    /// Postfix bounces what would make a mailbox larger than this.
    fn check_limit(&self, length: u64) -> Result<(), End> {
        if !self.settings.config.site.deliverers.contains(&Deliverer::Postfix) {
            return Ok(());
        }
        match super::postfix::mailbox_size_limit() {
            Some(limit) if length > limit => {
                Err(End::Not(Outcome::Blocked(reasons::over_limit(&self.account.inbox, length, limit))))
            }
            _ => Ok(()),
        }
    }

    fn end_sessions(&self) -> Result<(), End> {
        gate::end_sessions(self.flow, self.settings, &self.account, Bind::Ready).map_err(End::Not)
    }

    /// One round under Dovecot's locks; `None`: what was written is not what is there any more.
    fn withdraw(&mut self, worker: &mut Worker, staged: u64) -> Result<Option<u64>, End> {
        self.report(Stage::Committing);
        self.order(worker, Order::BackConfirm, None)?;
        let messages = match self.answer(worker)? {
            Report::BackConfirmed { messages, .. } => messages.max(staged),
            Report::Changed => return Ok(None),
            other => return Err(self.not(worker.out_of_turn(other))),
        };
        self.check_stop()?;
        // The point of no return.
        match worker.order(Order::Withdraw, None).and_then(|()| worker.answer(&|| false, &mut |_, _, _| {})) {
            Ok(Report::Withdrawn) => {}
            Ok(other) => return Err(End::Unsure(worker.out_of_turn(other).to_string())),
            Err(WorkerError::Blocked(block, detail, words)) => {
                return Err(End::Not(Outcome::Blocked(reasons::blocked(
                    block,
                    detail,
                    &words,
                    &self.account,
                ))));
            }
            Err(error) => return Err(End::Unsure(error.to_string())),
        }
        self.flow.set_standing(self.record.key(), Standing::Unknown);
        self.report(Stage::Finishing);
        Ok(Some(messages))
    }

    fn put_record(&mut self, phase: Phase) -> Result<(), End> {
        self.record.phase = phase;
        self.step("record");
        self.flow.records.put(&self.record).map_err(|error| End::Not(Outcome::Failed(reasons::state(&error))))
    }

    fn obey(&mut self, worker: &mut Worker, order: Order) -> Result<(), End> {
        self.order(worker, order, None)?;
        match self.answer(worker)? {
            Report::Obeyed => Ok(()),
            other => Err(self.not(worker.out_of_turn(other))),
        }
    }

    fn order(&self, worker: &mut Worker, order: Order, fd: Option<BorrowedFd<'_>>) -> Result<(), End> {
        worker.order(order, fd).map_err(|error| self.not(error))
    }

    fn answer(&mut self, worker: &mut Worker) -> Result<Report, End> {
        let (stop, report) = (self.ask.stop.clone(), self.ask.report.clone());
        let progress = &mut self.progress;
        let answer = worker.answer(&|| *stop.borrow(), &mut |messages, bytes, bytes_total| {
            *progress = Progress { messages, bytes, bytes_total, ..*progress };
            report(*progress);
        });
        answer.map_err(|error| self.not(error))
    }

    fn not(&self, error: WorkerError) -> End {
        End::Not(reasons::worker(&error, &self.account))
    }

    fn check_stop(&self) -> Result<(), End> {
        if *self.ask.stop.borrow() { Err(End::Not(Outcome::Stopped)) } else { Ok(()) }
    }

    fn report(&mut self, stage: Stage) {
        self.progress.stage = stage;
        (self.ask.report)(self.progress);
    }

    fn step(&self, step: &'static str) {
        tracing::debug!(step, who = "agent", run = self.run.as_str(), user = ?self.account.name);
    }
}

/// Keywords beyond those that a Maildir can name, and whatever else Dovecot's index alone knows.
pub(super) fn told(settings: &Settings, account: &Account, record: &Record) -> Option<Told> {
    let layout = match record.served.layout {
        Layout::MaildirPlusPlus => "",
        Layout::Fs => ":LAYOUT=fs",
    };
    let location = format!("maildir:{}{layout}", record.maildir.display());
    let prefix = &record.served.prefix;
    gate::ask(settings, account, &|dovecot, told| dovecot.fetch_flags(&account.name, &location, prefix, told))
}

/// The rollback did not come to its commit: the Maildir is the mail as before.
pub(super) fn give_up(flow: &Flow, settings: &Settings, record: &mut Record, spool: &Spool, run: &RunId) {
    // Synced, since nobody looks for it in a run that has its end.
    if let Err(error) = spool.remove_back(run).and_then(|()| spool.sync()) {
        tracing::warn!("an unused mbox stays behind, and is removed later: {error}");
        flow.set_standing(record.key(), Standing::Maildir { run: record.run.clone() });
        return flow.set_unsettled(record, true);
    }
    if record.phase == Phase::RollingBack {
        flow.set_converted(settings, record);
    }
}

/// All that follows the withdrawal: idempotent, and gone again from its beginning after a death.
pub(super) fn finish(
    flow: &Flow,
    settings: &Settings,
    record: &mut Record,
    spool: &Spool,
    run: &RunId,
    worker: &mut Worker,
    messages: u64,
) -> Result<u64, String> {
    let note = |step: &'static str| tracing::debug!(step, who = "agent", run = run.as_str());
    // The spool goes last: where it is in its place, the folders are too, and people may be using them.
    let is_back = spool.is_back(run).map_err(|error| error.to_string())?;
    let in_folders = if is_back { 0 } else { place::folders(worker)? };
    let in_spool = place::spool(flow, settings, record, spool, run, worker, &note)?;
    let messages = messages + in_folders + in_spool;
    if spool.has_left_dotlock() {
        // Afterwards nobody would look for it.
        return Err("the spool's dotlock cannot be removed".to_owned());
    }
    worker.order(Order::BackDone, None).map_err(|error| error.to_string())?;
    match worker.answer(&|| false, &mut |_, _, _| {}).map_err(|error| error.to_string())? {
        Report::Done => {}
        other => return Err(worker.out_of_turn(other).to_string()),
    }
    // The dotlock, too: nobody looks for one of a run that is over.
    spool.sync().map_err(|error| error.to_string())?;
    note("undone");
    record.phase = Phase::Undone;
    if record.kept.originals == Originals::Kept {
        record.kept = flow.kept_from_now();
    }
    flow.records.put(record).map_err(|error| error.to_string())?;
    flow.set_undone(settings, record);
    if let Err(error) = spool.forget_tombstone(run, record.tombstone_taken) {
        tracing::warn!("the old tombstone stays in the archive folder: {error}");
    }
    tracing::info!(user = ?record.user, run = run.as_str(), messages, "rolled back; the mbox is the mail");
    Ok(messages)
}
