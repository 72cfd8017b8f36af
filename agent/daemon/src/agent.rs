//! What all tasks of the agent share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::account::SharedAccount;
use crate::conversions::Conversions;
use crate::counters::Counters;
use crate::flow::Mailboxes;
use crate::holds::Holds;
use crate::operations::Operations;
use crate::outcome::Why;
use crate::queue::Limits;
use crate::records::Records;
use crate::settings::Settings;
use crate::stops::Stops;
use crate::users::Users;
use crate::whom::{Refusal, may_convert};

/// Jobs that may wait for a slot. Each is one user of this host, so this bounds memory and nothing else; beyond it logins go on with the mbox.
const QUEUE_LENGTH: usize = 20_000;

/// The agent: what its tasks share.
pub struct Agent {
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Look-ups of users.
    pub users: Users,
    /// Holds made at run time.
    pub holds: Arc<Holds>,
    /// The archive records.
    pub records: Arc<Records>,
    /// The mailboxes.
    pub mailboxes: Arc<dyn Mailboxes>,
    /// The jobs.
    pub conversions: Arc<Conversions>,
    /// What stops them when too many fail.
    pub stops: Arc<Stops>,
    /// Rollbacks and verifications.
    pub operations: Operations,
    /// What is counted.
    pub counters: Counters,
    /// Leases that wait for a conversion.
    pub waiting_leases: Waiting,
    /// Announcements that wait for one.
    pub waiting_arrivals: Waiting,
}

impl Agent {
    /// Puts an agent together; nothing runs yet.
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        users: Users,
        holds: Holds,
        records: Arc<Records>,
        mailboxes: Arc<dyn Mailboxes>,
    ) -> Arc<Self> {
        let holds = Arc::new(holds);
        let judge = {
            let (settings, holds, records) = (settings.clone(), Arc::clone(&holds), Arc::clone(&records));
            move |account: &SharedAccount, why| {
                let settings = Arc::clone(&settings.borrow());
                may_convert(&settings, &holds, &records, account, why, unix_now())
            }
        };
        let limits = limits(&settings.borrow());
        let stops = Arc::new(Stops::open(settings.clone(), &records));
        let conversions =
            Conversions::new(limits, Arc::clone(&mailboxes), Box::new(judge), Arc::clone(&stops));
        Arc::new(Self {
            settings,
            users,
            holds,
            records,
            mailboxes,
            conversions,
            stops,
            operations: Operations::default(),
            counters: Counters::default(),
            waiting_leases: Waiting::default(),
            waiting_arrivals: Waiting::default(),
        })
    }

    /// The settings in force now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Whether a user may be converted on behalf of `why` now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_convert(&self, account: &SharedAccount, why: Why) -> Result<(), Refusal> {
        may_convert(&self.settings(), &self.holds, &self.records, account, why, unix_now())
    }
}

/// The queue's limits under some settings.
pub fn limits(settings: &Settings) -> Limits {
    Limits {
        // At most 64.
        workers: settings.config.agent.workers as usize,
        length: QUEUE_LENGTH,
        wait_limit: settings.config.sessions.wait_limit,
    }
}

/// Now, in unix seconds; 0 for a clock that is set before 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How many logins wait at once (`sessions.max_waiting`): a server's post-login processes are limited, and shared by all users.
#[derive(Debug, Default)]
pub struct Waiting(AtomicUsize);

/// A place among those who wait; given back when dropped.
#[derive(Debug)]
pub struct Place<'a>(&'a AtomicUsize);

impl Waiting {
    /// None: as many wait already as may.
    pub fn enter(&self, limit: u32) -> Option<Place<'_>> {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            // usize holds any u32 here.
            if now >= limit as usize {
                return None;
            }
            match self.0.compare_exchange_weak(now, now + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Place(&self.0)),
                Err(seen) => now = seen,
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
