//! The worker's end of the socket to its agent.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use crate::Stop;
use crate::job::{self, Job};
use crate::wire::{self, Order, Report, SIZE, Step};

pub(crate) struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// The socket that the agent left as standard input.
    pub(crate) fn inherited() -> Option<Self> {
        let stdin = std::io::stdin();
        if getsockopt(&stdin, sockopt::SockType) != Ok(SockType::SeqPacket) {
            return None;
        }
        Some(Self { socket: stdin.as_fd().try_clone_to_owned().ok()? })
    }

    /// The job, and the spool's descriptor if the job is about one.
    pub(crate) fn job(&mut self) -> Result<(Job, Option<OwnedFd>), Stop> {
        let mut buffer = vec![0; job::MAX];
        let (length, fd) = self.receive(&mut buffer)?;
        let job = Job::decode(&buffer[..length]).map_err(|_| Stop::errno(Step::Become, Errno::EBADMSG))?;
        Ok((job, fd))
    }

    /// The next order, waited for.
    pub(crate) fn order(&mut self) -> Result<(Order, Option<OwnedFd>), Stop> {
        let mut buffer = [0; SIZE];
        let (length, fd) = self.receive(&mut buffer)?;
        let order = Order::decode(&buffer[..length]).map_err(|_| Stop::errno(Step::Probe, Errno::EBADMSG))?;
        Ok((order, fd))
    }

    /// Whether the agent has something to say, or is gone: either ends a long pass. Nothing but an abort is sent during one.
    pub(crate) fn interrupted(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
    }

    pub(crate) fn say(&mut self, report: Report) -> Result<(), Stop> {
        wire::send(self.socket.as_fd(), &report.encode(), None).map_err(|_| Stop::AgentGone)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Stop> {
        loop {
            match wire::receive(self.socket.as_fd(), buffer) {
                Ok(Some(got)) => return Ok(got),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return Err(Stop::AgentGone),
            }
        }
    }
}
