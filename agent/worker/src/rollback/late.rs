//! Mail that came while the way back was under way: nobody has seen it, and it goes behind everything else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mailready_mailbox::back::append_files;
use mailready_mailbox::extract::{ArchiveEntry, Begin, extract};
use mailready_mailbox::layout::INBOX;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::boxes::Boxes;
use crate::Stop;
use crate::aside::{Aside, ORIGINAL};
use crate::extraction::Extraction;
use crate::file::{self, FOLDER, Identity};
use crate::wire::Step;

/// A folder for message files on their way into an mbox.
const FOLDER_NAME: &str = "late";

/// Adds the files that have come to the withdrawn mailbox since it was written.
pub(super) fn take_files(boxes: &mut Boxes<'_>, number: usize, maildir: &OwnedFd) -> Result<u64, Stop> {
    let Some(mut written) = boxes.boxes[number].written.take() else { return Ok(0) };
    let folder = boxes.open(number, maildir)?;
    let target = boxes.target(number)?;
    let added =
        boxes.with_way(number, folder.as_fd(), |way| way.append_late(target.as_fd(), &mut written))?;
    boxes.boxes[number].written = Some(written);
    added.map_err(Stop::engine_at(Step::BackLate, number))
}

/// Adds what is new in the file at the spool's place, any number of times.
pub(super) fn take_rest(boxes: &mut Boxes<'_>, maildir: &OwnedFd, place: &OwnedFd) -> Result<u64, Stop> {
    let stat = fstat(place).map_err(Stop::failed(Step::BackLate))?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let identity = Identity::from(&stat);
    let from = boxes.rest.filter(|(of, _)| *of == identity).map(|(_, to)| to);
    if from.is_some_and(|from| from >= size) {
        return Ok(0);
    }
    let entry = ArchiveEntry { position: 0, number: ORIGINAL };
    let added = take_new(boxes, 0, maildir, place.as_fd(), from, entry)?;
    boxes.rest = Some((identity, size));
    Ok(added)
}

/// Adds what a slow deliverer has put into a folder's files that were set aside.
pub(super) fn take_aside(
    boxes: &mut Boxes<'_>,
    number: usize,
    maildir: &OwnedFd,
    length: u64,
) -> Result<u64, Stop> {
    let task = boxes.task;
    let failed = Stop::failed(Step::BackLate);
    let Some(position) = boxes.boxes[number].position else { return Ok(0) };
    let Some(aside) = Aside::open(task.place.work(), task.run).map_err(&failed)? else { return Ok(0) };
    let mut added = 0;
    for entry in aside.entries().map_err(&failed)?.into_iter().filter(|entry| entry.position == position) {
        let Some(opened) = aside.open_entry(entry, OFlag::O_RDONLY).map_err(&failed)? else { continue };
        let archive = ArchiveEntry { position, number: entry.made };
        let known = Extraction::new(task, archive).position()?.or((entry.made == ORIGINAL).then_some(length));
        let size = u64::try_from(fstat(&opened).map_err(&failed)?.st_size).unwrap_or(0);
        if known.is_none_or(|known| size > known) {
            added += take_new(boxes, number, maildir, opened.as_fd(), known, archive)?;
        }
    }
    Ok(added)
}

/// Adds what is new in one file: from a position on, or by its content.
pub(super) fn take_new(
    boxes: &mut Boxes<'_>,
    number: usize,
    maildir: &OwnedFd,
    source: BorrowedFd<'_>,
    from: Option<u64>,
    entry: ArchiveEntry,
) -> Result<u64, Stop> {
    let failed = Stop::failed(Step::BackLate);
    let engine = |error| Stop::engine_at(Step::BackLate, number)(error);
    let Some(mut written) = boxes.boxes[number].written.take() else { return Ok(0) };
    let folder = boxes.folder()?;
    remove_folder(folder.as_fd()).map_err(&failed)?;
    mkdirat(&folder, FOLDER_NAME, Mode::S_IRWXU).map_err(&failed)?;
    let late = openat(&folder, FOLDER_NAME, FOLDER, Mode::empty()).map_err(&failed)?;
    let mailbox = boxes.open(number, maildir)?;
    let name = boxes.boxes[number].name.clone();
    let begin = match from {
        Some(from) => Begin::At(from),
        None => Begin::ByContent { maildir: maildir.as_fd(), folder: mailbox.as_fd(), source: &name },
    };
    let size = u64::try_from(fstat(source).map_err(&failed)?.st_size).unwrap_or(0);
    let (run, rules) = (boxes.task.run, boxes.task.rules);
    extract(source, Path::new(INBOX), begin, size, late.as_fd(), run, entry, rules).map_err(engine)?;
    let target = boxes.target(number)?;
    let added =
        append_files(late.as_fd(), Path::new(&name), rules, target.as_fd(), &mut written).map_err(engine)?;
    boxes.boxes[number].written = Some(written);
    remove_folder(folder.as_fd()).map_err(&failed)?;
    Ok(added)
}

/// Removes that folder and the files in it.
pub(super) fn remove_folder(back: BorrowedFd<'_>) -> nix::Result<()> {
    let late = match openat(back, FOLDER_NAME, FOLDER, Mode::empty()) {
        Ok(late) => late,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for name in file::names(late.as_fd())? {
        unlinkat(&late, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
    }
    unlinkat(back, FOLDER_NAME, UnlinkatFlags::RemoveDir)
}
