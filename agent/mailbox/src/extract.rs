//! New mail out of a file that was an mbox's place: as message files in a folder.
use crate::{Error, Result, Rules, RunId};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Where the new mail begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin<'a> {
    /// Here: behind a tombstone, or at the length that was converted.
    At(u64),
    /// Decide by the file's content: behind our tombstone, behind the bytes that the marker's source holds, or, in a file that
    /// reappeared, whichever messages the receipt does not know. `maildir` is the committed Maildir with marker and receipt;
    /// `source` the name in them (`INBOX`).
    ByContent {
        /// The committed Maildir.
        maildir: BorrowedFd<'a>,
        /// Which source of its marker.
        source: &'a str,
    },
}

/// A flag difference that a reader wrote back into a file that reappeared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagMerge {
    /// UID in the receipt.
    pub uid: u32,
    /// Base name in the Maildir.
    pub file: String,
    /// Maildir flag letters that the file has now (keywords are not among them).
    pub flags: String,
}

/// What an extraction found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// Where new mail began.
    pub from: u64,
    /// Where it ended: the entry's position from now on.
    pub to: u64,
    /// Message files written.
    pub messages: u64,
    /// Messages known already whose flags differ.
    pub merges: Vec<FlagMerge>,
}

/// Splits the new mail in `source` up to `to` into message files in `drain` (an empty folder), each synced, and syncs the folder.
/// The names are those they will have in `new/`. Bytes in front of the first From_ line become a message of their own rather than
/// be lost; blank lines there do not. `entry` is the number N of `RUNID.N`, part of the names.
#[allow(clippy::too_many_arguments, reason = "placeholder")]
pub fn extract(
    _source: BorrowedFd<'_>,
    _path: &Path,
    _begin: Begin<'_>,
    _to: u64,
    _drain: BorrowedFd<'_>,
    _run: &RunId,
    _entry: u32,
    _rules: &Rules,
) -> Result<Extracted> {
    Err(Error::Cancelled)
}
