//! What the agent counts. Figures only: nothing is decided by them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// One figure; only ever grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// All figures.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])+ pub $name: Counter,)+
        }

        impl Counters {
            /// Each figure with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)+]
            }
        }
    };
}

counters! {
    /// Connections taken on `arrival.sock`.
    arrival_connections,
    /// Connections taken on `self.sock`.
    self_connections,
    /// Connections closed at once, since that uid, or all together, had too many.
    over_limit,
    /// Connections on which no request came in time.
    silent,
    /// Requests that were none.
    malformed,
    /// Requests by peers who may not speak for that user.
    not_allowed,
    /// Announcements of sources or services that do not count.
    not_counted,
    /// Announcements of names that no user has.
    unknown_user,
    /// Look-ups that failed or came too late.
    lookup_failed,
    /// Announcements that counted.
    arrivals,
    /// Leases asked for.
    leases,
    /// Leases answered with `ready`.
    ready,
    /// Leases answered with `stay`.
    stay,
    /// Leases whose script went away before the answer.
    abandoned,
    /// Leases that could not be bound to a process.
    unbound,
    /// Requests answered at once because enough were waiting, or the queue was full.
    crowded,
    /// Accepting failed for want of descriptors or memory.
    accept_backoff,
}

impl fmt::Display for Counters {
    /// Those that are not zero, `name=figure`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, figure) in self.all().into_iter().filter(|(_, figure)| *figure > 0) {
            if !std::mem::take(&mut first) {
                f.write_str(" ")?;
            }
            write!(f, "{name}={figure}")?;
        }
        Ok(())
    }
}
