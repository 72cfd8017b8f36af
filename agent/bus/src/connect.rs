//! Peer to peer to the agent, over its control socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::Connection;
use zbus::connection::Builder;

/// For connecting and the handshake together. An agent that is hung must not hang its operator's terminal; a loaded one
/// takes some milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectError {
    /// The control socket.
    pub socket: PathBuf,
    /// What went wrong.
    pub kind: ConnectErrorKind,
}

/// What can go wrong on the way to the agent.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// No socket there, or nobody behind it.
    NotRunning,
    /// The socket's mode keeps us out.
    NotAllowed,
    /// Something else about the socket.
    Io(io::Error),
    /// Somebody listens and does not speak in time.
    NoAnswer,
    /// What listens does not speak D-Bus, or refuses us.
    Handshake(zbus::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        match &self.kind {
            ConnectErrorKind::NotRunning => {
                write!(f, "mailready-agent is not running (nobody listens on {socket})")
            }
            ConnectErrorKind::NotAllowed => write!(f, "{socket}: permission denied"),
            ConnectErrorKind::Io(e) => write!(f, "{socket}: {e}"),
            ConnectErrorKind::NoAnswer => {
                write!(f, "mailready-agent does not answer on {socket} within {} s", DEADLINE.as_secs())
            }
            ConnectErrorKind::Handshake(e) => write!(f, "{socket}: {e}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ConnectErrorKind::Io(e) => Some(e),
            ConnectErrorKind::Handshake(e) => Some(e),
            _ => None,
        }
    }
}

/// Connects to the agent's control socket.
///
/// # Errors
/// Nobody listens, nobody answers within 5 s, or it is none of ours.
pub async fn connect_p2p(socket: &Path) -> Result<Connection, ConnectError> {
    let fail = |kind| ConnectError { socket: socket.to_owned(), kind };
    let connected = timeout(DEADLINE, async {
        let stream = UnixStream::connect(socket).await.and_then(UnixStream::into_std).map_err(of_io)?;
        Builder::unix_stream(stream).p2p().build().await.map_err(ConnectErrorKind::Handshake)
    });
    connected.await.unwrap_or(Err(ConnectErrorKind::NoAnswer)).map_err(fail)
}

fn of_io(error: io::Error) -> ConnectErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectErrorKind::NotRunning,
        io::ErrorKind::PermissionDenied => ConnectErrorKind::NotAllowed,
        _ => ConnectErrorKind::Io(error),
    }
}
