//! What agent and worker say to each other: enumerated messages of one fixed size over a socketpair that keeps packets apart.
//!
//! The worker reads hostile mail with the user's rights, so whatever it says is hostile input: a message is 64 bytes, an unknown kind or
//! code is an error, numbers are only numbers, and the agent looks for itself before it acts on them. Descriptors travel from the agent to the
//! worker only. The one message of variable size is the [`Job`](crate::job::Job), from the agent.
//!
//! Which orders there are, and which report answers each, depends on the job's [`Purpose`](crate::job::Purpose); see [`Order`].

mod order;
mod report;
mod words;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

pub use order::Order;
pub use report::Report;
pub use words::{Block, Step};

/// Bytes of every message but the job.
pub const SIZE: usize = 64;

/// Numbers in a message.
const NUMBERS: usize = 7;

/// A packet that is no message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Garbled;

impl std::fmt::Display for Garbled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a packet that is no message of this version")
    }
}

impl std::error::Error for Garbled {}

impl From<Garbled> for io::Error {
    fn from(value: Garbled) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, value)
    }
}

/// Layout of every message: kind, code, flags, zeros, then numbers.
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    code: u8,
    flags: u8,
    numbers: [u64; NUMBERS],
}

impl Frame {
    fn new<const N: usize>(kind: u8, numbers: [u64; N]) -> Self {
        let mut frame = Self { kind, code: 0, flags: 0, numbers: [0; NUMBERS] };
        frame.numbers[..N].copy_from_slice(&numbers);
        frame
    }

    fn flagged(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    fn coded(self, code: u8) -> Self {
        Self { code, ..self }
    }

    fn bytes(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        (out[0], out[1], out[2]) = (self.kind, self.code, self.flags);
        for (slot, number) in out[8..].chunks_exact_mut(8).zip(self.numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// Takes a packet apart. What a message of its kind does not use is checked by encoding it again: [`only`].
    fn read(packet: &[u8]) -> Result<Self, Garbled> {
        let packet: &[u8; SIZE] = packet.try_into().map_err(|_| Garbled)?;
        let mut numbers = [0; NUMBERS];
        for (number, slot) in numbers.iter_mut().zip(packet[8..].chunks_exact(8)) {
            *number = u64::from_le_bytes(slot.try_into().map_err(|_| Garbled)?);
        }
        Ok(Self { kind: packet[0], code: packet[1], flags: packet[2], numbers })
    }
}

/// A message counts only if it is byte for byte what its meaning encodes to: nothing rides along.
fn only<T>(message: T, encoded: [u8; SIZE], packet: &[u8]) -> Result<T, Garbled> {
    if encoded == packet { Ok(message) } else { Err(Garbled) }
}

/// Sends one packet, with at most one descriptor.
///
/// # Errors
/// What `sendmsg` says; a dead peer is `BrokenPipe`, never a signal.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let control: &[ControlMessage<'_>] = match &raw {
        Some(raw) => &[ControlMessage::ScmRights(raw)],
        None => &[],
    };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one packet of at most `buffer.len()` bytes and the descriptors that came with it; `Ok(None)` at the end.
///
/// # Errors
/// What `recvmsg` says; a longer packet is [`Garbled`].
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for us and nobody else knows their numbers.
            #[expect(unsafe_code, reason = "descriptors arrive as bare numbers")]
            fds.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Garbled.into());
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((message.bytes, fds.pop())))
}
