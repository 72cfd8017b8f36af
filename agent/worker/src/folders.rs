//! Which files below the mbox root are the user's folders.
//!
//! The root may be a folder of nothing but mail, or the home, where mail lies among everything else that a person keeps. What is taken for a folder is set aside later, so a
//! mistake in one direction breaks somebody's papers, and in the other a client's folder list: a file counts if it begins as an mbox does; an empty one counts where nothing but mail is kept, and in a
//! home only if a client has subscribed to it. The walk goes by handle, follows no link, and is bounded.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mailready_mailbox::layout;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use crate::file::{self, FILE, FOLDER, Identity};
use crate::note;

/// Names looked at before a tree is too large to be one of mail.
const NAMES_AT_MOST: usize = 500_000;

/// Levels below the root; Dovecot's own limit on names is lower.
const DEPTH_AT_MOST: usize = 64;

/// One mbox below the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Folder {
    /// UTF-8, `/` between the levels.
    pub(crate) name: String,
    /// Where it is, relative to the root: the same name in modified UTF-7.
    pub(crate) path: PathBuf,
}

/// What a walk finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Sorted by name, by bytes.
    pub(crate) folders: Vec<Folder>,
    /// Empty files in a home, which Dovecot shows as mailboxes and nobody knows to be any.
    pub(crate) empties: Vec<Folder>,
    /// Directories without any folder below them, which clients see as names that hold nothing.
    pub(crate) bare: Vec<String>,
    /// Files that are no mail, or that no client can reach: left alone.
    pub(crate) skipped: u64,
    /// Links among the folders.
    pub(crate) links: u64,
    /// Folders that are not the user's own.
    pub(crate) foreign: u64,
    /// The walk was cut short.
    pub(crate) too_large: bool,
}

/// Where and how to walk.
pub(crate) struct Walk<'a> {
    pub(crate) root: BorrowedFd<'a>,
    /// The root is the home.
    pub(crate) at_home: bool,
    pub(crate) uid: u32,
    /// Folders that are not mail: the work folder, the Maildir.
    pub(crate) avoid: HashSet<Identity>,
    /// The inbox, should it lie below the root.
    pub(crate) inbox: Option<Identity>,
    /// Folders that a client has subscribed to.
    pub(crate) subscribed: &'a HashSet<String>,
    /// Mboxes by an earlier look; not opened again, because under the locks that would break our own lease.
    pub(crate) known: HashSet<Identity>,
    /// Tells whether an open file is an mbox.
    pub(crate) is_mbox: &'a dyn Fn(BorrowedFd<'_>) -> nix::Result<bool>,
    /// Tell of each thing that is left alone.
    pub(crate) tell: bool,
}

/// A directory under way.
struct Level {
    folder: OwnedFd,
    /// Relative to the root.
    path: PathBuf,
    depth: usize,
    /// The number of the directory that it is; none at the root.
    parent: Option<usize>,
}

impl Walk<'_> {
    /// Looks at everything below the root.
    pub(crate) fn run(&self) -> nix::Result<Found> {
        let mut found = Found::default();
        // Whether a directory, by its number, holds a folder somewhere below.
        let mut directories: Vec<(String, Option<usize>, bool)> = Vec::new();
        let top = openat(self.root, ".", FOLDER, Mode::empty())?;
        let mut waiting = vec![Level { folder: top, path: PathBuf::new(), depth: 0, parent: None }];
        let mut seen = 0;
        while let Some(level) = waiting.pop() {
            for child in file::names(level.folder.as_fd())? {
                seen += 1;
                if seen > NAMES_AT_MOST || level.depth > DEPTH_AT_MOST {
                    found.too_large = true;
                    return Ok(found);
                }
                let Some(stat) = file::glance(level.folder.as_fd(), os(&child))? else { continue };
                if not_mail(&child, level.depth) {
                    continue;
                }
                match self.judge(&level, &child, &stat)? {
                    Thing::Folder(folder) => {
                        let mut above = level.parent;
                        while let Some(number) = above {
                            directories[number].2 = true;
                            above = directories[number].1;
                        }
                        if stat.st_uid != self.uid {
                            note(&format!("{:?} below the mbox root is not the user's own", folder.path));
                            found.foreign += 1;
                        }
                        if stat.st_nlink > 1 {
                            note(&format!("{:?} below the mbox root has another name, too", folder.path));
                            found.links += 1;
                        }
                        found.folders.push(folder);
                    }
                    Thing::Empty(folder) => found.empties.push(folder),
                    Thing::Directory(name) => {
                        let folder = match openat(&level.folder, child.as_c_str(), FOLDER, Mode::empty()) {
                            Ok(folder) => folder,
                            // Gone, or something else by now.
                            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                            // One that the user may not read is as good as empty to every client.
                            Err(Errno::EACCES) => {
                                found.skipped += self.left_alone(&level.path, &child, "it cannot be read");
                                continue;
                            }
                            // As many as may be open at once wait to be looked into.
                            Err(Errno::EMFILE) => {
                                found.too_large = true;
                                return Ok(found);
                            }
                            // There may be folders in it, and to leave them out would be to lose them.
                            Err(errno) => return Err(self.unread(&level.path, &child, errno)),
                        };
                        directories.push((name, level.parent, false));
                        let path = level.path.join(os(&child));
                        let (depth, parent) = (level.depth + 1, Some(directories.len() - 1));
                        waiting.push(Level { folder, path, depth, parent });
                    }
                    Thing::Link => {
                        note(&format!(
                            "{:?} below the mbox root is a link; links among the folders are not followed",
                            level.path.join(os(&child))
                        ));
                        found.links += 1;
                    }
                    Thing::Other(why) => found.skipped += self.left_alone(&level.path, &child, why),
                    Thing::Nothing => {}
                }
            }
        }
        if !self.at_home {
            let bare = directories.into_iter().filter(|(_, _, holds)| !holds).map(|(name, ..)| name);
            found.bare = bare.collect();
        }
        found.folders.sort_unstable();
        found.bare.sort_unstable();
        Ok(found)
    }

    fn left_alone(&self, above: &Path, name: &CStr, why: &str) -> u64 {
        if self.tell {
            note(&format!("{:?} below the mbox root is left alone: {why}", above.join(os(name))));
        }
        1
    }

    /// Names what could not be read, since the error has no name in it.
    fn unread(&self, above: &Path, name: &CStr, errno: Errno) -> Errno {
        note(&format!(
            "{:?} below the mbox root cannot be looked at: {}",
            above.join(os(name)),
            errno.desc()
        ));
        errno
    }

    fn judge(&self, level: &Level, child: &CStr, stat: &FileStat) -> nix::Result<Thing> {
        let identity = Identity::from(stat);
        if self.inbox == Some(identity) || self.avoid.contains(&identity) {
            return Ok(Thing::Nothing);
        }
        let hidden = child.to_bytes().starts_with(b".");
        let kind = file::kind(stat);
        if kind == SFlag::S_IFLNK {
            return self.judge_link(level, child);
        }
        // In a home, what begins with a dot belongs to the programs that made it.
        if kind == SFlag::S_IFDIR && hidden && self.at_home {
            return Ok(Thing::Nothing);
        }
        let is_mbox = kind == SFlag::S_IFREG
            && (self.known.contains(&identity) || (stat.st_size > 0 && self.begins_as_mbox(level, child)?));
        let path = level.path.join(os(child));
        let name = match kind {
            SFlag::S_IFDIR => directory_name(&path),
            _ => layout::mbox_name(path.as_os_str().as_bytes()),
        };
        let Some(name) = name else {
            return Ok(match kind {
                _ if self.at_home && !is_mbox => Thing::Nothing,
                _ => Thing::Other("no client can reach it by its name"),
            });
        };
        Ok(match kind {
            SFlag::S_IFREG => {
                let empty_counts = !hidden && (!self.at_home || self.subscribed.contains(&name));
                if is_mbox || (stat.st_size == 0 && empty_counts) {
                    return Ok(Thing::Folder(Folder { name, path }));
                }
                if self.at_home && stat.st_size == 0 && !hidden {
                    return Ok(Thing::Empty(Folder { name, path }));
                }
                if self.at_home { Thing::Nothing } else { Thing::Other("it is no mbox") }
            }
            SFlag::S_IFDIR => Thing::Directory(name),
            _ if self.at_home => Thing::Nothing,
            _ => Thing::Other("it is no file"),
        })
    }

    /// A link to a folder would be two folders on one file; in a home, links to other things are nobody's business.
    fn judge_link(&self, level: &Level, child: &CStr) -> nix::Result<Thing> {
        Ok(match fstatat(&level.folder, child, AtFlags::empty()) {
            Ok(target) if file::kind(&target) == SFlag::S_IFREG => {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                let leads_to_mail = match openat(&level.folder, child, flags, Mode::empty()) {
                    Ok(target) => (self.is_mbox)(target.as_fd())?,
                    // Out of the sandbox: what it is cannot be told.
                    Err(_) => true,
                };
                if leads_to_mail && !(self.at_home && target.st_size == 0) {
                    Thing::Link
                } else {
                    Thing::Nothing
                }
            }
            Ok(target) if file::kind(&target) == SFlag::S_IFDIR && !self.at_home => Thing::Link,
            _ => Thing::Nothing,
        })
    }

    /// False for what the user may not read, or what is no file any more. Anything else that keeps a file from being read is an error: a disk that fails, no descriptors left.
    fn begins_as_mbox(&self, level: &Level, child: &CStr) -> nix::Result<bool> {
        let read = match openat(&level.folder, child, OFlag::O_RDONLY | FILE, Mode::empty()) {
            Ok(opened) => (self.is_mbox)(opened.as_fd()),
            Err(Errno::ENOENT | Errno::EACCES | Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => Ok(false),
            Err(errno) => Err(errno),
        };
        read.map_err(|errno| self.unread(&level.path, child, errno))
    }
}

/// What a name below the root is.
enum Thing {
    Folder(Folder),
    /// Perhaps a folder.
    Empty(Folder),
    Directory(String),
    Link,
    /// No mail; said and counted.
    Other(&'static str),
    /// Not worth a word.
    Nothing,
}

/// A directory may have a name that no folder can have, such as the inbox's, if folders below it can be reached.
pub(crate) fn directory_name(path: &Path) -> Option<String> {
    let child = layout::mbox_name(path.join("x").as_os_str().as_bytes())?;
    child.strip_suffix("/x").map(str::to_owned)
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// Dovecot's own files, and locks.
pub(crate) fn not_mail(name: &CStr, depth: usize) -> bool {
    let name = name.to_bytes();
    name == b".imap"
        || name.ends_with(b".lock")
        || (depth == 0
            && (name.starts_with(b"dovecot") || matches!(name, b".subscriptions" | b".mailboxlist")))
}

/// Opens a folder's mbox for reading and writing (a lock and a lease need that); `None`: it is not there, or no plain file.
pub(crate) fn open(root: BorrowedFd<'_>, folder: &Folder) -> nix::Result<Option<OwnedFd>> {
    let Some((above, name)) = file::place_of(root, &folder.path)? else { return Ok(None) };
    let opened = match openat(&above, name.as_c_str(), OFlag::O_RDWR | FILE, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::ENOENT | Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stat = nix::sys::stat::fstat(&opened)?;
    Ok((file::kind(&stat) == SFlag::S_IFREG).then_some(opened))
}

/// Where the mbox of a source of that name lies below the root.
pub(crate) fn path_of(name: &str) -> PathBuf {
    name.split('/').map(layout::level_on_disk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    /// To leave out what cannot be read would be to set it aside for nobody.
    #[test]
    fn a_file_that_cannot_be_read_ends_the_walk_and_is_not_left_out() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("deep")).unwrap();
        fs::write(root.path().join("deep/Sent"), "From a@b Thu Jan  1 10:00:00 2026\n\nx\n").unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let handle = nix::fcntl::open(root.path(), FOLDER, Mode::empty()).unwrap();
        let run = |is_mbox: &dyn Fn(BorrowedFd<'_>) -> nix::Result<bool>| {
            let subscribed = HashSet::new();
            let walk = Walk {
                root: handle.as_fd(),
                at_home: false,
                uid,
                avoid: HashSet::new(),
                inbox: None,
                subscribed: &subscribed,
                known: HashSet::new(),
                is_mbox,
                tell: false,
            };
            walk.run()
        };
        for errno in [Errno::EIO, Errno::EMFILE, Errno::ENOMEM] {
            assert_eq!(run(&|_| Err(errno)), Err(errno));
        }
        let found = run(&|_| Ok(true)).unwrap();
        assert_eq!(
            found.folders.iter().map(|folder| folder.name.as_str()).collect::<Vec<_>>(),
            ["deep/Sent"]
        );
    }
}
