//! Where the worker works: home, work folder, the Maildir's parent and the mbox tree, opened once and held by handle.
//!
//! This runs as the user, so no name that the user has planted leads anywhere the user could not go anyway; links in the *last* part of each path are refused all the
//! same, since a work folder or Maildir that is really elsewhere would break the one rename that the commit is. The roots of the mbox tree may be links: those are the site's.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::fsync;

use crate::Stop;
use crate::file::{self, FOLDER, Identity};
use crate::job::Job;
use crate::wire::{Block, Step};

/// A folder that may be reached by a link.
const ROOT: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

pub(crate) struct Place {
    pub(crate) home: OwnedFd,
    /// The work folder; the lock on it is held as long as this lives, so one process at a time works on this mailbox.
    pub(crate) work: Flock<OwnedFd>,
    /// Folder that holds, or is going to hold, the Maildir.
    pub(crate) parent: OwnedFd,
    /// Name of the Maildir in it.
    pub(crate) maildir: CString,
    /// Root of the mbox folders, where there is one.
    pub(crate) mail: Option<OwnedFd>,
    /// Root of Dovecot's indexes of them.
    index: Elsewhere,
    /// Where Dovecot keeps its list of subscriptions.
    control: Elsewhere,
    /// Folders that can be locked at once. This and the next are asked before the sandbox, which does not let them be asked.
    pub(crate) most_folders: usize,
    /// For dotlocks.
    pub(crate) host: String,
}

/// A root that is the mbox root unless it is configured elsewhere.
enum Elsewhere {
    No,
    /// `None`: there is nothing yet.
    At(Option<OwnedFd>),
}

impl Elsewhere {
    fn open(path: &Path) -> Result<Self, Stop> {
        match path.as_os_str().is_empty() {
            true => Ok(Self::No),
            false => root(path).map(Self::At),
        }
    }

    fn own(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::No | Self::At(None) => None,
            Self::At(Some(folder)) => Some(folder.as_fd()),
        }
    }

    fn or<'a>(&'a self, mail: &'a Option<OwnedFd>) -> Option<BorrowedFd<'a>> {
        match self {
            Self::No => mail.as_ref().map(AsFd::as_fd),
            Self::At(_) => self.own(),
        }
    }
}

/// Parent folder and last name of an absolute path.
fn split(path: &Path) -> Result<(&Path, &OsStr), Stop> {
    path.parent().zip(path.file_name()).ok_or_else(|| Stop::errno(Step::Open, Errno::EINVAL))
}

/// A folder of the user's own that has to be there.
fn own_folder(path: &Path, uid: u32) -> Result<OwnedFd, Stop> {
    let folder = open(path, ROOT, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => Stop::blocked(Block::HomeMissing, 0),
        Errno::EACCES => Stop::blocked(Block::HomeForeign, 0),
        other => Stop::errno(Step::Open, other),
    })?;
    match fstat(&folder).map_err(Stop::failed(Step::Open))?.st_uid == uid {
        true => Ok(folder),
        false => Err(Stop::blocked(Block::HomeForeign, 0)),
    }
}

/// A root of the mbox tree; `None`: none is configured, or it is not there.
fn root(path: &Path) -> Result<Option<OwnedFd>, Stop> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    match open(path, ROOT, Mode::empty()) {
        Ok(root) => Ok(Some(root)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Stop::errno(Step::Open, errno)),
    }
}

impl Place {
    pub(crate) fn open(job: &Job) -> Result<Self, Stop> {
        let home = own_folder(&job.home, job.uid)?;
        let (parent_path, maildir) = split(&job.maildir)?;
        let parent = own_folder(parent_path, job.uid)?;
        let work = work_folder(job)?;
        let maildir = CString::new(maildir.as_bytes()).map_err(|_| Stop::errno(Step::Open, Errno::EINVAL))?;
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let mail = root(&job.folders)?;
        let (index, control) = (Elsewhere::open(&job.index)?, Elsewhere::open(&job.control)?);
        let place = Self {
            home,
            work,
            parent,
            maildir,
            mail,
            index,
            control,
            most_folders: crate::most_folders(),
            host,
        };
        if !place.is_on_one_mount(place.parent.as_fd())? {
            return Err(Stop::blocked(Block::OtherMount, 0));
        }
        Ok(place)
    }

    /// Whether a folder is on the work folder's file system. A bind mount of the same one is not seen so; the rename itself says EXDEV then.
    pub(crate) fn is_on_one_mount(&self, folder: BorrowedFd<'_>) -> Result<bool, Stop> {
        let device = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| stat.st_dev).map_err(Stop::failed(Step::Open));
        Ok(device(folder)? == device(self.work())?)
    }

    pub(crate) fn work(&self) -> BorrowedFd<'_> {
        self.work.as_fd()
    }

    pub(crate) fn mail(&self) -> Option<BorrowedFd<'_>> {
        self.mail.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn index(&self) -> Option<BorrowedFd<'_>> {
        self.index.or(&self.mail)
    }

    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.or(&self.mail)
    }

    /// Where Dovecot keeps the control files that lie in `.imap` unless they have a place of their own.
    pub(crate) fn own_control(&self) -> Option<BorrowedFd<'_>> {
        self.control.own()
    }

    /// Every folder that has to be reachable in the sandbox.
    pub(crate) fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let roots = [self.mail(), self.index.own(), self.control.own()].into_iter().flatten();
        [self.home.as_fd(), self.parent.as_fd(), self.work()].into_iter().chain(roots)
    }

    /// The mbox root is the home: mail among everything else.
    pub(crate) fn at_home(&self) -> Result<bool, Stop> {
        match self.mail() {
            Some(mail) => file::same(mail, &self.home).map_err(Stop::failed(Step::Open)),
            None => Ok(false),
        }
    }

    /// Blocks an mbox root that is the Maildir's place, or within it.
    pub(crate) fn check_roots(&self, job: &Job) -> Result<(), Stop> {
        let within = !job.folders.as_os_str().is_empty() && job.folders.starts_with(&job.maildir);
        let same = match (self.mail(), self.open_maildir()?) {
            (Some(mail), Some(maildir)) => file::same(mail, maildir).map_err(Stop::failed(Step::Open))?,
            _ => false,
        };
        if within || same { Err(Stop::blocked(Block::SameRoot, 0)) } else { Ok(()) }
    }

    /// What a walk of the mbox root must not take for mail.
    pub(crate) fn not_mail(&self) -> Result<Vec<Identity>, Stop> {
        let identity = |fd: BorrowedFd<'_>| {
            fstat(fd).map(|stat| Identity::from(&stat)).map_err(Stop::failed(Step::Open))
        };
        let mut not_mail = vec![identity(self.work())?];
        if let Some(maildir) = self.glance_maildir()? {
            not_mail.push(maildir);
        }
        // Elsewhere, but perhaps below the mbox root all the same.
        for folder in [self.index.own(), self.control.own()].into_iter().flatten() {
            not_mail.push(identity(folder)?);
        }
        Ok(not_mail)
    }

    fn glance_maildir(&self) -> Result<Option<Identity>, Stop> {
        let stat = file::glance(self.parent.as_fd(), OsStr::from_bytes(self.maildir.to_bytes()));
        Ok(stat.map_err(Stop::failed(Step::Open))?.as_ref().map(Identity::from))
    }

    /// Whether anything at all stands at the Maildir's path.
    pub(crate) fn maildir_exists(&self) -> Result<bool, Stop> {
        self.glance_maildir().map(|found| found.is_some())
    }

    /// The Maildir, if there is one.
    pub(crate) fn open_maildir(&self) -> Result<Option<OwnedFd>, Stop> {
        match openat(&self.parent, self.maildir.as_c_str(), FOLDER, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(Stop::errno(Step::Open, errno)),
        }
    }
}

/// Opens the work folder, makes it if it is not there, and locks it.
fn work_folder(job: &Job) -> Result<Flock<OwnedFd>, Stop> {
    let (parent_path, name) = split(&job.work)?;
    let parent = open(parent_path, ROOT, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => Stop::blocked(Block::HomeMissing, 0),
        other => Stop::errno(Step::Open, other),
    })?;
    match mkdirat(&parent, name, Mode::S_IRWXU) {
        // What is synced in it later is lost in a power cut all the same if its own name is.
        Ok(()) => fsync(&parent).map_err(Stop::failed(Step::Open))?,
        Err(Errno::EEXIST) => {}
        Err(Errno::EACCES) => return Err(Stop::blocked(Block::HomeForeign, 0)),
        Err(errno) => return Err(Stop::errno(Step::Open, errno)),
    }
    let work = openat(&parent, name, FOLDER, Mode::empty()).map_err(|errno| match errno {
        Errno::ELOOP | Errno::ENOTDIR | Errno::EACCES => Stop::blocked(Block::WorkForeign, 0),
        other => Stop::errno(Step::Open, other),
    })?;
    let stat = fstat(&work).map_err(Stop::failed(Step::Open))?;
    if stat.st_uid != job.uid || file::kind(&stat) != SFlag::S_IFDIR {
        return Err(Stop::blocked(Block::WorkForeign, 0));
    }
    Flock::lock(work, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Stop::blocked(Block::WorkBusy, 0),
        other => Stop::errno(Step::Open, other),
    })
}
