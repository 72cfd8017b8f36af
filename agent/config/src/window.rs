//! Times of day, such as `02:00-06:00`.

use std::fmt;

/// A span of local times of day; one that ends before it begins runs over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: u16,
    to: u16,
}

impl Window {
    /// Reads `HH:MM-HH:MM`. `24:00` is allowed as an end. Begin and end must differ: `00:00-24:00` is the whole day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from < 1440 && from != to).then_some(Self { from, to })
    }

    /// Whether a minute of the day (0..1440, local time) lies in it; the end does not.
    #[must_use]
    pub fn contains(self, minute_of_day: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute_of_day)
        } else {
            minute_of_day >= self.from || minute_of_day < self.to
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two =
        |s: &str| (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u16>().ok())?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= 1440).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_run_over_midnight() {
        let day = Window::parse("02:00-06:00").unwrap();
        assert!(day.contains(120) && day.contains(359) && !day.contains(360) && !day.contains(119));
        let night = Window::parse("22:30-06:00").unwrap();
        assert!(night.contains(1350) && night.contains(0) && !night.contains(360) && !night.contains(1349));
        assert!(Window::parse("00:00-24:00").unwrap().contains(1439));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "",
            "2:00-6:00",
            "02:00",
            "02:00-02:00",
            "24:00-01:00",
            "02:60-03:00",
            "25:00-26:00",
            "+2:00-03:00",
        ] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
        assert_eq!(Window::parse("02:00-06:05").unwrap().to_string(), "02:00-06:05");
    }
}
