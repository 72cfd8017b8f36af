//! Which mailbox is converted next. Pure: no clock, no threads, no I/O; time is passed in, and what comes out is a decision.
//!
//! The rules, each of which has a test that can fail:
//!
//! * One job a mailbox, by what it is on disk ([`MailboxKey`]). Whoever asks for a mailbox that is queued or running joins that job, and may
//!   raise it: a mailbox in background conversion is promoted in place, never queued again.
//! * An arrival is never passed by lesser work, and lesser work never has the last slot: somebody who waits at a login screen
//!   does not wait for a batch.
//! * Large mailboxes never have all slots: a gigabyte must not stand in front of a kilobyte.
//! * Otherwise first come, first served; a job that may not start yet does not block one behind it that may.
//! * The queue is bounded, and says so when it is full. Lesser work may fill half of it.
//! * A mailbox that could not be converted rests, longer each time, and arrivals meanwhile get the old outcome at once. `Busy` is tried
//!   again by the queue itself; an operator's word ends the rest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::{MailboxKey, SharedAccount};
use crate::outcome::{Outcome, Why};

mod rest;
use rest::Rests;

/// Mailboxes above this are large: about a second of work on a slow disk.
pub const LARGE_BYTES: u64 = 32 * 1024 * 1024;

/// What bounds the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `agent.workers`: mailboxes at once, 1 or more. With a single worker, one small mailbox that somebody waits for may run beside a
    /// large one or beside lesser work.
    pub workers: usize,
    /// Jobs that may wait for a slot.
    pub length: usize,
    /// `sessions.wait_limit`: how long a busy mailbox is tried again by itself.
    pub wait_limit: Duration,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted<J> {
    /// A new job.
    Queued(J),
    /// That mailbox has a job already, and it is this one.
    Joined(J),
    /// It was tried a short while ago and ended like this; nothing is queued.
    Resting(Outcome),
    /// The queue is full; nothing is queued.
    Full,
}

/// A job to be started now.
#[derive(Clone, Debug)]
pub struct Start<J> {
    /// Its mailbox.
    pub account: SharedAccount,
    /// On whose behalf.
    pub why: Why,
    /// Its handle.
    pub handle: J,
}

/// How many of what; for status and logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs under way.
    pub running: usize,
    /// Jobs that wait for a slot.
    pub waiting: usize,
    /// Busy mailboxes that wait for their next attempt.
    pub later: usize,
}

/// The jobs; `J` is whatever the caller hangs on one.
#[derive(Debug)]
pub struct Queue<J> {
    limits: Limits,
    jobs: HashMap<MailboxKey, Job<J>>,
    /// The jobs that wait for a slot, in the order of their start.
    ready: BTreeMap<Rank, MailboxKey>,
    /// The jobs that wait for their time.
    later: BTreeMap<(Instant, Turn), MailboxKey>,
    /// The jobs under way; a handful.
    running: Vec<MailboxKey>,
    rests: Rests,
    last_turn: Turn,
}

type Turn = u64;
type Rank = (Reverse<Why>, Turn);

#[derive(Debug)]
struct Job<J> {
    account: SharedAccount,
    why: Why,
    large: bool,
    turn: Turn,
    stand: Stand,
    handle: J,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Ready,
    Later(Instant),
    Running,
}

impl<J> Job<J> {
    fn rank(&self) -> Rank {
        (Reverse(self.why), self.turn)
    }
}

impl<J: Clone> Queue<J> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            jobs: HashMap::new(),
            ready: BTreeMap::new(),
            later: BTreeMap::new(),
            running: Vec::new(),
            rests: Rests::default(),
            last_turn: 0,
        }
    }

    /// Changes the limits; what is queued or running already stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Asks for a mailbox. `size` is what is known of its bytes; `make` makes the handle of a new job.
    pub fn submit(
        &mut self,
        now: Instant,
        account: &SharedAccount,
        why: Why,
        size: Option<u64>,
        make: impl FnOnce() -> J,
    ) -> Submitted<J> {
        let key = account.key();
        if why != Why::Operator
            && let Some(outcome) = self.rests.at(&key, now)
        {
            return Submitted::Resting(outcome.clone());
        }
        if let Some(handle) = self.join(&key, why) {
            return Submitted::Joined(handle);
        }
        let room = if why == Why::Arrival { self.limits.length } else { self.limits.length / 2 };
        if self.ready.len() >= room {
            return Submitted::Full;
        }
        let handle = make();
        let large = size.is_some_and(|bytes| bytes > LARGE_BYTES);
        self.insert(Arc::clone(account), why, large, Stand::Ready, handle.clone());
        Submitted::Queued(handle)
    }

    fn join(&mut self, key: &MailboxKey, why: Why) -> Option<J> {
        let job = self.jobs.get_mut(key)?;
        let (rank, stand) = (job.rank(), job.stand);
        job.why = job.why.max(why);
        match stand {
            Stand::Running => {}
            Stand::Ready => {
                self.ready.remove(&rank);
                self.ready.insert(job.rank(), key.clone());
            }
            Stand::Later(time) => {
                self.later.remove(&(time, job.turn));
                job.stand = Stand::Ready;
                self.ready.insert(job.rank(), key.clone());
            }
        }
        Some(job.handle.clone())
    }

    fn insert(&mut self, account: SharedAccount, why: Why, large: bool, stand: Stand, handle: J) {
        self.last_turn += 1;
        let key = account.key();
        let job = Job { account, why, large, turn: self.last_turn, stand, handle };
        match stand {
            Stand::Later(time) => self.later.insert((time, job.turn), key.clone()),
            _ => self.ready.insert(job.rank(), key.clone()),
        };
        self.jobs.insert(key, job);
    }

    /// The job that starts now, if one may; it counts as running until [`Queue::finished`].
    pub fn next(&mut self, now: Instant) -> Option<Start<J>> {
        self.wake(now);
        let slots =
            Slots::taken(self.limits.workers, self.running.iter().filter_map(|key| self.jobs.get(key)));
        let (rank, key) = self
            .ready
            .iter()
            .find(|(_, key)| self.jobs.get(*key).is_some_and(|job| slots.allow(job)))
            .map(|(rank, key)| (*rank, key.clone()))?;
        self.ready.remove(&rank);
        let job = self.jobs.get_mut(&key)?;
        job.stand = Stand::Running;
        self.running.push(key);
        Some(Start { account: Arc::clone(&job.account), why: job.why, handle: job.handle.clone() })
    }

    /// Those whose time has come join the ones that wait for a slot.
    fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            if let Some(job) = self.jobs.get_mut(&key) {
                job.stand = Stand::Ready;
                self.ready.insert(job.rank(), key);
            }
        }
    }

    /// A running job has ended. After `Busy` the queue tries again by itself: then the new job's time is returned, and `make` makes its
    /// handle.
    pub fn finished(
        &mut self,
        now: Instant,
        key: &MailboxKey,
        outcome: &Outcome,
        make: impl FnOnce() -> J,
    ) -> Option<Instant> {
        self.running.retain(|running| running != key);
        let job = self.jobs.remove(key)?;
        let again = self.rests.note(&job.account, outcome, now, self.limits.wait_limit)?;
        self.insert(job.account, job.why, job.large, Stand::Later(again), make());
        Some(again)
    }

    /// Takes jobs out that have not started (a hold, an agent that stops); gives their handles.
    pub fn withdraw(&mut self, which: impl Fn(&MailboxKey) -> bool) -> Vec<J> {
        self.take_out(|job| which(&job.account.key()))
    }

    /// The same, chosen by the handle.
    pub fn withdraw_jobs(&mut self, which: impl Fn(&J) -> bool) -> Vec<J> {
        self.take_out(|job| which(&job.handle))
    }

    fn take_out(&mut self, which: impl Fn(&Job<J>) -> bool) -> Vec<J> {
        let chosen = |job: &Job<J>| job.stand != Stand::Running && which(job);
        let gone: Vec<_> = self.jobs.extract_if(|_, job| chosen(job)).map(|(_, job)| job).collect();
        for job in &gone {
            self.ready.remove(&job.rank());
            if let Stand::Later(time) = job.stand {
                self.later.remove(&(time, job.turn));
            }
        }
        gone.into_iter().map(|job| job.handle).collect()
    }

    /// Ends the rest of one mailbox, or of all: the cause may be mended.
    pub fn end_rests(&mut self, of: Option<&MailboxKey>) {
        self.rests.end(of);
    }

    /// When to call [`Queue::next`] again even if nothing happens.
    pub fn due(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((time, _), _)| *time)
    }

    /// The job of a mailbox that is running or waits for a slot (not one that waits for its time), and whether it is running.
    pub fn job(&self, key: &MailboxKey) -> Option<(&J, bool)> {
        let job = self.jobs.get(key)?;
        match job.stand {
            Stand::Running => Some((&job.handle, true)),
            Stand::Ready => Some((&job.handle, false)),
            Stand::Later(_) => None,
        }
    }

    /// The attempt on a mailbox that waits for its time.
    pub fn next_attempt(&self, key: &MailboxKey) -> Option<&J> {
        self.jobs.get(key).filter(|job| matches!(job.stand, Stand::Later(_))).map(|job| &job.handle)
    }

    /// How the last attempt on a mailbox ended, as far as that is remembered, if it was no success; and when its rest is over.
    pub fn last_outcome(&self, key: &MailboxKey) -> Option<(&Outcome, Instant)> {
        self.rests.last(key)
    }

    /// How many jobs start before that of a mailbox; None if it does not wait for a slot.
    pub fn ahead(&self, key: &MailboxKey) -> Option<usize> {
        let job = self.jobs.get(key).filter(|job| job.stand == Stand::Ready)?;
        Some(self.ready.range(..job.rank()).count())
    }

    /// All mailboxes that have a job or rest; some of them may be named twice.
    pub fn accounts(&self) -> Vec<SharedAccount> {
        self.jobs.values().map(|job| &job.account).chain(self.rests.accounts()).cloned().collect()
    }

    /// Handles of the running jobs.
    pub fn running(&self) -> impl Iterator<Item = &J> {
        self.running.iter().filter_map(|key| self.jobs.get(key)).map(|job| &job.handle)
    }

    /// How full it is.
    pub fn load(&self) -> Load {
        Load { running: self.running.len(), waiting: self.ready.len(), later: self.later.len() }
    }
}

/// What the running jobs leave for the next one.
struct Slots {
    workers: usize,
    all: usize,
    large: usize,
    lesser: usize,
}

impl Slots {
    fn taken<'a, J: 'a>(workers: usize, running: impl Iterator<Item = &'a Job<J>>) -> Self {
        let mut slots = Self { workers: workers.max(1), all: 0, large: 0, lesser: 0 };
        for job in running {
            slots.all += 1;
            slots.large += usize::from(job.large);
            slots.lesser += usize::from(job.why < Why::Arrival);
        }
        slots
    }

    fn allow<J>(&self, job: &Job<J>) -> bool {
        let all_but_one = (self.workers - 1).max(1);
        if job.large && self.large >= all_but_one {
            return false;
        }
        if job.why < Why::Arrival {
            return self.all < all_but_one;
        }
        let beside_the_only_worker =
            self.workers == 1 && self.all == 1 && !job.large && (self.large == 1 || self.lesser == 1);
        self.all < self.workers || beside_the_only_worker
    }
}

#[cfg(test)]
mod tests;
