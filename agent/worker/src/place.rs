//! Where the worker works: home, work folder and the Maildir's parent, opened once and held by handle.
//!
//! This runs as the user, so no name that the user has planted leads anywhere the user could not go anyway; links in the *last* part of each path are refused all the
//! same, since a work folder or Maildir that is really elsewhere would break the one rename that the commit is.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::fsync;

use crate::Stop;
use crate::job::Job;
use crate::wire::{Block, Report, Step};

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

pub(crate) struct Place {
    pub(crate) home: OwnedFd,
    /// The work folder; the lock on it is held as long as this lives, so one process at a time works on this mailbox.
    pub(crate) work: Flock<OwnedFd>,
    /// Folder that holds, or is going to hold, the Maildir.
    pub(crate) parent: OwnedFd,
    /// Name of the Maildir in it.
    pub(crate) maildir: CString,
    /// Root of the mbox folders, where there is one.
    pub(crate) folders: Option<OwnedFd>,
}

fn blocked(block: Block) -> Stop {
    Stop::Say(Report::Blocked { block, detail: 0 })
}

fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// Parent folder and last name of an absolute path.
fn split(path: &Path) -> Result<(&Path, &OsStr), Stop> {
    path.parent().zip(path.file_name()).ok_or_else(|| Stop::errno(Step::Open, Errno::EINVAL))
}

impl Place {
    pub(crate) fn open(job: &Job) -> Result<Self, Stop> {
        let home = open(&job.home, FOLDER, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => blocked(Block::HomeMissing),
            Errno::EACCES => blocked(Block::HomeForeign),
            other => Stop::errno(Step::Open, other),
        })?;
        if fstat(&home).map_err(Stop::failed(Step::Open))?.st_uid != job.uid {
            return Err(blocked(Block::HomeForeign));
        }
        let (parent_path, maildir) = split(&job.maildir)?;
        let parent = open(parent_path, FOLDER, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => blocked(Block::HomeMissing),
            Errno::EACCES => blocked(Block::HomeForeign),
            other => Stop::errno(Step::Open, other),
        })?;
        if fstat(&parent).map_err(Stop::failed(Step::Open))?.st_uid != job.uid {
            return Err(blocked(Block::HomeForeign));
        }
        let work = work_folder(job)?;
        // `st_dev` alone does not see a bind mount of the same file system; the commit's own rename says EXDEV then.
        let devices = (
            fstat(&parent).map_err(Stop::failed(Step::Open))?.st_dev,
            fstat(&*work).map_err(Stop::failed(Step::Open))?.st_dev,
        );
        if devices.0 != devices.1 {
            return Err(blocked(Block::OtherMount));
        }
        let folders = match job.folders.as_os_str().is_empty() {
            true => None,
            false => open(&job.folders, FOLDER, Mode::empty()).ok(),
        };
        let maildir = CString::new(maildir.as_bytes()).map_err(|_| Stop::errno(Step::Open, Errno::EINVAL))?;
        Ok(Self { home, work, parent, maildir, folders })
    }

    pub(crate) fn work(&self) -> BorrowedFd<'_> {
        self.work.as_fd()
    }

    /// Whether anything at all stands at the Maildir's path.
    pub(crate) fn maildir_exists(&self) -> Result<bool, Stop> {
        match fstatat(&self.parent, self.maildir.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Stop::errno(Step::Open, errno)),
        }
    }

    /// The Maildir, if there is one.
    pub(crate) fn open_maildir(&self) -> Result<Option<OwnedFd>, Stop> {
        match openat(&self.parent, self.maildir.as_c_str(), FOLDER | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(Stop::errno(Step::Open, errno)),
        }
    }
}

/// Opens the work folder, makes it if it is not there, and locks it.
fn work_folder(job: &Job) -> Result<Flock<OwnedFd>, Stop> {
    let (parent_path, name) = split(&job.work)?;
    let parent = open(parent_path, FOLDER, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => blocked(Block::HomeMissing),
        other => Stop::errno(Step::Open, other),
    })?;
    match mkdirat(&parent, name, Mode::S_IRWXU) {
        // What is synced in it later is lost in a power cut all the same if its own name is.
        Ok(()) => fsync(&parent).map_err(Stop::failed(Step::Open))?,
        Err(Errno::EEXIST) => {}
        Err(Errno::EACCES) => return Err(blocked(Block::HomeForeign)),
        Err(errno) => return Err(Stop::errno(Step::Open, errno)),
    }
    let work =
        openat(&parent, name, FOLDER | OFlag::O_NOFOLLOW, Mode::empty()).map_err(|errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR | Errno::EACCES => blocked(Block::WorkForeign),
            other => Stop::errno(Step::Open, other),
        })?;
    let stat = fstat(&work).map_err(Stop::failed(Step::Open))?;
    if stat.st_uid != job.uid || !is_folder(&stat) {
        return Err(blocked(Block::WorkForeign));
    }
    Flock::lock(work, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => blocked(Block::WorkBusy),
        other => Stop::errno(Step::Open, other),
    })
}

/// Entries looked at before a folder tree is called too large to count; it blocks either way.
const COUNT_AT_MOST: u64 = 10_000;

/// Mbox folders (and folders of folders) that Dovecot shows besides the inbox.
///
/// Where the mbox root is the home itself, only files that begin like an mbox count: the rest are the user's own papers.
pub(crate) fn count_folders(place: &Place) -> Result<u64, Stop> {
    let Some(root) = &place.folders else { return Ok(0) };
    let same = |a: &FileStat, b: &FileStat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    let root_stat = fstat(root).map_err(Stop::failed(Step::Open))?;
    let at_home = same(&root_stat, &fstat(&place.home).map_err(Stop::failed(Step::Open))?);
    let mut found = 0;
    let mut seen = 0;
    let mut dir =
        nix::dir::Dir::openat(root, ".", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Open))?;
    let names: Vec<CString> =
        dir.iter().filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_owned())).collect();
    for name in names {
        seen += 1;
        if name.to_bytes().starts_with(b".") || seen > COUNT_AT_MOST {
            continue;
        }
        let Ok(stat) = fstatat(root, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let begins_like_mbox = || {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let mut head = [0; 5];
            openat(root, name.as_c_str(), flags, Mode::empty())
                .is_ok_and(|file| nix::sys::uio::pread(&file, &mut head, 0) == Ok(5) && &head == b"From ")
        };
        let counts = match kind {
            SFlag::S_IFREG if at_home => begins_like_mbox(),
            SFlag::S_IFREG => stat.st_size == 0 || begins_like_mbox(),
            SFlag::S_IFDIR => !at_home,
            _ => false,
        };
        found += u64::from(counts);
    }
    Ok(found)
}
