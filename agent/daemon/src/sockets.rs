//! The agent's three sockets: made by us, or handed over by systemd (socket activation), told apart by their paths.

#![allow(unsafe_code, reason = "a descriptor that systemd hands over is a bare number")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use mailready_config::Config;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};
use tracing::warn;

use crate::listener::{BindError, Bound, bind_packets, bind_stream};

/// The sockets, listening.
#[derive(Debug)]
pub struct Sockets {
    /// `agent.socket`.
    pub arrival: Bound,
    /// `agent.self_socket`.
    pub selves: Bound,
    /// `agent.control`.
    pub control: Bound,
}

impl Sockets {
    /// Takes those that were handed over, makes the others.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn open(config: &Config) -> Result<Self, BindError> {
        let mut inherited = inherited();
        let agent = &config.agent;
        let mut take =
            |path: &Path, kind, make: &dyn Fn() -> Result<Bound, BindError>| match inherited.remove(path) {
                Some(socket) if getsockopt(&socket, sockopt::SockType) == Ok(kind) => {
                    Ok(Bound::inherited(socket))
                }
                Some(_) => Err(BindError::WrongKind(path.to_owned())),
                None => make(),
            };
        let sockets = Self {
            arrival: take(&agent.socket, SockType::SeqPacket, &|| bind_packets(&agent.socket, true))?,
            selves: take(&agent.self_socket, SockType::SeqPacket, &|| {
                bind_packets(&agent.self_socket, false)
            })?,
            control: take(&agent.control, SockType::Stream, &|| bind_stream(&agent.control))?,
        };
        for path in inherited.keys() {
            warn!(path = %path.display(), "systemd handed over a socket that no key of [agent] names");
        }
        Ok(sockets)
    }
}

fn inherited() -> HashMap<PathBuf, OwnedFd> {
    let mut found = HashMap::new();
    let descriptors = match sd_notify::listen_fds() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            warn!("the sockets that systemd hands over: {error}");
            return found;
        }
    };
    for fd in descriptors {
        // SAFETY: LISTEN_PID names this process, so systemd opened this descriptor for it alone; it is asked for once, before any thread runs.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        match path_of(&socket) {
            Ok(path) => drop(found.insert(path, socket)),
            Err(error) => warn!(fd, "systemd handed over something that is no local socket: {error}"),
        }
    }
    found
}

fn path_of(socket: &OwnedFd) -> io::Result<PathBuf> {
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    let path = address.path().ok_or_else(|| io::Error::other("it has no path"))?.to_owned();
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(path)
}
