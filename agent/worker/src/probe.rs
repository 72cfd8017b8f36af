//! Where the mail is, by the disk, and what a dead worker of the run has left behind.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use mailready_mailbox::marker::Marker;
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::aside::Aside;
use crate::check;
use crate::convert;
use crate::file::{self, FOLDER, Identity};
use crate::folders;
use crate::locks::LockFile;
use crate::wire::{Report, Step};
use crate::{Stop, Task, late, note, step};

/// The mark of a rollback that is under way.
pub(crate) const ROLLING_BACK: &str = "rolling-back";

/// Directories are searched for dotlocks this deep.
const DEPTH: usize = 64;

/// Where the Maildir of a run goes when it is rolled back.
pub(crate) fn withdrawn_name(task: Task<'_>) -> String {
    format!("withdrawn-{}", task.run)
}

/// The Maildir, if it is this run's.
pub(crate) fn committed(task: Task<'_>) -> Result<Option<(OwnedFd, Marker)>, Stop> {
    let Some(maildir) = task.place.open_maildir()? else { return Ok(None) };
    Ok(marker_of(task, maildir.as_fd())?.map(|marker| (maildir, marker)))
}

/// The Maildir that a rollback of this run has taken away.
pub(crate) fn withdrawn(task: Task<'_>) -> Result<Option<(OwnedFd, Marker)>, Stop> {
    let maildir = match openat(task.place.work(), withdrawn_name(task).as_str(), FOLDER, Mode::empty()) {
        Ok(maildir) => maildir,
        // Until the exchange it is the plain file that is going to stand at the Maildir's place.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(Stop::errno(Step::Probe, errno)),
    };
    Ok(marker_of(task, maildir.as_fd())?.map(|marker| (maildir, marker)))
}

fn marker_of(task: Task<'_>, maildir: BorrowedFd<'_>) -> Result<Option<Marker>, Stop> {
    let marker = Marker::read(maildir).map_err(Stop::engine(Step::Probe))?;
    Ok(marker.filter(|marker| marker.run == *task.run))
}

/// Folders whose mbox still stands at its place: position and path below the mbox root. Asked of what was set aside, never of the place: some program may have written an mbox back there since.
pub(crate) fn folders_left(task: Task<'_>, marker: &Marker) -> Result<Vec<(usize, PathBuf)>, Stop> {
    let mut left = Vec::new();
    let aside = Aside::open(task.place.work(), task.run).map_err(Stop::failed(Step::Probe))?;
    for (position, source) in marker.sources.iter().enumerate().skip(1) {
        let is_set_aside = match &aside {
            Some(aside) => aside.holds_original(position).map_err(Stop::failed(Step::Probe))?,
            None => false,
        };
        if !is_set_aside {
            left.push((position, folders::path_of(&source.name)));
        }
    }
    Ok(left)
}

/// Looks, and removes what an uncommitted run has left.
pub(crate) fn probe(task: Task<'_>) -> Result<Report, Stop> {
    step(Step::Probe, task.run);
    remove_dead_dotlocks(task)?;
    check::remove(task).map_err(Stop::failed(Step::Probe))?;
    let rolling_back =
        file::glance(task.place.work(), ROLLING_BACK).map_err(Stop::failed(Step::Probe))?.is_some();
    let (marker, is_withdrawn) = match committed(task)? {
        Some((_, marker)) => (Some(marker), false),
        None => (withdrawn(task)?.map(|(_, marker)| marker), true),
    };
    let Some(marker) = marker else {
        step(Step::Abort, task.run);
        late::save(task.run, task.place)?;
        // The run is forgotten only when nothing is left of it but what the next one takes over.
        if !convert::clean_up(task.place, task.run, convert::Fate::Kept) {
            return Err(Stop::errno(Step::Abort, Errno::ENOTEMPTY));
        }
        return Ok(Report::Probed {
            committed: false,
            withdrawn: false,
            rolling_back,
            length: 0,
            folders: 0,
            folders_left: 0,
        });
    };
    if !is_withdrawn {
        // The worker that committed may have died before this.
        step(Step::SyncCommit, task.run);
        fsync(&task.place.parent).map_err(Stop::failed(Step::SyncCommit))?;
    }
    Ok(Report::Probed {
        committed: !is_withdrawn,
        withdrawn: is_withdrawn,
        rolling_back,
        length: marker.sources.first().map_or(0, |source| source.length),
        folders: marker.sources.len().saturating_sub(1) as u64,
        folders_left: folders_left(task, &marker)?.len() as u64,
    })
}

/// Removes the dotlocks of this run whose worker is dead: it is, since this one holds the work folder's lock.
pub(crate) fn remove_dead_dotlocks(task: Task<'_>) -> Result<(), Stop> {
    let (work, run) = (task.place.work(), task.run);
    if let Some(lock) = LockFile::left_behind(work, run).map_err(Stop::failed(Step::Probe))? {
        let mut removed = 0;
        // A rollback locks the mailboxes of the Maildir.
        let maildir = task.place.open_maildir()?;
        for root in [task.place.mail(), maildir.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
            removed += remove_links(root, lock, 0).map_err(Stop::failed(Step::Probe))?;
        }
        note(&format!("removed {removed} dotlocks of a dead worker"));
    }
    LockFile::forget(work, run).map_err(Stop::failed(Step::Probe))
}

fn remove_links(folder: BorrowedFd<'_>, lock: Identity, depth: usize) -> nix::Result<u64> {
    let (mut removed, mut removed_here) = (0, 0);
    for name in file::names(folder)? {
        let name: &CStr = &name;
        if name.to_bytes().ends_with(b".lock") {
            let stat = file::glance(
                folder,
                <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes()),
            )?;
            if stat.is_some_and(|stat| Identity::from(&stat) == lock) {
                unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?;
                removed_here += 1;
            }
            continue;
        }
        if depth < DEPTH
            && !matches!(name.to_bytes(), b"cur" | b"new" | b"tmp" | b".imap")
            && let Ok(below) = openat(folder, name, FOLDER, Mode::empty())
        {
            removed += remove_links(below.as_fd(), lock, depth + 1)?;
        }
    }
    if removed_here > 0 {
        // Before their other end goes, by which they are known.
        fsync(folder)?;
    }
    Ok(removed + removed_here)
}
