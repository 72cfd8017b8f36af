//! The jobs in motion: takes submissions to the queue, starts what the queue says, tells everybody who waits.
//!
//! Whoever asks for a mailbox gets a [`Job`] to watch, the same for all who ask for that mailbox; so there is no list of waiters that somebody
//! could fill, and whoever stops watching leaves nothing behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::sleep_until;
use tracing::{info, warn};

use crate::account::{MailboxKey, SharedAccount};
use crate::flow::{Ask, Mailboxes, Standing};
use crate::outcome::{Outcome, Progress, Reason, Why};
use crate::queue::{Limits, Load, Queue, Start, Submitted};
use crate::stops::Stops;
use crate::whom::Refusal;

mod job;
pub use job::{Job, View};

/// Changes that a slow listener may lag behind before it misses some.
const CHANGES: usize = 256;

/// Something that those who watch a user want to know.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose mailbox.
    pub account: SharedAccount,
    /// What happened.
    pub what: What,
}

/// What happened to a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It waits for its turn.
    Queued,
    /// It is being converted.
    Moves(Progress),
    /// An attempt has ended.
    Ended(Outcome),
    /// It is being rolled back.
    MovesBack(Progress),
    /// It has been rolled back.
    RolledBack {
        /// Messages in the mboxes.
        messages: u64,
    },
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Wait for this one.
    Job(Job),
    /// The answer is known without any work.
    Known(Outcome),
    /// The queue is full.
    Full,
    /// What the disk says about this mailbox is not known yet, or the agent stops.
    Unsettled,
}

/// Decides at the last moment whether a mailbox may be converted; things change while a job waits.
pub type Judge = dyn Fn(&SharedAccount, Why) -> Result<(), Refusal> + Send + Sync;

/// All jobs.
pub struct Conversions {
    queue: Mutex<Queue<Job>>,
    mailboxes: Arc<dyn Mailboxes>,
    judge: Box<Judge>,
    stops: Arc<Stops>,
    wake: Notify,
    changes: broadcast::Sender<Change>,
    stopping: watch::Sender<bool>,
    running: watch::Sender<usize>,
}

impl Conversions {
    /// No jobs yet.
    pub fn new(
        limits: Limits,
        mailboxes: Arc<dyn Mailboxes>,
        judge: Box<Judge>,
        stops: Arc<Stops>,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::new(limits)),
            mailboxes,
            judge,
            stops,
            wake: Notify::new(),
            changes: broadcast::Sender::new(CHANGES),
            stopping: watch::Sender::new(false),
            running: watch::Sender::new(0),
        })
    }

    /// Asks for a mailbox to be converted. Whether that is allowed is asked again when it starts.
    pub fn ask(self: &Arc<Self>, account: &SharedAccount, why: Why) -> Asked {
        match self.mailboxes.standing(&account.key()) {
            Standing::Maildir { run } => return Asked::Known(Outcome::Already { run }),
            Standing::Unknown => return Asked::Unsettled,
            Standing::Mbox => {}
        }
        // Trouble is not to spread; an operator who tries one mailbox wants to know whether it is over.
        if why != Why::Operator
            && let Some(refusal) = self.stops.refusal()
        {
            return Asked::Known(refusal);
        }
        let size = self.mailboxes.size_hint(account);
        let submitted = {
            let mut queue = self.queue();
            // Looked at under the lock that `stop` takes, so that nothing slips in behind it.
            if *self.stopping.borrow() {
                return Asked::Unsettled;
            }
            queue.submit(Instant::now(), account, why, size, || Job::new(why))
        };
        match submitted {
            Submitted::Queued(job) => {
                info!(user = %account.name, uid = account.uid, ?why, "queued");
                self.tell(account, What::Queued);
                self.start_what_may();
                Asked::Job(job)
            }
            Submitted::Joined(job) => {
                job.raise(why);
                self.start_what_may();
                Asked::Job(job)
            }
            Submitted::Resting(outcome) => Asked::Known(outcome),
            Submitted::Full => Asked::Full,
        }
    }

    /// Starts the attempts whose time comes; ends when the agent stops.
    pub async fn keep_time(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        while !*stopping.borrow_and_update() {
            let due = self.queue().due();
            let time = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => self.start_what_may(),
                () = self.wake.notified() => {}
                _ = stopping.changed() => {}
            }
        }
    }

    fn start_what_may(self: &Arc<Self>) {
        loop {
            let start = {
                let mut queue = self.queue();
                if *self.stopping.borrow() {
                    return;
                }
                let Some(start) = queue.next(Instant::now()) else { return };
                self.running.send_modify(|running| *running += 1);
                start
            };
            tokio::spawn(Arc::clone(self).run(start));
        }
    }

    async fn run(self: Arc<Self>, start: Start<Job>) {
        let Start { account, handle: job, .. } = start;
        let key = account.key();
        let ended = match (self.judge)(&account, job.why()) {
            Err(refusal) => refusal.into(),
            Ok(()) if self.mailboxes.standing(&key) == Standing::Unknown => Outcome::Busy(not_settled()),
            Ok(()) => self.mailboxes.convert(Arc::clone(&account), self.ask_of(&account, &job)).await,
        };
        let ended = match (ended, job.held()) {
            (Outcome::Stopped, Some(reason)) => Outcome::Blocked(reason),
            (ended, _) => ended,
        };
        log_end(&account, &ended);
        // A failure is written to the disk.
        let (stops, name, noted) = (Arc::clone(&self.stops), account.name.clone(), ended.clone());
        let _ = tokio::task::spawn_blocking(move || stops.note(&name, &noted)).await;
        let again = {
            let mut queue = self.queue();
            // A hold is no trouble of the mailbox: when it is released there is nothing to wait for.
            let noted = if job.held().is_some() { &Outcome::Stopped } else { &ended };
            queue.finished(Instant::now(), &key, noted, || Job::new(job.why()))
        };
        job.end(ended.clone());
        self.tell(&account, What::Ended(ended));
        if let Some(refusal) = self.stops.refusal() {
            self.give_up_waiting(&refusal);
        }
        if again.is_some() {
            self.wake.notify_one();
        }
        self.start_what_may();
        self.running.send_modify(|running| *running -= 1);
    }

    /// Those who wait for their turn are told that it does not come; an operator's are left.
    fn give_up_waiting(&self, refusal: &Outcome) {
        let mut queue = self.queue();
        let lesser = queue.withdraw_jobs(|job| job.why() != Why::Operator);
        drop(queue);
        for job in lesser {
            job.end(refusal.clone());
        }
    }

    fn ask_of(self: &Arc<Self>, account: &SharedAccount, job: &Job) -> Ask {
        let (conversions, account, watched) = (Arc::clone(self), Arc::clone(account), job.clone());
        let report = move |progress: Progress| {
            watched.moves(progress);
            conversions.tell(&account, What::Moves(progress));
        };
        Ask { why: job.watch_why(), stop: job.watch_stop(), report: Arc::new(report) }
    }

    pub(crate) fn tell(&self, account: &SharedAccount, what: What) {
        // Nobody may be listening.
        let _ = self.changes.send(Change { account: Arc::clone(account), what });
    }

    /// A user is held from now on: what waits is withdrawn, what runs and has not committed is abandoned.
    pub fn hold(&self, key: &MailboxKey, reason: &Reason) {
        let (withdrawn, running) = {
            let mut queue = self.queue();
            let withdrawn = queue.withdraw(|other| other == key);
            (withdrawn, queue.job(key).map(|(job, _)| job.clone()))
        };
        for job in withdrawn {
            job.end(Outcome::Blocked(reason.clone()));
        }
        if let Some(job) = running {
            job.hold(reason.clone());
        }
    }

    /// The cause of earlier failures may be mended: one mailbox, or all.
    pub fn end_rests(&self, of: Option<&MailboxKey>) {
        self.queue().end_rests(of);
    }

    /// New limits, after a reload.
    pub fn set_limits(self: &Arc<Self>, limits: Limits) {
        self.queue().set_limits(limits);
        self.start_what_may();
    }

    /// Takes nothing more, ends all who wait, and comes back when the last running job has ended: those before their commit are abandoned,
    /// those behind it finish.
    pub async fn stop(&self) {
        let (withdrawn, running) = {
            let mut queue = self.queue();
            self.stopping.send_replace(true);
            let withdrawn = queue.withdraw(|_| true);
            (withdrawn, queue.running().cloned().collect::<Vec<_>>())
        };
        for job in withdrawn {
            job.end(Outcome::Stopped);
        }
        for job in running {
            job.stop();
        }
        // The sender is ours and lives as long as we do.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// The job of a mailbox and whether it has started.
    pub fn job(&self, key: &MailboxKey) -> Option<(Job, bool)> {
        self.queue().job(key).map(|(job, running)| (job.clone(), running))
    }

    /// The attempt on a busy mailbox that waits for its time.
    pub fn next_attempt(&self, key: &MailboxKey) -> Option<Job> {
        self.queue().next_attempt(key).cloned()
    }

    /// How many jobs start before that of a mailbox; None if it does not wait for its turn.
    pub fn ahead(&self, key: &MailboxKey) -> Option<usize> {
        self.queue().ahead(key)
    }

    /// How the last attempt on a mailbox ended, if it was no success and is remembered; and how long the mailbox still rests.
    pub fn last_outcome(&self, key: &MailboxKey) -> Option<(Outcome, Duration)> {
        let queue = self.queue();
        let (outcome, until) = queue.last_outcome(key)?;
        Some((outcome.clone(), until.saturating_duration_since(Instant::now())))
    }

    /// All mailboxes that have a job, or a failure that is remembered; some of them may be named twice.
    pub fn accounts(&self) -> Vec<SharedAccount> {
        self.queue().accounts()
    }

    /// Whether the agent stops.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// All that happens from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// How full the queue is.
    pub fn load(&self) -> Load {
        self.queue().load()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Job>> {
        // The agent aborts on a panic, so that nothing half done is ever seen behind this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_settled() -> Reason {
    Reason::new("unsettled", "an earlier conversion of this mailbox is still being brought to its end", "")
}

fn log_end(account: &SharedAccount, outcome: &Outcome) {
    let user = account.name.as_str();
    match outcome {
        Outcome::Converted { run, messages } => info!(user, run, messages, "converted"),
        Outcome::Already { run } => info!(user, run, "was on Maildir already"),
        Outcome::Busy(reason) => info!(user, code = reason.code, "busy: {reason}"),
        Outcome::Blocked(reason) => warn!(user, code = reason.code, "blocked: {reason}"),
        Outcome::Failed(reason) => warn!(user, code = reason.code, "failed: {reason}"),
        Outcome::Stopped => info!(user, "abandoned, since the agent stops"),
    }
}
