//! The mbox's own locks, for [`convert_file`](crate::convert_file): dotlock, then the kernel's (formats.md 5).
//!
//! Other programs take the two in either order, so neither is waited for while the other is held: try both, and if one is not to be
//! had give up both and come back later. The kernel lock is a read lock on the open file description: whoever writes waits, other
//! readers do not, and no stray close drops it.

use crate::{Error, Result, RunId};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The locks held; dropping it gives them up.
#[derive(Debug)]
pub(crate) struct Locks {
    /// `None` where the folder does not let us make one.
    dotlock: Option<Dotlock>,
}

#[derive(Debug)]
struct Dotlock {
    folder: OwnedFd,
    name: String,
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        // What cannot be removed names our process, and is stale once that has ended.
        let _ = unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

impl Locks {
    /// Whether there is a dotlock.
    pub(crate) fn has_dotlock(&self) -> bool {
        self.dotlock.is_some()
    }

    /// Takes the locks of `mbox`, which is `path`, and tries for at most `wait`.
    pub(crate) fn take(mbox: &File, path: &Path, run: &RunId, wait: Duration) -> Result<Locks> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|n| n.to_str());
        let deadline = Instant::now() + wait;
        loop {
            let holder = match Self::try_both(mbox, folder, name, run)? {
                Ok(locks) => return Ok(locks),
                Err(holder) => holder,
            };
            if Instant::now() + PAUSE > deadline {
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Both or neither; `Err` inside says who is in the way.
    fn try_both(
        mbox: &File,
        folder: &Path,
        name: Option<&str>,
        run: &RunId,
    ) -> Result<Result<Locks, String>> {
        let dotlock = match name {
            None => None,
            Some(name) => match Dotlock::make(folder, name, run)? {
                Ok(dotlock) => dotlock,
                Err(holder) => return Ok(Err(holder)),
            },
        };
        Ok(lock_for_reading(mbox.as_fd()).map(|()| Locks { dotlock }).map_err(|e| match e {
            Errno::EAGAIN | Errno::EACCES => "a program that holds its kernel lock".to_owned(),
            e => format!("nobody, but the kernel refuses a lock ({e})"),
        }))
    }
}

fn lock_for_reading(mbox: BorrowedFd<'_>) -> nix::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(mbox, FcntlArg::F_OFD_SETLK(&whole)).map(drop)
}

impl Dotlock {
    /// `Ok(None)`: the folder does not let us.
    fn make(folder: &Path, mbox: &str, run: &RunId) -> Result<Result<Option<Dotlock>, String>> {
        let dir =
            nix::fcntl::open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(Error::io("open folder", folder))?;
        let name = format!("{mbox}.lock");
        let shown: PathBuf = folder.join(&name);
        // The content has to be there the moment the name is, so it is written elsewhere and linked.
        let hitch = format!(".{mbox}.mailready-{}", run.random());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let readable = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
        let mut file = match openat(&dir, hitch.as_str(), flags, readable) {
            Ok(fd) => File::from(fd),
            Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) => return Ok(Ok(None)),
            Err(e) => return Err(Error::io("create", folder.join(&hitch))(e)),
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let written = write!(file, "{}:{}", std::process::id(), host.trim_end());
        let linked = written
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
            .and_then(|()| linkat(&dir, hitch.as_str(), &dir, name.as_str(), AtFlags::empty()));
        let _ = unlinkat(&dir, hitch.as_str(), UnlinkatFlags::NoRemoveDir);
        match linked {
            Ok(()) => Ok(Ok(Some(Dotlock { folder: dir, name }))),
            Err(Errno::EEXIST) => Ok(Err(holder(&dir, &name, &shown))),
            Err(e) => Err(Error::io("create", shown)(e)),
        }
    }
}

/// Who made a dotlock, as far as it tells. Stale ones are left to the deliverers, who know their own rules.
fn holder(dir: &OwnedFd, name: &str, shown: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = crate::dir::open_file(dir, name) {
        // Unreadable: then it does not tell.
        let _ = file.take(80).read_to_string(&mut text);
    }
    let who: String = text.chars().filter(|c| c.is_ascii_graphic()).collect();
    match who.is_empty() {
        true => format!("{}", shown.display()),
        false => format!("{} (made by {who})", shown.display()),
    }
}
