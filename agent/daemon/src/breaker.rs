//! When too much goes wrong, the agent stops converting by itself: a bug, a wrong setting or a failing disk must not reach everybody. Pure: no clock, no I/O; time is passed in, in unix seconds.
//!
//! What counts is a conversion that failed: a worker that died, a system call that failed where it should not, an agent that died in the middle. A mailbox that is busy, or blocked by what its owner keeps there, is no trouble
//! of ours. One mailbox counts once, however often it is tried; each death of the agent counts.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

/// The version of what is kept across a restart.
const VERSION: u32 = 1;

/// What went wrong longer ago says nothing about now; seconds.
const WITHIN: u64 = 60 * 60;

/// As many ends are remembered at most, whatever the configuration says.
const REMEMBERED: usize = 10_000;

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `background.max_failures`: mailboxes that fail, 1 or more.
    pub failures: u32,
    /// `background.chunk`: among so many that ended last.
    pub among: u32,
}

/// One conversion that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Unix seconds.
    pub at: u64,
    /// Whose mailbox; of a death of the agent, the run that it died in.
    pub who: String,
    /// The reason's code.
    pub code: String,
}

/// Why nothing is converted any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// Unix seconds.
    pub since: u64,
    /// How many failed.
    pub failures: u32,
}

/// What happened lately.
#[derive(Debug, Default)]
pub struct Breaker {
    /// The last ends; `None`: it went well.
    ends: VecDeque<(u64, Option<Failure>)>,
    stopped: Option<Stopped>,
}

/// What of it is kept across a restart: an agent that dies of what it does must know that it has died before.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
    #[serde(default)]
    failure: Vec<Failure>,
}

impl Breaker {
    /// As [`Breaker::save`] wrote it.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn restore(text: &str) -> Result<Self, String> {
        let saved: Saved = toml::from_str(text).map_err(|error| error.to_string())?;
        if saved.version != VERSION {
            return Err(format!("version {}", saved.version));
        }
        let ends = saved.failure.into_iter().map(|failure| (failure.at, Some(failure))).collect();
        Ok(Self { ends, stopped: saved.stopped })
    }

    /// For a file.
    ///
    /// # Errors
    /// It cannot be written as text.
    pub fn save(&self) -> Result<String, toml::ser::Error> {
        let failure = self.ends.iter().filter_map(|(_, failure)| failure.clone()).collect();
        toml::to_string(&Saved { version: VERSION, stopped: self.stopped.clone(), failure })
    }

    /// A conversion has gone well.
    pub fn went_well(&mut self, now: u64, rules: Rules) {
        self.push(now, None, rules);
    }

    /// A conversion has failed. True: that was one too many, and nothing is converted from now on.
    pub fn failed(&mut self, now: u64, who: &str, code: &str, rules: Rules) -> bool {
        let failure = Failure { at: now, who: who.to_owned(), code: code.to_owned() };
        self.push(now, Some(failure), rules);
        let failed: HashSet<&str> = self.failures().map(|failure| failure.who.as_str()).collect();
        let failures = u32::try_from(failed.len()).unwrap_or(u32::MAX);
        if self.stopped.is_some() || failures < rules.failures {
            return false;
        }
        self.stopped = Some(Stopped { since: now, failures });
        true
    }

    /// Whether this very failure is known: a death of the agent is found again at each start until its run is settled.
    pub fn knows(&self, who: &str) -> bool {
        self.failures().any(|failure| failure.who == who)
    }

    /// Why nothing is converted, if so.
    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// The failures that are remembered, the oldest first.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.ends.iter().filter_map(|(_, failure)| failure.as_ref())
    }

    /// The cause is mended, somebody says. False: there was nothing to clear.
    pub fn clear(&mut self) -> bool {
        self.ends.clear();
        self.stopped.take().is_some()
    }

    fn push(&mut self, now: u64, failure: Option<Failure>, rules: Rules) {
        self.ends.push_back((now, failure));
        let most = usize::try_from(rules.among).unwrap_or(REMEMBERED).clamp(1, REMEMBERED);
        // Of a clock that was set back: what seems to come is as good as now.
        while self.ends.len() > most
            || self.ends.front().is_some_and(|(at, _)| at.saturating_add(WITHIN) < now)
        {
            self.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const RULES: Rules = Rules { failures: 3, among: 100 };

    #[test]
    fn three_mailboxes_stop_it_and_one_that_fails_again_and_again_does_not() {
        let mut breaker = Breaker::default();
        for at in 0..50 {
            assert!(!breaker.failed(at, "ann", "worker", RULES));
        }
        assert!(!breaker.failed(51, "bob", "worker", RULES));
        assert_eq!(breaker.stopped(), None);
        assert!(breaker.failed(52, "cid", "state", RULES));
        assert_eq!(breaker.stopped(), Some(&Stopped { since: 52, failures: 3 }));
        assert!(!breaker.failed(53, "dee", "worker", RULES), "it is told once");
        assert!(breaker.clear());
        assert!(!breaker.clear());
        assert!(!breaker.failed(54, "cid", "worker", RULES), "it begins anew");
    }

    #[test]
    fn what_lies_back_does_not_count() {
        let mut breaker = Breaker::default();
        breaker.failed(0, "ann", "worker", RULES);
        breaker.failed(0, "bob", "worker", RULES);
        assert!(!breaker.failed(WITHIN + 1, "cid", "worker", RULES));
        let rules = Rules { failures: 2, among: 3 };
        let mut breaker = Breaker::default();
        breaker.failed(0, "ann", "worker", rules);
        breaker.went_well(0, rules);
        breaker.went_well(0, rules);
        assert!(!breaker.failed(0, "bob", "worker", rules), "two of four, and three count");
        assert!(breaker.failed(0, "cid", "worker", rules));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_forgets_nor_panics() {
        let mut breaker = Breaker::default();
        breaker.failed(u64::MAX, "ann", "worker", RULES);
        breaker.failed(5, "bob", "worker", RULES);
        assert!(breaker.failed(6, "cid", "worker", RULES));
    }

    #[test]
    fn it_is_the_same_after_a_restart() {
        let mut breaker = Breaker::default();
        breaker.failed(1, "ann", "worker", RULES);
        breaker.went_well(2, RULES);
        breaker.failed(3, "run 20260101T000000Z-0123456789abcdef", "agent-died", RULES);
        let mut again = Breaker::restore(&breaker.save().unwrap()).unwrap();
        assert!(again.knows("run 20260101T000000Z-0123456789abcdef"));
        assert!(!again.knows("ann's"));
        assert!(again.failed(4, "bob", "worker", RULES));
        let again = Breaker::restore(&again.save().unwrap()).unwrap();
        assert_eq!(again.stopped(), Some(&Stopped { since: 4, failures: 3 }));
        assert!(Breaker::restore("version = 2").is_err());
        assert!(Breaker::restore("\u{0}").is_err());
    }
}
