//! The archive folder: root's alone, or not believed.
//!
//! It lies in a folder that members of group mail may write to, where there is no sticky bit to keep them from making a folder of its name before us, or from renaming ours away and putting another there. So it is
//! opened once a job and used by handle from then on; what is opened has to be a folder of root's that nobody else can enter, and one that has gone is not made anew behind the back of those whose originals lie in it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{Uid, fsync};

use super::{FOLDER, Result, SpoolError};

/// What is done where there is no archive folder.
pub(in crate::flow) enum Make<'a> {
    /// It is missed: a run has something in it.
    No,
    /// It is made if the function says that none of the converted mailboxes has its original in it; the function gives how many have.
    Unless(&'a dyn Fn() -> usize),
}

/// The folder, opened and believed.
pub(in crate::flow) struct Archive {
    folder: OwnedFd,
}

impl Archive {
    pub(in crate::flow) fn open(path: &Path, make: Make<'_>) -> Result<Self> {
        let error = |doing, path: &Path| {
            let path = path.to_owned();
            move |errno| SpoolError { doing, path, errno, archive: None }
        };
        let invalid = || error("use", path)(Errno::EINVAL);
        let (above, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
        let parent = open(above, FOLDER, Mode::empty()).map_err(error("open", above))?;
        let flags = FOLDER | OFlag::O_NOFOLLOW;
        let folder = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let waiting = match make {
                    Make::No => 1,
                    Make::Unless(count) => count(),
                };
                if waiting > 0 {
                    return Err(gone(path, waiting));
                }
                match mkdirat(&parent, name, Mode::S_IRWXU) {
                    Ok(()) => fsync(&parent).map_err(error("sync", above))?,
                    Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(error("make", path)(errno)),
                }
                openat(&parent, name, flags, Mode::empty())
            }
            opened => opened,
        };
        let folder = folder.map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => {
                let stat = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW);
                foreign(
                    path,
                    errno,
                    &stat.map_or_else(|_| "is no folder".to_owned(), |stat| what_it_is(&stat)),
                )
            }
            other => error("open", path)(other),
        })?;
        let stat = fstat(&folder).map_err(error("look at", path))?;
        if stat.st_uid != Uid::effective().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(foreign(path, Errno::EPERM, &what_it_is(&stat)));
        }
        Ok(Self { folder })
    }

    /// The names in it.
    pub(in crate::flow) fn names(&self) -> nix::Result<Vec<String>> {
        let mut dir = nix::dir::Dir::openat(&self.folder, ".", FOLDER, Mode::empty())?;
        let names = dir.iter().map(|item| item.map(|item| item.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    /// Bytes of a file in it, if there is one.
    pub(in crate::flow) fn size(&self, name: &str) -> Option<u64> {
        let stat = fstatat(&self.folder, OsStr::new(name), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        u64::try_from(stat.st_size).ok()
    }

    pub(super) fn into_folder(self) -> OwnedFd {
        self.folder
    }
}

fn what_it_is(stat: &FileStat) -> String {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => format!("belongs to uid {} and has mode {:o}", stat.st_uid, stat.st_mode & 0o777),
        SFlag::S_IFLNK => format!("is a symbolic link of uid {}", stat.st_uid),
        _ => format!("is a file of uid {}", stat.st_uid),
    }
}

fn foreign(path: &Path, errno: Errno, what: &str) -> SpoolError {
    let shown = path.display();
    let text =
        format!("the archive folder {shown} {what}; it must be a folder that is root's and has mode 0700");
    let mend = format!(
        "see who made it and whether ours was renamed (a folder of root's beside it), then move it away, and ours back to {shown}"
    );
    SpoolError { doing: "trust", path: path.to_owned(), errno, archive: Some((text, mend)) }
}

fn gone(path: &Path, waiting: usize) -> SpoolError {
    let shown = path.display();
    let text = format!(
        "the archive folder {shown} is gone, and the originals of {waiting} or more converted mailboxes were in it"
    );
    let mend = format!(
        "look for a folder of root's that was renamed, and rename it back to {shown}; if it was removed on purpose, make an empty one: install -d -m 0700 {shown}"
    );
    SpoolError { doing: "open", path: path.to_owned(), errno: Errno::ENOENT, archive: Some((text, mend)) }
}
