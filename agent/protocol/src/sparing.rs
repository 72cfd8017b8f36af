//! Log lines that anybody can cause: a few a minute are written, the rest are counted. A log that users can fill is one more disk that they
//! can fill, and hides what matters.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// Lets so many through in a minute.
#[derive(Debug)]
pub struct Sparing {
    each_window: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    window: Option<Instant>,
    passed: u32,
    dropped: u64,
}

impl Sparing {
    /// Lets `each_minute` through.
    pub const fn new(each_minute: u32) -> Self {
        Self { each_window: each_minute, state: Mutex::new(State { window: None, passed: 0, dropped: 0 }) }
    }

    /// Whether to write a line now, and if so, how many were not written since the last one.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            state.window = Some(now);
            state.passed = 0;
        }
        if state.passed >= self.each_window {
            state.dropped += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_count() {
        let (sparing, now) = (Sparing::new(2), Instant::now());
        let passed: Vec<_> = (0..100).map(|_| sparing.pass(now)).collect();
        assert_eq!(passed.iter().flatten().count(), 2);
        assert_eq!(sparing.pass(now + WINDOW), Some(98));
        assert_eq!(sparing.pass(now + WINDOW), Some(0));
        assert_eq!(sparing.pass(now + WINDOW), None);
    }
}
