//! All locks of a user's folders and of Dovecot's indexes at once: every one of them, or none.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use crate::file::{self, FILE, Identity};
use crate::locks::{LockFile, Locked};
use crate::look::IndexLock;
use crate::wire::{Block, Step};
use crate::{Stop, Task, note, step};

/// A folder's place: the directory that it is in, open, and its name there.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) directory: Rc<OwnedFd>,
    pub(crate) name: CString,
}

impl Spot {
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        (*self.directory).as_fd()
    }

    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }

    /// What stands here.
    pub(crate) fn glance(&self) -> nix::Result<Option<nix::sys::stat::FileStat>> {
        file::glance(self.directory(), self.name())
    }

    /// Opens what stands here, which has to be a plain file for any lock.
    pub(crate) fn open(&self) -> nix::Result<Option<OwnedFd>> {
        match openat(self.directory(), self.name.as_c_str(), OFlag::O_RDWR | FILE, Mode::empty()) {
            Ok(opened) => {
                let regular = file::kind(&fstat(&opened)?) == nix::sys::stat::SFlag::S_IFREG;
                Ok(regular.then_some(opened))
            }
            // Somebody has a lease, or it is none of a folder's files.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::EISDIR | Errno::ENXIO | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// The directories of folders, each opened once: most folders share a few.
#[derive(Debug, Default)]
pub(crate) struct Directories(HashMap<PathBuf, Rc<OwnedFd>>);

impl Directories {
    /// The place of a relative path below the root; `None`: its directory is not there.
    pub(crate) fn spot(&mut self, root: BorrowedFd<'_>, path: &Path) -> nix::Result<Option<Spot>> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
        let above = path.parent().unwrap_or(Path::new(""));
        if let Some(directory) = self.0.get(above) {
            return Ok(Some(Spot { directory: Rc::clone(directory), name }));
        }
        let Some(directory) = file::folder_at(root, above)? else { return Ok(None) };
        let directory = Rc::new(directory);
        self.0.insert(above.to_owned(), Rc::clone(&directory));
        Ok(Some(Spot { directory, name }))
    }

    /// Makes durable what was renamed in any of them.
    pub(crate) fn sync(&self) -> nix::Result<()> {
        self.0.values().try_for_each(|directory| nix::unistd::fsync(&**directory))
    }
}

/// A folder's mbox, locked.
#[derive(Debug)]
pub(crate) struct LockedFolder {
    pub(crate) position: usize,
    pub(crate) spot: Spot,
    pub(crate) locked: Locked,
}

/// Every lock that a commit needs, but for those of the spool, which are the agent's. Dropping it lets go of all.
#[derive(Debug)]
pub(crate) struct AllLocks {
    pub(crate) folders: Vec<LockedFolder>,
    pub(crate) directories: Directories,
    #[expect(dead_code, reason = "held, never read")]
    index: Vec<IndexLock>,
}

impl AllLocks {
    /// Locks these folders (position and path below the mbox root) and indexes; `Ok(None)`: one of them was not to be had.
    pub(crate) fn try_take<'f>(
        task: Task<'_>,
        folders: impl Iterator<Item = (usize, &'f Path)>,
        index: impl Iterator<Item = Result<Option<OwnedFd>, Stop>>,
    ) -> Result<Option<Self>, Stop> {
        let mut directories = Directories::default();
        let mut locked = Vec::new();
        let mut lock = None;
        for (position, path) in folders {
            if lock.is_none() {
                step(Step::LockFolders, task.run);
                let made = LockFile::create(task.place.work(), task.run, &task.place.host);
                lock = Some(made.map_err(Stop::failed(Step::LockFolders))?);
            }
            let (Some(root), Some(lock)) = (task.place.mail(), &lock) else { return Ok(None) };
            match lock_folder(task, &mut directories, root, lock, position, path)? {
                Some(folder) => locked.push(folder),
                None => {
                    note(&format!("mailbox {position}, {path:?}, is locked or open elsewhere"));
                    return Ok(None);
                }
            }
        }
        let mut index_locks = Vec::new();
        for folder in index {
            let folder = folder?;
            match IndexLock::try_take(folder.as_ref().map(AsFd::as_fd))
                .map_err(Stop::failed(Step::Confirm))?
            {
                Some(lock) => index_locks.push(lock),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { folders: locked, directories, index: index_locks }))
    }

    /// The locked mbox of a folder.
    pub(crate) fn file(&self, position: usize) -> Option<BorrowedFd<'_>> {
        let at = self.folders.binary_search_by_key(&position, |folder| folder.position).ok()?;
        Some(self.folders[at].locked.file())
    }
}

fn lock_folder(
    task: Task<'_>,
    directories: &mut Directories,
    root: BorrowedFd<'_>,
    lock: &LockFile,
    position: usize,
    path: &Path,
) -> Result<Option<LockedFolder>, Stop> {
    let in_the_way = |errno| match errno {
        Errno::EACCES | Errno::EPERM => {
            note(&format!("mailbox {position}, {path:?}, cannot be locked: {errno}"));
            Stop::blocked(Block::FolderForeign, position as u64)
        }
        Errno::EXDEV => Stop::blocked(Block::OtherMount, position as u64),
        other => Stop::errno(Step::LockFolders, other),
    };
    let Some(spot) = directories.spot(root, path).map_err(in_the_way)? else { return Ok(None) };
    let Some(mbox) = spot.open().map_err(in_the_way)? else { return Ok(None) };
    let opened = Identity::from(&fstat(&mbox).map_err(in_the_way)?);
    let locked =
        Locked::try_take(task.job.locks, lock, mbox, &spot.directory, &spot.name).map_err(in_the_way)?;
    let still = spot.glance().map_err(in_the_way)?.is_some_and(|stat| Identity::from(&stat) == opened);
    Ok(locked.filter(|_| still).map(|locked| LockedFolder { position, spot, locked }))
}
