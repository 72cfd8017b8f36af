//! Making the sockets, at start, before anything runs.
//!
//! The mode comes from the umask at `bind`, so that there is no moment at which a socket is more open than it should be. A socket file that is there
//! already is either a live agent's, which is an error, or was left by one that was killed.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group};

/// Connections that wait to be accepted. The agent accepts within milliseconds; if it does not, clients learn at once that it is full.
const BACKLOG: i32 = 128;

/// The group whose members may announce anybody; without it, only root may.
const TRUSTED_GROUP: &str = "mailready";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An agent listens there.
    #[error("{}: another agent is listening on this socket", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket is in the way; it is not ours to remove.
    #[error("{}: there is a file in the way that is no socket", .0.display())]
    InTheWay(PathBuf),
    /// systemd handed over a socket for streams where one for packets is wanted, or the other way round.
    #[error("{}: the socket unit is of the wrong kind: ListenSequentialPacket= for arrivals, ListenStream= for control", .0.display())]
    WrongKind(PathBuf),
    /// Anything else.
    #[error("{}: {what}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// A socket that listens. Whoever made its file removes it.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: OwnedFd,
    file: Option<OwnFile>,
}

#[derive(Debug)]
struct OwnFile {
    path: PathBuf,
    dev_ino: (u64, u64),
    /// As long as this is open, its inode number cannot become another socket's.
    _socket: OwnedFd,
}

impl Bound {
    /// A socket that was made by somebody else (systemd), whose file is theirs.
    pub fn inherited(socket: OwnedFd) -> Self {
        Self { socket, file: None }
    }

    /// Gives the socket, and what removes its file when dropped.
    pub fn split(self) -> (OwnedFd, Option<Unlink>) {
        (self.socket, self.file.map(Unlink))
    }
}

/// Removes a socket's file when dropped, if it is still ours. It keeps the socket open, so that whoever connects before waits in vain and not
/// for long: drop it before, or with, whoever accepts.
#[derive(Debug)]
pub struct Unlink(OwnFile);

impl Drop for Unlink {
    fn drop(&mut self) {
        // Another agent may have put its own there meanwhile.
        if dev_ino(&self.0.path).is_ok_and(|found| found == self.0.dev_ino) {
            // Nothing to be done if it fails; the next start copes with the rest.
            let _ = fs::remove_file(&self.0.path);
        }
    }
}

/// A socket for packets: mode 0660 and the group `mailready` if `trusted`, else 0666.
///
/// # Errors
/// See [`BindError`].
pub fn bind_packets(path: &Path, trusted: bool) -> Result<Bound, BindError> {
    let mask = if trusted { Mode::from_bits_truncate(0o117) } else { Mode::from_bits_truncate(0o111) };
    let bound = bind_at(path, SockType::SeqPacket, mask)?;
    if trusted && let Some(group) = trusted_group() {
        nix::unistd::chown(path, None, Some(group))
            .map_err(|errno| io_error(path, "giving it to its group", errno))?;
    }
    Ok(bound)
}

/// A stream socket that everybody may connect to; who they are decides what they get.
///
/// # Errors
/// See [`BindError`].
pub fn bind_stream(path: &Path) -> Result<Bound, BindError> {
    bind_at(path, SockType::Stream, Mode::from_bits_truncate(0o111))
}

fn trusted_group() -> Option<Gid> {
    Group::from_name(TRUSTED_GROUP).ok().flatten().map(|group| group.gid)
}

fn bind_at(path: &Path, kind: SockType, mask: Mode) -> Result<Bound, BindError> {
    let address = UnixAddr::new(path).map_err(|errno| io_error(path, "as a socket's path", errno))?;
    make_folder(path)?;
    clear_the_way(path, kind, &address)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, kind, flags, None)
        .map_err(|errno| io_error(path, "making a socket", errno))?;
    with_umask(mask, || bind(socket.as_raw_fd(), &address)).map_err(|errno| io_error(path, "bind", errno))?;
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    listen(&socket, backlog).map_err(|errno| io_error(path, "listen", errno))?;
    let failed = |what| move |error| BindError::Io { path: path.to_owned(), what, error };
    let dev_ino = dev_ino(path).map_err(failed("stat"))?;
    let kept = socket.try_clone().map_err(failed("keeping the socket"))?;
    Ok(Bound { socket, file: Some(OwnFile { path: path.to_owned(), dev_ino, _socket: kept }) })
}

/// The umask is the process's: binding is done before other threads make files, and one after the other.
fn with_umask<T>(mask: Mode, work: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = umask(mask);
    let result = work();
    umask(before);
    result
}

/// systemd makes /run/mailready; an agent that is tried out makes it itself.
fn make_folder(path: &Path) -> Result<(), BindError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(BindError::Io { path: path.to_owned(), what: "making its folder", error })
        }
        _ => Ok(()),
    }
}

fn clear_the_way(path: &Path, kind: SockType, address: &UnixAddr) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Io { path: path.to_owned(), what: "stat", error }),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::InTheWay(path.to_owned()));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, kind, flags, None)
        .map_err(|errno| io_error(path, "making a socket", errno))?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        // A full backlog is somebody's too; and so is a socket of another kind.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => return Err(BindError::InUse(path.to_owned())),
        Err(errno) => return Err(io_error(path, "asking who listens there", errno)),
    }
    fs::remove_file(path).map_err(|error| BindError::Io {
        path: path.to_owned(),
        what: "removing the socket of an agent that is gone",
        error,
    })
}

fn dev_ino(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn io_error(path: &Path, what: &'static str, errno: Errno) -> BindError {
    BindError::Io { path: path.to_owned(), what, error: errno.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn modes_are_right_from_the_beginning_and_the_file_goes_with_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let (trusted, selves) = (root.path().join("run/a"), root.path().join("run/s"));
        let (_socket, unlink) = bind_packets(&trusted, true).unwrap().split();
        let kept = bind_packets(&selves, false).unwrap();
        assert_eq!((mode(&trusted), mode(&selves)), (0o660, 0o666));
        drop(unlink);
        assert!(!trusted.exists());
        drop(kept.split());
        assert!(!selves.exists());
    }

    #[test]
    fn a_live_socket_is_respected_and_a_dead_one_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        let first = bind_packets(&path, false).unwrap();
        assert!(matches!(bind_packets(&path, false), Err(BindError::InUse(_))));
        assert!(matches!(bind_stream(&path), Err(BindError::InUse(_))), "of whatever kind");
        drop(first.split());
        let killed = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(killed.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        drop(killed);
        assert!(path.exists());
        bind_packets(&path, false).unwrap();
    }

    #[test]
    fn an_end_does_not_remove_the_socket_of_a_successor() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        for _ in 0..50 {
            let first = bind_packets(&path, false).unwrap();
            fs::remove_file(&path).unwrap();
            let second = bind_packets(&path, false).unwrap();
            drop(first.split());
            assert!(path.exists());
            drop(second.split());
        }
    }

    #[test]
    fn what_is_no_socket_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind_packets(&path, false), Err(BindError::InTheWay(_))));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
