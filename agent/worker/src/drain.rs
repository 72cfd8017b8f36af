//! A worker that does not convert: says where the mail is, finishes what a dead one had begun, and carries late mail over, order by order.
//!
//! What is drained of the inbox is an entry of the archive folder, which only the agent can name and open; what is drained of the folders lies in the work folder, and this worker finds it itself.

use std::os::fd::{AsFd, OwnedFd};

use mailready_mailbox::Tree;
use mailready_mailbox::extract::ArchiveEntry;
use mailready_mailbox::layout::INBOX;
use mailready_mailbox::marker::Marker;
use nix::errno::Errno;

use crate::aside::Aside;
use crate::channel::Channel;
use crate::commit;
use crate::drain_folders;
use crate::extraction::{Extraction, Target};
use crate::folders;
use crate::locking::AllLocks;
use crate::look::{self, IndexLook};
use crate::probe;
use crate::wire::{Block, Order, Report, Step};
use crate::{Stop, Task, late, let_go, step, stray};

pub(crate) fn run(task: Task<'_>, channel: &mut Channel) -> Result<(), Stop> {
    // Whoever comes first after a death, and whatever for: the other end of its dotlocks is going to be removed, and then nobody would know them for ours.
    probe::remove_dead_dotlocks(task)?;
    let mut indexes = Indexes::new(task)?;
    let mut locks = None;
    loop {
        match channel.order()? {
            (Order::Probe, _) => {
                // Under our own leases nothing could be opened.
                drop(locks.take());
                channel.say(probe::probe(task)?)?;
            }
            (Order::Extract { entry, from }, Some(file)) => {
                let (messages, to) = extract(task, entry, from, &file)?;
                channel.say(Report::Extracted { messages, to })?;
            }
            (Order::DrainFolders { let_go }, _) => {
                drop(locks.take());
                let (maildir, marker) = committed(task)?;
                late::deliver(task.place, maildir.as_fd())?;
                channel.say(drain_folders::drain(task, &maildir, &marker, let_go)?)?;
            }
            (Order::TakeStray, spool) => channel.say(stray::take(task, spool.as_ref())?)?,
            (Order::Stands, _) => {
                committed(task)?;
                channel.say(Report::Obeyed)?;
            }
            (Order::LetGo, _) => {
                drop(locks.take());
                channel.say(let_go::let_go(task)?)?;
            }
            (Order::Discard, _) => {
                Tree::remove_kept(task.place.work()).map_err(Stop::engine(Step::Abort))?;
            }
            (Order::Forgotten { entry }, _) => inbox(task, entry).forget()?,
            (Order::Refresh, _) => {
                drop(locks.take());
                channel.say(indexes.refresh()?)?;
            }
            (Order::Confirm, _) => {
                step(Step::Confirm, task.run);
                locks = indexes.confirm()?;
                channel.say(match locks {
                    Some(_) => Report::Confirmed { messages: 0, length: 0 },
                    None => Report::Changed,
                })?;
            }
            (Order::SetAside, _) => {
                let Some(locks) = &locks else {
                    return Err(Stop::errno(Step::SetAsideFolder, Errno::EPROTO));
                };
                let aside =
                    Aside::create(task.place.work(), task.run).map_err(Stop::failed(Step::SetAsideFolder))?;
                channel.say(Report::Committed { folders_left: commit::set_aside(task, &aside, locks) })?;
            }
            (Order::Release, _) => {
                drop(locks.take());
                crate::locks::LockFile::remove(task.place.work(), task.run)
                    .map_err(Stop::failed(Step::UnlockFolders))?;
                return channel.say(Report::Done);
            }
            (Order::Abort, _) => return Err(Stop::Abort),
            _ => return Err(Stop::errno(Step::Probe, Errno::EBADMSG)),
        }
    }
}

/// The Maildir, which has to be this run's.
fn committed(task: Task<'_>) -> Result<(OwnedFd, Marker), Stop> {
    probe::committed(task)?.ok_or(Stop::blocked(Block::MaildirLost, 0))
}

fn inbox(task: Task<'_>, number: u64) -> Extraction<'_> {
    Extraction::new(task, ArchiveEntry { position: 0, number })
}

/// Carries the new mail of one entry of the archive into the inbox.
fn extract(task: Task<'_>, entry: u64, from: Option<u64>, file: &OwnedFd) -> Result<(u64, u64), Stop> {
    let (maildir, _) = committed(task)?;
    late::deliver(task.place, maildir.as_fd())?;
    let target = Target { maildir: maildir.as_fd(), folder: maildir.as_fd(), source: INBOX };
    inbox(task, entry).carry_over(file, from, &target)
}

/// Dovecot's indexes of a run that is committed and not set aside: a session that had decided for an mbox before the commit may still store flags there.
struct Indexes<'a> {
    task: Task<'a>,
    marker: Option<Marker>,
    looks: Vec<IndexLook>,
    changes: u64,
}

impl<'a> Indexes<'a> {
    fn new(task: Task<'a>) -> Result<Self, Stop> {
        let mut indexes = Self { task, marker: None, looks: Vec::new(), changes: 0 };
        indexes.looks = indexes.look()?;
        Ok(indexes)
    }

    /// The folder's path by its position, `None` for the inbox.
    fn paths(&self) -> impl Iterator<Item = Option<std::path::PathBuf>> {
        let sources = self.marker.iter().flat_map(|marker| marker.sources.iter().skip(1));
        std::iter::once(None).chain(sources.map(|source| Some(folders::path_of(&source.name))))
    }

    fn folder(&self, path: Option<&std::path::Path>) -> Result<Option<OwnedFd>, Stop> {
        look::index_folder(self.task.place.index(), path).map_err(Stop::failed(Step::Refresh))
    }

    fn look(&self) -> Result<Vec<IndexLook>, Stop> {
        let look = |path: Option<std::path::PathBuf>| {
            let folder = self.folder(path.as_deref())?;
            IndexLook::at(folder.as_ref().map(AsFd::as_fd)).map_err(Stop::failed(Step::Refresh))
        };
        self.paths().map(look).collect()
    }

    fn refresh(&mut self) -> Result<Report, Stop> {
        self.marker = probe::committed(self.task)?.map(|(_, marker)| marker);
        let now = self.look()?;
        self.changes += u64::from(now != self.looks);
        self.looks = now;
        let indexed = self.looks.iter().any(IndexLook::is_there);
        Ok(Report::Staged {
            messages: 0,
            length: 0,
            bytes: 0,
            boxes: self.looks.len() as u64,
            skipped: 0,
            indexed,
            index_changes: self.changes,
        })
    }

    /// Locks the indexes, and those folders that are not set aside yet.
    fn confirm(&self) -> Result<Option<AllLocks>, Stop> {
        let task = self.task;
        let left = match &self.marker {
            Some(marker) => probe::folders_left(task, marker)?,
            None => Vec::new(),
        };
        let folders = left.iter().map(|(position, path)| (*position, path.as_path()));
        let index = self.paths().map(|path| self.folder(path.as_deref()));
        let Some(locks) = AllLocks::try_take(task, folders, index)? else { return Ok(None) };
        Ok((self.look()? == self.looks).then_some(locks))
    }
}
