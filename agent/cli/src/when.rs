//! Times as people write and read them, local.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use mailready_config::{parse_duration, show_duration};

/// Unix seconds now.
pub(crate) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// Reads `12h`, `30d`, `2027-01-31`, `2027-01-31 18:00`: unix seconds after `now`. Dates are local and mean their beginning.
pub(crate) fn parse_until(text: &str, now: u64) -> Result<u64, String> {
    let until = match parse_duration(text) {
        Some(duration) => now.saturating_add(duration.as_secs()),
        None => local(text).ok_or_else(|| {
            format!("{text:?} is no time: 12h, 30d, 2027-01-31 and \"2027-01-31 18:00\" are")
        })?,
    };
    if until <= now {
        return Err(format!("{text:?} is not in the future"));
    }
    Ok(until)
}

fn local(text: &str) -> Option<u64> {
    // A year that is not four digits is a slip (`27-01-31`), not the year 27.
    let bytes = text.as_bytes();
    if bytes.len() < 10 || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let time: DateTime = text.parse().ok()?;
    u64::try_from(time.to_zoned(TimeZone::system()).ok()?.timestamp().as_second()).ok()
}

/// `2026-11-22 01:44`, local.
pub(crate) fn show(unix_seconds: u64) -> String {
    let time = i64::try_from(unix_seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    match time {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        None => format!("second {unix_seconds}"),
    }
}

/// How long ago, in the largest unit that is not zero: `3h`; `just now` below a second.
pub(crate) fn ago(unix_seconds: u64, now: u64) -> String {
    let seconds = now.saturating_sub(unix_seconds);
    let unit = [86_400, 3600, 60, 1].into_iter().find(|unit| seconds >= *unit);
    match unit {
        Some(unit) => {
            let whole =
                SignedDuration::from_secs(i64::try_from(seconds - seconds % unit).unwrap_or(i64::MAX));
            format!("{} ago", show_duration(whole.unsigned_abs()))
        }
        None => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_count_from_now() {
        assert_eq!(parse_until("12h", 1_000_000), Ok(1_000_000 + 43_200));
        assert_eq!(parse_until("30d", 0), Ok(2_592_000));
        assert!(parse_until("0s", 5).is_err());
    }

    #[test]
    fn dates_are_local_and_in_the_future() {
        let until = parse_until("2027-01-31 18:00", 0).unwrap();
        assert_eq!(show(until), "2027-01-31 18:00");
        assert_eq!(show(parse_until("2027-01-31", 0).unwrap()), "2027-01-31 00:00");
        assert!(parse_until("2020-01-31", now()).unwrap_err().contains("future"));
        for bad in ["", "tomorrow", "31.1.2027", "27-01-31", "2027-13-01", "2027-02-30", "18:00"] {
            assert!(parse_until(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        assert_eq!(ago(100, 100), "just now");
        assert_eq!(ago(100, 159), "59s ago");
        assert_eq!(ago(0, 3 * 3600 + 59), "3h ago");
        assert_eq!(ago(0, 49 * 3600), "2d ago");
    }
}
