//! The proof before a site's first commit: Dovecot reads the stage, with the site's own settings, and what it shows is compared with what it shows of the mbox.
//!
//! It reads copies, the mbox's with its index, in `WORK/proof-RUNID`: reading alone changes a Maildir (mail moves from new/ to cur/, index and uidlist are written), and the mbox may be delivered to meanwhile. Messages are linked and not copied,
//! since Dovecot never writes to them. All that it prints is the user's data, so it is parsed here, with the user's rights.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mailready_mailbox::RunId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::linkat;

use crate::channel::Channel;
use crate::check::shown::{Message, Shown};
use crate::check::{copy, create, create_below, make_folder, remove_below};
use crate::file::{self, FILE, FOLDER, glance, kind};
use crate::passing::Passing;
use crate::place::Place;
use crate::staging::Staging;
use crate::told::Told;
use crate::wire::{Block, Report, Step};
use crate::{Stop, folders, look, note};

/// Differences that are told; their number is told anyway.
const TOLD: u64 = 20;

/// What Dovecot once showed of messages, which it would show again without a look at them.
const CACHE: &[u8] = b"dovecot.index.cache";

/// Deeper than any mailbox.
const DEPTH: usize = 80;

/// What is compared of a message, by mailbox and UID.
type Messages = HashMap<(String, u32), Message>;

/// What Dovecot has shown so far.
#[derive(Default)]
pub(crate) struct Proof {
    mbox: Messages,
    differences: u64,
    first: Option<String>,
}

fn name(run: &RunId) -> String {
    format!("proof-{run}")
}

/// Removes the copies.
pub(crate) fn remove(place: &Place, run: &RunId) -> nix::Result<()> {
    remove_below(place.work(), OsStr::new(&name(run)), 0)
}

/// Lays out the copies: `mbox/inbox`, `mbox/root/` and `stage/`.
pub(crate) fn prepare(staging: &Staging<'_>, channel: &mut Channel) -> Result<Report, Stop> {
    let failed = Stop::failed(Step::CheckPrepare);
    let task = staging.task;
    remove(task.place, task.run).map_err(&failed)?;
    let folder = make_folder(task.place.work(), &name(task.run)).map_err(&failed)?;
    let mboxes = make_folder(folder.as_fd(), "mbox").map_err(&failed)?;
    let root = make_folder(mboxes.as_fd(), "root").map_err(&failed)?;
    let mut messages = 0;
    let mut passing = Passing::new(channel, 0);
    for (position, stage) in staging.tree.boxes() {
        let summary = stage.summary();
        let Some(from) = staging.open_mbox(position)? else { continue };
        let to = match position {
            0 => create(mboxes.as_fd(), "inbox"),
            _ => create_below(root.as_fd(), &folders::path_of(&stage.source().name)),
        };
        copy(&from, to.map_err(&failed)?, summary.length, &mut passing)?;
        if let Some(index) = staging.index_folder(position)? {
            let path = look::index_path(staging.boxes[position].path());
            copy_index(index.as_fd(), root.as_fd(), &path).map_err(&failed)?;
        }
        passing.add(summary.messages, summary.length);
        messages += summary.messages;
    }
    let stage = make_folder(folder.as_fd(), "stage").map_err(&failed)?;
    twin(staging.tree.folder(), stage.as_fd(), false, 0).map_err(&failed)?;
    Ok(Report::CheckPrepared { messages, boxes: staging.boxes.len() as u64, missing: 0 })
}

/// The same tree again; the files of a message folder are linked, all others copied.
fn twin(from: BorrowedFd<'_>, to: BorrowedFd<'_>, messages: bool, depth: usize) -> nix::Result<()> {
    if depth > DEPTH {
        return Err(Errno::ELOOP);
    }
    for name in file::names(from)? {
        if name.to_bytes() == CACHE {
            continue;
        }
        let Some(stat) = glance(from, OsStr::from_bytes(name.to_bytes()))? else { continue };
        match kind(&stat) {
            SFlag::S_IFDIR => {
                let text = name.to_str().map_err(|_| Errno::EILSEQ)?;
                let inner = openat(from, name.as_c_str(), FOLDER, Mode::empty())?;
                let twinned = make_folder(to, text)?;
                twin(inner.as_fd(), twinned.as_fd(), matches!(text, "cur" | "new"), depth + 1)?;
            }
            SFlag::S_IFREG if messages => {
                linkat(from, name.as_c_str(), to, name.as_c_str(), AtFlags::empty())?;
            }
            SFlag::S_IFREG => {
                let mut source =
                    File::from(openat(from, name.as_c_str(), OFlag::O_RDONLY | FILE, Mode::empty())?);
                let mut copy = File::from(create(to, OsStr::from_bytes(name.to_bytes()))?);
                std::io::copy(&mut source, &mut copy).map_err(|error| file::errno_of(&error))?;
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

/// What Dovecot knows of an mbox beside its file: flags that it has not written out, keywords. Whatever it makes of the copies, it makes of both sides.
fn copy_index(from: BorrowedFd<'_>, root: BorrowedFd<'_>, path: &Path) -> nix::Result<()> {
    for name in file::names(from)? {
        let bytes = name.to_bytes();
        if !bytes.starts_with(b"dovecot.index") || bytes.ends_with(b".lock") || bytes == CACHE {
            continue;
        }
        let name = OsStr::from_bytes(name.to_bytes());
        let source = match openat(from, name, OFlag::O_RDONLY | FILE, Mode::empty()) {
            Ok(source) => source,
            // Replaced since it was listed.
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let copy = create_below(root, &path.join(name))?;
        std::io::copy(&mut File::from(source), &mut File::from(copy))
            .map_err(|error| file::errno_of(&error))?;
    }
    Ok(())
}

fn read(shown: OwnedFd, channel: &mut Channel) -> Result<Messages, Stop> {
    let io = |error: std::io::Error| Stop::errno(Step::CheckCompare, file::errno_of(&error));
    let mut shown = Shown::new(File::from(shown));
    let mut passing = Passing::new(channel, 0);
    let mut progress = mailready_mailbox::Progress::default();
    let mut messages = Messages::new();
    while let Some(mut message) = shown.next().map_err(io)? {
        progress.messages += 1;
        progress.bytes += message.size;
        if passing.on(progress).is_break() {
            return Err(Stop::Abort);
        }
        let mailbox = std::mem::take(&mut message.mailbox);
        messages.insert((mailbox, message.uid), message);
    }
    Ok(messages)
}

impl Proof {
    /// What Dovecot shows of the mbox.
    pub(crate) fn see_mbox(shown: OwnedFd, channel: &mut Channel) -> Result<Self, Stop> {
        Ok(Self { mbox: read(shown, channel)?, ..Self::default() })
    }

    /// What it shows of the stage.
    pub(crate) fn see_stage(&mut self, shown: OwnedFd, channel: &mut Channel) -> Result<(), Stop> {
        let stage = read(shown, channel)?;
        let mut wrong = Vec::new();
        let mut keys: Vec<_> = self.mbox.keys().chain(stage.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        // On an mbox it is a hash of a few headers and may be that of several messages: the first of them keeps it.
        let mut given = HashSet::new();
        for key in keys {
            let what = match (self.mbox.get(key), stage.get(key)) {
                (Some(_), None) => "is not in the Maildir",
                (None, _) => "is in the Maildir alone",
                (Some(mbox), Some(stage)) if mbox.hash != stage.hash => "has other bytes",
                (Some(mbox), Some(stage)) if mbox.date != stage.date => "has another date",
                (Some(mbox), Some(stage)) if flags(mbox) != flags(stage) => "has other flags",
                (Some(mbox), Some(stage)) => {
                    let first = given.insert((&key.0, &mbox.guid));
                    if !first || mbox.guid == stage.guid {
                        continue;
                    }
                    "has another GUID"
                }
            };
            wrong.push((key.clone(), what));
        }
        for ((mailbox, uid), what) in wrong {
            self.differs(&format!("{mailbox:?}, UID {uid}: {what}"));
        }
        Ok(())
    }

    /// What it says of the stage's mailboxes.
    pub(crate) fn see_boxes(&mut self, told: OwnedFd, staging: &Staging<'_>) -> Result<(), Stop> {
        let told = Told::read(told, staging.task.job).map_err(Stop::failed(Step::CheckCompare))?;
        for (_, stage) in staging.tree.boxes() {
            let (name, summary) = (&stage.source().name, stage.summary());
            let found = told.of(name);
            let shown = (found.messages, found.uid_next, found.uid_validity);
            if shown != (Some(summary.messages), Some(summary.uid_next), Some(summary.uid_validity)) {
                self.differs(&format!(
                    "{name:?}: messages, UIDNEXT and UIDVALIDITY are {shown:?}, not {}, {} and {}",
                    summary.messages, summary.uid_next, summary.uid_validity
                ));
            }
        }
        let known: HashSet<&str> = staging.boxes.iter().map(crate::staging::Mailbox::name).collect();
        let strange: Vec<String> =
            told.names().filter(|name| !known.contains(name)).map(str::to_owned).collect();
        for name in strange.iter().filter(|name| told.of(name).messages.is_some_and(|messages| messages > 0))
        {
            self.differs(&format!("{name:?} is no mailbox of the mbox tree"));
        }
        Ok(())
    }

    fn differs(&mut self, what: &str) {
        self.differences += 1;
        if self.differences <= TOLD {
            note(what);
            self.first.get_or_insert_with(|| what.to_owned());
        }
    }

    /// Whether it was all the same.
    pub(crate) fn judge(self) -> Result<(), Stop> {
        if self.differences == 0 {
            return Ok(());
        }
        // The last that is said goes to the operator: what was found first says most.
        self.first.iter().for_each(|first| note(first));
        Err(Stop::blocked(Block::StageDiffers, self.differences))
    }
}

/// \Recent belongs to a session, and the words have no order.
fn flags(message: &Message) -> Vec<&str> {
    let mut flags: Vec<&str> = message.flags.split_whitespace().filter(|flag| *flag != "\\Recent").collect();
    flags.sort_unstable();
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(guid: &str, flags: &str, text: &[u8]) -> Message {
        Message {
            mailbox: String::new(),
            uid: 1,
            date: 5,
            size: 1,
            hash: *blake3::hash(text).as_bytes(),
            guid: guid.into(),
            flags: flags.into(),
        }
    }

    #[test]
    fn recent_and_the_order_of_flags_do_not_count() {
        assert_eq!(flags(&shown("", "\\Seen \\Recent a", b"")), flags(&shown("", "a \\Seen", b"")));
        assert_ne!(flags(&shown("", "\\Seen", b"")), flags(&shown("", "\\Seen a", b"")));
    }
}
