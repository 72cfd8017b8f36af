//! Folders by handle: everything below them is opened relative to one that was checked, and no link is followed.

use crate::{Error, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const SAFE: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC);
/// Mail is nobody else's.
const FILE_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Creates a folder (0700) that must not exist, and opens it.
pub(crate) fn create(parent: impl AsFd, name: &str) -> Result<OwnedFd> {
    mkdirat(&parent, name, Mode::S_IRWXU).map_err(|e| match e {
        Errno::EEXIST => Error::Exists { path: name.into() },
        e => Error::io("create folder", name)(e),
    })?;
    open(parent, name)
}

/// Opens a folder.
pub(crate) fn open(parent: impl AsFd, name: &str) -> Result<OwnedFd> {
    openat(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | SAFE, Mode::empty())
        .map_err(Error::io("open folder", name))
}

/// Opens a folder some levels below another one; the empty path is that one.
pub(crate) fn open_below(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    path.split('/').filter(|level| !level.is_empty()).try_fold(open(root, ".")?, open)
}

/// Opens a file of ours for writing.
pub(crate) fn open_to_write(dir: impl AsFd, name: &str) -> Result<File> {
    openat(dir, name, OFlag::O_WRONLY | SAFE, Mode::empty()).map(File::from).map_err(Error::io("open", name))
}

/// Creates a file (0600) that must not exist, for writing.
pub(crate) fn create_file(dir: impl AsFd, name: &str) -> Result<File> {
    openat(dir, name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | SAFE, FILE_MODE)
        .map(File::from)
        .map_err(Error::io("create", name))
}

/// Opens a file for reading.
pub(crate) fn open_file(dir: impl AsFd, name: &str) -> Result<File> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | SAFE, Mode::empty())
        .map(File::from)
        .map_err(Error::io("open", name))
}

/// Opens a file for reading, if it is there.
pub(crate) fn find_file(dir: impl AsFd, name: &str) -> Result<Option<File>> {
    match open_file(dir, name) {
        Ok(file) => Ok(Some(file)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes a file.
pub(crate) fn unlink(dir: impl AsFd, name: &str) -> Result<()> {
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).map_err(Error::io("remove", name))
}

/// Removes a file, if it is there.
pub(crate) fn unlink_if_there(dir: impl AsFd, name: &str) -> Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::io("remove", name)(e)),
    }
}

/// Moves a file to a name that must be free. Not there: no error.
pub(crate) fn move_if_there(
    (from, old): (BorrowedFd<'_>, &str),
    (to, new): (BorrowedFd<'_>, &str),
) -> Result<()> {
    match renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::io("move", old)(e)),
    }
}

/// Gives a file its time, unix seconds: in a Maildir that is the INTERNALDATE.
pub(crate) fn set_time(file: &File, name: &str, seconds: i64) -> Result<()> {
    futimens(file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(seconds, 0))
        .map_err(Error::io("set the time of", name))
}

/// Makes what was done to a folder or file durable.
pub(crate) fn sync(fd: impl AsFd, name: impl AsRef<Path>) -> Result<()> {
    nix::unistd::fsync(fd).map_err(Error::io("sync", name))
}

/// Removes a folder of ours and everything in it. Not there: no error.
pub(crate) fn remove_tree(parent: impl AsFd, name: &str) -> Result<()> {
    let folder = match openat(&parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | SAFE, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(Error::io("open folder", name)(e)),
    };
    let mut listing = Dir::from_fd(folder).map_err(Error::io("list", name))?;
    let mut names = Vec::new();
    loop {
        // In portions: a folder of ours may hold a million messages.
        names.clear();
        for entry in listing.iter().take(4096) {
            let entry = entry.map_err(Error::io("list", name))?;
            let child = entry.file_name();
            if child != c"." && child != c".." {
                names.push(child.to_owned());
            }
        }
        if names.is_empty() {
            break;
        }
        for child in &names {
            match unlinkat(&listing, child.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR | Errno::EPERM) => {
                    let child = child.to_str().map_err(|_| Error::io("remove", name)(Errno::EILSEQ))?;
                    remove_tree(&listing, child)?;
                }
                Err(e) => return Err(Error::io("remove", name)(e)),
            }
        }
    }
    unlinkat(&parent, name, UnlinkatFlags::RemoveDir).map_err(Error::io("remove folder", name))
}

/// Calls `each` with every name in a folder, in no order, but for `.` and `..`.
pub(crate) fn for_each_name(folder: &impl AsFd, name: &str, mut each: impl FnMut(&[u8])) -> Result<()> {
    // A description of its own: the place in the listing belongs to it.
    let mut listing = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | SAFE, Mode::empty())
        .map_err(Error::io("list", name))?;
    for entry in listing.iter() {
        let entry = entry.map_err(Error::io("list", name))?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            child => each(child),
        }
    }
    Ok(())
}

/// Whether a name is there, whatever it is.
pub(crate) fn exists(dir: impl AsFd, name: &str) -> Result<bool> {
    match nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(e) => Err(Error::io("look at", name)(e)),
    }
}
