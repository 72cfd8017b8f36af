//! Dovecot's index is carried over as it is.
//!
//! Its format is the same for every mailbox format, and it identifies messages by UIDVALIDITY and UID, which stay. So a copy in the
//! Maildir is taken for its own, and with it everything that is nowhere else: the mod-sequences of mailbox and messages, by which
//! clients with CONDSTORE or QRESYNC ask for what has changed (RFC 7162), \Recent, keywords beyond those that a Maildir has
//! letters for, and the cache, without which the first client would have every message read again.
//!
//! Copied while Dovecot may write them: that they belong together, and to the mbox, is for the caller to find out, who looks at
//! them before, and under Dovecot's own lock again.

use crate::durable::Syncer;
use crate::{Error, Result, SyncHow, dir};
use std::os::fd::BorrowedFd;

const LOG: &str = "dovecot.index.log";

/// All files of an index. The log is what makes it one: the others can be made from it, or are only for speed.
pub const FILES: [&str; 4] = [LOG, "dovecot.index.log.2", "dovecot.index", "dovecot.index.cache"];

/// An index was carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Index {
    /// It says that it has seen the Maildir ([`crate::index_note`]), in what stands in its log behind this length.
    pub(crate) noted: Option<u64>,
}

/// Copies the index in `from` to the folder `to`, in place of what is there, and makes it durable: from an mbox's side to a Maildir's or
/// back. `false`: there is none, and none is left.
pub fn carry(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool> {
    let syncer = Syncer::new(SyncHow::PerFile);
    let carried = copy(from, to, &syncer)?;
    syncer.wait()?;
    Ok(carried.is_some())
}

/// [`carry`], not durable before the syncer says so.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, syncer: &Syncer) -> Result<Option<Index>> {
    remove(to)?;
    let is_file = |file: &std::fs::File| file.metadata().is_ok_and(|m| m.is_file());
    let mut log = dir::find_file(from, LOG)?.filter(is_file);
    if log.is_none() {
        return Ok(None);
    }
    for name in FILES {
        // The log may be gone by the time, for a new one: then the look afterwards finds that out.
        let old = match log.take() {
            Some(log) => Some(log),
            None => dir::find_file(from, name)?,
        };
        let Some(old) = old.filter(is_file) else { continue };
        let mut new = dir::create_file(to, name)?;
        std::io::copy(&mut &old, &mut new).map_err(Error::io("copy", name))?;
        syncer.take(new);
    }
    syncer.take(dir::open(to, ".")?);
    Ok(Some(Index::default()))
}

/// Removes what an earlier copy has left.
pub(crate) fn remove(folder: BorrowedFd<'_>) -> Result<()> {
    FILES.iter().try_for_each(|name| dir::unlink_if_there(folder, name))
}
