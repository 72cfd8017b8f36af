//! The From_ line as UW imapd and qpopper read it: from its right end (the macro `VALID`; src/osdep/unix/unix.h of UW imap,
//! popper/pop_dropcopy.c of qpopper 2.53 and 4.0, which took it from there).
//!
//! There the sender may hold anything, spaces too, because the date is found by counting from the end of the line:
//!
//! ```text
//! From user Wed Dec  2 05:53 1992              From user Wed Dec  2 05:53:22 1992 remote from host
//! From user Wed Dec  2 05:53:22 PST 1992       From user Wed Dec  2 05:53 -0700 1992
//! From user Wed Dec  2 05:53:22 1992 PST       From user Wed Dec  2 05:53:22 1992 -0700
//! ```
//!
//! Only the places of spaces and colons make a separator; whether there is a date in between is asked afterwards (`mail_parse_date`,
//! src/c-client/mail.c), and a message without one has arrived in 1970. A zone counts wherever it stands, its minutes as minutes.

use super::Stamp;

/// The shortest line that can be one, without its end.
const SHORTEST: usize = 27;
/// The shortest line in which ` remote from HOST` is looked for.
const WITH_REMOTE: usize = 41;

/// What `VALID` finds out: places in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    /// The end: of the line, or of what stands before ` remote from`.
    end: usize,
    /// The space in front of the time.
    time: usize,
    /// The space in front of the zone, if there is one.
    zone: Option<usize>,
}

/// Reads a whole line, from its `From ` to its line feed. `None`: no separator.
///
/// `crlf`: a CR in front of the line feed belongs to the line end (UW; for qpopper it is part of the line, so that it takes no CRLF mbox).
pub(crate) fn parse(line: &[u8], crlf: bool) -> Option<Stamp> {
    let text = line.strip_suffix(b"\n")?;
    // C strings: behind a NUL there is nothing, no line end either.
    if !text.starts_with(b"From ") || memchr::memchr(0, text).is_some() {
        return None;
    }
    let text = if crlf { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
    let places = valid(text)?;
    Some(date(text, places).unwrap_or(Stamp::UNKNOWN))
}

fn valid(text: &[u8]) -> Option<Places> {
    let end = if text.len() >= WITH_REMOTE { before_remote(text) } else { text.len() };
    if end < SHORTEST {
        return None;
    }
    // The byte so many places in front of the end.
    let at = |back: usize| end.checked_sub(back).and_then(|i| text.get(i)).copied();
    let space = |back| at(back) == Some(b' ');
    let sign = |back| matches!(at(back), Some(b'+' | b'-'));
    // How far in front of the end the space behind the time is, and the one in front of the zone.
    let (behind_time, zone) = if space(5) {
        if at(8) == Some(b':') {
            (5, None)
        } else if space(9) {
            (9, Some(9))
        } else if space(11) && sign(10) {
            (11, Some(11))
        } else {
            return None;
        }
    } else if space(4) {
        if space(9) { (9, Some(4)) } else { return None }
    } else if space(6) && space(11) && sign(5) {
        (11, Some(6))
    } else {
        return None;
    };
    if at(behind_time + 3) != Some(b':') {
        return None;
    }
    let time = behind_time + if at(behind_time + 6) == Some(b':') { 9 } else { 6 };
    // In front of the time, of the day, of the month, of the day of the week.
    let spaces = space(time) && space(time + 3) && space(time + 7) && space(time + 11);
    spaces.then(|| Places { end, time: end - time, zone: zone.map(|zone| end - zone) })
}

/// Where ` remote from HOST` begins, or the line ends.
fn before_remote(text: &[u8]) -> usize {
    const REMOTE: &[u8] = b" remote from";
    match memchr::memrchr(b' ', text) {
        Some(last) if text[..last].ends_with(REMOTE) => last - REMOTE.len(),
        _ => text.len(),
    }
}

/// What stands at the places, if it is a date.
fn date(text: &[u8], places: Places) -> Option<Stamp> {
    const MONTHS: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let time = places.time;
    let two = |from: usize| number(text.get(from..from + 2)?);
    let day = two(time - 2).filter(|day| (1..=31).contains(day))?;
    let name = text.get(time - 6..time - 3)?.to_ascii_lowercase();
    let month = MONTHS.chunks_exact(3).position(|month| *month == *name)?;
    let (hour, minute) = (two(time + 1)?, two(time + 4)?);
    let mut at = time + 6;
    let mut second = 0;
    if text.get(at) == Some(&b':') {
        second = two(at + 1)?;
        at += 3;
    }
    let zone = places.zone.and_then(|zone| text.get(zone + 1..places.end));
    // A zone in front of the year: stepped over.
    if places.zone == Some(at) {
        at += if matches!(zone?.first(), Some(b'+' | b'-')) { 6 } else { 4 };
    }
    let year = number(text.get(at + 1..at + 5)?)?;
    // Two and three digits (RFC 2822, 4.3).
    let year = year
        + if year < 49 {
            2000
        } else if year < 999 {
            1900
        } else {
            0
        };
    if year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone_seconds = zone.and_then(zone_seconds);
    Some(Stamp { year, month: month as i64, day, hour, minute, second, zone_seconds })
}

/// Digits, perhaps behind a space.
fn number(field: &[u8]) -> Option<i64> {
    let digits = field.trim_ascii_start();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0')))
}

/// Seconds east of UTC. `None`, local time: zones that nobody knows the name of.
fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let hours = match zone {
        [sign @ (b'+' | b'-'), rest @ ..] => {
            // A sign without a zone behind it is UTC.
            let digits = rest.get(..4).filter(|d| d.iter().all(u8::is_ascii_digit) && d[2] < b'6');
            let seconds = digits.and_then(|d| Some(number(&d[..2])? * 3600 + number(&d[2..])? * 60));
            return Some(if *sign == b'-' { -1 } else { 1 } * seconds.unwrap_or(0));
        }
        [a, b, c, ..] => match &[*a, *b, *c].map(|letter| letter.to_ascii_uppercase()) {
            b"GMT" | b"UTC" | b"UT " => 0,
            b"MET" => 1,
            b"EET" => 2,
            b"JST" => 9,
            b"ADT" => -3,
            b"AST" | b"EDT" => -4,
            b"EST" | b"CDT" => -5,
            b"CST" | b"MDT" => -6,
            b"MST" | b"PDT" => -7,
            b"PST" | b"YDT" => -8,
            b"YST" => -9,
            b"HST" => -10,
            _ => return None,
        },
        _ => return None,
    };
    Some(hours * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{LocalTime, Zone};

    /// Seconds by a clock that is an hour ahead of UTC.
    fn at(line: &str) -> Option<i64> {
        let zone = Zone::named("CET-1").unwrap();
        parse(line.as_bytes(), true).map(|stamp| stamp.unix_seconds(&mut LocalTime::new(&zone)))
    }

    const UTC: i64 = 723_275_580; // 1992-12-02 05:53:00 UTC

    #[test]
    fn the_forms_that_the_macro_lists_are_read() {
        for (line, expected) in [
            ("From user Wed Dec  2 05:53 1992\n", UTC - 3600),
            ("From user Wed Dec  2 05:53:22 1992\n", UTC - 3600 + 22),
            ("From user Wed Dec  2 05:53:22 1992\r\n", UTC - 3600 + 22),
            ("From user Wed Dec  2 05:53 PST 1992\n", UTC + 8 * 3600),
            ("From user Wed Dec  2 05:53:22 PST 1992\n", UTC + 8 * 3600 + 22),
            ("From user Wed Dec  2 05:53 -0730 1992\n", UTC + 7 * 3600 + 1800),
            ("From user Wed Dec  2 05:53:22 +0530 1992\n", UTC - 5 * 3600 - 1800 + 22),
            ("From user Wed Dec  2 05:53 1992 PST\n", UTC + 8 * 3600),
            ("From user Wed Dec  2 05:53:22 1992 MET\n", UTC - 3600 + 22),
            ("From user Wed Dec  2 05:53:22 1992 XYZ\n", UTC - 3600 + 22),
            ("From user Wed Dec  2 05:53 1992 -0700\n", UTC + 7 * 3600),
            ("From user Wed Dec  2 05:53:22 1992 +0000\n", UTC + 22),
            ("From user Wed Dec  2 05:53:22 1992 remote from some.host\n", UTC - 3600 + 22),
            ("From a user with spaces Wed Dec 02 05:53:22 1992\n", UTC - 3600 + 22),
        ] {
            assert_eq!(at(line), Some(expected), "{line:?}");
        }
    }

    #[test]
    fn a_date_that_is_none_still_separates_and_is_1970() {
        for line in [
            "From user Xxx Xxx xx 05:53:22 1992\n",
            "From user Wed Dec 32 05:53:22 1992\n",
            "From user Wed Dec  2 25:53:22 1992\n",
            "From user Wed Dec  2 05:53:22 year\n",
            "From user Wed Dec  2 05:53:22 1960\n",
        ] {
            assert_eq!(at(line), Some(0), "{line:?}");
        }
    }

    #[test]
    fn other_lines_are_no_separators() {
        for line in [
            "From user Wed Dec  2 05:53:22 1992 remote\n",
            "From user Wed Dec 2 05:53:22 1992\n",
            "From user, Wed 2 Dec 1992\n",
            "From you I had expected more than this.\n",
            "From user Wed Dec  2 05:53:22 1992",
            "From u\0er Wed Dec  2 05:53:22 1992\n",
            "From Wed Dec  2 05:53 1992\n",
            "from user Wed Dec  2 05:53:22 1992\n",
            ">From user Wed Dec  2 05:53:22 1992\n",
            "From \n",
            "\n",
            "",
        ] {
            assert_eq!(at(line), None, "{line:?}");
        }
    }

    #[test]
    fn qpopper_takes_the_cr_for_a_part_of_the_line() {
        assert!(parse(b"From user Wed Dec  2 05:53:22 1992\r\n", false).is_none());
        assert!(parse(b"From user Wed Dec  2 05:53:22 1992\n", false).is_some());
    }
}
