//! A twin of the mailboxes: conversions end when and as the test says, and everything that is asked is written down.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mailready_agent::account::{MailboxKey, SharedAccount};
use mailready_agent::flow::{Ask, Bind, BoxFuture, Checked, LeaseId, Mailboxes, RolledBack, Standing};
use mailready_agent::outcome::{Outcome, Progress, Reason, Stage, Why};
use mailready_tests::lab::eventually;
use tokio::sync::watch;

#[derive(Default)]
pub struct Twin {
    standings: Mutex<HashMap<MailboxKey, Standing>>,
    scripts: Mutex<HashMap<String, watch::Sender<Option<Outcome>>>>,
    heard: Mutex<Vec<Heard>>,
    leases: AtomicU64,
    /// While true, `Stay` cannot be bound: a commit is under way.
    pub committing: AtomicBool,
    /// While true, a conversion does not end when the agent stops: it is behind its commit.
    pub committed: AtomicBool,
    pub refuse_leases: AtomicBool,
}

/// What the twin was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Convert(String, Why),
    Ended(String),
    Lease(String),
    Rollback(String),
    Verify(String),
    Bound(LeaseId, Bind),
    Abandoned(LeaseId),
    Tick,
}

pub fn converted() -> Outcome {
    Outcome::Converted { run: "run".into(), messages: 3 }
}

pub fn blocked() -> Outcome {
    Outcome::Blocked(Reason::new("maildir-exists", "there is a Maildir", "move it away"))
}

pub fn busy() -> Outcome {
    Outcome::Busy(Reason::new("busy", "a POP3 session is open", ""))
}

pub fn failed() -> Outcome {
    Outcome::Failed(Reason::new("worker", "the worker died", ""))
}

impl Twin {
    /// Ends the conversion of a user, now or as soon as it begins.
    pub fn end(&self, user: &str, outcome: Outcome) {
        self.script(user).send_replace(Some(outcome));
    }

    pub fn stands(&self, account: &SharedAccount, standing: Standing) {
        self.standings.lock().unwrap().insert(account.key(), standing);
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| **heard != Heard::Tick).cloned().collect()
    }

    pub fn ticks(&self) -> usize {
        self.heard.lock().unwrap().iter().filter(|heard| **heard == Heard::Tick).count()
    }

    /// Conversions that were begun.
    pub fn conversions(&self) -> Vec<(String, Why)> {
        let only = |heard| match heard {
            Heard::Convert(user, why) => Some((user, why)),
            _ => None,
        };
        self.heard().into_iter().filter_map(only).collect()
    }

    pub fn wait_for(&self, what: &str, wanted: impl Fn(&[Heard]) -> bool) {
        let log = || format!("{:?}", self.heard());
        eventually(what, log, || wanted(&self.heard()).then_some(())).unwrap();
    }

    pub fn wait_for_conversion(&self, user: &str) {
        let is_it = |heard: &Heard| matches!(heard, Heard::Convert(of, _) if of == user);
        self.wait_for(&format!("a conversion of {user}"), |heard| heard.iter().any(is_it));
    }

    fn script(&self, user: &str) -> watch::Sender<Option<Outcome>> {
        let mut scripts = self.scripts.lock().unwrap();
        scripts.entry(user.to_owned()).or_insert_with(|| watch::Sender::new(None)).clone()
    }

    fn write(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
    }
}

impl Mailboxes for Twin {
    fn standing(&self, key: &MailboxKey) -> Standing {
        self.standings.lock().unwrap().get(key).cloned().unwrap_or(Standing::Mbox)
    }

    fn size_hint(&self, _: &SharedAccount) -> Option<u64> {
        Some(1)
    }

    fn convert(&self, account: SharedAccount, ask: Ask) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            self.write(Heard::Convert(account.name.clone(), *ask.why.borrow()));
            (ask.report)(Progress { stage: Stage::Staging, messages: 7, bytes: 1024, bytes_total: 4096 });
            let mut script = self.script(&account.name).subscribe();
            let mut stop = ask.stop;
            let stopped = async {
                stop.wait_for(|stop| *stop).await.unwrap();
                if self.committed.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
            };
            let outcome = tokio::select! {
                biased;
                outcome = script.wait_for(Option::is_some) => outcome.unwrap().clone().unwrap(),
                () = stopped => Outcome::Stopped,
            };
            if let Outcome::Converted { run, .. } = &outcome {
                self.stands(&account, Standing::Maildir { run: run.clone() });
                self.committing.store(false, Ordering::SeqCst);
            }
            self.write(Heard::Ended(account.name.clone()));
            outcome
        })
    }

    fn lease(&self, account: &SharedAccount, _session: OwnedFd) -> io::Result<LeaseId> {
        if self.refuse_leases.load(Ordering::SeqCst) {
            return Err(io::Error::other("the session has ended"));
        }
        self.write(Heard::Lease(account.name.clone()));
        Ok(LeaseId(self.leases.fetch_add(1, Ordering::SeqCst)))
    }

    fn bind(&self, lease: LeaseId, answer: Bind) -> bool {
        if answer == Bind::Stay && self.committing.load(Ordering::SeqCst) {
            return false;
        }
        self.write(Heard::Bound(lease, answer));
        true
    }

    fn abandoned(&self, lease: LeaseId) {
        self.write(Heard::Abandoned(lease));
    }

    fn rollback(&self, account: SharedAccount, _ask: Ask) -> BoxFuture<'_, Result<RolledBack, Outcome>> {
        Box::pin(async move {
            self.write(Heard::Rollback(account.name.clone()));
            let run = match self.standing(&account.key()) {
                Standing::Maildir { run } => run,
                _ => return Err(busy()),
            };
            self.stands(&account, Standing::Mbox);
            Ok(RolledBack { run, messages: 3 })
        })
    }

    fn verify(
        &self,
        account: SharedAccount,
        _stop: watch::Receiver<bool>,
    ) -> BoxFuture<'_, Result<Checked, Outcome>> {
        Box::pin(async move {
            self.write(Heard::Verify(account.name.clone()));
            Ok(Checked { same: 3, boxes: 1, ..Checked::default() })
        })
    }

    fn arrived(&self, _: &MailboxKey) {}

    fn recover(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn tick(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.write(Heard::Tick) })
    }
}
