//! `F_SETLEASE`: the kernel's word that nobody else has a file open, and that whoever tries to waits.
//!
//! No crate wraps it. A write lease is granted only while the one open file description that asks is the only one on the inode, and only to the file's owner; an open attempted while it is held blocks (at
//! most /proc/sys/fs/lease-break-time, 45 s) and makes `F_GETLEASE` answer something else than `F_WRLCK`.

#![expect(unsafe_code, reason = "fcntl commands that no crate wraps")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// `F_SETSIG` of the asm-generic fcntl.h, which the libc crate has for some targets only.
const F_SETSIG: libc::c_int = 10;

/// A file with its lease; given up, and the file closed, when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    file: OwnedFd,
}

impl Lease {
    /// A write lease on the file, if nobody else has it open; `Ok(None)` if somebody has.
    pub(crate) fn try_take(file: OwnedFd) -> nix::Result<Option<Self>> {
        // The notice of a break is SIGIO, which would end the process; SIGURG is ignored by default, and the lease is asked about instead.
        // SAFETY: F_SETSIG takes an int and changes nothing but which signal this description sends.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) })?;
        // SAFETY: F_SETLEASE takes an int; the descriptor is open as long as `file` lives.
        match Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) }) {
            Ok(_) => Ok(Some(Self { file })),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether nobody has tried to open the file since.
    pub(crate) fn is_untouched(&self) -> bool {
        // SAFETY: F_GETLEASE takes nothing.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) == libc::F_WRLCK }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn is_had_by_the_only_opener_and_tells_of_an_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mbox");
        let open =
            || OwnedFd::from(File::options().create(true).truncate(false).write(true).open(&path).unwrap());
        let file = open();
        let other = File::open(&path).unwrap();
        assert!(Lease::try_take(file).unwrap().is_none(), "another has it open");
        drop(other);
        let lease = Lease::try_take(open()).unwrap().expect("the only opener");
        assert!(lease.is_untouched());
        let attempt = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(attempt.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert!(!lease.is_untouched());
        drop(lease);
        File::open(&path).unwrap();
    }
}
