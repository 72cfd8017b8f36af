//! Lengths of time as people write them: `500ms`, `20s`, `5m`, `12h`, `30d`; one number, one unit.

use std::time::Duration;

const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a length of time such as `20s`. None: not of this form, or more than a century.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let millis = number.parse::<u64>().ok()?.checked_mul(*millis)?;
    (millis <= 36_500 * 86_400_000).then(|| Duration::from_millis(millis))
}

/// Writes a length of time in the largest unit that keeps it exact.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, size) = UNITS
        .iter()
        .rev()
        .find(|(_, size)| millis >= u128::from(*size) && millis.is_multiple_of(u128::from(*size)))
        .unwrap_or(&("s", 1000));
    format!("{}{unit}", millis / u128::from(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_one_number_and_one_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("20s"), Some(Duration::from_secs(20)));
        assert_eq!(parse_duration("12h"), Some(Duration::from_secs(43_200)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for bad in
            ["", "20", "s", "-1s", "1.5h", "1h30m", "20 s", "20S", "99999999999999999999s", "99999999d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["500ms", "20s", "90s", "12h", "30d", "0s", "61m"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }
}
