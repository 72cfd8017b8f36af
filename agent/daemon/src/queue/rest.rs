//! Mailboxes that could not be converted rest for a while: a user with a broken mailbox who logs in each minute must not cost a conversion
//! each minute, and gets the known answer at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::{MailboxKey, SharedAccount};
use crate::outcome::{Outcome, Reason, WORKER_STOPPED};

/// As many outcomes are remembered; beyond that, the rest that ends first is forgotten.
const REMEMBERED: usize = 4096;

const FIRST_BUSY: Duration = Duration::from_secs(5);
const LONGEST_BUSY: Duration = Duration::from_secs(5 * 60);
const FIRST_FAILED: Duration = Duration::from_secs(10);
const FIRST_BLOCKED: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
struct Rest {
    account: SharedAccount,
    outcome: Outcome,
    until: Instant,
    length: Duration,
    /// Since when the mailbox has been busy without a break.
    busy_since: Option<Instant>,
}

/// The resting mailboxes.
#[derive(Debug, Default)]
pub(super) struct Rests(HashMap<MailboxKey, Rest>);

impl Rests {
    /// The outcome to be given without another attempt.
    pub(super) fn at(&self, key: &MailboxKey, now: Instant) -> Option<&Outcome> {
        self.0.get(key).filter(|rest| now < rest.until).map(|rest| &rest.outcome)
    }

    /// The last outcome, whether its rest is over or not, and when it is over.
    pub(super) fn last(&self, key: &MailboxKey) -> Option<(&Outcome, Instant)> {
        self.0.get(key).map(|rest| (&rest.outcome, rest.until))
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &SharedAccount> {
        self.0.values().map(|rest| &rest.account)
    }

    pub(super) fn end(&mut self, of: Option<&MailboxKey>) {
        match of {
            Some(key) => drop(self.0.remove(key)),
            None => self.0.clear(),
        }
    }

    /// Takes note of an outcome. Returns when the queue is to try again by itself.
    pub(super) fn note(
        &mut self,
        account: &SharedAccount,
        outcome: &Outcome,
        now: Instant,
        wait_limit: Duration,
    ) -> Option<Instant> {
        let key = account.key();
        let before = self.0.remove(&key);
        let (first, longest) = match outcome {
            Outcome::Converted { .. } | Outcome::Already { .. } | Outcome::Stopped => return None,
            Outcome::Busy(_) => (FIRST_BUSY, LONGEST_BUSY),
            // Every attempt costs the others a slot for as long as a stopped worker is borne.
            Outcome::Failed(reason) if reason.code == WORKER_STOPPED => (LONGEST, LONGEST),
            Outcome::Failed(_) => (FIRST_FAILED, LONGEST),
            Outcome::Blocked(_) => (FIRST_BLOCKED, LONGEST),
        };
        let length = match &before {
            Some(rest) if same_kind(&rest.outcome, outcome) => (rest.length * 2).min(longest),
            _ => first,
        };
        let busy_since = matches!(outcome, Outcome::Busy(_))
            .then(|| before.as_ref().and_then(|rest| rest.busy_since).unwrap_or(now));
        let given_up = busy_since.is_some_and(|since| now.duration_since(since) >= wait_limit);
        let outcome = if given_up { blocked_by(outcome) } else { outcome.clone() };
        let until = now + length;
        let again = (busy_since.is_some() && !given_up).then_some(until);
        self.make_room();
        self.0.insert(key, Rest { account: Arc::clone(account), outcome, until, length, busy_since });
        again
    }

    fn make_room(&mut self) {
        if self.0.len() >= REMEMBERED
            && let Some(key) = self.0.iter().min_by_key(|(_, rest)| rest.until).map(|(key, _)| key.clone())
        {
            self.0.remove(&key);
        }
    }
}

fn same_kind(one: &Outcome, other: &Outcome) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// What `sessions.wait_limit` makes of `Busy`.
fn blocked_by(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Busy(reason) => Outcome::Blocked(Reason::new(
            "busy",
            format!("sessions have kept the mailbox in use for all of sessions.wait_limit: {}", reason.text),
            "end the sessions, then ask for the conversion again",
        )),
        other => other.clone(),
    }
}
