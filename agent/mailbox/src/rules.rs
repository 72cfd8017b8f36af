//! Whose rules hold: the server that presents the mbox today, its time zone, and what it knows besides the file.

use crate::{Error, Result};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::io;

/// The server that presents the mbox today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Server {
    /// Dovecot 2.3 and 2.4.
    #[default]
    Dovecot,
    /// UW imapd and ipop3d, Alpine.
    Uw,
    /// qpopper.
    Qpopper,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Server::Dovecot => "dovecot",
            Server::Uw => "uw",
            Server::Qpopper => "qpopper",
        })
    }
}

/// The time zone of the server's process: a From_ line without a zone is local time there (formats.md 1.3).
///
/// Loaded once, before a sandbox closes the files it comes from; it never looks at them again.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of this process (`TZ`, else `/etc/localtime`, else UTC: as the C library does).
    pub fn local() -> Self {
        Zone(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// Universal time.
    pub fn utc() -> Self {
        Zone(TimeZone::UTC)
    }

    /// A zone by name (`Europe/Berlin`) or POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`); an empty name is [`Zone::local`].
    pub fn named(name: &str) -> Result<Self> {
        let name = name.strip_prefix(':').unwrap_or(name);
        if name.is_empty() {
            return Ok(Zone::local());
        }
        TimeZone::get(name).or_else(|e| TimeZone::posix(name).map_err(|_| e)).map(Zone).map_err(|e| {
            Error::Io {
                doing: "find time zone",
                path: name.into(),
                source: io::Error::new(io::ErrorKind::NotFound, e.to_string()),
            }
        })
    }

    /// `mktime`: local civil time, given as seconds since 1970 by the local clock, to unix seconds.
    ///
    /// An hour that comes twice is the later one, an hour that is skipped lies as far behind the gap as it would lie in it. The C
    /// library decides the former by what it was asked before; no rule can follow that.
    pub(crate) fn local_to_unix(&self, local: i64) -> Option<i64> {
        let civil =
            DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::from_secs(local)).ok()?;
        let offset = match self.0.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } => before,
            AmbiguousOffset::Fold { after, .. } => after,
        };
        let unix = local - i64::from(offset.seconds());
        Timestamp::from_second(unix).ok().map(|t| t.as_second()).filter(|t| *t != -1)
    }
}

/// Rules for reading an mbox.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whose rules.
    pub server: Server,
    /// Where that server's clock is.
    pub zone: Zone,
}

impl Rules {
    /// Only Dovecot's rules are known yet.
    pub(crate) fn check(&self) -> Result<()> {
        match self.server {
            Server::Dovecot => Ok(()),
            other => Err(Error::NotYet(other)),
        }
    }
}

/// What the server knows beside the file: its index. All optional; what the mbox itself says goes first, and where the file's
/// UIDVALIDITY is another one, the index is out of date and counts for nothing.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// UIDVALIDITY of an mbox that does not say it itself. Without either: the present time, as Dovecot does.
    pub uid_validity: Option<u32>,
    /// Lowest UID that has never been given out.
    pub uid_next: Option<u32>,
    /// Keywords the index knows besides X-IMAPbase.
    pub keywords: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_follows_the_zone_and_its_summer_time() {
        let berlin = Zone::named("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(berlin.local_to_unix(0), Some(-3600));
        let july = 1_751_371_200; // 2025-07-01 12:00:00 as civil seconds
        assert_eq!(berlin.local_to_unix(july), Some(july - 7200));
        // 2025-03-30 02:30 does not exist, 2025-10-26 02:30 comes twice.
        assert_eq!(berlin.local_to_unix(1_743_301_800), Some(1_743_301_800 - 3600));
        assert_eq!(berlin.local_to_unix(1_761_445_800), Some(1_761_445_800 - 3600));
    }

    #[test]
    fn a_zone_that_does_not_exist_is_an_error_that_names_it() {
        assert!(Zone::named("Mars/Olympus").unwrap_err().to_string().contains("Mars/Olympus"));
    }
}
