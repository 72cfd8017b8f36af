//! What the folders are, and whether all of them can be converted: asked before anybody has done anything about them.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use mailready_mailbox::Layout;

use crate::file::Identity;
use crate::folders::{Found, Walk};
use crate::look::{self, Seen};
use crate::wire::{Block, Step};
use crate::{Stop, Task, note, subscribed};

/// Walks the mbox root. `known`: mboxes by an earlier look; `inbox`: the spool, should it lie there.
pub(crate) fn walk(
    task: Task<'_>,
    inbox: Option<&OwnedFd>,
    known: HashSet<Identity>,
    tell: bool,
) -> Result<Found, Stop> {
    let failed = Stop::failed(Step::Refresh);
    let Some(root) = task.place.mail() else { return Ok(Found::default()) };
    // Elsewhere every empty file is a folder, whoever has subscribed to it.
    let at_home = task.place.at_home()?;
    let subscribed = if at_home { subscribed::names(task)? } else { HashSet::new() };
    let inbox = inbox.map(Seen::at).transpose().map_err(&failed)?;
    let walk = Walk {
        root,
        at_home,
        uid: task.job.uid,
        avoid: task.place.not_mail()?.into_iter().collect(),
        inbox: inbox.map(|seen| seen.identity()),
        subscribed: &subscribed,
        known,
        is_mbox: &crate::is_mbox,
        tell,
    };
    walk.run().map_err(failed)
}

/// Blocks what cannot be converted, with the names said first.
pub(crate) fn judge(task: Task<'_>, found: &Found) -> Result<(), Stop> {
    let limit = task.place.most_folders;
    if found.too_large || found.folders.len() > limit {
        note(&format!(
            "{} folders and more below the mbox root; {limit} can be locked at once",
            found.folders.len()
        ));
        return Err(Stop::blocked(Block::TooManyFolders, found.folders.len() as u64));
    }
    if let Some(root) = task.place.mail().filter(|_| !found.folders.is_empty())
        && !task.place.is_on_one_mount(root)?
    {
        note("the mbox folders are on another mount than the work folder, where they are to be set aside");
        return Err(Stop::blocked(Block::OtherMount, 0));
    }
    if found.links > 0 {
        return Err(Stop::blocked(Block::Link, found.links));
    }
    if found.foreign > 0 {
        return Err(Stop::blocked(Block::FolderForeign, found.foreign));
    }
    let layout = task.job.layout;
    for (number, folder) in found.folders.iter().enumerate() {
        if let Err(why) = layout.directory(&folder.name) {
            note(&format!("the folder {:?}: {why}", folder.name));
            return Err(Stop::blocked(Block::Names, number as u64 + 1));
        }
    }
    for name in &found.bare {
        let why = match (layout, layout.directory(name)) {
            (Layout::MaildirPlusPlus, _) => {
                "it holds no mailbox, and Maildir++ cannot keep an empty folder; remove it or set layout = \"fs\""
                    .to_owned()
            }
            (_, Err(why)) => why.to_string(),
            (_, Ok(_)) => continue,
        };
        note(&format!("the folder {name:?}: {why}"));
        return Err(Stop::blocked(Block::Names, 0));
    }
    Ok(())
}

/// Everything that can be told without reading mail. Tells whether Dovecot has an index of any of the mboxes.
pub(crate) fn before_anything(task: Task<'_>, spool: &OwnedFd) -> Result<bool, Stop> {
    task.place.check_roots(task.job)?;
    if task.place.maildir_exists()? {
        return Err(Stop::blocked(Block::MaildirExists, 0));
    }
    let found = walk(task, Some(spool), HashSet::new(), true)?;
    judge(task, &found)?;
    let paths = found.folders.iter().map(|folder| Some(folder.path.as_path()));
    for path in std::iter::once(None).chain(paths) {
        let index = look::index_folder(task.place.index(), path).map_err(Stop::failed(Step::Open))?;
        if index.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
