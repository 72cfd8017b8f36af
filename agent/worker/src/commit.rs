//! The commit: one rename puts the Maildir in place, then each folder's mbox is exchanged for its tombstone.

use std::os::fd::AsFd;
use std::path::Path;

use mailready_mailbox::Tree;
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::fsync;

use crate::aside::{Aside, Entry};
use crate::file::{self, Identity};
use crate::locking::{AllLocks, LockedFolder};
use crate::staging::Staging;
use crate::wire::{Block, Step};
use crate::{Stop, Task, note, step, subscribed};

/// What is left to do after a commit, and the locks under which it was made.
pub(crate) struct Committed {
    pub(crate) folders_left: u64,
    #[expect(dead_code, reason = "held, never read")]
    locks: AllLocks,
}

/// Threads that make tombstones. They wait for the disk, which takes many at once better than one after the other.
const THREADS: usize = 8;

/// Makes the tombstones of all folders that have none yet, so that under the locks there is nothing to write. They follow the present positions.
pub(crate) fn make_tombstones(staging: &Staging<'_>) -> Result<(), Stop> {
    let Task { place, run, .. } = staging.task;
    let Some(root) = place.mail() else { return Ok(()) };
    let folders: Vec<(usize, &Path)> = staging
        .boxes
        .iter()
        .enumerate()
        .filter_map(|(position, each)| Some((position, each.path()?)))
        .collect();
    if folders.is_empty() {
        return Ok(());
    }
    let make = |aside: &Aside, some: &[(usize, &Path)]| {
        some.iter().try_for_each(|(position, path)| {
            let stat = match file::place_of(root, path)? {
                Some((folder, name)) => file::glance(folder.as_fd(), os(&name))?,
                None => None,
            };
            aside.make_tombstone(Entry::original(*position), stat.as_ref())
        })
    };
    let made = || {
        let aside = Aside::create(place.work(), run)?;
        let has_one = |position: usize| {
            file::glance(aside.folder(), Entry::original(position).file_name()).map(|found| found.is_some())
        };
        let mut without = Vec::new();
        for (position, path) in &folders {
            if !has_one(*position)? {
                without.push((*position, *path));
            }
        }
        if without.is_empty() {
            return Ok(());
        }
        step(Step::FolderTombstone, run);
        std::thread::scope(|scope| {
            let parts = without.chunks(without.len().div_ceil(THREADS));
            let threads: Vec<_> = parts.map(|part| scope.spawn(|| make(&aside, part))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        aside.sync()
    };
    made().map_err(Stop::failed(Step::FolderTombstone))
}

fn os(name: &std::ffi::CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes())
}

/// Seals the stage and puts it in place; from the rename on nothing is undone.
pub(crate) fn commit(staging: &mut Staging<'_>, locks: AllLocks) -> Result<Committed, Stop> {
    let Task { place, run, .. } = staging.task;
    step(Step::Seal, run);
    subscribed::carry(staging.task, &staging.tree)?;
    let given = subscribed::last_validity(staging.task)?;
    staging.tree.uid_validity_given(given);
    staging.tree.seal().map_err(Stop::engine(Step::Seal))?;
    fsync(place.work()).map_err(Stop::failed(Step::Seal))?;
    let aside = match locks.folders.is_empty() {
        true => None,
        false => Some(Aside::create(place.work(), run).map_err(Stop::failed(Step::Seal))?),
    };
    step(Step::Commit, run);
    let (name, no_replace) = (Tree::name(run), RenameFlags::RENAME_NOREPLACE);
    renameat2(place.work(), name.as_str(), &place.parent, place.maildir.as_c_str(), no_replace).map_err(
        |errno| match errno {
            Errno::EEXIST => Stop::blocked(Block::MaildirExists, 0),
            Errno::EXDEV => Stop::blocked(Block::OtherMount, 0),
            Errno::EINVAL => Stop::blocked(Block::NoRename, 0),
            other => Stop::errno(Step::Commit, other),
        },
    )?;
    step(Step::SyncCommit, run);
    // From here on nothing may be undone: if the sync fails the agent asks the disk.
    if let Err(errno) = fsync(&place.parent) {
        note(&format!("the Maildir is in place, but its folder could not be synced: {errno}"));
        std::process::exit(1);
    }
    let folders_left = aside.map_or(0, |aside| set_aside(staging.task, &aside, &locks));
    Ok(Committed { folders_left, locks })
}

/// Exchanges every locked folder for its tombstone; tells how many could not be. Whatever fails is done again later, and so does not stop the others.
pub(crate) fn set_aside(task: Task<'_>, aside: &Aside, locks: &AllLocks) -> u64 {
    let mut left = 0;
    for folder in &locks.folders {
        step(Step::SetAsideFolder, task.run);
        if let Err(errno) = set_aside_one(aside, folder) {
            note(&format!("mailbox {} cannot be set aside yet: {errno}", folder.position));
            left += 1;
        }
    }
    step(Step::SyncSetAsideFolders, task.run);
    if let Err(errno) = locks.directories.sync().and_then(|()| aside.sync()) {
        note(&format!("the set-aside folders could not be synced: {errno}"));
        return left.max(1);
    }
    left
}

fn set_aside_one(aside: &Aside, folder: &LockedFolder) -> nix::Result<()> {
    let entry = Entry::original(folder.position);
    let locked = Identity::from(&nix::sys::stat::fstat(folder.locked.file())?);
    aside.exchange(entry, folder.spot.directory(), &folder.spot.name)?;
    let taken = file::glance(aside.folder(), entry.file_name())?;
    if taken.as_ref().map(Identity::from) != Some(locked) {
        // A program put another file at the path while the locks were held. The Maildir is the mail by now: what of that file is new is told by its content, which the drain asks of every entry but the originals.
        let later = aside.next_entry(folder.position)?;
        note(&format!(
            "another file was put at the place of mailbox {}; what is new in it is carried over",
            folder.position
        ));
        let (old, new) = (entry.file_name(), later.file_name());
        renameat2(aside.folder(), old.as_str(), aside.folder(), new.as_str(), RenameFlags::RENAME_NOREPLACE)?;
    }
    if !folder.locked.is_untouched() {
        note(&format!(
            "somebody waits to open mailbox {}; what he adds to it is carried over",
            folder.position
        ));
    }
    Ok(())
}
