//! Under Dovecot's own locks: is what was written what is there?

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use mailready_mailbox::marker::Marker;

use super::boxes::{Boxes, list};
use crate::file;
use crate::locks::{Dotlock, LockFile};
use crate::look::{IndexLock, IndexLook};
use crate::staging::LETTERS;
use crate::wire::{Block, Step};
use crate::{Stop, note};

/// The locks of every mailbox: its uidlist's, which Dovecot takes for whatever changes a Maildir, and its index log's. Gone when dropped.
pub(super) struct Locked {
    #[expect(dead_code, reason = "held, never read")]
    boxes: Vec<(Dotlock, IndexLock)>,
}

/// Takes all locks and looks. `Ok(None)`: one was not to be had, or something is not as it was.
pub(super) fn confirm(boxes: &Boxes<'_>, maildir: &OwnedFd, marker: &Marker) -> Result<Option<Locked>, Stop> {
    let task = boxes.task;
    let failed = Stop::failed(Step::BackConfirm);
    let listed = list(task, maildir, marker)?;
    if !listed.iter().map(|each| &each.name).eq(boxes.boxes.iter().map(|each| &each.name)) {
        return Ok(None);
    }
    let lock = LockFile::create(task.place.work(), task.run, &task.place.host).map_err(&failed)?;
    let mut locked = Vec::new();
    for (number, each) in boxes.boxes.iter().enumerate() {
        // A level that was one from the beginning; an empty mailbox that becomes one has a folder, and must still be empty.
        if !listed[number].is_mailbox {
            continue;
        }
        let folder = Rc::new(boxes.open(number, maildir)?);
        let Some(dotlock) = Dotlock::try_make(&lock, &folder, c"dovecot-uidlist").map_err(&failed)? else {
            return Ok(None);
        };
        let Some(index) = IndexLock::try_take(Some((*folder).as_fd())).map_err(&failed)? else {
            return Ok(None);
        };
        locked.push((dotlock, index));
        let Some(written) = &each.written else { return Ok(None) };
        if written.messages() > 0 && !boxes.is_told(number) && uses_all_letters((*folder).as_fd())? {
            note(&format!(
                "Dovecot does not tell of {:?}, whose keywords are more than a Maildir can name",
                each.name
            ));
            return Err(Stop::blocked(Block::Differs, number as u64));
        }
        let state = boxes.with_way(number, (*folder).as_fd(), |way| way.state())?;
        let state = state.map_err(Stop::engine_at(Step::BackConfirm, number))?;
        let index = IndexLook::at(Some((*folder).as_fd())).map_err(&failed)?;
        if state != *written.state() || index != each.index {
            return Ok(None);
        }
    }
    Ok(Some(Locked { boxes: locked }))
}

/// Whether all letters for keywords are given: then there may be more of them, which only Dovecot's index knows.
fn uses_all_letters(mailbox: BorrowedFd<'_>) -> Result<bool, Stop> {
    let keywords =
        file::read_small(mailbox, "dovecot-keywords", 64 << 10).map_err(Stop::failed(Step::BackConfirm))?;
    Ok(keywords.is_some_and(|keywords| keywords.iter().filter(|byte| **byte == b'\n').count() >= LETTERS))
}
