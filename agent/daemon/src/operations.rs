//! What is done to users who are converted, on somebody's word: rollbacks and verifications.
//!
//! No queue: an operator does this to a few, and waits. Whoever asked may go away; what has begun goes on, and what has not come to its commit is given up when the agent stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::account::{MailboxKey, SharedAccount};
use crate::agent::Agent;
use crate::conversions::What;
use crate::flow::{Ask, Checked, RolledBack};
use crate::outcome::{Outcome, Progress, Reason, Why};

/// As many at once: they read and write all of a mailbox, beside the arrivals.
const AT_ONCE: usize = 2;

/// The rollbacks and verifications under way.
#[derive(Debug)]
pub struct Operations {
    permits: Semaphore,
    stopping: watch::Sender<bool>,
    running: watch::Sender<usize>,
    rollbacks: Mutex<HashMap<MailboxKey, Option<Progress>>>,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(AT_ONCE),
            stopping: watch::Sender::new(false),
            running: watch::Sender::new(0),
            rollbacks: Mutex::default(),
        }
    }
}

/// Counts as running until it is dropped.
struct Running(Arc<Agent>, Option<MailboxKey>);

impl Running {
    fn begin(agent: &Arc<Agent>, rollback_of: Option<MailboxKey>) -> Self {
        let operations = &agent.operations;
        operations.running.send_modify(|running| *running += 1);
        if let Some(key) = &rollback_of {
            operations.rollbacks().insert(key.clone(), None);
        }
        Self(Arc::clone(agent), rollback_of)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let operations = &self.0.operations;
        if let Some(key) = &self.1 {
            operations.rollbacks().remove(key);
        }
        operations.running.send_modify(|running| *running -= 1);
    }
}

impl Operations {
    fn rollbacks(&self) -> MutexGuard<'_, HashMap<MailboxKey, Option<Progress>>> {
        // Single insertions and removals; and the agent aborts on a panic.
        self.rollbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the rollback of a mailbox is, if there is one: `Some(None)` before it has said anything.
    pub fn rollback_of(&self, key: &MailboxKey) -> Option<Option<Progress>> {
        self.rollbacks().get(key).copied()
    }

    /// Gives a user mboxes again.
    ///
    /// # Errors
    /// Why not; the mail is in the Maildir as before, or the reason says otherwise.
    pub async fn rollback(agent: &Arc<Agent>, account: &SharedAccount) -> Result<RolledBack, Outcome> {
        let running = Running::begin(agent, Some(account.key()));
        let (agent, account) = (Arc::clone(agent), Arc::clone(account));
        detached(async move {
            let _running = running;
            let operations = &agent.operations;
            let Ok(_permit) = operations.permits.acquire().await else { return Err(Outcome::Stopped) };
            let ask = operations.ask(&agent, &account);
            if *ask.stop.borrow() {
                return Err(Outcome::Stopped);
            }
            let ended = agent.mailboxes.rollback(Arc::clone(&account), ask).await;
            match &ended {
                Ok(RolledBack { messages, .. }) => {
                    agent.conversions.tell(&account, What::RolledBack { messages: *messages });
                }
                Err(outcome) => log(&account, outcome),
            }
            ended
        })
        .await
    }

    /// Has Dovecot read the originals of a converted user again.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub async fn verify(agent: &Arc<Agent>, account: &SharedAccount) -> Result<Checked, Outcome> {
        let running = Running::begin(agent, None);
        let (agent, account) = (Arc::clone(agent), Arc::clone(account));
        detached(async move {
            let _running = running;
            let operations = &agent.operations;
            let Ok(_permit) = operations.permits.acquire().await else { return Err(Outcome::Stopped) };
            let stop = operations.stopping.subscribe();
            if *stop.borrow() {
                return Err(Outcome::Stopped);
            }
            agent.mailboxes.verify(account, stop).await
        })
        .await
    }

    fn ask(&self, agent: &Arc<Agent>, account: &SharedAccount) -> Ask {
        let (agent, account) = (Arc::clone(agent), Arc::clone(account));
        let report = move |progress: Progress| {
            agent.operations.rollbacks().insert(account.key(), Some(progress));
            agent.conversions.tell(&account, What::MovesBack(progress));
        };
        let why = watch::Sender::new(Why::Operator).subscribe();
        Ask { why, stop: self.stopping.subscribe(), report: Arc::new(report) }
    }

    /// Begins nothing more, and comes back when the last has ended.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        // The sender is ours and lives as long as we do.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }
}

/// Goes on when whoever waits for it goes away.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Outcome>> + Send + 'static,
) -> Result<T, Outcome> {
    tokio::spawn(work).await.unwrap_or_else(|_| {
        Err(Outcome::Failed(Reason::new("internal", "the task of this job ended", "please report this")))
    })
}

fn log(account: &SharedAccount, outcome: &Outcome) {
    let user = account.name.as_str();
    match outcome {
        Outcome::Busy(reason) | Outcome::Blocked(reason) | Outcome::Failed(reason) => {
            tracing::warn!(user, code = reason.code, "not rolled back: {reason}");
        }
        Outcome::Stopped => tracing::info!(user, "not rolled back, since the agent stops"),
        Outcome::Converted { .. } | Outcome::Already { .. } => {}
    }
}
