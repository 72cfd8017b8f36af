//! Whose rules hold: the server that presents the mbox today, its time zone, and what it knows besides the file.

use crate::{Error, Result};
use std::fmt;

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
/// Loaded once, before a sandbox closes the files it comes from.
#[derive(Debug, Clone)]
pub struct Zone(());

impl Zone {
    /// The zone of this process (`TZ`, else `/etc/localtime`).
    pub fn local() -> Self {
        Zone(())
    }
    /// A zone by name (`Europe/Berlin`) or POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`); an empty name is [`Zone::local`].
    pub fn named(_name: &str) -> Result<Self> {
        Err(Error::Cancelled)
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

/// What the server knows beside the file: its index. All optional; what the mbox itself says goes first.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// UIDVALIDITY of an mbox that does not say it itself. Without either: the present time, as Dovecot does.
    pub uid_validity: Option<u32>,
    /// Lowest UID that has never been given out.
    pub uid_next: Option<u32>,
    /// Keywords the index knows besides X-IMAPbase.
    pub keywords: Vec<String>,
}
