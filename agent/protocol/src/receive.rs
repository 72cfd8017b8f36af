//! The agent's end: a request and the socket that came with it; an answer.
//!
//! On `self.sock` the peer is any user, and a descriptor is something that a peer can make arrive. So: at most one is of
//! use, and only a local socket is (the lease's `SO_PEERCRED` is what it is for). The control buffer has room for two, the
//! kernel drops the rest by itself, and whatever was not wanted comes back in the error. It has to be closed, and *that*
//! can take as long as its owner pleases (the flush of a FUSE file, a lingering TCP socket): not a thing for an event loop.

#![allow(unsafe_code, reason = "nothing in std or nix turns a received descriptor into an owned one")]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockaddrLike, SockaddrStorage, UnixAddr, getsockname, recvmsg, sendmsg,
};

use crate::{Answer, Kind, PACKET_MAX, Request, RequestError};

/// One request, and the lease's socket if there was one.
#[derive(Debug)]
pub struct Received {
    /// What was said.
    pub request: Request,
    /// A local socket (checked), close-on-exec, whose peer is the process that the lease is to belong to. Always there in a
    /// [`Kind::Lease`], never in a [`Kind::Arrival`].
    pub lease: Option<OwnedFd>,
}

/// Descriptors that nobody wanted. Dropping this closes them, which **may block for as long as the peer likes**: do it on
/// a thread that may be lost, and count those against the peer.
#[derive(Debug, Default)]
pub struct DroppedDescriptors(Vec<OwnedFd>);

/// Why there is no request.
#[derive(Debug)]
pub enum ReceiveError {
    /// The socket said so; [`io::ErrorKind::WouldBlock`] when nothing has come yet.
    Io(io::Error),
    /// The peer closed its end without a word.
    Closed,
    /// What came is no request.
    Packet(RequestError, DroppedDescriptors),
    /// A request longer than any may be.
    Oversized(DroppedDescriptors),
    /// A request, but with descriptors that do not belong to it; or a lease without its socket.
    Descriptors(Kind, DroppedDescriptors),
}

impl DroppedDescriptors {
    /// Whether there is nothing to close, and nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes one request from a connection, without waiting for it.
///
/// # Errors
/// Each is the end of the connection, but for [`io::ErrorKind::WouldBlock`].
pub fn recv_request(connection: BorrowedFd<'_>) -> Result<Received, ReceiveError> {
    let mut packet = [0; PACKET_MAX];
    // Padding makes this room for two: enough to see that there is more than one.
    let mut control = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (len, got) = {
        let mut parts = [IoSliceMut::new(&mut packet)];
        let message = recvmsg::<UnixAddr>(connection.as_raw_fd(), &mut parts, Some(&mut control), flags)
            .map_err(|errno| ReceiveError::Io(errno.into()))?;
        (message.bytes, message.flags)
    };
    // Before anything else, so that no way out of here leaves one open.
    let mut descriptors = take_descriptors(&control);
    if got.contains(MsgFlags::MSG_TRUNC) {
        return Err(ReceiveError::Oversized(DroppedDescriptors(descriptors)));
    }
    if len == 0 && descriptors.is_empty() {
        return Err(ReceiveError::Closed);
    }
    let request = match Request::decode(&packet[..len]) {
        Ok(request) => request,
        Err(error) => return Err(ReceiveError::Packet(error, DroppedDescriptors(descriptors))),
    };
    let cut = got.contains(MsgFlags::MSG_CTRUNC);
    let lease = match (request.kind, descriptors.pop()) {
        (Kind::Arrival, None) if !cut => None,
        (Kind::Lease, Some(fd)) if !cut && descriptors.is_empty() && is_local_socket(&fd) => Some(fd),
        (kind, fd) => {
            descriptors.extend(fd);
            return Err(ReceiveError::Descriptors(kind, DroppedDescriptors(descriptors)));
        }
    };
    Ok(Received { request, lease })
}

/// Sends one answer, without waiting and without a signal should the peer be gone (most announcements do not stay for it).
///
/// # Errors
/// What the kernel said; `EPIPE` for a peer that did not wait, `WouldBlock` for one that does not read.
pub fn send_answer(connection: BorrowedFd<'_>, answer: Answer) -> io::Result<()> {
    let packet = answer.encode();
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<UnixAddr>(connection.as_raw_fd(), &[IoSlice::new(&packet)], &[], flags, None)?;
    Ok(())
}

/// All descriptors in a control buffer that `recvmsg` has just filled.
///
/// By hand, because nix refuses to look into a truncated one, and what the kernel has put there already would stay open for
/// ever: a way for any user to run the agent out of descriptors. The buffer was zeroed before, so a length of 0 ends it.
fn take_descriptors(mut control: &[u8]) -> Vec<OwnedFd> {
    const LEN: usize = size_of::<usize>();
    const HEAD: usize = size_of::<libc::cmsghdr>();
    const FD: usize = size_of::<RawFd>();
    let mut taken = Vec::new();
    while let Some((len, rest)) = control.split_first_chunk::<LEN>() {
        let len = usize::from_ne_bytes(*len);
        let (Some(kinds), Some(data)) = (rest.get(..2 * FD), control.get(HEAD..len)) else { break };
        let rights = [libc::SOL_SOCKET.to_ne_bytes(), libc::SCM_RIGHTS.to_ne_bytes()].concat();
        if kinds == rights {
            for fd in data.as_chunks::<FD>().0 {
                let fd = RawFd::from_ne_bytes(*fd);
                // SAFETY: the kernel made this descriptor for us in this very call of recvmsg, nobody else in the process
                // knows its number, and it is taken out of the buffer once.
                taken.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // The next header stands at the next multiple of a word.
        control = control.get(len.next_multiple_of(LEN)..).unwrap_or_default();
    }
    taken
}

fn is_local_socket(fd: &OwnedFd) -> bool {
    getsockname::<SockaddrStorage>(fd.as_raw_fd())
        .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveError::Io(error) => write!(f, "no request could be received: {error}"),
            ReceiveError::Closed => write!(f, "the peer closed without a word"),
            ReceiveError::Packet(error, _) => write!(f, "{error}"),
            ReceiveError::Oversized(_) => write!(f, "the request is longer than {PACKET_MAX} bytes"),
            ReceiveError::Descriptors(Kind::Arrival, _) => {
                write!(f, "an arrival came with descriptors; it takes none")
            }
            ReceiveError::Descriptors(Kind::Lease, _) => {
                write!(f, "a lease takes one descriptor, the session's local socket")
            }
        }
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReceiveError::Io(error) => Some(error),
            ReceiveError::Packet(error, _) => Some(error),
            ReceiveError::Closed | ReceiveError::Oversized(_) | ReceiveError::Descriptors(..) => None,
        }
    }
}
