//! The answers on one connection: the first in time, a beat each second, one last word.

use std::future::Future;
use std::time::{Duration, Instant};

use mailready_protocol::{Answer, Progress};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::conversions::{Job, View};
use crate::listener::Connection;
use crate::outcome::Outcome;

/// The first answer is due within 100 ms of the request; this leaves room for the way.
const FIRST: Duration = Duration::from_millis(70);
/// A waiting peer hears something this often.
const BEAT: Duration = Duration::from_secs(1);

/// A connection and what has been said on it.
pub(super) struct Talk {
    connection: Connection,
    waits: bool,
    may_be_early: bool,
    over: bool,
}

/// How waiting for a job ended.
pub(super) enum Waited {
    /// The job has ended.
    Ended(Outcome),
    /// The deadline came first.
    Late,
    /// The peer went away.
    Gone,
}

impl Talk {
    /// `may_be_early`: `taken` may be said before it is so, rather than late.
    pub(super) fn new(connection: Connection, waits: bool, may_be_early: bool) -> Self {
        Self { connection, waits, may_be_early, over: false }
    }

    /// Whether the peer waits for more than `taken`.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Says the last word, unless it has been said.
    pub(super) fn say(&mut self, answer: Answer) {
        self.try_say(answer);
    }

    /// The same, and whether it was sent.
    pub(super) fn try_say(&mut self, answer: Answer) -> bool {
        !std::mem::replace(&mut self.over, true) && self.connection.send(answer).is_ok()
    }

    /// Buys time; false if the peer is gone.
    pub(super) fn beat(&self, view: &View) -> bool {
        self.over || self.connection.send(Answer::Wait(progress(view))).is_ok()
    }

    /// Tells who waits how many messages there were, before the last word.
    pub(super) fn count(&self, messages: u64) {
        let done = u32::try_from(messages).unwrap_or(u32::MAX);
        // If it is gone, so is the last word.
        let _ = self.connection.send(Answer::Wait(Progress { done, total: done }));
    }

    /// Waits until the peer goes away.
    pub(super) async fn gone(&self) {
        self.connection.gone().await;
    }

    /// Does something that may take long before the first answer, and keeps the peer patient meanwhile.
    pub(super) async fn while_working<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut pause = FIRST;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep(pause) => {}
            }
            if self.waits {
                // If the peer is gone the work is finished all the same; it is short, and others may profit.
                self.beat(&View::default());
            } else if self.may_be_early {
                self.say(Answer::Taken);
            }
            pause = BEAT;
        }
    }

    /// Waits for a job, a beat at once and each second.
    pub(super) async fn wait_for(&mut self, job: &Job, deadline: Instant) -> Waited {
        let mut view = job.watch();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let late = sleep_until(deadline.into());
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                ended = view.wait_for(|view| view.outcome.is_some()) => {
                    // The job's handle is ours, so that its end cannot be missed.
                    let outcome = ended.ok().and_then(|view| view.outcome.clone());
                    return Waited::Ended(outcome.unwrap_or(Outcome::Stopped));
                }
                () = self.connection.gone() => return Waited::Gone,
                () = &mut late => return Waited::Late,
                _ = beats.tick() => {
                    if !self.beat(&job.view()) {
                        return Waited::Gone;
                    }
                }
            }
        }
    }
}

/// Messages are not counted before they are read, so how many there are in all is never known.
fn progress(view: &View) -> Progress {
    let done = view.progress.map_or(0, |progress| u32::try_from(progress.messages).unwrap_or(u32::MAX));
    Progress { done, total: 0 }
}
