//! The state folder: one agent at a time, ours, and closed to writers.
//!
//! It can be passed through by others (0711), since Dovecot reads the map in it by name; what is in it for the agent alone (records, holds)
//! lies in folders of its own (0700).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, opened or written.
    #[error("{}: {what}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Somebody else's: whoever owns it can write records that the agent believes.
    #[error("{}: the state folder belongs to uid {uid} and not to the agent (uid {us})", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// The agent's uid.
        us: u32,
    },
    /// Others may write in it.
    #[error("{}: others may write in the state folder (mode {mode:o}); chmod go-w it", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another agent has it.
    #[error("{}: another agent is running with this state folder", .0.display())]
    InUse(PathBuf),
}

/// The state folder, locked for as long as this lives.
#[derive(Debug)]
pub struct State {
    _lock: Flock<File>,
}

impl State {
    /// Opens, checks and locks the folder, making it if it is missing.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |what| move |error| StateError::Io { path: path.to_owned(), what, error };
        match fs::DirBuilder::new().mode(0o711).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("making the state folder")(error));
            }
            _ => {}
        }
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed("opening the state folder"))?;
        let found = folder.metadata().map_err(failed("looking at the state folder"))?;
        let us = geteuid().as_raw();
        if found.uid() != us {
            return Err(StateError::NotOurs { path: path.to_owned(), uid: found.uid(), us });
        }
        let mode = found.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(StateError::Open { path: path.to_owned(), mode });
        }
        let lock =
            Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                nix::errno::Errno::EWOULDBLOCK => StateError::InUse(path.to_owned()),
                errno => failed("locking the state folder")(errno.into()),
            })?;
        // A file system that is mounted read-only, or full, is to be noticed now and not at the first arrival.
        let probe = path.join(".probe");
        fs::write(&probe, b"mailready\n")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(failed("writing in the state folder"))?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_agent_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let first = State::open(&path).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::InUse(_))));
        drop(first);
        State::open(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_others_may_write_or_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::Open { mode: 0o777, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        State::open(&path).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(State::open(&link), Err(StateError::Io { .. })));
        assert!(matches!(State::open(&root.path().join("no/such")), Err(StateError::Io { .. })));
    }
}
