//! One connection of an arrival socket: a request in, answers out.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use mailready_protocol::{Answer, ReceiveError, Received, recv_request, send_answer};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A connection; closed when dropped. What tokio calls a stream is a socket for packets here; it is only watched, and read by [`recv_request`].
#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    /// Takes over an accepted connection.
    pub fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// Waits for the request.
    ///
    /// # Errors
    /// See [`recv_request`].
    pub async fn request(&self) -> Result<Received, ReceiveError> {
        loop {
            self.0.readable().await.map_err(ReceiveError::Io)?;
            let received = self.0.try_io(Interest::READABLE, || match recv_request(self.0.as_fd()) {
                Err(ReceiveError::Io(error)) => Err(error),
                other => Ok(other),
            });
            match received {
                Ok(received) => return received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(ReceiveError::Io(error)),
            }
        }
    }

    /// Sends an answer. It never waits: sixteen bytes always fit, unless the peer reads nothing, and then it is as good as gone.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn send(&self, answer: Answer) -> io::Result<()> {
        send_answer(self.0.as_fd(), answer)
    }

    /// Waits until the peer goes away, or says a second thing, which nobody may.
    pub async fn gone(&self) {
        while self.0.readable().await.is_ok() {
            let heard = self.0.try_io(Interest::READABLE, || {
                Ok(recv(self.0.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT)?)
            });
            match heard {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}
