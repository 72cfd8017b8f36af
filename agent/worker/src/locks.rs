//! The locks of a folder's mbox: dotlock, kernel locks, and the lease that says that nobody else has it open.
//!
//! Programs take these in every order, so none is ever waited for: all are tried, and on the first refusal all are let go of. The dotlock is a link of one file in the work folder,
//! `lock-RUNID`, which holds the worker's `PID:HOST`: so it is whole the moment it appears, and after a crash its inode says that it is ours.

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use mailready_mailbox::RunId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};

use crate::convert;
use crate::file::{self, Identity};
use crate::job::Locks;
use crate::lease::Lease;
use crate::look::ofd_write_lock;

/// The work folder's end of all dotlocks of a run.
#[derive(Debug)]
pub(crate) struct LockFile {
    work: OwnedFd,
    name: String,
    identity: Identity,
}

impl LockFile {
    fn name(run: &RunId) -> String {
        format!("lock-{run}")
    }

    /// Makes it anew, synced: whatever dotlock exists from now on can be told after a crash.
    ///
    /// `EBUSY`: one stands to which a dotlock is still linked, since that could not be removed.
    pub(crate) fn create(work: BorrowedFd<'_>, run: &RunId, host: &str) -> nix::Result<Self> {
        let name = Self::name(run);
        Self::remove(work, run)?;
        let text = format!("{}:{host}", std::process::id());
        let readable = Mode::from_bits_truncate(0o644);
        let opened = file::write_small(work, &name, text.as_bytes(), readable)?;
        fsync(work)?;
        let identity = Identity::from(&fstat(&opened)?);
        Ok(Self { work: openat(work, ".", file::FOLDER, Mode::empty())?, name, identity })
    }

    /// The one that a dead process of this run left behind, if any dotlock may still be linked to it.
    pub(crate) fn left_behind(work: BorrowedFd<'_>, run: &RunId) -> nix::Result<Option<Identity>> {
        let stat = file::glance(work, Self::name(run))?;
        Ok(stat.filter(|stat| stat.st_nlink > 1).map(|stat| Identity::from(&stat)))
    }

    /// Removes the work folder's end, unless a dotlock is still linked to it, which it alone makes known as ours: `EBUSY`.
    pub(crate) fn remove(work: BorrowedFd<'_>, run: &RunId) -> nix::Result<()> {
        if Self::left_behind(work, run)?.is_some() {
            return Err(Errno::EBUSY);
        }
        Self::forget(work, run)
    }

    /// Removes the work folder's end, whatever is linked to it, after the dotlocks have gone for good: what a power cut brought back without it, nobody would know for ours. Durable, since a record may say next that nothing is left.
    pub(crate) fn forget(work: BorrowedFd<'_>, run: &RunId) -> nix::Result<()> {
        for folder in UNLINKED.take() {
            fsync(&*folder)?;
        }
        match unlinkat(work, Self::name(run).as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(work),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

thread_local! {
    /// Directories in which dotlocks have been removed since they were last synced. Together, because many folders share a few; here, because locks are let go of wherever something goes wrong.
    static UNLINKED: RefCell<Vec<Rc<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

/// A dotlock that stands; gone when dropped.
#[derive(Debug)]
pub(crate) struct Dotlock {
    folder: Rc<OwnedFd>,
    name: CString,
    identity: Identity,
}

impl Dotlock {
    /// `NAME.lock` beside NAME; `Ok(None)`: there is one.
    pub(crate) fn try_make(lock: &LockFile, folder: &Rc<OwnedFd>, mbox: &CStr) -> nix::Result<Option<Self>> {
        let mut name = mbox.to_bytes().to_vec();
        name.extend_from_slice(b".lock");
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        match linkat(&lock.work, lock.name.as_str(), folder, name.as_c_str(), AtFlags::empty()) {
            Ok(()) => Ok(Some(Self { folder: Rc::clone(folder), name, identity: lock.identity })),
            Err(Errno::EEXIST) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        let standing = file::glance(self.folder.as_fd(), OsStr::from_bytes(self.name.to_bytes()));
        // Somebody who found the lock stale may have put his own there.
        let is_ours =
            standing.is_ok_and(|stat| stat.is_some_and(|stat| Identity::from(&stat) == self.identity));
        if is_ours
            && let Err(errno) = unlinkat(&self.folder, self.name.as_c_str(), UnlinkatFlags::NoRemoveDir)
        {
            // Known by the work folder's end of it, which stays too; the agent has both removed later.
            convert::stays_behind(&format!("the dotlock {:?} stays behind: {errno}", self.name));
        }
        UNLINKED.with_borrow_mut(|folders| {
            if !folders.iter().any(|folder| Rc::ptr_eq(folder, &self.folder)) {
                folders.push(Rc::clone(&self.folder));
            }
        });
    }
}

/// All locks of one mbox, and its open file; dropped in the reverse order of taking: lease, kernel lock (with the file), dotlock.
#[derive(Debug)]
pub(crate) struct Locked {
    lease: Lease,
    #[expect(dead_code, reason = "held, never read")]
    dotlock: Option<Dotlock>,
}

impl Locked {
    /// Takes all or none, at once. `file` is the only descriptor of the mbox in this process; `folder` and `name` are where it stands.
    pub(crate) fn try_take(
        set: Locks,
        lock: &LockFile,
        file: OwnedFd,
        folder: &Rc<OwnedFd>,
        name: &CStr,
    ) -> nix::Result<Option<Self>> {
        let dotlock = match set.dotlock {
            true => match Dotlock::try_make(lock, folder, name)? {
                Some(dotlock) => Some(dotlock),
                None => return Ok(None),
            },
            false => None,
        };
        let locked = kernel_locks(set, &file).and_then(|()| Lease::try_take(file));
        match locked {
            Ok(lease) => Ok(lease.map(|lease| Self { lease, dotlock })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.lease.file()
    }

    /// Whether nobody has tried to open the file since.
    pub(crate) fn is_untouched(&self) -> bool {
        self.lease.is_untouched()
    }
}

fn kernel_locks(set: Locks, file: &OwnedFd) -> nix::Result<()> {
    if set.fcntl {
        ofd_write_lock(file)?;
    }
    if set.flock {
        #[expect(deprecated, reason = "nix's owning type would take the descriptor, which the lease has")]
        nix::fcntl::flock(file.as_raw_fd(), nix::fcntl::FlockArg::LockExclusiveNonblock)?;
    }
    Ok(())
}
