//! What Dovecot has printed about a user, as it is, in memory.
//!
//! It is full of what the user may choose (folder names, keywords), so it is not parsed here, with root's rights, but handed to the worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};

/// Longer than what a hundred thousand folders give; who has more is not told of.
const LONGEST: i64 = 64 << 20;

/// The output of one or more of Dovecot's tools, each with its own line of names.
pub(super) struct Told(OwnedFd);

impl Told {
    /// Has `ask` write to a file in memory, which nobody can change afterwards. `None`: nothing was said.
    pub(super) fn by(ask: impl FnOnce(&OwnedFd)) -> io::Result<Option<Self>> {
        let file = memfd_create(c"told", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ask(&file);
        let size = fstat(&file)?.st_size;
        if size > LONGEST {
            return Err(Errno::EFBIG.into());
        }
        let seals =
            SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        // The position is shared with whoever reads it.
        lseek(&file, 0, Whence::SeekSet)?;
        Ok((size > 0).then_some(Self(file)))
    }
}

impl AsFd for Told {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_said_can_be_read_and_not_changed() {
        let say = |file: &OwnedFd| assert_eq!(nix::unistd::write(file, b"mailbox\tmessages\n"), Ok(17));
        assert!(Told::by(|_| ()).unwrap().is_none());
        let told = Told::by(say).unwrap().expect("something was said");
        assert_eq!(nix::unistd::write(&told, b"x"), Err(Errno::EPERM));
        let mut text = String::new();
        std::fs::File::from(told.0).read_to_string(&mut text).unwrap();
        assert_eq!(text, "mailbox\tmessages\n");
    }
}
