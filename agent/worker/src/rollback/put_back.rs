//! The mboxes in their places, each exchanged for the tombstone that stands there, and what lies beside them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mailready_mailbox::extract::ArchiveEntry;
use mailready_mailbox::marker::Marker;
use mailready_mailbox::{index, subscriptions, tombstone, validity};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::boxes::Boxes;
use super::late;
use crate::aside::Kind;
use crate::file::{self, FILE, FOLDER};
use crate::folders;
use crate::locking::{Directories, Spot};
use crate::locks::{LockFile, Locked};
use crate::look::index_path;
use crate::wire::{Block, Report, Step};
use crate::{Stop, Task, note, step};

/// Blocks where something that is not ours stands in a folder's place, or where a directory belongs.
pub(super) fn check_places(boxes: &Boxes<'_>) -> Result<(), Stop> {
    let Some(root) = boxes.task.place.mail() else { return Ok(()) };
    for (number, each) in boxes.boxes.iter().enumerate().filter(|(_, each)| !each.is_inbox() && !each.placed)
    {
        let levels = each.path.ancestors().filter(|path| !path.as_os_str().is_empty());
        for path in levels {
            let must_be_file = path == each.path && each.is_mailbox;
            let stands = stands(boxes.task, root, path).map_err(Stop::failed(Step::BackStage))?;
            let in_the_way = match stands {
                Stands::Nothing | Stands::Tombstone | Stands::EmptyDirectory => false,
                Stands::EmptyFile => !must_be_file,
                Stands::Directory => must_be_file && !has_children(boxes, &each.name),
                Stands::Other => true,
            };
            if in_the_way {
                note(&format!(
                    "{path:?} below the mbox root is in the way of mailbox {number}, {:?}",
                    each.name
                ));
                return Err(Stop::blocked(Block::PlaceTaken, number as u64));
            }
        }
    }
    Ok(())
}

fn has_children(boxes: &Boxes<'_>, name: &str) -> bool {
    let below = format!("{name}/");
    boxes.boxes.iter().any(|each| each.name.starts_with(&below))
}

/// What is at a path below the mbox root.
enum Stands {
    Nothing,
    /// This run's, whatever is behind it.
    Tombstone,
    /// Nothing in it but Dovecot's indexes.
    EmptyDirectory,
    Directory,
    /// Of which nothing can be lost.
    EmptyFile,
    Other,
}

fn stands(task: Task<'_>, root: BorrowedFd<'_>, path: &Path) -> nix::Result<Stands> {
    let Some((folder, name)) = file::place_of(root, path)? else { return Ok(Stands::Nothing) };
    match openat(&folder, name.as_c_str(), OFlag::O_RDONLY | FILE, Mode::empty()) {
        Ok(opened) => match file::kind(&fstat(&opened)?) {
            SFlag::S_IFDIR => {
                let only_index = file::names(opened.as_fd())?.iter().all(|name| name.as_c_str() == c".imap");
                Ok(if only_index { Stands::EmptyDirectory } else { Stands::Directory })
            }
            SFlag::S_IFREG => Ok(match Kind::of(opened.as_fd(), task.run)? {
                Kind::Tombstone { .. } => Stands::Tombstone,
                Kind::Mbox if fstat(&opened)?.st_size == 0 => Stands::EmptyFile,
                Kind::Mbox => Stands::Other,
            }),
            _ => Ok(Stands::Other),
        },
        Err(Errno::ENOENT) => Ok(Stands::Nothing),
        Err(Errno::ELOOP | Errno::ENXIO) => Ok(Stands::Other),
        Err(errno) => Err(errno),
    }
}

/// Puts everything in its place but the inbox, which is the agent's. What cannot be locked now is left for the next time.
pub(super) fn put_back(boxes: &mut Boxes<'_>, maildir: &OwnedFd, marker: &Marker) -> Result<Report, Stop> {
    let task = boxes.task;
    let failed = Stop::failed(Step::BackFolder);
    let mut messages = 0;
    step(Step::BackLate, task.run);
    for number in 0..boxes.boxes.len() {
        if !boxes.boxes[number].placed {
            messages += late::take_files(boxes, number, maildir)?;
        }
    }
    if boxes.boxes.len() > 1 || marker.sources.len() > 1 {
        let root = mail_root(task).map_err(&failed)?;
        let lock = LockFile::create(task.place.work(), task.run, &task.place.host).map_err(&failed)?;
        remove_gone(boxes, marker, root.as_fd(), &lock).map_err(&failed)?;
        for number in 0..boxes.boxes.len() {
            let each = &boxes.boxes[number];
            if each.is_inbox() || each.placed {
                continue;
            }
            let directory = match each.is_mailbox {
                true => each.path.parent().unwrap_or(Path::new("")).to_owned(),
                false => each.path.clone(),
            };
            make_directories(root.as_fd(), &directory).map_err(&failed)?;
            if each.is_mailbox {
                messages += place_one(boxes, number, maildir, marker, root.as_fd(), &lock)?.unwrap_or(0);
            }
        }
        drop(lock);
        LockFile::remove(task.place.work(), task.run).map_err(&failed)?;
    }
    put_index_back(boxes, 0, maildir)?;
    put_lists_back(task, maildir)?;
    Ok(Report::BackPlaced { messages, folders_left: boxes.left(), length: boxes.length() })
}

/// The mbox root; a user who had no folders may have some now.
fn mail_root(task: Task<'_>) -> nix::Result<OwnedFd> {
    if let Some(root) = task.place.mail() {
        return openat(root, ".", FOLDER, Mode::empty());
    }
    let below = task.job.folders.strip_prefix(&task.job.home).map_err(|_| Errno::ENOENT)?;
    make_directories(task.place.home.as_fd(), below)?;
    file::folder_at(task.place.home.as_fd(), below)?.ok_or(Errno::ENOENT)
}

/// Makes the directories of a relative path, as far as they are not there.
fn make_directories(root: BorrowedFd<'_>, path: &Path) -> nix::Result<()> {
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for level in path {
        match mkdirat(&folder, level, Mode::S_IRWXU) {
            Ok(()) => fsync(&folder)?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        folder = openat(&folder, level, FOLDER, Mode::empty())?;
    }
    Ok(())
}

/// Removes the tombstones of folders that were deleted since, and directories that are empty without them.
fn remove_gone(boxes: &Boxes<'_>, marker: &Marker, root: BorrowedFd<'_>, lock: &LockFile) -> nix::Result<()> {
    let (task, mut directories) = (boxes.task, Directories::default());
    for (position, source) in marker.sources.iter().enumerate().skip(1) {
        if boxes.boxes.iter().any(|each| each.is_mailbox && each.name == source.name) {
            continue;
        }
        let path = folders::path_of(&source.name);
        let Some(spot) = directories.spot(root, &path)? else { continue };
        let Some(opened) = spot.open()? else { continue };
        if Kind::of(opened.as_fd(), task.run)? == Kind::Mbox {
            continue;
        }
        let Some(locked) = Locked::try_take(task.job.locks, lock, opened, &spot.directory, &spot.name)?
        else {
            continue;
        };
        if Kind::of(locked.file(), task.run)? == (Kind::Tombstone { behind: 0 }) {
            unlinkat(spot.directory(), spot.name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            fsync(&*spot.directory)?;
            drop(locked);
            remove_index(task, &path)?;
            remove_empty(root, &path)?;
        } else {
            note(&format!(
                "mail came for mailbox {position}, which is deleted; it stays behind the tombstone"
            ));
        }
    }
    Ok(())
}

/// Removes the directories above a path as far as nothing is in them, the root never.
fn remove_empty(root: BorrowedFd<'_>, path: &Path) -> nix::Result<()> {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        let Some((folder, name)) = file::place_of(root, above)? else { return Ok(()) };
        if let Ok(directory) = openat(&folder, name.as_c_str(), FOLDER, Mode::empty()) {
            remove_dir(directory.as_fd(), ".imap")?;
        }
        match unlinkat(&folder, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn remove_dir(above: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    match unlinkat(above, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes Dovecot's index of a folder that is gone.
fn remove_index(task: Task<'_>, path: &Path) -> nix::Result<()> {
    let Some(root) = task.place.index() else { return Ok(()) };
    let index = index_path(Some(path));
    let Some(folder) = file::folder_at(root, &index)? else { return Ok(()) };
    for name in index::FILES {
        unlink(folder.as_fd(), name)?;
    }
    let Some((above, name)) = file::place_of(root, &index)? else { return Ok(()) };
    match name.to_str() {
        Ok(name) => remove_dir(above.as_fd(), name),
        Err(_) => Ok(()),
    }
}

fn unlink(folder: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Exchanges one folder's mbox for its tombstone, with all late mail in it; `None`: somebody has the place locked or open.
fn place_one(
    boxes: &mut Boxes<'_>,
    number: usize,
    maildir: &OwnedFd,
    marker: &Marker,
    root: BorrowedFd<'_>,
    lock: &LockFile,
) -> Result<Option<u64>, Stop> {
    let task = boxes.task;
    let failed = Stop::failed(Step::BackFolder);
    let path = boxes.boxes[number].path.clone();
    let mut directories = Directories::default();
    let Some(spot) = directories.spot(root, &path).map_err(&failed)? else { return Ok(None) };
    let Some(opened) = open_tombstone(task, boxes, &spot).map_err(&failed)? else { return Ok(None) };
    let stat = fstat(&opened).map_err(&failed)?;
    if Kind::of(opened.as_fd(), task.run).map_err(&failed)? == Kind::Mbox {
        note(&format!("something that is not ours stands at the place of mailbox {number}, {path:?}"));
        return Ok(None);
    }
    let locked =
        Locked::try_take(task.job.locks, lock, opened, &spot.directory, &spot.name).map_err(&failed)?;
    let Some(locked) = locked.filter(|_| still_there(&spot, &stat)) else { return Ok(None) };
    let mut messages = 0;
    if let Some(position) = boxes.boxes[number].position {
        let length = marker.sources[position].length;
        messages += late::take_aside(boxes, number, maildir, length)?;
    }
    if Kind::of(locked.file(), task.run).map_err(&failed)? != (Kind::Tombstone { behind: 0 }) {
        let entry = ArchiveEntry { position: number, number: 0 };
        messages += late::take_new(boxes, number, maildir, locked.file(), None, entry)?;
    }
    put_index_back(boxes, number, maildir)?;
    let (back, written) = (boxes.folder()?, boxes.target(number)?);
    let exchange = || {
        fchmod(&written, Mode::from_bits_truncate(stat.st_mode & 0o777))?;
        fsync(&written)?;
        step(Step::BackFolder, task.run);
        let (ours, flags) = (number.to_string(), RenameFlags::RENAME_EXCHANGE);
        renameat2(&back, ours.as_str(), spot.directory(), spot.name.as_c_str(), flags)?;
        step(Step::SyncBackFolders, task.run);
        fsync(&*spot.directory).and_then(|()| fsync(&back))
    };
    exchange().map_err(&failed)?;
    boxes.boxes[number].placed = true;
    Ok(Some(messages))
}

fn still_there(spot: &Spot, stat: &FileStat) -> bool {
    spot.glance()
        .is_ok_and(|now| now.is_some_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino)))
}

/// What stands at the place; where nothing does, a tombstone is put there first, so that every folder comes by one and the same exchange, of which a successor can tell whether it has happened.
fn open_tombstone(task: Task<'_>, boxes: &Boxes<'_>, spot: &Spot) -> nix::Result<Option<OwnedFd>> {
    match spot.glance()? {
        Some(stat) if file::kind(&stat) == SFlag::S_IFDIR => {
            // Of indexes alone, as was looked at before.
            if let Ok(directory) = openat(spot.directory(), spot.name.as_c_str(), FOLDER, Mode::empty()) {
                remove_dir(directory.as_fd(), ".imap")?;
            }
            unlinkat(spot.directory(), spot.name.as_c_str(), UnlinkatFlags::RemoveDir)?;
        }
        Some(stat) if stat.st_size > 0 || file::kind(&stat) != SFlag::S_IFREG => return spot.open(),
        // An empty file is replaced like nothing at all.
        Some(_) | None => {}
    }
    let back = boxes.folder().map_err(|_| Errno::ENOENT)?;
    let name = "tombstone";
    file::write_small(back.as_fd(), name, &tombstone::text(task.run), Mode::S_IRUSR | Mode::S_IWUSR)?;
    let place = |flags| renameat2(&back, name, spot.directory(), spot.name.as_c_str(), flags);
    if let Err(errno) = place(RenameFlags::RENAME_NOREPLACE) {
        if errno != Errno::EEXIST {
            return Err(errno);
        }
        place(RenameFlags::RENAME_EXCHANGE)?;
        if file::glance(back.as_fd(), name)?.is_some_and(|taken| taken.st_size > 0) {
            // Somebody was faster, and it is his now.
            place(RenameFlags::RENAME_EXCHANGE)?;
        }
    }
    spot.open()
}

/// Copies Dovecot's index of a mailbox to where it is for the mbox, in place of the old one.
fn put_index_back(boxes: &Boxes<'_>, number: usize, maildir: &OwnedFd) -> Result<(), Stop> {
    let task = boxes.task;
    let each = &boxes.boxes[number];
    let (Some(root), true) = (task.place.index(), each.is_mailbox) else { return Ok(()) };
    step(Step::BackIndex, task.run);
    let from = boxes.open(number, maildir)?;
    let path: PathBuf = index_path((!each.is_inbox()).then_some(each.path.as_path()));
    let make = || {
        make_directories(root, &path)?;
        file::folder_at(root, &path)?.ok_or(Errno::ENOENT)
    };
    let to = make().map_err(Stop::failed(Step::BackIndex))?;
    index::carry(from.as_fd(), to.as_fd()).map(drop).map_err(Stop::engine_at(Step::BackIndex, number))
}

/// The list of subscribed folders, and the highest UIDVALIDITY that was ever given.
fn put_lists_back(task: Task<'_>, maildir: &OwnedFd) -> Result<(), Stop> {
    let failed = Stop::failed(Step::BackFolder);
    if let Some(control) = task.place.control()
        && let Some(list) =
            file::read_small(maildir.as_fd(), subscriptions::MAILDIR_NAME, 4 << 20).map_err(&failed)?
    {
        let list = subscriptions::to_mbox(&list, task.job.layout);
        let unfinished = format!("{}.mailready", subscriptions::MBOX_NAME);
        let put = || {
            file::write_small(control, &unfinished, &list.text, Mode::S_IRUSR | Mode::S_IWUSR)?;
            nix::fcntl::renameat(control, unfinished.as_str(), control, subscriptions::MBOX_NAME)?;
            fsync(control)
        };
        put().map_err(&failed)?;
    }
    let opened;
    let folder = match (task.place.own_control(), task.place.mail()) {
        (Some(control), _) => control,
        (None, Some(mail)) => {
            make_directories(mail, Path::new(".imap")).map_err(&failed)?;
            opened = file::folder_at(mail, Path::new(".imap")).map_err(&failed)?;
            match &opened {
                Some(folder) => folder.as_fd(),
                None => return Ok(()),
            }
        }
        (None, None) => return Ok(()),
    };
    let engine = Stop::engine(Step::BackFolder);
    let (here, there) =
        (validity::highest(folder).map_err(&engine)?, validity::highest(maildir.as_fd()).map_err(&engine)?);
    if there > here {
        for name in file::names(folder).map_err(&failed)? {
            if name.to_bytes().starts_with(validity::NAME.as_bytes()) {
                unlinkat(folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir).map_err(&failed)?;
            }
        }
        validity::seed(folder, there).map_err(&engine)?;
    }
    Ok(())
}
