//! Whose rules hold: the server that presents the mbox today, its time zone, and what it knows besides the file.

use crate::{Error, Result, Uidl};
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
}

impl Zone {
    /// Seconds east of UTC at a moment.
    pub(crate) fn offset_at(&self, unix: i64) -> Option<i64> {
        Some(i64::from(self.0.to_offset(Timestamp::from_second(unix).ok()?).seconds()))
    }
}

/// `mktime` of the C library, in the order in which a server asks it.
///
/// The order matters for one hour a year: of an hour that comes twice, the library takes the one whose offset it used last, because
/// it starts looking there. So mail before it decides how the mail in it is dated, and dates have to be asked for in the mbox's order.
#[derive(Debug)]
pub(crate) struct LocalTime<'z> {
    zone: &'z TimeZone,
    last_offset: i64,
}

impl<'z> LocalTime<'z> {
    /// As in a process that has just started.
    pub(crate) fn new(zone: &'z Zone) -> Self {
        Self::after(zone, 0)
    }

    /// As in a process that has used this offset last.
    pub(crate) fn after(zone: &'z Zone, last_offset: i64) -> Self {
        LocalTime { zone: &zone.0, last_offset }
    }

    /// The offset used last, in seconds east of UTC.
    pub(crate) fn last_offset(&self) -> i64 {
        self.last_offset
    }

    /// Local civil time, given as seconds since 1970 by the local clock, to unix seconds. An hour that is skipped lies as far
    /// behind the gap as it would lie in it.
    pub(crate) fn unix_of(&mut self, local: i64) -> Option<i64> {
        let civil =
            DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::from_secs(local)).ok()?;
        let offset = match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } => before,
            AmbiguousOffset::Fold { before, after } => {
                let start = Timestamp::from_second(local - self.last_offset).ok()?;
                if self.zone.to_offset(start) == before { before } else { after }
            }
        };
        self.last_offset = i64::from(offset.seconds());
        let unix = local - self.last_offset;
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
    /// Mail that came late is drained where an agent has converted, and that knows Dovecot alone.
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
    /// Messages in front of the first that is \Recent. Without it: those without `O` in their Status are. (Dovecot writes no `O` for what a session has
    /// seen; which messages are \Recent is in its index alone.)
    pub not_recent: Option<u64>,
    /// There is an index that is going to be carried over ([`Tree::carry_index`](crate::Tree::carry_index)): keywords beyond 26 are kept by it.
    pub index: bool,
    /// The GUID of the mailbox. Without it, a new one.
    pub mailbox_guid: Option<[u8; 16]>,
    /// How POP3 clients know the messages, where that would not follow from the server's settings any more. For INBOX only.
    pub uidl: Option<Uidl>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        Zone::named("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn local_time_follows_the_zone_and_its_summer_time() {
        let berlin = berlin();
        let mut local = LocalTime::new(&berlin);
        assert_eq!(local.unix_of(0), Some(-3600));
        let july = 1_751_371_200; // 2025-07-01 12:00:00 as civil seconds
        assert_eq!(local.unix_of(july), Some(july - 7200));
        // 2025-03-30 02:30 does not exist.
        assert_eq!(local.unix_of(1_743_301_800), Some(1_743_301_800 - 3600));
    }

    #[test]
    fn an_hour_that_comes_twice_goes_by_the_mail_before_it() {
        let berlin = berlin();
        let twice = 1_761_445_800; // 2025-10-26 02:30 as civil seconds
        let mut local = LocalTime::new(&berlin);
        assert_eq!(local.unix_of(twice), Some(twice - 3600), "nothing before it");
        local.unix_of(twice - 86_400);
        assert_eq!(local.unix_of(twice), Some(twice - 7200), "summer before it");
        local.unix_of(twice + 86_400);
        assert_eq!(local.unix_of(twice), Some(twice - 3600), "winter before it");
    }

    #[test]
    fn a_zone_that_does_not_exist_is_an_error_that_names_it() {
        assert!(Zone::named("Mars/Olympus").unwrap_err().to_string().contains("Mars/Olympus"));
    }
}
