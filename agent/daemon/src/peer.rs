//! Who is at the other end of a local socket: the kernel's word, taken at the moment of `connect`.

#![allow(unsafe_code, reason = "nix does not wrap SO_PEERGROUPS")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};

/// The process that connected, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Process id; for logs only, since it may be somebody else's by now.
    pub pid: i32,
}

impl Peer {
    /// The peer of a connected socket.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let found = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Self { uid: found.uid(), gid: found.gid(), pid: found.pid() })
    }
}

/// As many groups are looked at; Linux allows 65536, nobody has them.
const GROUPS_MAX: usize = 4096;

/// The supplementary groups of the peer. The kernel's, and not the name service's, which may hang, and which knows what the peer might have and not
/// what it has.
///
/// # Errors
/// What the kernel said; `ERANGE` for more than 4096 groups.
pub fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0 as libc::gid_t; GROUPS_MAX];
    // At most 16384, so it fits any socklen_t.
    let mut len = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call, `groups` has room for `len` bytes, and the kernel writes at most `len` bytes of plain
    // integers and then the true length into `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(len as usize / size_of::<libc::gid_t>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_peer_of_our_own_pair_is_ourselves() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
        let ours: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups(&one).unwrap(), ours);
    }
}
