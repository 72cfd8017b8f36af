//! What lies beside the mailboxes: Dovecot's list of subscribed folders, and the last UIDVALIDITY that it gave.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

use mailready_mailbox::{Layout, Tree, layout, subscriptions, validity};
use nix::sys::stat::Mode;

use crate::file;
use crate::wire::Step;
use crate::{Stop, Task, note};

/// A list is read up to here.
const AT_MOST: u64 = 4 << 20;

/// What version 2 of the list begins with.
const VERSION_2: &[u8] = b"V\t2\n\n";

fn read(task: Task<'_>) -> Result<Option<Vec<u8>>, Stop> {
    let Some(control) = task.place.control() else { return Ok(None) };
    file::read_small(control, subscriptions::MBOX_NAME, AT_MOST).map_err(Stop::failed(Step::Seal))
}

/// The subscribed folders, as far as their names can be read.
pub(crate) fn names(task: Task<'_>) -> Result<HashSet<String>, Stop> {
    let Some(list) = read(task)? else { return Ok(HashSet::new()) };
    // In version 2 the levels are told apart by TAB.
    let list = subscriptions::to_maildir(&list, Layout::Fs).text;
    let lines = list.strip_prefix(VERSION_2).unwrap_or(&list).split(|byte| *byte == b'\n');
    let name = |line: &[u8]| -> Option<String> {
        let levels: Option<Vec<String>> = line.split(|byte| *byte == b'\t').map(layout::level_name).collect();
        levels.map(|levels| levels.join("/"))
    };
    Ok(lines.filter(|line| !line.is_empty()).filter_map(name).collect())
}

/// Carries the list over, synced.
pub(crate) fn carry(task: Task<'_>, tree: &Tree) -> Result<(), Stop> {
    let Some(old) = read(task)? else { return Ok(()) };
    let new = subscriptions::to_maildir(&old, task.job.layout);
    for name in &new.left_out {
        note(&format!("the subscription to {name:?} cannot be kept in this layout"));
    }
    file::write_small(tree.folder(), subscriptions::MAILDIR_NAME, &new.text, Mode::S_IRUSR | Mode::S_IWUSR)
        .map(drop)
        .map_err(Stop::failed(Step::Seal))
}

/// The last UIDVALIDITY that Dovecot gave in the mbox tree: it has to go on above it, since a folder that is deleted and made again must never have that of the one before.
pub(crate) fn last_validity(task: Task<'_>) -> Result<u32, Stop> {
    let highest = |folder| validity::highest(folder).map_err(Stop::engine(Step::Seal));
    match (task.place.own_control(), task.place.mail()) {
        (Some(control), _) => highest(control),
        (None, Some(mail)) => {
            match file::folder_at(mail, Path::new(".imap")).map_err(Stop::failed(Step::Seal))? {
                Some(folder) => highest(folder.as_fd()),
                None => Ok(0),
            }
        }
        (None, None) => Ok(0),
    }
}
