//! The look: what must still hold under the locks for the stage to be the mailbox.
//!
//! Device, inode, size, mtime and ctime of the spool and of Dovecot's index files for it. Times are compared for equality only; the agent lets one tick
//! of the file system's clock pass between look and lock, so that a change in the same tick cannot hide.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use crate::Stop;
use crate::place::Place;
use crate::wire::Step;

/// Dovecot's index of the inbox below the mbox root (formats.md 2.2).
pub(crate) const INDEX_FOLDER: &str = ".imap/INBOX";

/// Files there that say whether Dovecot knows something that the mbox does not.
const INDEX_FILES: [&str; 3] = ["dovecot.index", "dovecot.index.log", "dovecot.index.log.2"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    dev: u64,
    ino: u64,
    pub(crate) size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Seen {
    fn of(stat: &FileStat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            // Never negative for a regular file.
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// Dovecot's index files of the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexLook([Option<Seen>; INDEX_FILES.len()]);

impl IndexLook {
    pub(crate) fn at(place: &Place) -> Result<Self, Stop> {
        let mut index = [None; INDEX_FILES.len()];
        if let Some(folder) = index_folder(place)? {
            for (seen, name) in index.iter_mut().zip(INDEX_FILES) {
                *seen = match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(stat) => Some(Seen::of(&stat)),
                    Err(Errno::ENOENT) => None,
                    Err(errno) => return Err(Stop::errno(Step::Refresh, errno)),
                };
            }
        }
        Ok(Self(index))
    }

    /// Dovecot has an index here, so it may hold changes that the mbox does not have yet.
    pub(crate) fn is_there(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) spool: Seen,
    pub(crate) index: IndexLook,
}

impl Look {
    pub(crate) fn at(spool: &OwnedFd, place: &Place) -> Result<Self, Stop> {
        let spool = Seen::of(&fstat(spool).map_err(Stop::failed(Step::Refresh))?);
        Ok(Self { spool, index: IndexLook::at(place)? })
    }
}

fn index_folder(place: &Place) -> Result<Option<OwnedFd>, Stop> {
    let Some(root) = &place.folders else { return Ok(None) };
    match openat(root, INDEX_FOLDER, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Stop::errno(Step::Refresh, errno)),
    }
}

/// Dovecot's own lock on its transaction log, held until dropped: a session that slipped through waits instead of acknowledging a flag that would be lost.
pub(crate) struct IndexLocks(#[expect(dead_code, reason = "held, never read")] Vec<OwnedFd>);

/// Takes the lock on each `dovecot.index.log` without waiting; `Ok(None)` if somebody has one.
pub(crate) fn lock_index(place: &Place) -> Result<Option<IndexLocks>, Stop> {
    let Some(folder) = index_folder(place)? else { return Ok(Some(IndexLocks(Vec::new()))) };
    let log = match openat(
        &folder,
        "dovecot.index.log",
        OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(log) => log,
        Err(Errno::ENOENT) => return Ok(Some(IndexLocks(Vec::new()))),
        Err(errno) => return Err(Stop::errno(Step::Confirm, errno)),
    };
    match ofd_write_lock(&log) {
        Ok(()) => Ok(Some(IndexLocks(vec![log]))),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno) => Err(Stop::errno(Step::Confirm, errno)),
    }
}

fn ofd_write_lock(fd: &impl AsFd) -> nix::Result<()> {
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).map(drop)
}
