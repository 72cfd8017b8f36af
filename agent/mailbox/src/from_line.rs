//! The From_ line, by the grammar of Dovecot's `mbox_from_parse` (formats.md 1.3).
//!
//! That function is lax in ways that decide where messages end and when they arrived, so its laxness is kept: four bytes of
//! weekday are skipped unseen, even across the end of the line; a word before the year is skipped, even if it is a numeric zone;
//! a zone's minutes count as seconds; and a date that does not exist makes the line no separator if the zone is written and
//! is normalised as `mktime` does if it is not.

pub(crate) mod right;

use crate::rules::LocalTime;

/// Date and time as a From_ line says it, not yet moved to UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    year: i64,
    /// 0 to 11.
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// East of UTC, with the minutes taken as seconds. `None`: local time of the server.
    zone_seconds: Option<i64>,
}

impl Stamp {
    /// A From_ line whose date nobody can read: 1970.
    const UNKNOWN: Stamp =
        Stamp { year: 1970, month: 0, day: 1, hour: 0, minute: 0, second: 0, zone_seconds: Some(0) };

    /// INTERNALDATE in unix seconds; what cannot be represented is 0, as in Dovecot.
    pub(crate) fn unix_seconds(&self, local: &mut LocalTime<'_>) -> i64 {
        match self.zone_seconds {
            // -1 is mktime's word for failure, and Dovecot cannot tell it from one second before 1970.
            Some(east) => match self.civil_seconds() - east {
                -1 => 0,
                t => t,
            },
            None => local.unix_of(self.civil_seconds()).unwrap_or(0),
        }
    }

    /// Whether it says its zone, and so means the same everywhere.
    pub(crate) fn has_zone(&self) -> bool {
        self.zone_seconds.is_some()
    }

    /// Seconds since 1970 as if the zone were UTC; fields out of range carry over, as in `mktime` and `timegm`.
    fn civil_seconds(&self) -> i64 {
        days_since_1970(self.year, self.month + 1, self.day) * 86_400
            + self.hour * 3600
            + self.minute * 60
            + self.second
    }

    /// `utc_mktime`: second 60 is second 59, everything else has to exist.
    fn exists(&self) -> bool {
        const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let Some(days) = usize::try_from(self.month).ok().and_then(|m| DAYS.get(m)) else { return false };
        let days = if self.month == 1 && leap { 29 } else { *days };
        (1..=days).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && self.with_leap_second().civil_seconds() != -1
    }

    fn with_leap_second(mut self) -> Self {
        if self.second == 60 {
            self.second = 59;
        }
        self
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar; `day` may lie outside the month.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // March is the first month here, so that the leap day is the last day of a year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// How far beyond the end of a line the grammar can look, with room to spare: whoever calls [`parse`] gives it that much if the
/// file has it.
pub(crate) const LOOK_AHEAD: usize = 256;

/// Reads what stands behind `From `. `data` goes on behind the end of the line (see the module's text). `None`: no separator.
pub(crate) fn parse(data: &[u8]) -> Option<Stamp> {
    let mut at = skip_sender(data)?;
    while at < data.len() && data[at] == b' ' {
        at += 1;
    }
    let mut scan = Scan { data, at };
    // The shortest form: "Thu Nov  9 22:33 2001".
    if data.len() - at < 21 {
        return None;
    }
    scan.at += 4;
    let (day, month, early_year) = match scan.month() {
        Some(month) => {
            scan.at += 4;
            (scan.padded_day()?, month, None)
        }
        None => {
            // "Thu, 9 Nov 2002 22:33:52"
            scan.at += 1;
            let day = scan.short_day()?;
            let month = scan.month()?;
            scan.at += 4;
            let year = scan.year()?;
            scan.at += 5;
            (day, month, Some(year))
        }
    };
    let hour = scan.two_digits()?;
    scan.expect(b':')?;
    let minute = scan.two_digits()?;
    let mut second = 0;
    let asctime = early_year.is_none();
    if scan.peek(0) == b':' {
        scan.at += 1;
        second = scan.two_digits()?;
    }
    if asctime {
        scan.expect(b' ')?;
    }
    let year = match early_year {
        Some(year) => year,
        None => {
            if !scan.four_digits() {
                scan.skip_word()?;
            }
            let year = scan.year()?;
            scan.at += 4;
            year
        }
    };
    let stamp = Stamp { year, month, day: day.max(1), hour, minute, second, zone_seconds: scan.zone() };
    match stamp.zone_seconds {
        Some(_) => stamp.exists().then(|| stamp.with_leap_second()),
        None => Some(stamp),
    }
}

/// Bytes without a space, behind an optional quoted string that may hold spaces.
fn skip_sender(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    if data.first() == Some(&b'"') {
        let mut escaped = false;
        at = 1;
        while at < data.len() && (data[at] != b'"' || escaped) {
            if matches!(data[at], b'\r' | b'\n') {
                return None;
            }
            escaped = data[at] == b'\\';
            at += 1;
        }
        at = (at + 1).min(data.len());
    }
    while at < data.len() && data[at] != b' ' {
        if matches!(data[at], b'\r' | b'\n') {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// A cursor that reads NUL behind the end, where the original reads whatever its buffer holds.
struct Scan<'a> {
    data: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.data.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek(0) == byte).then(|| self.at += 1)
    }

    fn digit(&self, ahead: usize) -> Option<i64> {
        let byte = self.peek(ahead);
        byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
    }

    fn two_digits(&mut self) -> Option<i64> {
        let value = self.digit(0)? * 10 + self.digit(1)?;
        self.at += 2;
        Some(value)
    }

    /// Three letters and a space; does not move. `???` is January: Dovecot's author had such an mbox.
    fn month(&self) -> Option<i64> {
        const NAMES: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
        let name = [self.peek(0), self.peek(1), self.peek(2)];
        let index = if name == *b"???" {
            0
        } else {
            let lower = name.map(|b| b.to_ascii_lowercase());
            NAMES.chunks_exact(3).position(|m| *m == lower)?
        };
        (self.peek(3) == b' ').then_some(index as i64)
    }

    /// One or two digits and a space, with a space in front of a single digit.
    fn padded_day(&mut self) -> Option<i64> {
        if self.peek(0) == b' ' {
            self.at += 1;
        }
        let day = if self.peek(1) == b' ' {
            let day = self.digit(0)?;
            self.at += 2;
            day
        } else {
            let day = self.two_digits()?;
            self.expect(b' ')?;
            day
        };
        Some(day)
    }

    fn short_day(&mut self) -> Option<i64> {
        let mut day = self.digit(0)?;
        self.at += 1;
        if let Some(digit) = self.digit(0) {
            day = day * 10 + digit;
            self.at += 1;
        }
        self.expect(b' ')?;
        Some(day)
    }

    fn four_digits(&self) -> bool {
        (0..4).all(|i| self.digit(i).is_some())
    }

    /// Four digits; does not move.
    fn year(&self) -> Option<i64> {
        (0..4).try_fold(0, |year, i| Some(year * 10 + self.digit(i)?))
    }

    /// The named zone that some write before the year.
    fn skip_word(&mut self) -> Option<()> {
        while self.at < self.data.len() && self.data[self.at] != b' ' {
            if matches!(self.data[self.at], b'\r' | b'\n') {
                return None;
            }
            self.at += 1;
        }
        if self.at + 5 > self.data.len() {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// ` +HHMM` behind the year. The minutes are seconds: a mistake of Dovecot's that clients have seen for years.
    fn zone(&self) -> Option<i64> {
        if self.at >= self.data.len() || self.peek(0) != b' ' {
            return None;
        }
        let sign = match self.peek(1) {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let hours = self.digit(2)? * 10 + self.digit(3)?;
        let minutes = self.digit(4)? * 10 + self.digit(5)?;
        Some(sign * (hours * 3600 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Zone;

    fn at(line: &str) -> Option<i64> {
        parse(line.as_bytes()).map(|s| s.unix_seconds(&mut LocalTime::new(&Zone::utc())))
    }

    #[test]
    fn the_usual_forms_are_read() {
        let expected = Some(1_005_345_232); // 2001-11-09 22:33:52 UTC
        for line in [
            "a@b Fri Nov  9 22:33:52 2001\n",
            "a@b  Fri Nov  9 22:33:52 2001\n",
            "a@b Fri Nov 9 22:33:52 2001\n",
            "a@b Fri nov  9 22:33:52 2001 remote from x\n",
            "a@b Fri Nov  9 22:33:52 CET 2001\n",
            "a@b Fri Nov  9 22:33:52 +0300 2001\n",
            "\"a b\"@c Fri Nov  9 22:33:52 2001\n",
            "a@b Fri, 9 Nov 2001 22:33:52\n",
            "a@b Fri Nov  9 22:33:52 2001 +0000\n",
        ] {
            assert_eq!(at(line), expected, "{line:?}");
        }
        assert_eq!(at("a@b Fri Nov  9 22:33 2001\n"), Some(1_005_345_180));
    }

    #[test]
    fn minutes_of_a_zone_count_as_seconds() {
        // formats.md 1.3, seen on 2.3.19.
        let base = 1_005_345_232;
        assert_eq!(at("a Fri Nov  9 22:33:52 2001 +0530\n"), Some(base - 5 * 3600 - 30));
        assert_eq!(at("a Fri Nov  9 22:33:52 2001 -0730\n"), Some(base + 7 * 3600 + 30));
    }

    #[test]
    fn what_is_no_separator_for_dovecot_is_none_here() {
        for line in [
            "Thu Nov 9 22:33:52 2001\n",
            "a b Fri Nov  9 22:33:52 2001\n",
            "- \n",
            "a@b Fri Nov  9 22:33:52 01\n",
            "me to you\n",
            "\n",
            "",
            "user at example.com  Fri Nov  9 22:33:52 2001\n",
            "\"a\n b\" Fri Nov  9 22:33:52 2001\n",
        ] {
            assert_eq!(at(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_date_that_does_not_exist_is_a_separator_only_without_a_zone() {
        assert_eq!(at("a Fri Feb 31 22:33:52 2001 +0000\n"), None);
        assert_eq!(at("a Fri Feb 31 22:33:52 2001\n"), at("a Sat Mar  3 22:33:52 2001\n"));
        assert_eq!(at("a Fri Feb 28 22:33:60 2001 +0000\n"), at("a Fri Feb 28 22:33:59 2001\n"));
    }

    #[test]
    fn the_weekday_may_reach_across_the_end_of_the_line() {
        assert!(parse(b"a \n12 Nov  9 22:33:52 2001\n").is_some());
        assert!(parse(b"a \n12 Nov  9 22:33").is_none());
    }

    #[test]
    fn days_agree_with_the_calendar() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(1969, 12, 31), -1);
        assert_eq!(days_since_1970(1, 1, 1), -719_162);
    }
}
