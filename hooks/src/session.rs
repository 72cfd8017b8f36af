//! The socket that Dovecot's `script-login` leaves open for its script.
//!
//! On descriptor 3 (src/util/script-login.c, `SCRIPT_COMM_FD`) the script finds the connection of the `imap` or `pop3`
//! process that waits for it. Its peer credentials name that process: to the agent this is the session.

#![allow(unsafe_code, reason = "an inherited descriptor is known by its number alone")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};

const SCRIPT_COMM_FD: RawFd = 3;

/// The session's socket, if descriptor 3 was handed to this program and is a local socket.
///
/// To be called before anything is opened: later, 3 may be a descriptor of our own.
pub(crate) fn inherited_socket() -> Option<OwnedFd> {
    // SAFETY: the borrow lasts for one `fcntl(F_DUPFD_CLOEXEC)`. If nothing is open there, that says EBADF; if something
    // is, nobody in this program knows of it yet who could close it meanwhile.
    let copy = unsafe { BorrowedFd::borrow_raw(SCRIPT_COMM_FD) }.try_clone_to_owned().ok()?;
    let address: SockaddrStorage = getsockname(copy.as_raw_fd()).ok()?;
    (address.family() == Some(AddressFamily::Unix)).then_some(copy)
}
