//! All mailboxes of a Maildir tree.

use crate::layout::{INBOX, Layout};
use crate::{Error, Result, dir};
use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Levels that are looked into; Dovecot's own limit on names is lower.
const DEPTH_MAX: usize = 64;
/// Folders that are looked at: what is more is no mail of a person's.
const FOLDERS_MAX: usize = 100_000;

/// One folder of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// UTF-8, `/` between the levels; `INBOX`.
    pub name: String,
    /// Below the root; empty for INBOX.
    pub directory: String,
    /// It holds mail. `false`: only a level above others (LAYOUT=fs).
    pub mailbox: bool,
}

/// What is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// INBOX first, then by name.
    pub places: Vec<Place>,
    /// Folders with mail in them that no client can reach by any name.
    pub unnamed: u64,
}

/// Lists the mailboxes of a Maildir, by handle and without following links.
pub fn list(root: BorrowedFd<'_>, layout: Layout) -> Result<Listing> {
    let inbox = Place { name: INBOX.to_owned(), directory: String::new(), mailbox: true };
    let mut listing = Listing { places: vec![inbox], unnamed: 0 };
    let mut left = vec![(String::new(), 1)];
    let mut seen = 0;
    while let Some((above, depth)) = left.pop() {
        let folder = dir::open_below(root, &above)?;
        for child in folders(&folder, &above)? {
            seen += 1;
            if seen > FOLDERS_MAX {
                let why = format!("more than {FOLDERS_MAX} folders");
                return Err(Error::Damaged { path: above.into(), at: 0, why });
            }
            let Some(kind) = Kind::of(layout, &child) else { continue };
            let mailbox = is_mailbox(&folder, &child)?;
            let directory = match (std::str::from_utf8(&child), above.is_empty()) {
                (Ok(child), true) => child.to_owned(),
                (Ok(child), false) => format!("{above}/{child}"),
                (Err(_), _) => {
                    listing.unnamed += u64::from(mailbox);
                    continue;
                }
            };
            if kind == Kind::Level && depth < DEPTH_MAX {
                left.push((directory.clone(), depth + 1));
            }
            match layout.name(directory.as_bytes()) {
                Some(name) if mailbox || kind == Kind::Level => {
                    listing.places.push(Place { name, directory, mailbox })
                }
                _ => listing.unnamed += u64::from(mailbox),
            }
        }
    }
    listing.places[1..].sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// May have others below.
    Level,
    /// All there is of it.
    Whole,
}

impl Kind {
    /// What a folder of that name can be; `None`: nothing of the user's.
    fn of(layout: Layout, name: &[u8]) -> Option<Self> {
        match layout {
            // `..DOVECOT-TRASHED` and the like are mailboxes on their way out.
            Layout::MaildirPlusPlus => {
                (name.starts_with(b".") && !name.starts_with(b"..")).then_some(Kind::Whole)
            }
            Layout::Fs => {
                (!name.starts_with(b".") && !matches!(name, b"cur" | b"new" | b"tmp")).then_some(Kind::Level)
            }
        }
    }
}

fn is_mailbox(folder: &OwnedFd, name: &[u8]) -> Result<bool> {
    let cur = [name, b"/cur"].concat();
    match fstatat(folder, &cur[..], AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(e) => Err(Error::io("look at", String::from_utf8_lossy(&cur).as_ref())(e)),
    }
}

/// Names of the folders in a folder.
fn folders(folder: &OwnedFd, name: &str) -> Result<Vec<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut listing =
        Dir::openat(folder.as_fd(), ".", flags, Mode::empty()).map_err(Error::io("list", name))?;
    let mut found = Vec::new();
    for entry in listing.iter() {
        let entry = entry.map_err(Error::io("list", name))?;
        let child = entry.file_name();
        let folder = match entry.file_type() {
            Some(kind) => kind == Type::Directory,
            None => {
                let stat = fstatat(folder, child, AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(Error::io("look at", name))?;
                stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR
            }
        };
        if folder && child != c"." && child != c".." {
            found.push(child.to_bytes().to_vec());
        }
    }
    Ok(found)
}
