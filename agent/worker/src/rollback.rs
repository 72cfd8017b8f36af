//! The way back, order by order: write every mailbox as an mbox, confirm, withdraw the Maildir, put the mboxes in their places.
//!
//! Until the one exchange in [`withdraw`] the Maildir is the mail, and every way out removes what was made. After it the mboxes are: nothing is undone any more, and after a death all that is not in its place
//! is written again from the withdrawn Maildir.

mod boxes;
mod confirm;
mod late;
mod put_back;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use mailready_mailbox::back::Told;
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::channel::Channel;
use crate::file::{self, FOLDER};
use crate::locks::LockFile;
use crate::probe::{self, ROLLING_BACK, withdrawn_name};
use crate::wire::{Block, Order, Report, Step};
use crate::{Stop, Task, convert, note, step};
use boxes::Boxes;
use confirm::Locked;

/// What stands at the Maildir's place between the commit of a rollback and its end: a session that had decided for the Maildir finds this and fails, instead of making an empty one.
const PLACEHOLDER: &str = "This mailbox is going back to mbox files.\n";

/// What Dovecot told, kept for a worker that has to go on after a death.
const TOLD: &str = "told";

/// Names of the files in the work folder that a rollback makes, besides the mark and the Maildir.
fn back_name(task: Task<'_>) -> String {
    format!("back-{}", task.run)
}

pub(crate) fn run(task: Task<'_>, channel: &mut Channel, inbox: OwnedFd) -> Result<(), Stop> {
    let mut boxes = Boxes::new(task, inbox);
    let withdrawn = until_withdrawn(task, channel, &mut boxes);
    match withdrawn {
        Ok(Withdrawn::Here) => until_done(task, channel, &mut boxes),
        Ok(Withdrawn::Released) => channel.say(Report::Done),
        Err(stop) => {
            step(Step::Abort, task.run);
            if let Err(errno) = undo(task) {
                convert::stays_behind(&format!("traces of a rollback stay behind: {errno}"));
            }
            Err(stop)
        }
    }
}

/// How the first half ended.
enum Withdrawn {
    /// The mboxes are the mail.
    Here,
    /// The agent wanted to know where the mail is, and nothing else.
    Released,
}

/// Everything up to the commit of the rollback.
fn until_withdrawn(task: Task<'_>, channel: &mut Channel, boxes: &mut Boxes<'_>) -> Result<Withdrawn, Stop> {
    let mut locked: Option<Locked> = None;
    loop {
        match channel.order()? {
            (Order::Probe, _) => {
                drop(locked.take());
                let report = probe::probe(task)?;
                channel.say(report)?;
                if matches!(report, Report::Probed { withdrawn: true, .. }) {
                    return Ok(Withdrawn::Here);
                }
            }
            (Order::Spool, Some(original)) => boxes.original = Some(original),
            (Order::BackStage, told) => {
                drop(locked.take());
                let (maildir, marker) =
                    probe::committed(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))?;
                if let Some(told) = told {
                    keep_told(task, boxes, told)?;
                }
                boxes.write(&maildir, &marker, channel)?;
                channel.say(boxes.report())?;
            }
            (Order::BackMark, _) => {
                step(Step::BackMark, task.run);
                let text = format!("{}\n", task.run);
                file::write_small(
                    task.place.work(),
                    ROLLING_BACK,
                    text.as_bytes(),
                    Mode::S_IRUSR | Mode::S_IWUSR,
                )
                .and_then(|_| fsync(task.place.work()))
                .map_err(Stop::failed(Step::BackMark))?;
                channel.say(Report::Obeyed)?;
            }
            (Order::BackConfirm, _) => {
                step(Step::BackConfirm, task.run);
                drop(locked.take());
                let (maildir, marker) =
                    probe::committed(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))?;
                locked = confirm::confirm(boxes, &maildir, &marker)?;
                channel.say(match (&locked, boxes.report()) {
                    (Some(_), Report::BackStaged { messages, length, .. }) => {
                        Report::BackConfirmed { messages, length }
                    }
                    _ => Report::Changed,
                })?;
            }
            (Order::Withdraw, _) => {
                let Some(locked) = locked.take() else {
                    return Err(Stop::errno(Step::Withdraw, Errno::EPROTO));
                };
                withdraw(task)?;
                drop(locked);
                channel.say(Report::Withdrawn)?;
                return Ok(Withdrawn::Here);
            }
            (Order::Release, _) => return Ok(Withdrawn::Released),
            (Order::Abort, _) => return Err(Stop::Abort),
            _ => return Err(Stop::errno(Step::BackStage, Errno::EBADMSG)),
        }
    }
}

/// Everything after it: each order can be given any number of times.
fn until_done(task: Task<'_>, channel: &mut Channel, boxes: &mut Boxes<'_>) -> Result<(), Stop> {
    let (maildir, marker) = probe::withdrawn(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))?;
    if boxes.told.is_none() {
        boxes.told = kept_told(task)?;
    }
    loop {
        match channel.order()? {
            (Order::Probe, _) => channel.say(probe::probe(task)?)?,
            (Order::Spool, Some(original)) => boxes.original = Some(original),
            (Order::BackFolders, _) => {
                boxes.write_what_is_missing(&maildir, &marker, channel)?;
                let report = put_back::put_back(boxes, &maildir, &marker)?;
                channel.say(report)?;
            }
            (Order::BackRest, Some(place)) => {
                boxes.write_what_is_missing(&maildir, &marker, channel)?;
                let messages = late::take_rest(boxes, &maildir, &place)?;
                channel.say(Report::BackPlaced {
                    messages,
                    folders_left: boxes.left(),
                    length: boxes.length(),
                })?;
            }
            (Order::BackDone, _) => {
                step(Step::BackDone, task.run);
                done(task).map_err(Stop::failed(Step::BackDone))?;
                return channel.say(Report::Done);
            }
            // What is done is done; the next worker goes on.
            (Order::Release | Order::Abort, _) => return channel.say(Report::Done),
            _ => return Err(Stop::errno(Step::BackFolder, Errno::EBADMSG)),
        }
    }
}

/// Puts a plain file at the Maildir's place and takes the Maildir out: one atomic step.
fn withdraw(task: Task<'_>) -> Result<(), Stop> {
    let place = task.place;
    let name = withdrawn_name(task);
    let text = format!("{PLACEHOLDER}{}\n", task.run);
    file::write_small(place.work(), &name, text.as_bytes(), Mode::S_IRUSR | Mode::S_IWUSR)
        .and_then(|_| fsync(place.work()))
        .map_err(Stop::failed(Step::Withdraw))?;
    step(Step::Withdraw, task.run);
    let exchange = RenameFlags::RENAME_EXCHANGE;
    renameat2(place.work(), name.as_str(), &place.parent, place.maildir.as_c_str(), exchange).map_err(
        |errno| match errno {
            Errno::EXDEV => Stop::blocked(Block::OtherMount, 0),
            Errno::EINVAL => Stop::blocked(Block::NoRename, 0),
            other => Stop::errno(Step::Withdraw, other),
        },
    )?;
    step(Step::SyncWithdraw, task.run);
    if let Err(errno) = fsync(&place.parent).and_then(|()| fsync(place.work())) {
        note(&format!("the Maildir is withdrawn, but that could not be synced: {errno}"));
        std::process::exit(1);
    }
    Ok(())
}

fn keep_told(task: Task<'_>, boxes: &mut Boxes<'_>, told: OwnedFd) -> Result<(), Stop> {
    let failed = Stop::failed(Step::BackStage);
    let bytes = crate::told::read_all(told).map_err(&failed)?;
    let folder = boxes.folder()?;
    file::write_small(folder.as_fd(), TOLD, &bytes, Mode::S_IRUSR | Mode::S_IWUSR).map_err(&failed)?;
    boxes.told = kept_told(task)?;
    Ok(())
}

fn kept_told(task: Task<'_>) -> Result<Option<Told>, Stop> {
    let failed = Stop::failed(Step::BackStage);
    let folder = match openat(task.place.work(), back_name(task).as_str(), FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    match openat(&folder, TOLD, nix::fcntl::OFlag::O_RDONLY | file::FILE, Mode::empty()) {
        Ok(told) => Told::read(told.into()).map(Some).map_err(Stop::engine(Step::BackStage)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Removes what a rollback that did not come to its commit has made; the mark first, since logins wait as long as it stands.
fn undo(task: Task<'_>) -> nix::Result<()> {
    let work = task.place.work();
    if file::glance(work, withdrawn_name(task))?.is_some_and(|stat| file::kind(&stat) == SFlag::S_IFDIR) {
        note("the Maildir is withdrawn, so nothing is undone any more");
        return Ok(());
    }
    unlink(work, ROLLING_BACK)?;
    remove_back_folder(task)?;
    let name = withdrawn_name(task);
    if file::glance(work, &name)?.is_some_and(|stat| file::kind(&stat) == SFlag::S_IFREG) {
        unlink(work, &name)?;
    }
    LockFile::remove(work, task.run)?;
    fsync(work)
}

/// Removes what a finished rollback leaves, but for the Maildir and the originals, which are kept.
fn done(task: Task<'_>) -> nix::Result<()> {
    let place = task.place;
    let maildir = std::ffi::OsStr::from_bytes(place.maildir.to_bytes());
    let stands = file::glance(place.parent.as_fd(), maildir)?;
    // Anything else there is not ours.
    if stands.is_some_and(|stat| file::kind(&stat) == SFlag::S_IFREG && stat.st_uid == task.job.uid) {
        let text = place.maildir.to_str().ok().map(|name| file::read_small(place.parent.as_fd(), name, 256));
        let ours = format!("{PLACEHOLDER}{}\n", task.run);
        if text.transpose()?.flatten().is_some_and(|text| text == ours.as_bytes()) {
            unlinkat(&place.parent, place.maildir.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            fsync(&place.parent)?;
        }
    }
    remove_back_folder(task)?;
    LockFile::remove(place.work(), task.run)?;
    unlink(place.work(), ROLLING_BACK)?;
    fsync(place.work())
}

fn unlink(folder: std::os::fd::BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The folder of what was written: files, and one folder of files.
fn remove_back_folder(task: Task<'_>) -> nix::Result<()> {
    let work = task.place.work();
    let name = back_name(task);
    let folder = match openat(work, name.as_str(), FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    late::remove_folder(folder.as_fd())?;
    for file in file::names(folder.as_fd())? {
        unlinkat(&folder, file.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
    }
    unlinkat(work, name.as_str(), UnlinkatFlags::RemoveDir)
}
