//! What has come lately: in memory that does not grow, whoever sends.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Remembers keys for at least half of `lifetime` and at most all of it, and at most `room` of them. Two halves: when the newer one is old or full, it becomes the older one, whose keys are forgotten.
#[derive(Debug)]
pub(crate) struct Recent<K> {
    newer: HashSet<K>,
    older: HashSet<K>,
    since: Instant,
    lifetime: Duration,
    room: usize,
}

impl<K: Eq + Hash> Recent<K> {
    pub(crate) fn new(lifetime: Duration, room: usize, now: Instant) -> Self {
        Self { newer: HashSet::new(), older: HashSet::new(), since: now, lifetime, room }
    }

    pub(crate) fn contains(&mut self, key: &K, now: Instant) -> bool {
        self.turn(now);
        self.newer.contains(key) || self.older.contains(key)
    }

    pub(crate) fn insert(&mut self, key: K, now: Instant) {
        self.turn(now);
        self.newer.insert(key);
    }

    fn turn(&mut self, now: Instant) {
        let age = now.duration_since(self.since);
        if age >= self.lifetime / 2 || self.newer.len() >= self.room / 2 {
            self.older = std::mem::take(&mut self.newer);
            if age >= self.lifetime {
                self.older.clear();
            }
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_forgotten_by_age_and_by_number() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut recent = Recent::new(Duration::from_secs(10), 100, begin);
        recent.insert(1, at(0));
        assert!(recent.contains(&1, at(4)) && recent.contains(&1, at(5)));
        assert!(!recent.contains(&1, at(10)));
        recent.insert(2, at(11));
        assert!(!recent.contains(&2, at(300)), "a long silence forgets all");
        for key in 0..10_000 {
            recent.insert(key, at(301));
        }
        assert!(recent.newer.len() + recent.older.len() <= 100);
        assert!(recent.contains(&9_999, at(301)));
    }
}
