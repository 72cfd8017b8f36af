//! What has become of the originals of a run.

use serde::{Deserialize, Serialize};

/// Whether they are there. Only ever goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Originals {
    /// Where they were set aside.
    #[default]
    Kept,
    /// Being removed, since their time is over: some may be gone. Written before the first goes, so that nobody takes what is missing for lost.
    Going,
    /// Removed.
    Gone,
}

/// How long the originals have been kept, by two clocks that only agree when nobody has set one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    /// Whether they are there.
    pub originals: Originals,
    /// Since when they are not the mail any more, or when they went: unix seconds. 0 in records from before version 3: since the run began.
    pub since: u64,
    /// The agent's own count of seconds ([`crate::passed`]) at that time. 0 in records from before version 3, which are older than the count.
    pub seen: u64,
    /// When a verification found that the Maildir does not hold what the original does; unix seconds. As long as it says so the originals stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubted: Option<u64>,
}

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

impl Kept {
    /// Whether the originals' time is over: `days` have passed by the wall clock *and* by the agent's count, so that a clock that is set forward removes nothing early; one that is set back only keeps them
    /// longer. 0 days: never.
    pub fn is_over(&self, days: u32, started: u64, now: u64, seen: u64) -> bool {
        let since = if self.since == 0 { started } else { self.since };
        let wanted = u64::from(days) * DAY;
        let passed = |from: u64, to: u64| to.checked_sub(from).is_some_and(|passed| passed >= wanted);
        days > 0 && self.doubted.is_none() && passed(since, now) && passed(self.seen, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_have_to_agree_that_the_time_is_over() {
        let kept = Kept { since: 1000 * DAY, seen: 500, ..Kept::default() };
        let over = |now, seen| kept.is_over(30, 999 * DAY, now, seen);
        assert!(over(1030 * DAY, 500 + 30 * DAY));
        assert!(!over(1030 * DAY - 1, 500 + 30 * DAY), "by the wall clock it is a second too early");
        assert!(!over(9999 * DAY, 500 + 30 * DAY - 1), "the wall clock was set forward");
        assert!(!over(10 * DAY, 500 + 9999 * DAY), "the wall clock was set back");
        assert!(!over(9999 * DAY, 100), "the count was lost");
    }

    #[test]
    fn no_days_are_for_ever_and_a_doubt_keeps_them_too() {
        let kept = Kept { since: 1, ..Kept::default() };
        assert!(!kept.is_over(0, 1, u64::MAX, u64::MAX));
        assert!(kept.is_over(1, 1, u64::MAX, u64::MAX));
        assert!(!Kept { doubted: Some(5), ..kept }.is_over(1, 1, u64::MAX, u64::MAX));
    }

    #[test]
    fn a_record_from_before_is_counted_from_its_beginning_and_from_the_beginning_of_the_count() {
        assert!(Kept::default().is_over(30, 10 * DAY, 40 * DAY, 30 * DAY));
        assert!(!Kept::default().is_over(30, 10 * DAY, 40 * DAY, 29 * DAY));
        assert!(!Kept::default().is_over(30, 10 * DAY, 39 * DAY, 30 * DAY));
    }
}
