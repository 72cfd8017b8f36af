//! The folders' originals removed, when their time is over.
//!
//! A file goes only if it is drained to its end, and while a lease says that nobody else has it open: whoever still had would go on writing into a file without a name. What is not sure stays, and is counted. Each removal
//! is one unlink, so a death in between leaves some of the files, and the next time removes the rest.

use std::os::fd::AsFd;

use mailready_mailbox::extract::ArchiveEntry;
use mailready_mailbox::marker::{Marker, MarkerSource};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use crate::aside::{Aside, Entry, Kind, ORIGINAL};
use crate::extraction::Extraction;
use crate::lease::Lease;
use crate::wire::{Block, Report, Step};
use crate::{Stop, Task, note, probe, step};

/// Removes what may go; tells in `left` how many files had to stay for now.
pub(crate) fn let_go(task: Task<'_>) -> Result<Report, Stop> {
    let failed = Stop::failed(Step::LetGoFolder);
    let (marker, is_withdrawn) = marker(task)?;
    let mut left = 0;
    let Some(aside) = Aside::open(task.place.work(), task.run).map_err(&failed)? else {
        return Ok(Report::Drained { messages: 0, left, strangers: 0 });
    };
    let mut gone = Vec::new();
    for entry in aside.entries().map_err(&failed)? {
        // What came to the old place of a user who was rolled back since may be nowhere else.
        if is_withdrawn && entry.made != ORIGINAL {
            note(&format!("{} in aside-{} may hold late mail, and stays", entry.file_name(), task.run));
            continue;
        }
        let source = marker.sources.get(entry.position).filter(|_| entry.position > 0);
        match source {
            Some(source) if remove(task, &aside, entry, source)? => gone.push(entry),
            _ => left += 1,
        }
    }
    aside.sync().map_err(&failed)?;
    // In this order: a file that came back after a power cut, with its position gone, would be delivered again.
    for entry in gone {
        extraction(task, entry).forget()?;
    }
    Ok(Report::Drained { messages: 0, left, strangers: 0 })
}

/// The marker of the Maildir, wherever that is, and whether a rollback has taken it away.
fn marker(task: Task<'_>) -> Result<(Marker, bool), Stop> {
    if let Some((_, marker)) = probe::committed(task)? {
        return Ok((marker, false));
    }
    let (_, marker) = probe::withdrawn(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))?;
    Ok((marker, true))
}

fn extraction(task: Task<'_>, entry: Entry) -> Extraction<'_> {
    Extraction::new(task, ArchiveEntry { position: entry.position, number: entry.made })
}

/// Removes one file, if all of it is in the Maildir and nobody has it open.
fn remove(task: Task<'_>, aside: &Aside, entry: Entry, source: &MarkerSource) -> Result<bool, Stop> {
    let failed = Stop::failed(Step::LetGoFolder);
    let Some(opened) = aside.open_entry(entry, OFlag::O_RDWR).map_err(&failed)? else { return Ok(false) };
    // A tombstone with late mail, or one whose folder was never set aside.
    if Kind::of(opened.as_fd(), task.run).map_err(&failed)? != Kind::Mbox {
        return Ok(false);
    }
    let Some(lease) = Lease::try_take(opened).map_err(&failed)? else { return Ok(false) };
    let extraction = extraction(task, entry);
    let known = extraction.position()?.or((entry.made == ORIGINAL).then_some(source.length));
    let size = size_of(&lease).map_err(&failed)?;
    let drained = known.is_some_and(|known| size <= known) && !extraction.has_waiting()?;
    if !drained || !lease.is_untouched() {
        return Ok(false);
    }
    step(Step::LetGoFolder, task.run);
    aside.remove(entry).map_err(&failed)?;
    Ok(true)
}

fn size_of(lease: &Lease) -> nix::Result<u64> {
    Ok(u64::try_from(fstat(lease.file())?.st_size).unwrap_or(u64::MAX))
}
