//! Users for whom no worker is started for a while, since the last one was stopped, or hung, and had to be killed.
//!
//! Each such worker costs the others a slot, or the one thread that drains, for as long as it was borne. So the same user is not given the next one at once: a minute's rest, twice as much after each that follows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// Trouble that is longer ago is forgotten.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

struct Rest {
    until: Instant,
    length: Duration,
}

/// By uid. Bounded by the number of users whose workers could be killed within an hour.
static RESTS: Mutex<Option<HashMap<u32, Rest>>> = Mutex::new(None);

fn rests() -> MutexGuard<'static, Option<HashMap<u32, Rest>>> {
    // Nothing leaves it half changed.
    RESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of the user's rest.
pub(super) fn left(uid: u32, now: Instant) -> Option<Duration> {
    let rests = rests();
    let left = rests.as_ref()?.get(&uid)?.until.saturating_duration_since(now);
    (!left.is_zero()).then_some(left)
}

/// A worker of this user has been killed for standing still.
pub(super) fn begin(uid: u32, now: Instant) {
    let mut rests = rests();
    let rests = rests.get_or_insert_default();
    rests.retain(|_, rest| now.saturating_duration_since(rest.until) < REMEMBERED);
    let length = rests.get(&uid).map_or(FIRST, |rest| (rest.length * 2).min(LONGEST));
    rests.insert(uid, Rest { until: now + length, length });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rest_is_longer_than_the_last_and_an_hour_makes_good() {
        // Nobody's.
        let (uid, other) = (u32::MAX - 7, u32::MAX - 8);
        let mut now = Instant::now();
        assert_eq!(left(uid, now), None);
        for seconds in [60, 120, 240, 480, 600, 600] {
            begin(uid, now);
            assert_eq!(left(uid, now), Some(Duration::from_secs(seconds)));
            assert_eq!(left(other, now), None);
            now += Duration::from_secs(seconds);
            assert_eq!(left(uid, now), None);
        }
        begin(uid, now + Duration::from_secs(3601));
        assert_eq!(left(uid, now + Duration::from_secs(3601)), Some(FIRST));
    }
}
