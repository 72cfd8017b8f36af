//! The spool on its way back: `RUNID.back` in the archive folder is the mbox that a rollback is going to put at the place; after the exchange it is the tombstone that stood there.

use std::os::fd::OwnedFd;

use mailready_worker::{RunId, tombstone};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::{FILE, Ownership, Result, Spool, is_tombstone, size};
use crate::flow::file_lease::FileLease;

impl Spool {
    pub(super) fn back_name(run: &RunId) -> String {
        format!("{run}.back")
    }

    /// Makes an empty file for the mbox; one that an attempt before this has left is thrown away.
    pub(in crate::flow) fn make_back(&self, run: &RunId, ownership: Ownership) -> Result<OwnedFd> {
        self.remove_back(run)?;
        let name = Self::back_name(run);
        let flags = FILE | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = openat(&self.archive, name.as_str(), flags, Mode::from_bits_truncate(0o600))
            .map_err(self.in_archive("create", &name))?;
        ownership.give(&file).map_err(self.in_archive("give to its user", &name))?;
        fsync(&self.archive).map_err(self.in_archive("sync", ""))?;
        Ok(file)
    }

    /// Whether the exchange has been made: then the tombstone lies here.
    pub(in crate::flow) fn is_back(&self, run: &RunId) -> Result<bool> {
        Ok(self.open_back(run)?.is_some_and(|file| is_tombstone(&file, run)))
    }

    /// What lies here.
    pub(in crate::flow) fn open_back(&self, run: &RunId) -> Result<Option<OwnedFd>> {
        self.open_believed(run, &Self::back_name(run), FILE)
    }

    /// Removes the tombstone, unless somebody has it open or more stands in it than the `taken` bytes: mail of a program that had found it at the place a moment before. That stays here, and is told.
    pub(in crate::flow) fn forget_tombstone(&self, run: &RunId, taken: u64) -> Result<()> {
        let Some(file) = self.open_back(run)? else { return Ok(()) };
        let lease = FileLease::try_take(&file).map_err(self.at_spool("take a lease on the tombstone of"))?;
        let taken = taken.max(tombstone::TOMBSTONE_LEN);
        if lease.is_some() && size(&file).is_ok_and(|size| size <= taken) {
            return self.remove_back(run);
        }
        Err(self.in_archive("remove (there may be mail behind the tombstone in)", &Self::back_name(run))(
            Errno::EBUSY,
        ))
    }

    /// A file without a name, for what nobody is going to read.
    pub(in crate::flow) fn make_scratch(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        openat(&self.archive, ".", flags, Mode::from_bits_truncate(0o600))
            .map_err(self.in_archive("make a file in", ""))
    }

    /// The original, to be read only: what a worker is given it cannot change. `None` where it is not there any more.
    pub(in crate::flow) fn open_original(&self, run: &RunId) -> Result<Option<OwnedFd>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let original = self.open_believed(run, &Self::entry_name(run, 0), flags)?;
        Ok(original.filter(|file| !is_tombstone(file, run)))
    }

    /// Removes the mbox that was never used, or what else lies here.
    pub(in crate::flow) fn remove_back(&self, run: &RunId) -> Result<()> {
        let name = Self::back_name(run);
        // Somebody's file, exchanged in just before a death.
        if let Some(what) = self.glance_in_archive(&name)?.and_then(|stat| self.foreign_in_archive(&stat)) {
            tracing::error!(run = run.as_str(), "{}", self.expel(run, &name, what, None));
            return Ok(());
        }
        match unlinkat(&self.archive, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.in_archive("remove", &name)(errno)),
        }
    }
}
