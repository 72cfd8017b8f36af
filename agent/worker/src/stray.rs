//! Mail in a Maildir at the path of a user who was rolled back: a deliverer that had looked for the marker a moment before found it, and made the Maildir that it was to deliver into anew.
//!
//! The mbox is the mail, and nobody reads that Maildir, so its messages are appended to the mbox, as the deliverer would have done. Only what is certainly a deliverer's is taken: files in `new/` of a Maildir without marker that no reader has
//! opened. Whatever else stands there is the user's own, and is told.
//!
//! Exactly once: a message is synced in the mbox before its file goes, and before it is appended the end of the mbox is searched for it, since a worker may have died in between.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use mailready_mailbox::Zone;
use mailready_mailbox::back::delivered_line;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::file::{self, FILE, FOLDER};
use crate::wire::{Report, Step};
use crate::{Stop, Task, note, probe, step};

/// Larger ones stay, and are told: a message is held in memory to be looked for.
const LARGEST: u64 = 64 << 20;

/// How much of the mbox's end is searched for a message that may be there.
const SEARCHED: u64 = 128 << 20;

/// Appends what is there to the spool, which the agent has locked. Without `spool` only says how many messages there are.
pub(crate) fn take(task: Task<'_>, spool: Option<&OwnedFd>) -> Result<Report, Stop> {
    let failed = Stop::failed(Step::TakeStray);
    let nothing = Report::Drained { messages: 0, left: 0, strangers: 0 };
    // Of this run or of another: then a conversion has been here.
    if probe::committed(task)?.is_some() {
        return Ok(nothing);
    }
    let Some(maildir) = task.place.open_maildir()? else { return Ok(nothing) };
    let names = file::names(maildir.as_fd()).map_err(&failed)?;
    let only_a_deliverers = names.iter().all(|name| matches!(name.to_bytes(), b"cur" | b"new" | b"tmp"));
    let new = match openat(&maildir, "new", FOLDER, Mode::empty()) {
        Ok(new) => new,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(nothing),
        Err(errno) => return Err(failed(errno)),
    };
    let waiting = file::names(new.as_fd()).map_err(&failed)?;
    if !only_a_deliverers || !is_empty(&maildir, "cur").map_err(&failed)? {
        note("a Maildir that is in use stands where the one was that was rolled back; it is left alone");
        return Ok(nothing);
    }
    let Some(spool) = spool else {
        return Ok(Report::Drained { messages: 0, left: waiting.len() as u64, strangers: 0 });
    };
    let (mut messages, mut left) = (0, 0);
    for name in waiting {
        step(Step::TakeStray, task.run);
        let Some(message) = read(&new, &name, &task.rules.zone).map_err(&failed)? else {
            note(&format!("{name:?} in the stray Maildir is no message that can be carried over"));
            left += 1;
            continue;
        };
        append(spool, &message).map_err(&failed)?;
        unlinkat(&new, name.as_c_str(), UnlinkatFlags::NoRemoveDir).map_err(&failed)?;
        messages += 1;
    }
    fsync(&new).map_err(&failed)?;
    // Best effort: with anything in it it stays.
    for name in ["cur", "new", "tmp"] {
        let _ = unlinkat(&maildir, name, UnlinkatFlags::RemoveDir);
    }
    let _ = unlinkat(&task.place.parent, task.place.maildir.as_c_str(), UnlinkatFlags::RemoveDir);
    Ok(Report::Drained { messages, left, strangers: 0 })
}

fn is_empty(maildir: &OwnedFd, name: &str) -> nix::Result<bool> {
    match openat(maildir, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(file::names(folder.as_fd())?.is_empty()),
        Err(Errno::ENOENT) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// A message as it stands in an mbox; `None` for what is no plain file, or too large.
fn read(folder: &OwnedFd, name: &std::ffi::CStr, zone: &Zone) -> nix::Result<Option<Vec<u8>>> {
    let opened = match openat(folder, name, OFlag::O_RDONLY | FILE, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stat = fstat(&opened)?;
    if file::kind(&stat) != SFlag::S_IFREG || u64::try_from(stat.st_size).unwrap_or(u64::MAX) > LARGEST {
        return Ok(None);
    }
    let mut text = Vec::new();
    File::from(opened).take(LARGEST).read_to_end(&mut text).map_err(|error| file::errno_of(&error))?;
    Ok(Some(as_mbox(&text, stat.st_mtime, zone)))
}

/// With a From_ line, and with `>` before what would be taken for one; an empty line ends it.
fn as_mbox(text: &[u8], time: i64, zone: &Zone) -> Vec<u8> {
    let line = || delivered_line(text, time, zone).or_else(|| delivered_line(text, 0, zone));
    // The beginning of 1970 can be said in every zone.
    let mut out = line().unwrap_or_default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"From ") {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// Appends it, unless it is there, and syncs.
fn append(spool: &OwnedFd, message: &[u8]) -> nix::Result<()> {
    let io = |error: std::io::Error| file::errno_of(&error);
    let mbox = File::from(nix::unistd::dup(spool)?);
    let size = u64::try_from(fstat(spool)?.st_size).unwrap_or(0);
    if !holds(spool.as_fd(), size, message)?
        && let Err(error) = mbox.write_all_at(message, size)
    {
        // Half a message would be taken for mail: nobody has seen it, under the locks.
        let _ = mbox.set_len(size);
        return Err(io(error));
    }
    mbox.sync_all().map_err(io)
}

/// Whether the end of the mbox holds it.
fn holds(spool: BorrowedFd<'_>, size: u64, message: &[u8]) -> nix::Result<bool> {
    let from = size.saturating_sub(SEARCHED.max(message.len() as u64));
    let mut end = vec![0; usize::try_from(size - from).map_err(|_| Errno::EFBIG)?];
    let mut read = 0;
    while read < end.len() {
        let at = i64::try_from(from + read as u64).map_err(|_| Errno::EFBIG)?;
        match nix::sys::uio::pread(spool, &mut end[read..], at)? {
            0 => break,
            more => read += more,
        }
    }
    // A message begins where a line does, and its From_ line is rare enough to be looked for first.
    let first = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let ends = end[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    Ok(std::iter::once(0)
        .chain(ends)
        .any(|at| end[at..read].starts_with(first) && end[at..read].starts_with(message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_as_one() {
        let text = b"Return-Path: <eve@example.org>\nSubject: x\n\nFrom here\n>From there\nend";
        let mbox = as_mbox(text, 0, &Zone::utc());
        let expected = b"From eve@example.org  Thu Jan  1 00:00:00 1970\nReturn-Path: <eve@example.org>\nSubject: x\n\n>From here\n>From there\nend\n\n";
        assert_eq!(String::from_utf8_lossy(&mbox), String::from_utf8_lossy(expected));
    }

    #[test]
    fn what_was_appended_before_a_death_is_not_appended_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mbox");
        std::fs::write(&path, "From a@b Thu Jan  1 00:00:00 1970\n\nold\n\n").unwrap();
        let spool = OwnedFd::from(File::options().read(true).write(true).open(&path).unwrap());
        let (one, two) =
            (as_mbox(b"A: 1\n\none\n", 0, &Zone::utc()), as_mbox(b"A: 2\n\ntwo\n", 0, &Zone::utc()));
        append(&spool, &one).unwrap();
        append(&spool, &two).unwrap();
        append(&spool, &one).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.matches("one").count(), text.matches("two").count()), (1, 1), "{text}");
    }
}
