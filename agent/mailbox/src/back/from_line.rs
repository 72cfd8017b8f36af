//! From_ lines that Dovecot reads back as the very same second (formats.md 1.3).
//!
//! Deliverers write local time without a zone, and so do we: other readers of the mbox know nothing else. An hour that comes twice
//! a year cannot be said that way, and a zone is written only there. The line that a message had in the original mbox
//! is used again, if it still says the right second.

use crate::from_line::{Stamp, parse};
use crate::rules::{LocalTime, Zone};
use jiff::SignedDuration;
use jiff::civil::DateTime;

/// Who sent a message of which nobody knows it.
const NOBODY: &[u8] = b"MAILER-DAEMON";
/// A line longer than this is not used again.
pub(super) const LINE_MAX: usize = 1000;

/// The original line, with its line end, if it says `date` whatever stands around it.
pub(super) fn again(line: &[u8], date: i64, zone: &Zone) -> bool {
    let Some(text) = line.strip_prefix(b"From ").filter(|text| text.ends_with(b"\n")) else { return false };
    let one_line = memchr::memchr(b'\n', line) == Some(line.len() - 1);
    let Some(stamp) = parse(text).filter(|_| one_line) else { return false };
    says(stamp, date, zone) && (stamp.has_zone() || certain_offset(zone, date).is_some())
}

/// The sender of an original line.
pub(super) fn sender(line: &[u8]) -> Option<&[u8]> {
    let text = line.strip_prefix(b"From ")?;
    let sender = text.split(|b| b.is_ascii_whitespace()).next()?;
    is_sender(sender).then_some(sender)
}

/// The sender that a deliverer noted in the message: the first `Return-Path`, as far as `head` reaches.
pub(super) fn return_path(head: &[u8]) -> Option<&[u8]> {
    for line in head.split(|b| *b == b'\n') {
        if line.strip_suffix(b"\r").unwrap_or(line).is_empty() {
            return None;
        }
        let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
        if name.eq_ignore_ascii_case(b"Return-Path") {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let address = value.strip_prefix(b"<").and_then(|v| v.strip_suffix(b">")).unwrap_or(value);
            return is_sender(address).then_some(address);
        }
    }
    None
}

/// Something that every reader takes for one word.
fn is_sender(text: &[u8]) -> bool {
    !text.is_empty() && text.len() <= 320 && text[0] != b'"' && text.iter().all(|b| *b > b' ' && *b != 127)
}

/// A line for this date; `None`: there is no way to say it.
pub(super) fn make(sender: Option<&[u8]>, date: i64, zone: &Zone) -> Option<Vec<u8>> {
    let local = certain_offset(zone, date).map(|offset| (offset, ""));
    let candidates = local.into_iter().chain([(0, " +0000")]);
    candidates
        .filter_map(|(offset, suffix)| {
            let text = format!("  {}{suffix}\n", asctime(date.checked_add(offset)?)?);
            Some([b"From ", sender.unwrap_or(NOBODY), text.as_bytes()].concat())
        })
        .find(|line| parse(&line[5..]).is_some_and(|stamp| says(stamp, date, zone)))
}

fn says(stamp: Stamp, date: i64, zone: &Zone) -> bool {
    stamp.unix_seconds(&mut LocalTime::new(zone)) == date
}

/// The zone's offset at a moment, if the local time then comes only once: both ways of looking at it agree.
fn certain_offset(zone: &Zone, date: i64) -> Option<i64> {
    let offset = zone.offset_at(date)?;
    let local = date.checked_add(offset)?;
    // A day and more on either side lie the two offsets that an hour can have.
    [date - 7 * 86_400, date + 7 * 86_400, date]
        .into_iter()
        .all(|near| {
            let last_used = zone.offset_at(near).unwrap_or(offset);
            LocalTime::after(zone, last_used).unix_of(local) == Some(date)
        })
        .then_some(offset)
}

/// As the C library writes it: `Fri Nov  9 22:33:52 2001`.
fn asctime(local: i64) -> Option<String> {
    let at = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::from_secs(local)).ok()?;
    (0..=9999).contains(&at.year()).then(|| {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        format!(
            "{} {} {:2} {:02}:{:02}:{:02} {:04}",
            DAYS[at.weekday().to_monday_zero_offset() as usize],
            MONTHS[at.month() as usize - 1],
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.year()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn berlin() -> Zone {
        Zone::named("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn line(date: i64, zone: &Zone) -> String {
        String::from_utf8(make(None, date, zone).unwrap()).unwrap()
    }

    #[test]
    fn time_is_local_and_has_a_zone_only_where_it_must() {
        assert_eq!(line(1_005_345_232, &Zone::utc()), "From MAILER-DAEMON  Fri Nov  9 22:33:52 2001\n");
        assert_eq!(line(1_751_371_200, &berlin()), "From MAILER-DAEMON  Tue Jul  1 14:00:00 2025\n");
        // 2025-10-26 02:30 in Berlin, first time and second time.
        assert_eq!(line(1_761_438_600, &berlin()), "From MAILER-DAEMON  Sun Oct 26 00:30:00 2025 +0000\n");
        assert_eq!(line(1_761_442_200, &berlin()), "From MAILER-DAEMON  Sun Oct 26 01:30:00 2025 +0000\n");
        assert_eq!(make(None, -1, &Zone::utc()), None);
        assert_eq!(make(None, i64::MAX, &Zone::utc()), None);
    }

    #[test]
    fn an_original_line_is_used_again_only_if_it_says_the_same_second_everywhere() {
        let date = 1_005_345_232;
        assert!(again(b"From a@b Fri Nov  9 22:33:52 2001 remote from x\n", date, &Zone::utc()));
        assert!(again(b"From a@b Fri Nov  9 23:33:52 2001 +0100\r\n", date, &berlin()));
        assert!(!again(b"From a@b Fri Nov  9 22:33:52 2001\n", date, &berlin()));
        assert!(!again(b"From a@b Fri Nov  9 22:33:52 2001", date, &Zone::utc()));
        assert!(!again(b"From a \n12 Nov  9 22:33:52 2001\n", date, &Zone::utc()));
        // The hour that comes twice, by whatever reading.
        assert!(!again(b"From a@b Sun Oct 26 02:30:00 2025\n", 1_761_438_600, &berlin()));
        assert!(!again(b"From a@b Sun Oct 26 02:30:00 2025\n", 1_761_442_200, &berlin()));
    }

    #[test]
    fn senders_are_single_words() {
        assert_eq!(sender(b"From a@b  Fri"), Some(&b"a@b"[..]));
        assert_eq!(sender(b"From \"a b\"@c Fri"), None);
        assert_eq!(return_path(b"X: 1\r\nreturn-path: <a@b>\r\n\r\n"), Some(&b"a@b"[..]));
        for none in
            [&b"Return-Path: <>\n"[..], b"Return-Path: <a b@c>\n", b"\nReturn-Path: <a@b>\n", b"A: b\n", b""]
        {
            assert_eq!(return_path(none), None);
        }
    }

    proptest! {
        #[test]
        fn every_second_from_1970_on_comes_back(date in 0i64..100_000_000_000, sender in "[!#-~]{1,20}") {
            for zone in [Zone::utc(), berlin(), Zone::named("NZST-12NZDT,M9.5.0,M4.1.0/3").unwrap()] {
                let line = make(Some(sender.as_bytes()), date, &zone).unwrap();
                prop_assert!(again(&line, date, &zone), "{}", String::from_utf8_lossy(&line));
            }
        }

        #[test]
        fn and_so_does_every_second_around_a_change(minute in -200i64..200, summer in any::<bool>()) {
            let change = if summer { 1_743_296_400 } else { 1_761_440_400 };
            let date = change + minute * 60 + 7;
            for last in [0, 3600, 7200] {
                let line = make(None, date, &berlin()).unwrap();
                let stamp = parse(&line[5..]).unwrap();
                prop_assert_eq!(stamp.unix_seconds(&mut LocalTime::after(&berlin(), last)), date);
            }
        }
    }
}
