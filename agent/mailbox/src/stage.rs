//! One mailbox of a stage, made in one pass over its mbox.
//!
//! Nobody can see it before the commit renames the tree that it is in, so its files are written under their final names at once, and the
//! order in which they appear does not matter; that all of them are on disk before the rename does ([`Tree::seal`](crate::Tree::seal)).
//!
//! What there is one of per message (uidlist, receipt) is written while the messages pass. Both can be cut back to the point
//! before the last message, because mail that arrives later can change how that one ends: a separator takes the line end before
//! it, a Content-Length may land or no longer land ([`Stage::append_rest`]).
//!
//! There may be thousands of these: between two passes none has a descriptor open, or anything in memory that grows with its mail.

use crate::durable::Syncer;
use crate::index::Index;
use crate::marker::MarkerSource;
use crate::meta::Folder;
use crate::names::Namer;
use crate::output::{Closed, Home, Homes, Output};
use crate::reading::{Given, Reading, State};
use crate::salvage::Salvage;
use crate::split::Splitter;
use crate::window::Window;
use crate::{
    Error, Known, OnProgress, Progress, Result, Rules, RunId, dir, index, index_note, keywords, output,
    receipt, uidlist,
};
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Which mailbox, in whose words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `INBOX` or the folder's UTF-8 name.
    pub name: String,
    /// Where the mbox is; for the marker and for error messages only, never opened.
    pub path: PathBuf,
}

/// How what was written reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncHow {
    /// One `syncfs`, in [`Tree::seal`](crate::Tree::seal): fastest, but waits for everybody's dirty pages. Right for `convert-file`.
    SyncFs,
    /// Each file by itself, early and by a few threads. Right for an arrival on a busy disk. What is left to wait for in
    /// [`Tree::seal`](crate::Tree::seal) is what was written last.
    PerFile,
}

/// What to stage, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) source: Source,
    pub(crate) known: Known,
    pub(crate) rules: Rules,
}

/// What the mailboxes of a tree share.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Open from the beginning to the end: a `syncfs` tells of the errors since.
    pub(crate) root: OwnedFd,
    pub(crate) run: RunId,
    pub(crate) sync: SyncHow,
    pub(crate) syncer: Syncer,
    /// What earlier stages have left.
    pub(crate) salvage: Salvage,
}

/// What a mailbox of a stage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Messages (the pseudo message is none).
    pub messages: u64,
    /// Of those, without \Seen.
    pub unseen: u64,
    /// Bytes of the mbox that the stage holds.
    pub length: u64,
    /// blake3 of those bytes.
    pub hash: [u8; 32],
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// Offset of the last message's From_ line; `length` where there is no message.
    pub last_message: u64,
}

/// One mailbox of a [`Tree`](crate::Tree) under construction.
#[derive(Debug)]
pub struct Stage {
    plan: Plan,
    ground: Arc<Ground>,
    /// The mailbox's folder, relative to the root.
    directory: String,
    /// `None` while, and after, a pass has failed: then the stage is of no use.
    closed: Option<Closed>,
    state: State,
    hasher: blake3::Hasher,
    summary: Summary,
    index: Option<Index>,
}

/// Batches under way from the reading to the writing half.
const IN_FLIGHT: usize = 2;
/// Bytes of an mbox for which a second thread is not worth its start. Few users have one large folder; many have a hundred small ones.
const SMALL: u64 = 256 << 10;
/// Batches that such an mbox can have, at the very most: a batch is 128 messages, or all that are left, and no message is shorter than the
/// shortest From_ line, of 27 bytes.
const IN_SMALL: usize = 128;

impl Stage {
    /// Reads `mbox` (by `pread`, to the end it has now) into the folder `directory` below the root.
    pub(crate) fn write(
        mbox: BorrowedFd<'_>,
        ground: Arc<Ground>,
        directory: String,
        namer: Namer,
        plan: Plan,
        progress: OnProgress<'_>,
    ) -> Result<Stage> {
        let end = length_of(mbox, &plan.source.path)?;
        let mut stage = Stage {
            state: State {
                mailbox: Folder::by(plan.rules.server, &plan.known),
                keywords: keywords::Letters::default(),
                last: None,
                local_offset: 0,
                messages: 0,
                unseen: 0,
                old: 0,
                new_before_old: false,
                uid_validity: 0,
            },
            hasher: blake3::Hasher::new(),
            summary: Summary {
                messages: 0,
                unseen: 0,
                length: 0,
                hash: *blake3::hash(b"").as_bytes(),
                uid_validity: 0,
                uid_next: 1,
                last_message: 0,
            },
            closed: None,
            index: None,
            plan,
            ground,
            directory,
        };
        let folder = stage.folder()?;
        let mut out = Output::create(folder.as_fd(), namer)?;
        out.receipt_head(&receipt::head(&stage.ground.run))?;
        out.receipt_head(&receipt::source(&stage.plan.source.name))?;
        stage.pass(mbox, (folder, out), (0, end), Given::default(), progress)?;
        Ok(stage)
    }

    /// Opens the mailbox's folder.
    pub fn folder(&self) -> Result<OwnedFd> {
        dir::open_below(&self.ground.root, &self.directory)
    }

    /// What it holds.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Which mailbox it is.
    pub fn source(&self) -> &Source {
        &self.plan.source
    }

    /// Keywords in the mailbox's list, used or not. What is beyond 26 needs [`Stage::has_index`].
    pub fn keywords(&self) -> usize {
        self.state.mailbox.keywords().len()
    }

    /// Whether Dovecot's index was carried over.
    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// Whether the mbox still begins with the bytes that this stage holds. Reads all of them.
    pub fn prefix_holds(&self, mbox: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<bool> {
        let length = self.summary.length;
        if length_of(mbox, &self.plan.source.path)? < length {
            return Ok(false);
        }
        let mut window = Window::new(mbox, self.plan.source.path.clone(), 0, length);
        while window.fill(window.filled_to())? {
            let told = Progress { messages: 0, bytes: window.filled_to(), total: length };
            if progress(told) == ControlFlow::Break(()) {
                return Err(Error::Cancelled);
            }
        }
        Ok(*window.into_hasher()?.finalize().as_bytes() == self.summary.hash)
    }

    /// Takes what was appended to the mbox since. Costs the rest and the last message before it, not the mailbox.
    ///
    /// The caller has made sure that the bytes before are still the same. Nothing new: nothing is done. An error leaves a stage of no
    /// use.
    pub fn append_rest(&mut self, mbox: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<()> {
        let end = length_of(mbox, &self.plan.source.path)?;
        if end == self.summary.length {
            return Ok(());
        }
        if end < self.summary.length {
            let path = self.plan.source.path.clone();
            return Err(Error::Changed { path, offset: end, why: "it became shorter" });
        }
        self.forget_note()?;
        let folder = self.folder()?;
        let mut out = Output::open(folder.as_fd(), self.closed.take().ok_or_else(|| self.of_no_use())?)?;
        let from = self.take_back_last(&mut out)?;
        let guids = guids(folder.as_fd(), out.uidlist.len())?;
        self.pass(mbox, (folder, out), (from, end), guids, progress)
    }

    /// Undoes the last message; returns its offset.
    fn take_back_last(&mut self, out: &mut Output) -> Result<u64> {
        let last = self.state.last.take();
        out.take_back_last()?;
        if last.is_none_or(|last| last.position.sequence == 0) {
            // Nothing is left, and what the first message says about the mailbox may change with it.
            self.state.mailbox = Folder::by(self.plan.rules.server, &self.plan.known);
            out.uidlist.cut(0)?;
            self.state.keywords.forget();
        }
        let Some(last) = last else { return Ok(0) };
        self.state.mailbox.go_back(last.position);
        (self.state.messages, self.state.unseen) = (last.messages, last.unseen);
        self.state.local_offset = last.local_offset;
        Ok(last.offset)
    }

    /// Reads `[from, end)` while a second thread writes.
    fn pass(
        &mut self,
        mbox: BorrowedFd<'_>,
        (folder, mut out): (OwnedFd, Output),
        (from, end): (u64, u64),
        guids: Given,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let path = self.plan.source.path.clone();
        let window = Window::resume(mbox, path, from, end, self.hasher.clone(), self.summary.length);
        let tmp = out.tmp.try_clone().map_err(Error::io("keep open", "tmp"))?;
        let small = end - from <= SMALL;
        let (orders, queue) = sync_channel(if small { IN_SMALL } else { IN_FLIGHT });
        let so_far = (out.uidlist.len() > 0, guids);
        let (syncer, salvage) = (&self.ground.syncer, &self.ground.salvage);
        let mut reading = Reading::new(&self.plan, &mut self.state, so_far, orders, (tmp.as_fd(), salvage));
        let split = Splitter::by(self.plan.rules.server, window);
        let (read, written) = if small {
            let read = reading.run(split, progress);
            drop(reading);
            (read, out.work(&queue, syncer, salvage))
        } else {
            std::thread::scope(|scope| {
                let out = &mut out;
                let writing = scope.spawn(move || out.work(&queue, syncer, salvage));
                let read = reading.run(split, progress);
                drop(reading);
                (read, writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        };
        // If the writing half failed, the other one only found nobody to hand over to.
        written?;
        self.hasher = read?;
        self.summary = Summary {
            messages: self.state.messages,
            unseen: self.state.unseen,
            length: end,
            hash: *self.hasher.finalize().as_bytes(),
            uid_validity: self.state.uid_validity,
            uid_next: self.state.mailbox.uid_next(),
            last_message: self.state.last.as_ref().map_or(end, |last| last.offset),
        };
        if let Some(list) = self.state.keywords.write(folder.as_fd(), self.state.mailbox.keywords())? {
            syncer.take(list);
        }
        let closed = out.close(syncer)?;
        syncer.take(folder);
        self.closed = Some(closed);
        Ok(())
    }

    /// Where nobody can say which messages are \Recent: as Dovecot has it without an index, to which whatever stands in front of a message
    /// with `O` in its Status is not.
    pub(crate) fn recent_without_index(&mut self) -> Result<()> {
        if self.state.new_before_old { self.set_not_recent(Some(self.state.old)) } else { Ok(()) }
    }

    /// Tells which messages are \Recent now (see [`Known::not_recent`]) and moves those for which that has changed between `new/` and `cur/`.
    pub fn set_not_recent(&mut self, not_recent: Option<u64>) -> Result<()> {
        let Some(now) = not_recent.filter(|_| not_recent != self.plan.known.not_recent) else {
            return Ok(());
        };
        self.forget_note()?;
        // Where they are decided by their own headers so far, any of them may be in the wrong place.
        let before = self.plan.known.not_recent.replace(now);
        let changed = before.map_or(0..u64::MAX, |before| before.min(now)..before.max(now));
        let folder = self.folder()?;
        let homes = Homes::open(folder.as_fd())?;
        let mut receipt = receipt::Reader::open(folder.as_fd())?;
        let mut closed = self.closed.take().ok_or_else(|| self.of_no_use())?;
        let mut number = 0;
        while let Some(entry) = receipt.next_entry()? {
            if changed.contains(&number) {
                let home = if number < now { Home::Cur } else { Home::New };
                closed.move_home(&homes, &entry, home)?;
            }
            number += 1;
        }
        self.closed = Some(closed);
        homes.close(&self.ground.syncer);
        Ok(())
    }

    /// Copies the index that Dovecot has of the mbox. `false`: there is none.
    pub(crate) fn carry_index(&mut self, from: BorrowedFd<'_>) -> Result<bool> {
        let folder = self.folder()?;
        self.index = None;
        self.index = index::copy(from, folder.as_fd(), &self.ground.syncer)?;
        Ok(self.index.is_some())
    }

    /// See [`crate::Tree::complete_index`].
    pub(crate) fn complete_index(&mut self) -> Result<()> {
        if self.index.is_none_or(|index| index.noted.is_some()) {
            return Ok(());
        }
        if let Some((log, length)) = index_note::append(self.folder()?.as_fd())? {
            self.ground.syncer.take(log);
            self.index = Some(Index { noted: Some(length) });
        }
        Ok(())
    }

    /// The mailbox is about to change.
    fn forget_note(&mut self) -> Result<()> {
        if let Some(length) = self.index.and_then(|index| index.noted) {
            self.ground.syncer.take(index_note::take_back(self.folder()?.as_fd(), length)?);
            self.index = Some(Index { noted: None });
        }
        Ok(())
    }

    pub(crate) fn drop_index(&mut self) -> Result<()> {
        self.index = None;
        index::remove(self.folder()?.as_fd())
    }

    /// Its line in the marker; an error where something would be lost.
    pub(crate) fn marker_source(&self) -> Result<MarkerSource> {
        let (source, s) = (&self.plan.source, &self.summary);
        if self.closed.is_none() {
            return Err(self.of_no_use());
        }
        if self.plan.known.index && self.index.is_none() && self.keywords() > keywords::LETTERS {
            let reason = crate::error::BlockReason::TooManyKeywords(self.keywords());
            return Err(Error::Blocked { path: source.path.clone(), reason });
        }
        Ok(MarkerSource {
            name: source.name.clone(),
            length: s.length,
            messages: s.messages,
            hash: s.hash,
            uid_validity: s.uid_validity,
            uid_next: s.uid_next,
            path: source.path.clone(),
        })
    }

    /// Takes the mailbox away; its folder stays, it may have children.
    pub(crate) fn clear(&self) -> Result<()> {
        let folder = self.folder()?;
        output::clear(folder.as_fd())?;
        index::remove(folder.as_fd())
    }

    fn of_no_use(&self) -> Error {
        let (path, offset) = (self.plan.source.path.clone(), self.summary.length);
        Error::Changed { path, offset, why: "an earlier attempt to stage it failed; stage it anew" }
    }
}

/// The GUIDs in the first bytes of a uidlist.
fn guids(folder: BorrowedFd<'_>, length: u64) -> Result<Given> {
    let list = BufReader::new(dir::open_file(folder, uidlist::NAME)?);
    let mut given = Given::default();
    for line in list.take(length).lines() {
        let line = line.map_err(Error::io("read", uidlist::NAME))?;
        uidlist::guid(&line).map(|guid| given.take(&guid));
    }
    Ok(given)
}

/// A message file's whole name. A file in new/ has flags behind its name only if it has any.
pub(crate) fn file_name(base: &str, in_cur: bool, flags: &str) -> String {
    if in_cur || !flags.is_empty() { format!("{base}:2,{flags}") } else { base.to_owned() }
}

/// The mbox's present length; it has to be a regular file.
pub(crate) fn length_of(mbox: BorrowedFd<'_>, path: &Path) -> Result<u64> {
    let stat = nix::sys::stat::fstat(mbox).map_err(Error::io("look at", path))?;
    let regular = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG;
    match u64::try_from(stat.st_size) {
        Ok(length) if regular => Ok(length),
        _ => Err(Error::NotMbox { path: path.to_owned(), offset: 0, why: "it is no regular file" }),
    }
}

/// Whether Dovecot would open this file as an mbox: it begins with a From_ line, or is empty. Anything else is no mail, and not ours to
/// touch.
pub fn is_mbox(file: BorrowedFd<'_>) -> Result<bool> {
    /// What the first line has to fit in.
    const BEGINNING: u64 = 64 << 10;
    let path = Path::new("a file of the mbox root");
    let length = match length_of(file, path) {
        Ok(length) => length,
        Err(Error::NotMbox { .. }) => return Ok(false),
        Err(e) => return Err(e),
    };
    match Splitter::new(Window::new(file, path.to_owned(), 0, length.min(BEGINNING))).next_message() {
        Ok(_) => Ok(true),
        Err(Error::NotMbox { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}
