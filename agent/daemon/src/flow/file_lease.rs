//! `F_SETLEASE`: the kernel's word that nobody else has a file open, and that whoever tries to waits.
//!
//! No crate wraps it. A write lease is granted only while the one open file description that asks is the only one on the inode (fs/locks.c,
//! `check_conflicting_open`); an open attempted while it is held blocks (at most /proc/sys/fs/lease-break-time, 45 s) and makes `F_GETLEASE` answer something else
//! than `F_WRLCK`.

#![expect(unsafe_code, reason = "fcntl commands that no crate wraps")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// What was granted; given up when dropped.
pub(super) struct FileLease<'fd> {
    file: BorrowedFd<'fd>,
}

impl<'fd> FileLease<'fd> {
    /// A write lease on the file, if nobody else has it open; `Ok(None)` if somebody has.
    pub(super) fn try_take(file: &'fd impl AsFd) -> nix::Result<Option<Self>> {
        let file = file.as_fd();
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

    /// Whether nobody has tried to open the file since.
    pub(super) fn is_untouched(&self) -> bool {
        // SAFETY: F_GETLEASE takes nothing.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) == libc::F_WRLCK }
    }
}

impl Drop for FileLease<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `try_take`. It cannot fail but by the lease being gone already.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

/// `F_SETSIG` of the asm-generic fcntl.h, which the libc crate has for some targets only.
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn is_had_by_the_only_opener_and_tells_of_an_attempt() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = File::open(file.path()).unwrap();
        assert!(FileLease::try_take(file.as_file()).unwrap().is_none(), "another has it open");
        drop(other);
        let lease = FileLease::try_take(file.as_file()).unwrap().expect("the only opener");
        assert!(lease.is_untouched());
        let attempt = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(file.path());
        assert_eq!(attempt.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert!(!lease.is_untouched());
        drop(lease);
        File::open(file.path()).unwrap();
    }
}
