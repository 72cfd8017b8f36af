//! The proof, asked of Dovecot: it reads the originals once more, and what it shows is compared with the receipts and with the Maildir as it is now.
//!
//! Our own reading of an mbox made the receipts, so a mistake in it would be in both. Here the originals are copied to a place of their own, `WORK/check-RUNID`, with a configuration beside them, and the agent runs
//! Dovecot's own tool on that as the user. What it prints comes through a pipe, which may hold anything that mail may hold: each message's size stands before its text.

mod expunges;
mod mailbox;
pub(crate) mod shown;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mailready_mailbox::marker::Marker;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::aside::{Aside, Entry};
use crate::channel::Channel;
use crate::file::{self, FILE, FOLDER};
use crate::passing::Passing;
use crate::room::{self, Need};
use crate::wire::{Block, Order, Report, Step};
use crate::{Stop, Task, convert, folders, note, probe, step};
use mailbox::{Counts, MailboxCheck};
use shown::Shown;

/// The inbox's copy; the folders' are below `root`.
const INBOX_COPY: &str = "inbox";
const ROOT: &str = "root";
const CONFIG: &str = "dovecot.conf";

/// Copied at a time.
const PIECE: usize = 1 << 20;

pub(crate) fn run(task: Task<'_>, channel: &mut Channel, original: OwnedFd) -> Result<(), Stop> {
    let done = talk(task, channel, &original);
    if let Err(errno) = remove(task) {
        convert::stays_behind(&format!("copies of the originals stay behind: {errno}"));
    }
    done?;
    channel.say(Report::Done)
}

/// Removes what a verification that was killed has left: as much room as the originals take, and nobody verifies now, since this process holds the work folder.
pub(crate) fn remove_left_behind(task: Task<'_>) {
    if let Err(errno) = remove(task) {
        note(&format!("copies of the originals stay behind: {errno}"));
    }
}

fn talk(task: Task<'_>, channel: &mut Channel, original: &OwnedFd) -> Result<(), Stop> {
    loop {
        match channel.order()? {
            (Order::CheckPrepare, _) => {
                step(Step::CheckPrepare, task.run);
                let (_, marker) = probe::committed(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))?;
                let report = prepare(task, channel, original, &marker)?;
                channel.say(report)?;
            }
            (Order::CheckCompare, Some(shown)) => {
                step(Step::CheckCompare, task.run);
                let (maildir, marker) =
                    probe::committed(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))?;
                let report = compare(task, channel, shown, &maildir, &marker)?;
                channel.say(report)?;
            }
            (Order::Release, _) => return Ok(()),
            (Order::Abort, _) => return Err(Stop::Abort),
            _ => return Err(Stop::errno(Step::CheckPrepare, Errno::EBADMSG)),
        }
    }
}

fn name(task: Task<'_>) -> String {
    format!("check-{}", task.run)
}

/// Lays the originals out.
fn prepare(
    task: Task<'_>,
    channel: &mut Channel,
    original: &OwnedFd,
    marker: &Marker,
) -> Result<Report, Stop> {
    let failed = Stop::failed(Step::CheckPrepare);
    remove(task).map_err(&failed)?;
    let folder = make_folder(task.place.work(), &name(task)).map_err(&failed)?;
    let root = make_folder(folder.as_fd(), ROOT).map_err(&failed)?;
    let aside = Aside::open(task.place.work(), task.run).map_err(&failed)?;
    let total = marker.sources.iter().map(|source| source.length).sum();
    let need = Need { bytes: total, files: 2 * marker.sources.len() as u64 };
    room::check(task, task.place.work(), need)?;
    let mut passing = Passing::new(channel, total);
    let (mut messages, mut missing) = (0, 0);
    for (position, source) in marker.sources.iter().enumerate() {
        let opened;
        let from = match (position, &aside) {
            (0, _) => Some(original),
            (_, Some(aside)) if aside.holds_original(position).map_err(&failed)? => {
                opened = aside.open_entry(Entry::original(position), OFlag::O_RDONLY).map_err(&failed)?;
                opened.as_ref()
            }
            _ => None,
        };
        let Some(from) = from else {
            note(&format!(
                "the original of mailbox {position}, {:?}, is not where it was set aside",
                source.name
            ));
            missing += 1;
            continue;
        };
        let to = match position {
            0 => create(folder.as_fd(), INBOX_COPY),
            _ => create_below(root.as_fd(), &folders::path_of(&source.name)),
        };
        copy(from, to.map_err(&failed)?, source.length, &mut passing)?;
        passing.add(source.messages, source.length);
        messages += source.messages;
    }
    let config = config(task).ok_or_else(|| failed(Errno::EILSEQ))?;
    file::write_small(folder.as_fd(), CONFIG, config.as_bytes(), Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(&failed)?;
    Ok(Report::CheckPrepared { messages, boxes: marker.sources.len() as u64, missing })
}

/// What Dovecot is to know: where the copies are, nothing of the site, no index of its own.
fn config(task: Task<'_>) -> Option<String> {
    let folder = task.job.work.join(name(task));
    // A path that a setting cannot say is refused rather than misread.
    let folder = folder.to_str().filter(|path| !path.contains([':', '\n', '#', '"', '\\', '$']))?;
    let folder = folder.replace('%', "%%");
    let zone = match task.job.timezone.as_str() {
        "" => String::new(),
        zone => format!("import_environment = TZ={zone}\n"),
    };
    Some(format!(
        "mail_location = mbox:{folder}/{ROOT}:INBOX={folder}/{INBOX_COPY}:INDEX=MEMORY\n\
         mbox_read_locks = fcntl\nmbox_write_locks = fcntl\nssl = no\nlog_path = /dev/stderr\nstats_writer_socket_path =\n{zone}\
         namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n"
    ))
}

pub(crate) fn make_folder(above: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    mkdirat(above, name, Mode::S_IRWXU)?;
    openat(above, name, FOLDER, Mode::empty())
}

pub(crate) fn create(folder: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | FILE;
    openat(folder, name.as_ref(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

pub(crate) fn create_below(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for level in path.parent().into_iter().flatten() {
        match mkdirat(&folder, level, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        folder = openat(&folder, level, FOLDER, Mode::empty())?;
    }
    create(folder.as_fd(), path.file_name().ok_or(Errno::EINVAL)?)
}

/// The first `length` bytes; by position, since the offset of the description is shared.
pub(crate) fn copy(from: &OwnedFd, to: OwnedFd, length: u64, passing: &mut Passing<'_>) -> Result<(), Stop> {
    let io = |error: std::io::Error| Stop::errno(Step::CheckPrepare, file::errno_of(&error));
    let from = File::from(from.try_clone().map_err(io)?);
    let to = File::from(to);
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    while done < length {
        let wanted = PIECE.min(usize::try_from(length - done).unwrap_or(PIECE));
        let got = from.read_at(&mut piece[..wanted], done).map_err(io)?;
        if got == 0 {
            // Shorter than it was: what is missing will not be shown.
            break;
        }
        to.write_all_at(&piece[..got], done).map_err(io)?;
        done += got as u64;
        let told = mailready_mailbox::Progress { messages: 0, bytes: done, total: length };
        if passing.on(told).is_break() {
            return Err(Stop::Abort);
        }
    }
    Ok(())
}

/// Compares what Dovecot shows with the receipts and the Maildir.
fn compare(
    task: Task<'_>,
    channel: &mut Channel,
    shown: OwnedFd,
    maildir: &OwnedFd,
    marker: &Marker,
) -> Result<Report, Stop> {
    let io = |error: std::io::Error| Stop::errno(Step::CheckCompare, file::errno_of(&error));
    let mut passing = Passing::new(channel, 0);
    let mut shown = Shown::new(File::from(shown));
    let mut counts = Counts::default();
    let mut checked = HashSet::new();
    let mut current: Option<MailboxCheck> = None;
    let mut progress = mailready_mailbox::Progress::default();
    while let Some(message) = shown.next().map_err(io)? {
        if current.as_ref().is_none_or(|check| check.name() != message.mailbox) {
            if let Some(check) = current.take() {
                check.finish(&mut counts)?;
            }
            current = MailboxCheck::open(task, maildir, marker, &message.mailbox)?;
            checked.insert(message.mailbox.clone());
        }
        match &mut current {
            Some(check) => check.compare(&message, &mut counts)?,
            None => counts.unknown += 1,
        }
        progress.messages += 1;
        progress.bytes += message.size;
        if passing.on(progress).is_break() {
            return Err(Stop::Abort);
        }
    }
    if let Some(check) = current {
        check.finish(&mut counts)?;
    }
    for source in &marker.sources {
        if !checked.contains(&source.name) && source.messages > 0 {
            note(&format!("Dovecot showed nothing of {:?}", source.name));
            counts.unseen += source.messages;
        }
    }
    let Counts { same, gone, lost, damaged, unknown, unseen } = counts;
    Ok(Report::Checked { same, gone, lost, damaged, unknown, unseen })
}

/// Removes the copies.
pub(crate) fn remove(task: Task<'_>) -> nix::Result<()> {
    remove_below(task.place.work(), OsStr::new(&name(task)), 0)
}

pub(crate) fn remove_below(above: BorrowedFd<'_>, name: &OsStr, depth: usize) -> nix::Result<()> {
    let folder = match openat(above, name, FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return unlinkat(above, name, UnlinkatFlags::NoRemoveDir),
        Err(errno) => return Err(errno),
    };
    if depth > DEPTH {
        return Err(Errno::ELOOP);
    }
    for child in file::names(folder.as_fd())? {
        remove_below(folder.as_fd(), OsStr::from_bytes(child.to_bytes()), depth + 1)?;
    }
    unlinkat(above, name, UnlinkatFlags::RemoveDir)
}

/// Deeper than any mailbox.
const DEPTH: usize = 80;
