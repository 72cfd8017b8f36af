//! The hook's end: one connection, one packet, at most one wait.
//!
//! What can go wrong, and why none of it holds a login up:
//!
//! * no agent: `connect` fails at once;
//! * the agent hangs or is stopped: the kernel still completes the connection and takes the packet; the answer's
//!   deadline ends the wait;
//! * its backlog is full: a blocking `connect` would wait for a free place, for ever if the agent never accepts again. The
//!   socket is non-blocking from its birth, so that is `EAGAIN` at once;
//! * it dies in between: end of file, which is an answer: the mbox stays;
//! * it answers slowly and without end: `wait` frames push the next deadline forward, but never past the total.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, socket,
};
use nix::sys::time::TimeSpec;

use crate::{Answer, AnswerError, PACKET_MAX, Progress, Reason, Request};

/// How long a client waits. All three count; the earliest that applies ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the call to the first answer.
    pub first: Duration,
    /// From a `wait` frame to the next answer.
    pub beat: Duration,
    /// From the call to its return, whatever was answered.
    pub total: Duration,
}

/// Why there is no answer. To whoever has to decide now, all of these mean that the mbox stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// No socket could be made, or the path is too long for one.
    Socket {
        /// The agent's socket.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// Nobody listens at the path, or we may not speak there.
    Connect {
        /// The agent's socket.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The agent listens, but as many wait there already as may.
    Full {
        /// The agent's socket.
        path: PathBuf,
    },
    /// The connection was there, and failed.
    Talk {
        /// The agent's socket.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// No answer in time.
    Silent {
        /// The agent's socket.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// What came is no answer.
    Garbage {
        /// The agent's socket.
        path: PathBuf,
        /// What is wrong with it.
        error: AnswerError,
    },
}

impl Deadlines {
    /// The protocol's own: an agent that is alive gives its first answer within this.
    pub const FIRST: Duration = Duration::from_millis(100);

    /// A waiting agent sends a frame each second; three of them may be missed.
    pub const BEAT: Duration = Duration::from_secs(3);

    /// For a request that waits so long for the mail. The budget is the agent's to keep: it answers `stay` when that
    /// is over. The total comes a little later, so that the answer, which says why, usually wins.
    pub fn waiting(wait: Duration) -> Deadlines {
        Deadlines { first: Self::FIRST, beat: Self::BEAT, total: wait.saturating_add(Self::FIRST) }
    }

    /// For an announcement of which one wants to know that it was taken.
    pub fn announcing() -> Deadlines {
        Self::waiting(Duration::ZERO)
    }
}

/// Sends the request and goes away without an answer.
///
/// That is safe: `connect` has put the connection into the listener's queue and the packet into the connection's, and both
/// outlive this end. An agent that is busy, or stopped and going on later, still finds packet and credentials. It costs
/// four system calls, none of which depends on the agent's being scheduled.
///
/// # Errors
/// That nobody will read it; all that can be known without waiting.
pub fn tell(socket_path: &Path, request: &Request) -> Result<(), ClientError> {
    let agent = Agent::connect(socket_path)?;
    agent.send(request, None).map_err(|errno| agent.talk(errno))
}

/// Sends the request, with the session's socket if it is a lease, and waits for the last word within the deadlines.
/// Each `wait` frame is shown to `on_wait`, whose own time counts too.
///
/// An answer is never [`Answer::Wait`]; the end of the connection is [`Answer::Stay`] with [`Reason::HungUp`].
///
/// # Errors
/// There is no agent, or no answer in time, or none that makes sense.
pub fn announce(
    socket_path: &Path,
    request: &Request,
    lease_fd: Option<BorrowedFd<'_>>,
    deadlines: Deadlines,
    on_wait: &mut dyn FnMut(Progress),
) -> Result<Answer, ClientError> {
    let begun = Instant::now();
    let agent = Agent::connect(socket_path)?;
    match agent.send(request, lease_fd) {
        Ok(()) => {}
        Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Answer::Stay(Reason::HungUp)),
        Err(errno) => return Err(agent.talk(errno)),
    }
    let mut due = deadlines.first.min(deadlines.total);
    loop {
        match agent.receive(begun, due)? {
            Answer::Wait(progress) => {
                on_wait(progress);
                due = begun.elapsed().saturating_add(deadlines.beat).min(deadlines.total);
            }
            last => return Ok(last),
        }
    }
}

/// A connection to the agent, closed when dropped.
struct Agent<'a> {
    socket: OwnedFd,
    path: &'a Path,
}

impl<'a> Agent<'a> {
    fn connect(path: &'a Path) -> Result<Agent<'a>, ClientError> {
        let unusable = |errno| ClientError::Socket { path: path.to_owned(), errno };
        let address = UnixAddr::new(path).map_err(unusable)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(unusable)?;
        // A non-blocking connect of a local socket is never under way: it is done or has failed.
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => Ok(Agent { socket, path }),
            Err(Errno::EAGAIN) => Err(ClientError::Full { path: path.to_owned() }),
            Err(errno) => Err(ClientError::Connect { path: path.to_owned(), errno }),
        }
    }

    /// One packet; a fresh connection has room for it, or the system is out of memory (an error too).
    fn send(&self, request: &Request, lease_fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let packet = request.encode();
        let raw: Option<[RawFd; 1]> = lease_fd.map(|fd| [fd.as_raw_fd()]);
        let rights: Vec<ControlMessage<'_>> =
            raw.iter().map(|fds| ControlMessage::ScmRights(fds.as_slice())).collect();
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        // Sequenced packets go whole or not at all.
        sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &[IoSlice::new(&packet)], &rights, flags, None)?;
        Ok(())
    }

    /// The next answer, if it comes before `due`, both counted from `begun`.
    fn receive(&self, begun: Instant, due: Duration) -> Result<Answer, ClientError> {
        // Larger than any packet: what is cut off at the end would look whole.
        let mut packet = [0; PACKET_MAX + 1];
        loop {
            match recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(Answer::Stay(Reason::HungUp)),
                Ok(len) => {
                    return Answer::decode(&packet[..len])
                        .map_err(|error| ClientError::Garbage { path: self.path.to_owned(), error });
                }
                Err(Errno::EAGAIN) => self.await_readable(begun, due)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.talk(errno)),
            }
        }
    }

    fn await_readable(&self, begun: Instant, due: Duration) -> Result<(), ClientError> {
        let elapsed = begun.elapsed();
        let Some(left) = due.checked_sub(elapsed).filter(|left| !left.is_zero()) else {
            return Err(ClientError::Silent { path: self.path.to_owned(), after: elapsed });
        };
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // Not `poll`: it counts in milliseconds, and a login may have less than one to give. Interrupted or timed out,
        // the caller looks again, and then the clock decides.
        match ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.talk(errno)),
        }
    }

    fn talk(&self, errno: Errno) -> ClientError {
        ClientError::Talk { path: self.path.to_owned(), errno }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Socket { path, errno } => {
                write!(f, "{}: no socket: {}", path.display(), errno.desc())
            }
            ClientError::Connect { path, errno } => {
                write!(f, "{}: no agent reached: {}", path.display(), errno.desc())
            }
            ClientError::Full { path } => write!(f, "{}: the agent's backlog is full", path.display()),
            ClientError::Talk { path, errno } => {
                write!(f, "{}: the connection failed: {}", path.display(), errno.desc())
            }
            ClientError::Silent { path, after } => {
                write!(f, "{}: no answer within {} ms", path.display(), after.as_millis())
            }
            ClientError::Garbage { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Garbage { error, .. } => Some(error),
            ClientError::Socket { errno, .. }
            | ClientError::Connect { errno, .. }
            | ClientError::Talk { errno, .. } => Some(errno),
            ClientError::Full { .. } | ClientError::Silent { .. } => None,
        }
    }
}
