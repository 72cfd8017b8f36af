//! The stage: a complete Maildir in a private folder.
use crate::marker::Marker;
use crate::{Error, Known, OnProgress, Result, Rules, RunId};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Which mailbox, in whose words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `INBOX` or the folder's UTF-8 name.
    pub name: String,
    /// Where the mbox is; for the marker and for error messages only, never opened.
    pub path: PathBuf,
}

/// How what was written reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncHow {
    /// One `syncfs` at the end: fastest, but waits for everybody's dirty pages. Right for `convert-file`.
    SyncFs,
    /// Each file by itself, writeback started early by a few threads. Right for an arrival on a busy disk.
    PerFile,
}

/// What a stage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Messages (the pseudo message is none).
    pub messages: u64,
    /// Bytes of the mbox that the stage holds.
    pub length: u64,
    /// blake3 of those bytes.
    pub hash: [u8; 32],
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// Offset of the last message's From_ line; `length` where there is no message.
    pub last_message: u64,
}

/// A Maildir under construction below a work folder, `stage-RUNID`. Dropping it leaves the folder; see [`Stage::remove`].
#[derive(Debug)]
pub struct Stage {
    folder: OwnedFd,
    summary: Summary,
}

impl Stage {
    /// Reads `mbox` (by `pread`, to the end it had when this began) into a new folder `stage-RUNID` below `work` and syncs it.
    /// No lock is needed: what changes meanwhile is found by the look afterwards.
    #[allow(clippy::too_many_arguments, reason = "placeholder")]
    pub fn write(
        _mbox: BorrowedFd<'_>,
        _work: BorrowedFd<'_>,
        _run: &RunId,
        _source: &Source,
        _known: &Known,
        _rules: &Rules,
        _sync: SyncHow,
        _progress: OnProgress<'_>,
    ) -> Result<Stage> {
        Err(Error::Cancelled)
    }

    /// The name of the folder below the work folder: `stage-RUNID`.
    pub fn name(run: &RunId) -> String {
        format!("stage-{run}")
    }

    /// The Maildir to be.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// What it holds.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Takes what was appended to the mbox since. Costs the rest and the last message before it, not the mailbox.
    /// The caller has made sure that the bytes before are the same ones. Nothing new: nothing is done.
    pub fn append_rest(&mut self, _mbox: BorrowedFd<'_>, _progress: OnProgress<'_>) -> Result<()> {
        Err(Error::Cancelled)
    }

    /// Writes the marker and syncs whatever is not yet on disk: after this the rename is all that is missing.
    pub fn seal(&mut self) -> Result<Marker> {
        Err(Error::Cancelled)
    }

    /// Removes the stage of a run below its work folder; no stage there is no error.
    pub fn remove(_work: BorrowedFd<'_>, _run: &RunId) -> Result<()> {
        Err(Error::Cancelled)
    }
}
