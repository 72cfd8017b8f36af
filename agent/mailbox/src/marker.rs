//! The marker `mailready-marker`: the per-user semaphore, written complete before the commit.
use crate::{Error, Result, RunId};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Its name in the Maildir.
pub const NAME: &str = "mailready-marker";

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The run that made the Maildir.
    pub run: RunId,
    /// One a mailbox.
    pub sources: Vec<MarkerSource>,
}

/// One mailbox in the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerSource {
    /// `INBOX` or the folder's UTF-8 name.
    pub name: String,
    /// Bytes of the mbox that the Maildir holds.
    pub length: u64,
    /// Messages.
    pub messages: u64,
    /// blake3 of those bytes.
    pub hash: [u8; 32],
    /// UIDVALIDITY at the commit.
    pub uid_validity: u32,
    /// UIDNEXT at the commit.
    pub uid_next: u32,
    /// Where the mbox was.
    pub path: PathBuf,
}

impl Marker {
    /// Reads the marker of a Maildir. `None` where there is none.
    pub fn read(_maildir: BorrowedFd<'_>) -> Result<Option<Marker>> {
        Err(Error::Cancelled)
    }
}
