//! The locks of a spool: dotlock, kernel locks, and the lease that says that nobody else has it open.
//!
//! Programs take these in every order, so none is ever waited for while another is held: all are tried, and on the first refusal all are let go of.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mailready_worker::RunId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat, write};

use super::{Result, Spool};
use crate::flow::file_lease::FileLease;

/// The kinds of lock that the site's programs go by (`mail.locks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow) struct LockSet {
    pub(in crate::flow) dotlock: bool,
    pub(in crate::flow) fcntl: bool,
    pub(in crate::flow) flock: bool,
}

impl Spool {
    /// Takes the site's locks and the lease on `file`, trying again until the deadline; never waits on one while it holds another.
    pub(in crate::flow) fn lock<'fd, 'spool>(
        &'spool self,
        file: &'fd OwnedFd,
        run: &RunId,
        pid: u32,
        set: LockSet,
        patience: Duration,
        step: Note<'spool>,
    ) -> Result<Option<Locked<'fd, 'spool>>> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(locked) = self.try_lock(file, run, pid, set, step)? {
                return Ok(Some(locked));
            }
            if Instant::now() + pause > deadline {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(160));
        }
    }

    fn try_lock<'fd, 'spool>(
        &'spool self,
        file: &'fd OwnedFd,
        run: &RunId,
        pid: u32,
        set: LockSet,
        step: Note<'spool>,
    ) -> Result<Option<Locked<'fd, 'spool>>> {
        let dotlock = if set.dotlock {
            step("dotlock");
            match self.try_dotlock(run, pid)? {
                Some(dotlock) => Some(dotlock),
                None => return Ok(None),
            }
        } else {
            None
        };
        let unlocking = Unlocking(step);
        step("lock");
        let kernel = KernelLock { file: file.as_fd(), set };
        match kernel.take() {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(self.at_spool("lock")(errno)),
        }
        step("lease");
        match FileLease::try_take(file).map_err(self.at_spool("take a lease on"))? {
            Some(lease) => {
                Ok(Some(Locked { _unlocking: unlocking, lease, _kernel: kernel, _dotlock: dotlock }))
            }
            None => Ok(None),
        }
    }

    fn dotlock_name(&self) -> CString {
        let mut name = self.name.to_bytes().to_vec();
        name.extend_from_slice(b".lock");
        // Made of a C string and a literal: no NUL.
        CString::new(name).unwrap_or_default()
    }

    fn try_dotlock(&self, run: &RunId, pid: u32) -> Result<Option<Dotlock<'_>>> {
        let ours = format!("{run}.lock");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.archive, ours.as_str(), flags, Mode::from_bits_truncate(0o644))
            .map_err(self.in_archive("create", &ours))?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        let text = format!("{pid}:{}", host.to_string_lossy());
        let theirs = self.dotlock_name();
        // From here on it goes with this value, linked or not.
        let dotlock = Dotlock { spool: self, ours, theirs };
        write(&file, text.as_bytes()).map_err(self.in_archive("write", &dotlock.ours))?;
        let (ours, theirs) = (dotlock.ours.as_str(), dotlock.theirs.as_c_str());
        match linkat(&self.archive, ours, &self.folder, theirs, AtFlags::empty()) {
            Ok(()) => Ok(Some(dotlock)),
            Err(Errno::EEXIST) => Ok(None),
            Err(errno) => Err(self.at_spool("make the dotlock of")(errno)),
        }
    }

    /// Removes the dotlock of a run whose agent and worker are dead, if the one that stands is that run's.
    pub(in crate::flow) fn remove_dead_dotlock(&self, run: &RunId) -> Result<bool> {
        let ours = format!("{run}.lock");
        let mine = match fstatat(&self.archive, ours.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(self.in_archive("look at", &ours)(errno)),
        };
        let theirs = self.dotlock_name();
        let standing = fstatat(&self.folder, theirs.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        let found = standing.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (mine.st_dev, mine.st_ino));
        self.remove_dotlock(&ours, &theirs).map_err(self.at_spool("remove the dotlock of"))?;
        Ok(found)
    }
}

/// Is told each step before it is taken.
pub(in crate::flow) type Note<'a> = &'a dyn Fn(&'static str);

/// Tells of the step `unlock` before the locks are dropped, wherever that happens.
struct Unlocking<'a>(Note<'a>);

impl Drop for Unlocking<'_> {
    fn drop(&mut self) {
        (self.0)("unlock");
    }
}

/// All of a mailbox's locks; dropped in the reverse order of taking: lease, kernel lock, dotlock.
pub(in crate::flow) struct Locked<'fd, 'spool> {
    _unlocking: Unlocking<'spool>,
    lease: FileLease<'fd>,
    _kernel: KernelLock<'fd>,
    _dotlock: Option<Dotlock<'spool>>,
}

impl Locked<'_, '_> {
    /// Whether nobody has tried to open the file since it was locked.
    pub(in crate::flow) fn is_untouched(&self) -> bool {
        self.lease.is_untouched()
    }
}

/// Kernel locks on the spool's description, so that closing some other descriptor of the file drops nothing.
struct KernelLock<'fd> {
    file: BorrowedFd<'fd>,
    set: LockSet,
}

impl KernelLock<'_> {
    fn take(&self) -> nix::Result<()> {
        if self.set.fcntl {
            self.ofd(libc::F_WRLCK)?;
        }
        if self.set.flock {
            #[expect(
                deprecated,
                reason = "the owning type of nix would take the descriptor, which the worker shares"
            )]
            nix::fcntl::flock(
                std::os::fd::AsRawFd::as_raw_fd(&self.file),
                nix::fcntl::FlockArg::LockExclusiveNonblock,
            )?;
        }
        Ok(())
    }

    fn ofd(&self, kind: libc::c_int) -> nix::Result<()> {
        let whole = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(self.file, FcntlArg::F_OFD_SETLK(&whole)).map(drop)
    }
}

impl Drop for KernelLock<'_> {
    fn drop(&mut self) {
        // Unlocking what is not locked does nothing; the descriptor's end would do the same later.
        let _ = self.ofd(libc::F_UNLCK);
        if self.set.flock {
            #[expect(deprecated, reason = "as in `take`")]
            let _ =
                nix::fcntl::flock(std::os::fd::AsRawFd::as_raw_fd(&self.file), nix::fcntl::FlockArg::Unlock);
        }
    }
}

/// The spool's dotlock, a link of `RUNID.lock`.
struct Dotlock<'spool> {
    spool: &'spool Spool,
    ours: String,
    theirs: CString,
}

impl Spool {
    /// The end in the archive folder goes last: it alone says that the other one is ours.
    fn remove_dotlock(&self, ours: &str, theirs: &CStr) -> nix::Result<()> {
        let (archive, folder) = (&self.archive, &self.folder);
        let identity = |stat: FileStat| (stat.st_dev, stat.st_ino);
        let mine = fstatat(archive, ours, AtFlags::AT_SYMLINK_NOFOLLOW).map(identity);
        let standing = fstatat(folder, theirs, AtFlags::AT_SYMLINK_NOFOLLOW).map(identity);
        // Somebody who found the lock stale may have put his own there.
        if mine.is_ok() && mine == standing {
            unlinkat(folder, theirs, UnlinkatFlags::NoRemoveDir)?;
        }
        match unlinkat(archive, ours, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Dotlock<'_> {
    fn drop(&mut self) {
        if let Err(errno) = self.spool.remove_dotlock(&self.ours, &self.theirs) {
            tracing::error!("{}", self.spool.at_spool("remove the dotlock of")(errno));
            self.spool.dotlock_left.set(true);
        }
    }
}
