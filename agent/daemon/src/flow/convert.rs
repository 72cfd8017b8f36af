//! One conversion, from the record to the set-aside spool.
//!
//! Everything up to the worker's `commit` can be undone by forgetting it: a stage in the user's work folder, a tombstone in the archive folder, a record. From the commit on everything is
//! roll-forward, and a death at any moment leaves enough on disk for [`super::settle`] to go on. In between there is one moment when only the disk knows: the order to commit was given and no
//! answer came. Then the worker is reaped and the disk is asked.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Block, Order, Report};
use nix::sys::stat::FileStat;

use super::crew::{Worker, WorkerError};
use super::gate::{self, IndexState};
use super::site::Proving;
use super::spool::{self, AtPath, Locked, Make, Ownership, Spool, SpoolError, Taken};
use super::stage_proof::StageProof;
use super::told::Told;
use super::{Ask, Bind, Flow, Standing, location, reasons};
use crate::account::Account;
use crate::outcome::{Outcome, Progress, Reason, Stage};
use crate::records::{INBOX, Kept, Phase, RECORD_VERSION, Record, Served, SourceRecord};
use crate::settings::Settings;

/// Rounds of look, lock and confirm before a mailbox that keeps changing is left for later.
const ROUNDS: usize = 8;

/// How long the locks are tried for in one round.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Longest time that a mailbox is kept locked (a deliverer gives up after 20 to 30 s, a person notices earlier).
const LONGEST_HOLD: Duration = Duration::from_secs(3);

/// How long the commit itself may take on a slow disk, most of it a sync. A worker that is stopped meanwhile has less (`crew/stopped.rs`).
pub(super) const LONGEST_COMMIT: Duration = Duration::from_secs(15);

/// Longer than one tick of the coarse clock that file systems stamp with (10 ms at HZ=100).
const CLOCK_TICK: Duration = Duration::from_millis(12);

/// How an attempt ended.
enum End {
    /// The Maildir is the mail; `set_aside` tells whether the mboxes stand where they belong.
    Committed { messages: u64, set_aside: Result<(), String> },
    /// The mbox is the mail.
    Not(Outcome),
    /// Only the disk knows.
    Unsure(WorkerError),
}

impl From<SpoolError> for End {
    fn from(error: SpoolError) -> Self {
        End::Not(reasons::spool(&error))
    }
}

/// What the worker says of its stage.
struct Staged {
    /// Bytes of the spool.
    length: u64,
    /// The inbox and the folders.
    boxes: u64,
    index: IndexState,
}

pub(super) struct Attempt<'a> {
    flow: &'a Flow,
    settings: &'a Settings,
    account: &'a Account,
    ask: &'a Ask,
    run: RunId,
    record: Record,
    progress: Progress,
    /// Held by the conversion that proves the site.
    proving: Option<Proving<'a>>,
}

pub(super) fn convert(flow: &Flow, settings: &Settings, account: &Account, ask: &Ask) -> Outcome {
    let allowed = flow.site.check(&settings.config).map(|found| found.seen);
    let (seen, beside) = match allowed.and_then(|seen| Ok((seen, location::check(settings, account)?))) {
        Ok(found) => found,
        Err(reason) => return Outcome::Blocked(reason),
    };
    let run = match RunId::generate() {
        Ok(run) => run,
        Err(error) => return Outcome::Failed(Reason::new("random", error.to_string(), "")),
    };
    let source =
        SourceRecord { name: INBOX.to_owned(), path: account.inbox.clone(), dev: 0, ino: 0, length: 0 };
    let record = Record {
        version: RECORD_VERSION,
        run: run.to_string(),
        user: account.name.clone(),
        uid: account.uid,
        gid: account.gid,
        phase: Phase::Begun,
        maildir: account.maildir.clone(),
        work: account.work.clone(),
        archive: account.archive.clone(),
        started: super::unix_seconds(),
        sequence: flow.records.next_sequence(),
        home: account.home.clone(),
        boxes: 1,
        served: Served {
            folders: account.folders.clone().unwrap_or_default(),
            index: beside.index,
            control: beside.control,
            layout: settings.config.mail.layout.into(),
            prefix: seen.prefix,
            separator: seen.separator,
            uidl: seen.uidl,
            reuse_xuidl: seen.reuse_xuidl,
        },
        kept: Kept::default(),
        tombstone_taken: 0,
        source: vec![source],
    };
    let progress = Progress { stage: Stage::Staging, messages: 0, bytes: 0, bytes_total: 0 };
    Attempt { flow, settings, account, ask, run, record, progress, proving: None }.run()
}

impl Attempt<'_> {
    fn run(mut self) -> Outcome {
        let Account { inbox, archive, uid, .. } = self.account;
        let with_originals = || self.flow.records.with_originals_in(archive);
        let spool = match Spool::open(inbox, archive, *uid, Make::Unless(&with_originals)) {
            Ok(spool) => spool,
            Err(error) => return reasons::spool(&error),
        };
        let mut worker = None;
        let end = match self.attempt(&spool, &mut worker) {
            Ok(end) | Err(end) => end,
        };
        let run = self.run.to_string();
        match end {
            End::Not(outcome) => {
                tracing::debug!(user = ?self.account.name, run, ?outcome, "not converted");
                // Stopped, or put off: the next attempt goes on with what was staged. Anything else may have been the stage's own fault, or for want of room.
                let goes_on = matches!(outcome, Outcome::Stopped | Outcome::Busy(_)) && worker.is_some();
                if goes_on {
                    self.flow.stages.remember(&self.record);
                }
                let ended = worker.is_none_or(if goes_on { Worker::leave } else { Worker::abort });
                // What could not be undone now, by a worker that died or on a disk that gives errors, its successor will undo.
                if !(ended && self.forget(&spool)) {
                    self.flow.set_unsettled(&self.record, false);
                }
                outcome
            }
            End::Committed { messages, set_aside: Ok(()) } => {
                // Before the record says that nothing is left to do: it lets go of the folders' dotlocks, and may deliver mail that an earlier, lost commit had taken.
                if worker.is_none_or(Worker::finish) && !spool.has_left_dotlock() {
                    self.flow.set_converted(self.settings, &mut self.record);
                } else {
                    self.flow.set_unsettled(&self.record, true);
                }
                self.conclude_proof();
                tracing::debug!(user = ?self.account.name, run, messages, "converted");
                Outcome::Converted { run, messages }
            }
            End::Committed { messages, set_aside: Err(error) } => {
                self.conclude_proof();
                tracing::error!(user = ?self.account.name, run, "the Maildir is in place, the mboxes are not all set aside yet: {error}");
                self.flow.set_unsettled(&self.record, true);
                Outcome::Converted { run, messages }
            }
            End::Unsure(why) => {
                tracing::error!(user = ?self.account.name, run, "the commit was not answered, asking the disk: {why}");
                self.flow.set_unsettled(&self.record, false);
                match super::settle::settle(self.flow, self.settings, &self.record) {
                    // What the disk says is that nothing has happened; why, was known before.
                    Outcome::Failed(_) | Outcome::Busy(_) if matches!(why, WorkerError::Halted) => {
                        reasons::worker(&why, self.account)
                    }
                    Outcome::Failed(reason) if reason.code == "interrupted" => {
                        Outcome::Failed(reasons::not_committed(&why.to_string()))
                    }
                    settled => settled,
                }
            }
        }
    }

    /// Removes what an attempt without commit leaves outside the home; the worker has removed the stage. The record goes last, and only if all else is gone: it is by the record that the rest is found later.
    fn forget(&self, spool: &Spool) -> bool {
        // Synced, or a power cut might bring tombstone and dotlock back, and not the record by which they are known.
        if let Err(error) = spool.remove_tombstone(&self.run, 0).and_then(|()| spool.sync()) {
            tracing::warn!("an unused tombstone stays behind: {error}");
            return false;
        }
        if spool.has_left_dotlock() {
            return false;
        }
        if let Err(error) = self.flow.records.remove(self.run.as_str()) {
            tracing::warn!(
                run = self.run.as_str(),
                "the record of an attempt without commit stays behind: {error}"
            );
            return false;
        }
        true
    }

    fn step(&self, step: &'static str) {
        tracing::debug!(step, who = "agent", run = self.run.as_str(), user = ?self.account.name);
    }

    fn stopping(&self) -> bool {
        *self.ask.stop.borrow()
    }

    fn report(&mut self, stage: Stage) {
        self.progress.stage = stage;
        (self.ask.report)(self.progress);
    }

    /// The spool, opened; an empty one is made where there is none, so that there is something to lock and to set aside.
    fn open_spool(&self, spool: &Spool) -> Result<(OwnedFd, FileStat), End> {
        for _ in 0..3 {
            match spool.at_path()? {
                AtPath::File(file, stat) => return Ok((file, stat)),
                AtPath::Foreign(what) => {
                    return Err(End::Not(Outcome::Blocked(reasons::foreign_spool(
                        &self.account.inbox,
                        what,
                    ))));
                }
                AtPath::Nothing => spool.create_empty()?,
            }
        }
        Err(End::Not(Outcome::Busy(reasons::changing())))
    }

    fn put_record(&mut self, stat: &FileStat, length: u64, boxes: u64) -> Result<(), End> {
        let source = &mut self.record.source[0];
        let new = (stat.st_dev, stat.st_ino, length);
        if (source.dev, source.ino, source.length) == new && self.record.boxes == boxes {
            return Ok(());
        }
        (source.dev, source.ino, source.length) = new;
        self.record.boxes = boxes;
        self.step("record");
        self.flow.records.put(&self.record).map_err(|error| End::Not(Outcome::Failed(reasons::state(&error))))
    }

    fn attempt(&mut self, spool: &Spool, slot: &mut Option<Worker>) -> Result<End, End> {
        if !self.settings.config.mail.single_host && !spool.is_local()? {
            return Err(End::Not(Outcome::Blocked(reasons::shared(&self.account.inbox))));
        }
        let (mut file, mut stat) = self.open_spool(spool)?;
        // Of a user who is on Maildir by a record this is never asked. So that record is lost, or cannot be read.
        if let Some(run) = spool::any_tombstone(&file) {
            return Err(End::Not(Outcome::Blocked(reasons::tombstone(&self.account.inbox, run.as_str()))));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.progress.bytes_total = size;
        self.put_record(&stat, size, 1)?;
        let job = self.flow.job(self.settings, &self.record, Purpose::Convert);
        let worker =
            Worker::start(&self.settings.worker, &job, Some(file.as_fd())).map_err(|e| self.not(e))?;
        let worker = slot.insert(worker);
        let prefix = &self.record.served.prefix;
        let ask = || gate::write_out_once(self.settings, self.account, prefix);
        let told = worker.found_index().then(ask).flatten();
        self.stage(worker, Order::Stage, told.as_ref())?;
        for round in 0..ROUNDS {
            self.report(Stage::Gate);
            self.wait_for_grace()?;
            self.step("gate");
            gate::end_sessions(self.flow, self.settings, self.account, Bind::Stay).map_err(End::Not)?;
            self.write_out(worker)?;
            if !spool.is_at_path(&stat)? {
                (file, stat) = self.open_spool(spool)?;
                self.order(worker, Order::Spool, Some(file.as_fd()))?;
            }
            let staged = self.stage(worker, Order::Refresh, None)?;
            self.put_record(&stat, staged.length, staged.boxes)?;
            self.prove(worker)?;
            self.step("tombstone");
            spool.make_tombstone(&self.run, 0, Ownership::of(&stat))?;
            std::thread::sleep(CLOCK_TICK);
            if let Some(end) = self.commit(spool, &file, &stat, worker)? {
                return Ok(end);
            }
            // Has the worker let go of Dovecot's index locks, on which Dovecot's tools would wait.
            self.stage(worker, Order::Refresh, None)?;
            // Something came in between: the more often, the longer the pause.
            std::thread::sleep(Duration::from_millis(20 << round.min(4)));
        }
        Err(End::Not(Outcome::Busy(reasons::changing())))
    }

    /// Where the site is not proven yet: waits for the turn, and has Dovecot read the stage before anything is committed.
    fn prove(&mut self, worker: &mut Worker) -> Result<(), End> {
        let config = &self.settings.config;
        if self.proving.is_some() {
            return Ok(());
        }
        let stopping = || *self.ask.stop.borrow();
        let proving = self.flow.site.prove(config, &stopping);
        let blocked = |reason| End::Not(Outcome::Blocked(reason));
        let Some(proving) = proving.map_err(|why| why.map_or(End::Not(Outcome::Stopped), blocked))? else {
            return Ok(());
        };
        if let Some(before) = self.flow.converted_before(&self.record) {
            // Those who are on Maildir already are to be followed under what the site is now.
            proving.follows(config, &before).map_err(blocked)?;
        }
        match super::stage_proof::prove(worker, self.settings, self.account, &self.record, &stopping) {
            Ok(()) => {}
            Err(StageProof::Differs(reason)) => {
                let Reason { text, mend, .. } = reason;
                let text = format!("before the first commit, of {}: {text}", self.account.name);
                return Err(blocked(proving.stop(config, self.run.as_str(), text, mend)));
            }
            Err(StageProof::Not(outcome)) => return Err(End::Not(outcome)),
        }
        self.proving = Some(proving);
        Ok(())
    }

    /// After the first commit: does the site follow? The user stays where the mail is, whatever comes of it.
    fn conclude_proof(&mut self) {
        if let Some(proving) = self.proving.take() {
            proving.conclude(&self.settings.config, &self.record);
        }
    }

    /// One round under the locks. `None`: what was staged is not what is there any more.
    fn commit(
        &mut self,
        spool: &Spool,
        file: &OwnedFd,
        stat: &FileStat,
        worker: &mut Worker,
    ) -> Result<Option<End>, End> {
        self.report(Stage::Committing);
        let key = self.account.key();
        let run = self.run.clone();
        let note = |step: &'static str| tracing::debug!(step, who = "agent", run = run.as_str());
        let locks = self.flow.lock_set(self.settings);
        let Some(locked) = spool.lock(file, &self.run, worker.pid(), locks, LOCK_PATIENCE, &note)? else {
            return Err(End::Not(Outcome::Busy(reasons::in_use())));
        };
        let held = Instant::now();
        let Some(committing) = self.flow.sessions.enter_commit(&key) else { return Ok(None) };
        if !spool.is_at_path(stat)? {
            return Ok(None);
        }
        self.order(worker, Order::Confirm, None)?;
        let (messages, length) = match worker.answer_by(held + LONGEST_HOLD) {
            Ok(Report::Confirmed { messages, length }) => (messages, length),
            Ok(Report::Changed) => return Ok(None),
            Ok(other) => return Err(self.not(worker.out_of_turn(other))),
            // The deliverers go on. What it is going to say is of a file that is not locked any more, and counts for nothing.
            Err(WorkerError::Late) => {
                drop((committing, locked));
                return self.answer(worker).map(|_| None);
            }
            Err(error) => return Err(self.not(error)),
        };
        if held.elapsed() > LONGEST_HOLD || self.stopping() {
            return Ok(None);
        }
        self.record.source[0].length = length;
        // The point of no return: from here on only the worker's answer, or the disk, says where the mail is.
        let committed = worker
            .order(Order::Commit, None)
            .and_then(|()| worker.answer_by(Instant::now() + LONGEST_COMMIT));
        let folders_left = match committed {
            Ok(Report::Committed { folders_left: left }) => left,
            // Its own word that it did not get to the rename; the disk is asked all the same.
            Ok(other) => {
                let error = worker.out_of_turn(other);
                worker.reap();
                return Ok(Some(End::Unsure(error)));
            }
            Err(WorkerError::Blocked(block, detail, words)) => {
                return Err(End::Not(Outcome::Blocked(reasons::blocked(
                    block,
                    detail,
                    &words,
                    self.account,
                ))));
            }
            Err(error) => {
                worker.reap();
                return Ok(Some(End::Unsure(error)));
            }
        };
        self.flow.set_standing(key, Standing::Maildir { run: self.run.to_string() });
        let set_aside = match self.set_aside(spool, file, &locked, stat) {
            Ok(()) if folders_left > 0 => Err(reasons::folders_left(folders_left)),
            done => done,
        };
        tracing::debug!(
            run = self.run.as_str(),
            held_us = u64::try_from(held.elapsed().as_micros()).unwrap_or(u64::MAX),
            "unlocking"
        );
        drop(locked);
        // It only has to let go of its locks; if it is gone they are free.
        let _ = worker.order(Order::Release, None);
        Ok(Some(End::Committed { messages, set_aside }))
    }

    fn set_aside(
        &mut self,
        spool: &Spool,
        file: &OwnedFd,
        locked: &Locked<'_, '_>,
        stat: &FileStat,
    ) -> Result<(), String> {
        self.report(Stage::Finishing);
        self.step("set_aside");
        let taken = spool.take(&self.run, 0, stat)?;
        self.step("sync_set_aside");
        spool.sync().map_err(|error| error.to_string())?;
        match taken {
            // A program put another file of the user's at the path while the locks were held. The Maildir is the mail by now: what of that file is new is found by its content.
            Taken::Another => self.flow.mark_by_content(&self.record),
            Taken::Locked => {
                if let Err(error) = spool.take_over(file) {
                    tracing::warn!(
                        run = self.run.as_str(),
                        "the set-aside spool still counts against its user's quota: {error}"
                    );
                }
                if !locked.is_untouched() {
                    // Somebody waits in open(2) for our lease and is going to get the file that is in the archive now.
                    self.flow.mark(&self.account.key());
                }
            }
        }
        Ok(())
    }

    /// After a start nothing is committed until the sessions that decided without an answer must have shown up.
    fn wait_for_grace(&self) -> Result<(), End> {
        while let Some(left) = self.flow.grace_left() {
            if self.stopping() {
                return Err(End::Not(Outcome::Stopped));
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    fn order(
        &self,
        worker: &mut Worker,
        order: Order,
        fd: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> Result<(), End> {
        worker.order(order, fd).map_err(|error| self.not(error))
    }

    fn answer(&mut self, worker: &mut Worker) -> Result<Report, End> {
        let stop = self.ask.stop.clone();
        let report = self.ask.report.clone();
        let progress = &mut self.progress;
        let answer = worker.answer(&|| *stop.borrow(), &mut |messages, bytes, bytes_total| {
            *progress = Progress { messages, bytes, bytes_total, ..*progress };
            report(*progress);
        });
        answer.map_err(|error| self.not(error))
    }

    /// Has Dovecot write out what only its indexes know, looking before and after.
    fn write_out(&mut self, worker: &mut Worker) -> Result<(), End> {
        let (settings, account) = (self.settings, self.account);
        let prefix = self.record.served.prefix.clone();
        let quiet = gate::write_out(settings, account, &prefix, &mut |told| {
            let staged = self.stage(worker, Order::Refresh, told)?;
            Ok::<_, End>(staged.index)
        })?;
        if quiet { Ok(()) } else { Err(End::Not(Outcome::Busy(reasons::changing()))) }
    }

    /// Has the stage written or brought up to date.
    fn stage(&mut self, worker: &mut Worker, order: Order, told: Option<&Told>) -> Result<Staged, End> {
        self.order(worker, order, told.map(Told::as_fd))?;
        match self.answer(worker)? {
            Report::Staged { messages, length, bytes, boxes, skipped, indexed, index_changes } => {
                if skipped > 0 {
                    tracing::debug!(user = ?self.account.name, skipped, "files below the mbox root are no mail and stay where they are");
                }
                self.progress = Progress { messages, bytes, bytes_total: bytes, ..self.progress };
                Ok(Staged { length, boxes, index: IndexState { indexed, changes: index_changes } })
            }
            other => Err(self.not(worker.out_of_turn(other))),
        }
    }

    fn not(&self, error: WorkerError) -> End {
        if matches!(error, WorkerError::Blocked(Block::Differs, 0, _)) && self.has_just_changed() {
            tracing::info!(user = ?self.account.name, "the mbox is being changed: {error}");
            return End::Not(Outcome::Busy(reasons::changing()));
        }
        End::Not(reasons::worker(&error, self.account))
    }

    /// Whether somebody has written to the inbox within the last minute. What Dovecot told of it may be of another moment than what was staged, and a mailbox that mail comes to all
    /// the time would be called wrong. Asked of the inode's change, since Dovecot sets an mbox's time of modification back; a time that is ahead of us is no reason to wait.
    fn has_just_changed(&self) -> bool {
        const LATELY: u64 = 60;
        let changed = self.account.inbox.symlink_metadata().map_or(0, |file| file.ctime()).unsigned_abs();
        (changed..=changed.saturating_add(LATELY)).contains(&super::unix_seconds())
    }
}
