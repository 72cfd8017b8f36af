//! The look: what must still hold under the locks for the stage to be the mailbox.
//!
//! Device, inode, size, mtime and ctime of each mbox and of Dovecot's index files for it. Times are compared for equality only; the agent lets one tick
//! of the file system's clock pass between look and lock, so that a change in the same tick cannot hide.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mailready_mailbox::index;
use mailready_mailbox::layout::INBOX;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::file::{self, Identity};

/// The file that carries Dovecot's own lock on an index.
const LOG: &str = "dovecot.index.log";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    identity: Identity,
    pub(crate) size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Seen {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self {
            identity: Identity::from(stat),
            // Never negative for a regular file.
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub(crate) fn at(file: impl AsFd) -> nix::Result<Self> {
        fstat(file).map(|stat| Self::of(&stat))
    }

    pub(crate) fn same_file(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }
}

/// Dovecot's index files of one mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexLook([Option<Seen>; index::FILES.len()]);

impl IndexLook {
    /// `folder`: as [`index_folder`] opened it.
    pub(crate) fn at(folder: Option<BorrowedFd<'_>>) -> nix::Result<Self> {
        let mut index = [None; index::FILES.len()];
        if let Some(folder) = folder {
            for (seen, name) in index.iter_mut().zip(index::FILES) {
                *seen = file::glance(folder, name)?.map(|stat| Seen::of(&stat));
            }
        }
        Ok(Self(index))
    }

    /// Dovecot has an index here, so it may hold changes that the mbox does not have yet.
    pub(crate) fn is_there(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

/// One mailbox at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) mbox: Seen,
    pub(crate) index: IndexLook,
}

/// Dovecot's index folder of a mailbox, relative to the index root: `a/b/.imap/c` for the folder `a/b/c`. `path`: the mbox's below its root, `None` for the inbox.
pub(crate) fn index_path(path: Option<&Path>) -> PathBuf {
    let path = path.unwrap_or(Path::new(INBOX));
    let above = path.parent().unwrap_or(Path::new(""));
    above.join(".imap").join(path.file_name().unwrap_or(OsStr::new("")))
}

/// Opens it; `None`: there is none.
pub(crate) fn index_folder(
    root: Option<BorrowedFd<'_>>,
    path: Option<&Path>,
) -> nix::Result<Option<OwnedFd>> {
    match root {
        Some(root) => file::folder_at(root, &index_path(path)),
        None => Ok(None),
    }
}

/// Dovecot's own lock on a transaction log, held until dropped: a session that slipped through waits instead of acknowledging a flag that would be lost.
#[derive(Debug)]
pub(crate) struct IndexLock(#[expect(dead_code, reason = "held, never read")] Option<OwnedFd>);

impl IndexLock {
    /// Takes it without waiting; `Ok(None)` if somebody has it. Where there is no log there is nothing to lock.
    pub(crate) fn try_take(folder: Option<BorrowedFd<'_>>) -> nix::Result<Option<Self>> {
        let Some(folder) = folder else { return Ok(Some(Self(None))) };
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let log = match openat(folder, LOG, flags, Mode::empty()) {
            Ok(log) => log,
            Err(Errno::ENOENT) => return Ok(Some(Self(None))),
            Err(errno) => return Err(errno),
        };
        match ofd_write_lock(&log) {
            Ok(()) => Ok(Some(Self(Some(log)))),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// A write lock on the open file description, which no stray close drops.
pub(crate) fn ofd_write_lock(fd: &impl AsFd) -> nix::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_folder_lies_beside_it() {
        assert_eq!(index_path(None), Path::new(".imap/INBOX"));
        assert_eq!(index_path(Some(Path::new("Sent"))), Path::new(".imap/Sent"));
        assert_eq!(index_path(Some(Path::new("a/b/c"))), Path::new("a/b/.imap/c"));
    }
}
