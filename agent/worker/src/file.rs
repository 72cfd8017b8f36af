//! Files and folders below a handle, name by name: no link is followed, nothing is opened that could hang.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

/// A folder that is no link.
pub(crate) const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// A file that is no link, and neither a fifo nor somebody's lease to wait for.
pub(crate) const FILE: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Which file it is, wherever its names lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    dev: u64,
    ino: u64,
}

impl From<&FileStat> for Identity {
    fn from(stat: &FileStat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// What kind of file a name is.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// What stands at a name, itself and not what it leads to; `None`: nothing.
pub(crate) fn glance(folder: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> nix::Result<Option<FileStat>> {
    match fstatat(folder, name.as_ref(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens the folder at a relative path, level by level; the empty path is the folder itself. `None`: there is none, or a link.
pub(crate) fn folder_at(root: BorrowedFd<'_>, path: &Path) -> nix::Result<Option<OwnedFd>> {
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for level in path {
        folder = match openat(&folder, level, FOLDER, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
    }
    Ok(Some(folder))
}

/// The folder that holds a relative path's last name, and that name; `None`: that folder is not there.
pub(crate) fn place_of(root: BorrowedFd<'_>, path: &Path) -> nix::Result<Option<(OwnedFd, CString)>> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let above = path.parent().unwrap_or(Path::new(""));
    Ok(folder_at(root, above)?.map(|folder| (folder, name)))
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let mut dir = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A small file's bytes, at most `limit`; `None`: there is none.
pub(crate) fn read_small(folder: BorrowedFd<'_>, name: &str, limit: u64) -> nix::Result<Option<Vec<u8>>> {
    let file = match openat(folder, name, OFlag::O_RDONLY | FILE, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| errno_of(&error))?;
    Ok(Some(bytes))
}

/// Writes a file anew and syncs it, its name not.
pub(crate) fn write_small(
    folder: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    mode: Mode,
) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | FILE;
    let mut file = File::from(openat(folder, name, flags, mode)?);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| errno_of(&error))?;
    Ok(file.into())
}

/// The system's number behind an error of the standard library.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

/// Whether two handles are of one file or folder.
pub(crate) fn same(a: impl AsFd, b: impl AsFd) -> nix::Result<bool> {
    let identity = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).map(|stat| Identity::from(&stat));
    Ok(identity(a.as_fd())? == identity(b.as_fd())?)
}
