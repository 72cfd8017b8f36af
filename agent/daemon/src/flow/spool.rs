//! The spool and the archive folder, by handle: open, lock, exchange.
//!
//! Both folders are root's ground (`/var/mail` may be group-writable for mail programs), and this is the only place where the agent touches it. Every name is one
//! component below a handle, links are never followed, and what was opened is looked at before it is believed.

use std::cell::Cell;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mailready_worker::{RunId, tombstone};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, open, openat, renameat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens};
use nix::sys::statfs::FsType;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, unlinkat, write};

mod archive;
mod back;
mod locks;
mod taken;

pub(super) use archive::{Archive, Make};
pub(super) use locks::{LockSet, Locked};
pub(super) use taken::Taken;

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// Non-blocking, so that a fifo or somebody's lease cannot hang the agent.
const FILE: OFlag = OFlag::O_RDWR
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// File systems that several machines write at once: NFS, CIFS and SMB, Ceph, AFS, 9p, OCFS2, GFS2, Lustre, and FUSE, behind which anything can be.
const SHARED: [FsType; 9] = [
    FsType(0x6969),
    FsType(0xff53_4d42),
    FsType(0xfe53_4d42),
    FsType(0x00c3_6400),
    FsType(0x5346_414f),
    FsType(0x0102_1997),
    FsType(0x7461_636f),
    FsType(0x0116_1970),
    FsType(0x6573_5546),
];

/// A system call on spool or archive failed; nothing was changed by it.
#[derive(Debug)]
pub(super) struct SpoolError {
    doing: &'static str,
    path: PathBuf,
    pub(super) errno: Errno,
    /// The archive folder cannot be believed: what is wrong with it, and what to do.
    pub(super) archive: Option<(String, String)>,
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.archive {
            Some((what, _)) => f.write_str(what),
            None => write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.errno.desc()),
        }
    }
}

impl std::error::Error for SpoolError {}

type Result<T> = std::result::Result<T, SpoolError>;

/// What may stand at a spool's path.
pub(super) enum AtPath {
    /// A regular file of one link that belongs to the user.
    File(OwnedFd, FileStat),
    /// Nothing.
    Nothing,
    /// Something that is never touched, and what.
    Foreign(&'static str),
}

/// Whose a file at the spool's path is, and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    uid: Uid,
    gid: Option<Gid>,
    mode: Mode,
}

impl Ownership {
    /// As this file has it.
    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            uid: Uid::from_raw(stat.st_uid),
            gid: Some(Gid::from_raw(stat.st_gid)),
            // Nothing above the nine bits: root's fchmod would grant set-id bits that their user may not set.
            mode: Mode::from_bits_truncate(stat.st_mode & 0o777),
        }
    }

    fn give(self, file: &OwnedFd) -> nix::Result<()> {
        fchown(file, Some(self.uid), self.gid)?;
        fchmod(file, self.mode)
    }
}

/// One user's spool and its archive.
pub(super) struct Spool {
    folder: OwnedFd,
    archive: OwnedFd,
    name: CString,
    folder_path: PathBuf,
    archive_path: PathBuf,
    uid: Uid,
    /// A dotlock of ours could not be removed.
    dotlock_left: Cell<bool>,
}

impl Spool {
    /// Opens the folders. Where the archive folder is not there, `make` says whether it is made or missed.
    pub(super) fn open(inbox: &Path, archive: &Path, uid: u32, make: Make<'_>) -> Result<Self> {
        let error = |doing, path: &Path| {
            let path = path.to_owned();
            move |errno| SpoolError { doing, path, errno, archive: None }
        };
        let invalid =
            || SpoolError { doing: "use", path: inbox.to_owned(), errno: Errno::EINVAL, archive: None };
        let (folder_path, name) = inbox.parent().zip(inbox.file_name()).ok_or_else(invalid)?;
        let folder = open(folder_path, FOLDER, Mode::empty()).map_err(error("open", folder_path))?;
        let fd = Archive::open(archive, make)?.into_folder();
        let name = CString::new(name.as_bytes()).map_err(|_| invalid())?;
        let (folder_path, archive_path) = (folder_path.to_owned(), archive.to_owned());
        Ok(Self {
            folder,
            archive: fd,
            name,
            folder_path,
            archive_path,
            uid: Uid::from_raw(uid),
            dotlock_left: Cell::new(false),
        })
    }

    /// Whether a dotlock that was taken by this handle still stands, because the disk would not let it be removed.
    pub(super) fn has_left_dotlock(&self) -> bool {
        self.dotlock_left.get()
    }

    /// Whether spool and archive are on disks of this machine alone. Locks, leases and inode numbers mean something else, or nothing, where another machine can write.
    pub(super) fn is_local(&self) -> Result<bool> {
        let kind = |fd: &OwnedFd| nix::sys::statfs::fstatfs(fd).map(|stat| stat.filesystem_type());
        let kinds = [kind(&self.folder), kind(&self.archive)];
        for kind in kinds {
            if SHARED.contains(&kind.map_err(self.at_spool("ask for the file system of"))?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn at_spool(&self, doing: &'static str) -> impl Fn(Errno) -> SpoolError + '_ {
        move |errno| SpoolError { doing, path: self.path(), errno, archive: None }
    }

    fn in_archive(&self, doing: &'static str, name: &str) -> impl Fn(Errno) -> SpoolError {
        let path = self.archive_path.join(name);
        move |errno| SpoolError { doing, path: path.clone(), errno, archive: None }
    }

    fn path(&self) -> PathBuf {
        self.folder_path.join(OsStr::from_bytes(self.name.to_bytes()))
    }

    /// Opens what stands at the path.
    pub(super) fn at_path(&self) -> Result<AtPath> {
        let file = match openat(&self.folder, self.name.as_c_str(), FILE, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(AtPath::Nothing),
            Err(Errno::ELOOP) => return Ok(AtPath::Foreign("a symbolic link")),
            Err(Errno::EISDIR | Errno::ENXIO) => return Ok(AtPath::Foreign("no regular file")),
            Err(errno) => return Err(self.at_spool("open")(errno)),
        };
        let stat = fstat(&file).map_err(self.at_spool("look at"))?;
        Ok(match self.foreign(&stat) {
            Some(why) => AtPath::Foreign(why),
            None => AtPath::File(file, stat),
        })
    }

    fn foreign(&self, stat: &FileStat) -> Option<&'static str> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK {
            Some("a symbolic link")
        } else if kind != SFlag::S_IFREG {
            Some("no regular file")
        } else if stat.st_nlink != 1 {
            Some("a file with several links")
        } else if stat.st_uid != self.uid.as_raw() {
            Some("another user's file")
        } else {
            None
        }
    }

    /// Size and inode of what stands at the path, without opening it.
    pub(super) fn glance(&self) -> Result<Option<FileStat>> {
        match fstatat(&self.folder, self.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.at_spool("look at")(errno)),
        }
    }

    /// What a deliverer gives a spool that it makes: the user's, group and mode after the folder's.
    pub(super) fn usual_ownership(&self) -> Result<Ownership> {
        let folder = fstat(&self.folder).map_err(self.at_spool("look at the folder of"))?;
        let group_writes = folder.st_mode & libc::S_IWGRP != 0;
        Ok(Ownership {
            uid: self.uid,
            gid: group_writes.then(|| Gid::from_raw(folder.st_gid)),
            mode: Mode::from_bits_truncate(if group_writes { 0o660 } else { 0o600 }),
        })
    }

    /// Makes an empty spool, as deliverers do.
    pub(super) fn create_empty(&self) -> Result<()> {
        let ownership = self.usual_ownership()?;
        let flags = FILE | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = match openat(&self.folder, self.name.as_c_str(), flags, Mode::from_bits_truncate(0o600)) {
            Ok(file) => file,
            Err(Errno::EEXIST) => return Ok(()),
            Err(errno) => return Err(self.at_spool("create")(errno)),
        };
        ownership.give(&file).map_err(self.at_spool("give to its user"))
    }

    /// Whether what stands at the path is exactly this run's tombstone, with nothing behind it.
    pub(super) fn is_quiet(&self, run: &RunId) -> Result<bool> {
        match self.glance()? {
            Some(stat) if u64::try_from(stat.st_size) == Ok(tombstone::TOMBSTONE_LEN) => {}
            _ => return Ok(false),
        }
        match self.at_path()? {
            AtPath::File(file, _) => Ok(is_tombstone(&file, run)),
            AtPath::Nothing | AtPath::Foreign(_) => Ok(false),
        }
    }

    /// Whether what stands at the path begins with this run's tombstone, whatever is behind it.
    pub(super) fn is_tombstone_at_path(&self, run: &RunId) -> Result<bool> {
        Ok(matches!(self.at_path()?, AtPath::File(file, _) if is_tombstone(&file, run)))
    }

    /// Name of an entry in the archive folder.
    pub(super) fn entry_name(run: &RunId, entry: u64) -> String {
        format!("{run}.{entry}")
    }

    /// Makes the tombstone that is going to be exchanged for the mbox: same owner and mode, synced.
    ///
    /// It gets its name when it is whole: half a tombstone would be taken for mail.
    pub(super) fn make_tombstone(&self, run: &RunId, entry: u64, ownership: Ownership) -> Result<()> {
        // Mail stands behind it: it has stood at the place, and a power cut took the exchange back. It goes there again as it is, and is drained from there.
        if self.has_mail_behind(run, entry)? {
            return Ok(());
        }
        // Left by an attempt that did not come to its commit; made anew, since owner and mode may have changed.
        self.remove_tombstone(run, entry)?;
        let (name, unfinished) = (Self::entry_name(run, entry), Self::unfinished_name(run));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.archive, unfinished.as_str(), flags, Mode::from_bits_truncate(0o600))
            .map_err(self.in_archive("create", &unfinished))?;
        let made = (|| {
            let text = tombstone::text(run);
            if write(&file, &text)? != text.len() {
                return Err(Errno::ENOSPC);
            }
            ownership.give(&file)?;
            // mail programs say "new mail" while mtime is after atime.
            let now = TimeSpec::UTIME_NOW;
            futimens(&file, &now, &now)?;
            fsync(&file)?;
            let no_replace = RenameFlags::RENAME_NOREPLACE;
            renameat2(&self.archive, unfinished.as_str(), &self.archive, name.as_str(), no_replace)?;
            fsync(&self.archive)
        })();
        made.map_err(|errno| {
            // Best effort: what stays is found and removed by the next attempt.
            let _ = unlinkat(&self.archive, unfinished.as_str(), UnlinkatFlags::NoRemoveDir);
            self.in_archive("write the tombstone", &name)(errno)
        })
    }

    /// A tombstone that is being written; no number behind the run id, so it is never taken for an entry. What a crash leaves of it is overwritten or removed by the next.
    fn unfinished_name(run: &RunId) -> String {
        format!("{run}.new")
    }

    fn has_mail_behind(&self, run: &RunId, entry: u64) -> Result<bool> {
        let Some(file) = self.open_entry(run, entry)? else { return Ok(false) };
        Ok(is_tombstone(&file, run) && size(&file).is_ok_and(|size| size > tombstone::TOMBSTONE_LEN))
    }

    /// Removes a tombstone that was never used; anything else of that name is left alone.
    pub(super) fn remove_tombstone(&self, run: &RunId, entry: u64) -> Result<()> {
        let (name, unfinished) = (Self::entry_name(run, entry), Self::unfinished_name(run));
        match unlinkat(&self.archive, unfinished.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(self.in_archive("remove", &unfinished)(errno)),
        }
        match self.open_entry(run, entry)? {
            Some(file)
                if is_tombstone(&file, run)
                    && size(&file).is_ok_and(|size| size == tombstone::TOMBSTONE_LEN) =>
            {
                unlinkat(&self.archive, name.as_str(), UnlinkatFlags::NoRemoveDir)
                    .map_err(self.in_archive("remove", &name))
            }
            Some(_) => Err(self.in_archive("replace", &name)(Errno::EEXIST)),
            None => Ok(()),
        }
    }

    /// Opens an entry of the archive. One that cannot be the user's mail is put out of the way first (see `taken.rs`), and told.
    pub(super) fn open_entry(&self, run: &RunId, entry: u64) -> Result<Option<OwnedFd>> {
        self.open_believed(run, &Self::entry_name(run, entry), FILE)
    }

    /// Numbers of this run's entries, ascending.
    pub(super) fn entries(&self, run: &RunId) -> Result<Vec<u64>> {
        let prefix = format!("{run}.");
        let mut dir = nix::dir::Dir::openat(&self.archive, ".", FOLDER, Mode::empty())
            .map_err(self.in_archive("list", ""))?;
        let mut found = Vec::new();
        for item in dir.iter() {
            let item = item.map_err(self.in_archive("list", ""))?;
            let number: Option<u64> =
                item.file_name().to_str().ok().and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
            found.extend(number);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes a drained entry. Never entry 0, which is the original.
    pub(super) fn forget(&self, run: &RunId, entry: u64) -> Result<()> {
        if entry == 0 {
            return Ok(());
        }
        let name = Self::entry_name(run, entry);
        unlinkat(&self.archive, name.as_str(), UnlinkatFlags::NoRemoveDir)
            .map_err(self.in_archive("remove", &name))
    }

    /// Removes an entry whose time is over: for retention alone, which has made sure that all of it is elsewhere.
    pub(super) fn let_go(&self, run: &RunId, entry: u64) -> Result<()> {
        let name = Self::entry_name(run, entry);
        unlinkat(&self.archive, name.as_str(), UnlinkatFlags::NoRemoveDir)
            .map_err(self.in_archive("remove", &name))
    }

    /// Whether the path still leads to this very file, and the file still has one name and the owner that it had.
    pub(super) fn is_at_path(&self, file: &FileStat) -> Result<bool> {
        Ok(self.glance()?.is_some_and(|now| {
            (now.st_dev, now.st_ino) == (file.st_dev, file.st_ino) && self.foreign(&now).is_none()
        }))
    }

    /// Makes a file that was set aside root's, so that it counts against nobody's quota and nobody can change it; whose it was is in the record. Its mode stays. Only ever a file that is known to have no name but the one in the archive.
    pub(super) fn take_over(&self, file: &OwnedFd) -> Result<()> {
        fchown(file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0))).map_err(self.at_spool("take over"))
    }

    /// Puts the tombstone of that number where there is nothing.
    pub(super) fn place(&self, run: &RunId, entry: u64) -> Result<()> {
        let name = Self::entry_name(run, entry);
        renameat2(
            &self.archive,
            name.as_str(),
            &self.folder,
            self.name.as_c_str(),
            RenameFlags::RENAME_NOREPLACE,
        )
        .map_err(self.at_spool("put the tombstone at"))
    }

    /// Syncs both folders.
    pub(super) fn sync(&self) -> Result<()> {
        fsync(&self.folder).map_err(self.at_spool("sync the folder of"))?;
        fsync(&self.archive).map_err(self.in_archive("sync", ""))
    }
}

/// Whether a file begins with this run's tombstone.
pub(super) fn is_tombstone(file: &OwnedFd, run: &RunId) -> bool {
    let expected = tombstone::text(run);
    let mut head = vec![0; expected.len()];
    nix::sys::uio::pread(file, &mut head, 0) == Ok(expected.len()) && head == expected
}

/// The run whose tombstone a file begins with, whichever run that is.
pub(super) fn any_tombstone(file: &OwnedFd) -> Option<RunId> {
    let length = usize::try_from(tombstone::TOMBSTONE_LEN).unwrap_or(usize::MAX);
    let mut head = vec![0; length];
    (nix::sys::uio::pread(file, &mut head, 0) == Ok(length)).then(|| tombstone::recognise(&head)).flatten()
}

/// Bytes of an open file.
pub(super) fn size(file: &OwnedFd) -> nix::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}
