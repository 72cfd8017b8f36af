//! A lease: the answer to a session that is about to decide where its mail is, bound to that session's process.
//!
//! The rule: the answer is bound before it is sent. A session that was told `stay` opens the mbox, so nothing may commit while it lives; one that was told
//! `ready` opens the Maildir, so nothing may roll back. A script that goes away without an answer decides for the mbox by itself, which is the most
//! dangerous of all, so there is no way out of here that leaves a lease unbound: dropping it counts as that.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailready_protocol::{Answer, Reason, Request};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{Decision, Talk, Waited, answer_to, decide};
use crate::account::SharedAccount;
use crate::agent::Agent;
use crate::conversions::View;
use crate::flow::{Bind, LeaseId, Standing};

/// `Stay` cannot be bound while a commit is under way, and nothing at all while a rollback is. The first takes no longer than the mailbox's locks may be held (3 s), and the disk's sync; the other
/// is waited for as long as the script waits.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// How often a commit under way is asked whether it is over, where there is no job to watch.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Serves a lease request to its end.
pub(super) async fn serve(
    agent: &Arc<Agent>,
    request: &Request,
    account: SharedAccount,
    session: OwnedFd,
    mut talk: Talk,
) {
    agent.counters.leases.add();
    let id = match agent.mailboxes.lease(&account, session) {
        Ok(id) => id,
        Err(error) => {
            agent.counters.unbound.add();
            warn!(user = %account.name, "no lease: {error}");
            return talk.say(Answer::Refused(Reason::NotAllowed));
        }
    };
    let budget = request.wait.duration().min(agent.settings().config.sessions.budget);
    let give_up = Instant::now() + budget.max(COMMIT_PATIENCE);
    let lease = Lease { agent, id, bound: false, give_up };
    let answer = match decide(agent, request, &account) {
        Decision::Ready => Answer::Ready,
        Decision::No(answer) => answer,
        Decision::Wait(_) if !talk.waits() => Answer::Stay(Reason::Late),
        Decision::Wait(job) => {
            let sessions = &agent.settings().config.sessions;
            match agent.waiting_leases.enter(sessions.max_waiting) {
                None => {
                    agent.counters.crowded.add();
                    Answer::Stay(Reason::Crowded)
                }
                Some(_place) => {
                    let deadline = Instant::now() + request.wait.duration().min(sessions.budget);
                    match talk.wait_for(&job, deadline).await {
                        Waited::Ended(outcome) => answer_to(&outcome),
                        Waited::Late => Answer::Stay(Reason::Late),
                        Waited::Gone => return,
                    }
                }
            }
        }
    };
    debug!(user = %account.name, lease = id.0, %answer, "lease");
    lease.answer(&account, answer, &mut talk).await;
}

/// A registered lease. Dropping it without an answer is an answer: the script decided for the mbox.
struct Lease<'a> {
    agent: &'a Agent,
    id: LeaseId,
    bound: bool,
    give_up: Instant,
}

impl Lease<'_> {
    /// Binds the lease to `wanted`, or to what has become true meanwhile, and says it.
    async fn answer(mut self, account: &SharedAccount, wanted: Answer, talk: &mut Talk) {
        let Some(answer) = self.bind(account, wanted, talk).await else { return };
        let counter =
            if answer == Answer::Ready { &self.agent.counters.ready } else { &self.agent.counters.stay };
        if talk.try_say(answer) {
            self.bound = true;
            counter.add();
        }
    }

    async fn bind(&self, account: &SharedAccount, wanted: Answer, talk: &mut Talk) -> Option<Answer> {
        let mailboxes = &self.agent.mailboxes;
        // At once, where it cannot be bound at once: a script that hears nothing within 100 ms goes its own way.
        let mut next_beat = Instant::now();
        let mut answer = wanted;
        loop {
            if answer == Answer::Ready {
                if mailboxes.bind(self.id, Bind::Ready) {
                    return Some(answer);
                }
                // Rolled back between the look and the binding, or the outcome was not what it seemed.
                answer = Answer::Stay(Reason::Unsettled);
            }
            if mailboxes.bind(self.id, Bind::Stay) {
                return Some(answer);
            }
            // A commit is under way: the answer is its outcome.
            tokio::select! {
                () = talk.gone() => return None,
                () = sleep(LOOK_AGAIN) => {}
            }
            if matches!(mailboxes.standing(&account.key()), Standing::Maildir { .. }) {
                answer = Answer::Ready;
            } else if answer == Answer::Ready {
                answer = wanted;
            }
            let now = Instant::now();
            if now >= next_beat {
                talk.beat(&View::default());
                next_beat = now + Duration::from_secs(1);
            }
            if now >= self.give_up {
                warn!(user = %account.name, lease = self.id.0, "a commit or rollback takes too long; this login gets no answer");
                return None;
            }
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.bound {
            self.agent.counters.abandoned.add();
            self.agent.mailboxes.abandoned(self.id);
        }
    }
}
