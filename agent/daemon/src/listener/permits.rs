//! How many connections each uid may have at once, and all of them together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the permits that are out.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: usize,
    each: usize,
    out: Mutex<Out>,
}

#[derive(Debug, Default)]
struct Out {
    all: usize,
    by_uid: HashMap<u32, usize>,
}

/// One permit; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Permits,
    uid: u32,
}

impl Permits {
    /// `all` together, `each` a uid.
    pub fn new(all: usize, each: usize) -> Self {
        Self(Arc::new(Inner { all, each, out: Mutex::default() }))
    }

    /// A permit for this uid; None: this uid, or all together, have as many as they may.
    pub fn take(&self, uid: u32) -> Option<Permit> {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.all >= self.0.all {
            return None;
        }
        let of_uid = out.by_uid.entry(uid).or_default();
        if *of_uid >= self.0.each {
            return None;
        }
        *of_uid += 1;
        out.all += 1;
        Some(Permit { permits: self.clone(), uid })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut out = self.permits.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.all -= 1;
        if let Some(of_uid) = out.by_uid.get_mut(&self.uid) {
            *of_uid -= 1;
            if *of_uid == 0 {
                out.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_uid_over_its_limit_takes_nothing_from_the_others() {
        let permits = Permits::new(5, 2);
        let first: Vec<_> = (0..10).filter_map(|_| permits.take(1000)).collect();
        assert_eq!(first.len(), 2);
        let others: Vec<_> = (1001..1010).filter_map(|uid| permits.take(uid)).collect();
        assert_eq!(others.len(), 3, "and all together have a limit too");
        drop(first);
        assert!(permits.take(1000).is_some());
        drop(others);
        assert!(permits.0.out.lock().unwrap().by_uid.is_empty(), "nothing is kept of those who left");
    }
}
