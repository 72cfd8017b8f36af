//! The stage: a complete Maildir in a private folder, made in one pass over the mbox.
//!
//! Nobody can see it before the commit renames it, so its files are written under their final names at once, and the order in
//! which they appear does not matter; that all of them are on disk before the rename does ([`Stage::seal`]).
//!
//! What there is one of per message (uidlist, receipt) is written while the messages pass. Both can be cut back to the point
//! before the last message, because mail that arrives later can change how that one ends: a separator takes the line end before
//! it, a Content-Length may land or no longer land ([`Stage::append_rest`]).

use crate::content::{Content, Reader};
use crate::durable::{Syncer, sync_file_system};
use crate::error::BlockReason;
use crate::marker::{Marker, MarkerSource};
use crate::meta::{Folder, Meta, Position};
use crate::names::{Namer, now};
use crate::output::{Home, Message, Order, Output};
use crate::rules::LocalTime;
use crate::split::Splitter;
use crate::window::Window;
use crate::{
    Error, Known, OnProgress, Progress, Result, Rules, RunId, dir, index_log, receipt, run_id, uidlist,
};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

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
    /// One `syncfs`, in [`Stage::seal`]: fastest, but waits for everybody's dirty pages. Right for `convert-file`.
    SyncFs,
    /// Each file by itself, early and by a few threads. Right for an arrival on a busy disk. What is written is durable when
    /// [`Stage::write`] returns.
    PerFile,
}

/// What to stage, and how.
#[derive(Debug)]
struct Plan {
    run: RunId,
    source: Source,
    known: Known,
    rules: Rules,
    sync: SyncHow,
}

/// What a stage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Messages (the pseudo message is none).
    pub messages: u64,
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

/// A Maildir under construction below a work folder, `stage-RUNID`. Dropping it leaves the folder; see [`Stage::remove`].
#[derive(Debug)]
pub struct Stage {
    plan: Plan,
    work: OwnedFd,
    out: Output,
    keywords: uidlist::Letters,
    mailbox: Folder,
    /// The zone's offset used last; see [`LocalTime`].
    local_offset: i64,
    /// `None` before the first message. What has to be undone to read the last message again.
    last: Option<Last>,
    hasher: blake3::Hasher,
    summary: Summary,
}

/// The state before the last message.
#[derive(Debug, Clone, Copy)]
struct Last {
    offset: u64,
    messages: u64,
    position: Position,
    local_offset: i64,
}

/// What is handed over to the writing half at a time: few enough hand-overs that a busy machine, where each may have to wait for a
/// turn of the processor, does not count them; little enough to hold a few in memory.
const BATCH_MESSAGES: usize = 128;
const BATCH_BYTES: usize = 1 << 20;
/// Batches under way.
const IN_FLIGHT: usize = 2;

impl Stage {
    /// Reads `mbox` (by `pread`, to the end it has now) into a new folder `stage-RUNID` below `work`. No lock is needed: what
    /// changes meanwhile is found by the look afterwards. On an error the folder is removed again.
    #[expect(clippy::too_many_arguments, reason = "two handles and six different types: nothing to mix up")]
    pub fn write(
        mbox: BorrowedFd<'_>,
        work: BorrowedFd<'_>,
        run: &RunId,
        source: &Source,
        known: &Known,
        rules: &Rules,
        sync: SyncHow,
        progress: OnProgress<'_>,
    ) -> Result<Stage> {
        rules.check()?;
        let end = length_of(mbox, &source.path)?;
        let (source, known, rules) = (source.clone(), known.clone(), rules.clone());
        let mut stage = Stage::create(work, Plan { run: run.clone(), source, known, rules, sync })?;
        let written = stage.pass(mbox, 0, end, progress).and_then(|()| match sync {
            SyncHow::PerFile => stage.settle(),
            SyncHow::SyncFs => Ok(()),
        });
        match written {
            Ok(()) => Ok(stage),
            Err(e) => {
                // The first error is the one that matters; what is left is removed with the run's other traces.
                let _ = Stage::remove(work, run);
                Err(e)
            }
        }
    }

    fn create(work: BorrowedFd<'_>, plan: Plan) -> Result<Stage> {
        let mut out = Output::create(work, &Stage::name(&plan.run), Namer::new(&plan.run, None, now()))?;
        out.receipt.write(&receipt::head(&plan.run))?;
        out.receipt.write(&receipt::source(&plan.source.name))?;
        Ok(Stage {
            work: work.try_clone_to_owned().map_err(Error::io("keep open", "the work folder"))?,
            out,
            mailbox: Folder::new(&plan.known),
            keywords: uidlist::Letters::default(),
            local_offset: 0,
            last: None,
            hasher: blake3::Hasher::new(),
            summary: Summary {
                messages: 0,
                length: 0,
                hash: *blake3::hash(b"").as_bytes(),
                uid_validity: 0,
                uid_next: 1,
                last_message: 0,
            },
            plan,
        })
    }

    /// The name of the folder below the work folder: `stage-RUNID`.
    pub fn name(run: &RunId) -> String {
        format!("stage-{run}")
    }

    /// The Maildir to be.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.out.folder.as_fd()
    }

    /// What it holds.
    pub fn summary(&self) -> &Summary {
        &self.summary
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
    /// The caller has made sure that the bytes before are still the same. Nothing new: nothing is done. What is written is durable
    /// after [`Stage::seal`]. An error leaves a stage of no use.
    pub fn append_rest(&mut self, mbox: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<()> {
        let end = length_of(mbox, &self.plan.source.path)?;
        if end == self.summary.length {
            return Ok(());
        }
        if end < self.summary.length {
            let path = self.plan.source.path.clone();
            return Err(Error::Changed { path, offset: end, why: "it became shorter" });
        }
        let from = self.take_back_last()?;
        self.pass(mbox, from, end, progress)
    }

    /// Undoes the last message; returns its offset.
    fn take_back_last(&mut self) -> Result<u64> {
        let last = self.last.take();
        if last.is_none_or(|last| last.position.sequence == 0) {
            // Nothing is left, and what the first message says about the mailbox may change with it.
            self.mailbox = Folder::new(&self.plan.known);
            self.out.take_back_last()?;
            self.out.uidlist.cut(0)?;
            self.keywords.forget();
        } else {
            self.out.take_back_last()?;
        }
        let Some(last) = last else { return Ok(0) };
        self.mailbox.go_back(last.position);
        self.summary.messages = last.messages;
        self.local_offset = last.local_offset;
        Ok(last.offset)
    }

    /// Reads `[from, end)` while a second thread writes.
    fn pass(&mut self, mbox: BorrowedFd<'_>, from: u64, end: u64, progress: OnProgress<'_>) -> Result<()> {
        let path = self.plan.source.path.clone();
        let window = Window::resume(mbox, path, from, end, self.hasher.clone(), self.summary.length);
        let tmp = self.out.tmp.try_clone().map_err(Error::io("keep open", "tmp"))?;
        let mut syncer = Syncer::new(self.plan.sync);
        let (orders, queue) = sync_channel(IN_FLIGHT);
        let mut reading = Reading {
            plan: &self.plan,
            mailbox: &mut self.mailbox,
            keywords: &mut self.keywords,
            last: &mut self.last,
            local_offset: &mut self.local_offset,
            messages: &mut self.summary.messages,
            uid_validity: &mut self.summary.uid_validity,
            head_written: self.out.uidlist.len() > 0,
            orders,
            batch: Vec::new(),
            batch_bytes: 0,
            tmp: tmp.as_fd(),
        };
        let out = &mut self.out;
        let (read, written) = std::thread::scope(|scope| {
            let writing = scope.spawn(move || out.work(&queue, &mut syncer).and_then(|()| syncer.close()));
            let read = reading.run(Splitter::new(window), progress);
            drop(reading);
            (read, writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        // If the writing half failed, the other one only found nobody to hand over to.
        written?;
        self.hasher = read?;
        self.summary.length = end;
        self.summary.hash = *self.hasher.finalize().as_bytes();
        self.summary.uid_next = self.mailbox.uid_next();
        self.summary.last_message = self.last.as_ref().map_or(end, |last| last.offset);
        self.keywords.write(self.out.folder.as_fd(), self.mailbox.keywords())
    }

    /// Writes the marker and the index's beginning, and makes durable whatever is not yet: after this the rename is all that is missing.
    pub fn seal(&mut self) -> Result<Marker> {
        let s = &self.summary;
        let source = MarkerSource {
            name: self.plan.source.name.clone(),
            length: s.length,
            messages: s.messages,
            hash: s.hash,
            uid_validity: s.uid_validity,
            uid_next: s.uid_next,
            path: self.plan.source.path.clone(),
        };
        let marker = Marker { run: self.plan.run.clone(), sources: vec![source] };
        let folder = self.out.folder.as_fd();
        let file = marker.write(folder)?;
        let log =
            self.plan.known.highest_modseq.map(|highest| index_log::write(folder, highest)).transpose()?;
        if self.plan.sync == SyncHow::PerFile {
            dir::sync(&file, crate::marker::NAME)?;
            log.map_or(Ok(()), |log| dir::sync(&log, index_log::NAME))?;
        }
        self.settle()?;
        Ok(marker)
    }

    /// Hands the kernel what is still in memory, so that everything can be read back.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.receipt.flush()?;
        self.out.uidlist.flush()
    }

    /// Everything but the message files of [`SyncHow::PerFile`], which the pool has synced, becomes durable.
    fn settle(&mut self) -> Result<()> {
        self.flush()?;
        let out = &mut self.out;
        if self.plan.sync == SyncHow::SyncFs {
            return sync_file_system(out.folder.as_fd());
        }
        out.receipt.sync()?;
        out.uidlist.sync()?;
        self.keywords.sync()?;
        let folders = [
            (&out.cur, "cur"),
            (&out.new, "new"),
            (&out.tmp, "tmp"),
            (&out.folder, "the stage"),
            (&self.work, "the work folder"),
        ];
        folders.into_iter().try_for_each(|(fd, name)| dir::sync(fd, name))
    }

    /// Tells which messages are \Recent now (see [`Known::not_recent`]) and moves those for which that has changed between `new/` and `cur/`.
    pub fn set_not_recent(&mut self, not_recent: Option<u64>) -> Result<()> {
        let Some(now) = not_recent.filter(|_| not_recent != self.plan.known.not_recent) else {
            return Ok(());
        };
        // Where they are decided by their own headers so far, any of them may be in the wrong place.
        let before = self.plan.known.not_recent.replace(now);
        let changed = before.map_or(0..u64::MAX, |before| before.min(now)..before.max(now));
        self.out.receipt.flush()?;
        let mut receipt = receipt::Reader::open(self.out.folder.as_fd())?;
        let mut number = 0;
        while let Some(entry) = receipt.next_entry()? {
            if changed.contains(&number) {
                self.out.move_home(&entry, if number < now { Home::Cur } else { Home::New })?;
            }
            number += 1;
        }
        Ok(())
    }

    /// Tells what HIGHESTMODSEQ is now (see [`Known::highest_modseq`]); what counts is the last word before [`Stage::seal`].
    pub fn set_highest_modseq(&mut self, highest_modseq: Option<NonZeroU64>) {
        self.plan.known.highest_modseq = highest_modseq;
    }

    /// Removes the stage of a run below its work folder; no stage there is no error.
    pub fn remove(work: BorrowedFd<'_>, run: &RunId) -> Result<()> {
        dir::remove_tree(work, &Stage::name(run))
    }
}

/// The reading half of a pass.
struct Reading<'s> {
    plan: &'s Plan,
    mailbox: &'s mut Folder,
    keywords: &'s mut uidlist::Letters,
    last: &'s mut Option<Last>,
    local_offset: &'s mut i64,
    messages: &'s mut u64,
    uid_validity: &'s mut u32,
    head_written: bool,
    orders: SyncSender<Vec<Order>>,
    batch: Vec<Order>,
    batch_bytes: usize,
    tmp: BorrowedFd<'s>,
}

impl Reading<'_> {
    /// Reads to the end; returns the hash of all bytes of the mbox.
    fn run(&mut self, mut split: Splitter<'_>, progress: OnProgress<'_>) -> Result<blake3::Hasher> {
        let mut reader = Reader::new(self.tmp);
        let mut meta = Meta::default();
        let mut local = LocalTime::after(&self.plan.rules.zone, *self.local_offset);
        while let Some(head) = split.next_message()? {
            *self.last = Some(Last {
                offset: head.offset,
                messages: *self.messages,
                position: self.mailbox.position(),
                local_offset: local.last_offset(),
            });
            let date = head.stamp.map_or(0, |stamp| stamp.unix_seconds(&mut local));
            self.mailbox.begin();
            meta.reset();
            let content = reader.read(&mut split, false, &mut |which, value| {
                self.mailbox.header(&mut meta, which, value);
                meta.content_length
            })?;
            self.mailbox.complete(&mut meta).map_err(|reason| self.blocked(reason))?;
            let extent = (head.offset, split.pos() - head.offset);
            self.hand_over(extent, date, &meta, content)?;
            let told = Progress { messages: *self.messages, bytes: split.pos(), total: split.end() };
            if progress(told) == ControlFlow::Break(()) {
                return Err(Error::Cancelled);
            }
        }
        *self.local_offset = local.last_offset();
        self.uidlist_head()?;
        self.flush()?;
        split.into_window().into_hasher()
    }

    fn hand_over(
        &mut self,
        (offset, length): (u64, u64),
        date: i64,
        meta: &Meta,
        content: Content,
    ) -> Result<()> {
        if meta.pseudo {
            return content.discard(self.tmp).map(drop);
        }
        self.uidlist_head()?;
        let mut flags: String = meta.flags.letters().collect();
        self.keywords
            .append(&mut flags, &meta.keywords, self.mailbox.keywords())
            .map_err(|reason| self.blocked(reason))?;
        let number = *self.messages;
        let old = self.plan.known.not_recent.map_or(meta.old, |not_recent| number < not_recent);
        let home = if old { Home::Cur } else { Home::New };
        *self.messages += 1;
        self.order(Order::Message(Message {
            number,
            offset,
            length,
            date,
            uid: meta.uid,
            flags,
            home,
            content,
        }))
    }

    /// The uidlist's first line, as soon as UIDVALIDITY is known. Its UIDNEXT may be lower than the records: Dovecot goes by
    /// the higher (formats.md 3.4).
    fn uidlist_head(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.head_written, true) {
            return Ok(());
        }
        *self.uid_validity = self.mailbox.uid_validity(i64::try_from(now()).unwrap_or(i64::MAX));
        let guid = run_id::random_bytes::<16>()?;
        self.order(Order::UidlistHead(uidlist::head(*self.uid_validity, self.mailbox.uid_next(), &guid)))
    }

    fn order(&mut self, order: Order) -> Result<()> {
        if let Order::Message(message) = &order {
            self.batch_bytes += message.content.held();
        }
        self.batch.push(order);
        if self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// If nobody takes it the writing half has failed, and its error is the one that counts.
    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        self.orders.send(std::mem::take(&mut self.batch)).map_err(|_| Error::Cancelled)
    }

    fn blocked(&self, reason: BlockReason) -> Error {
        Error::Blocked { path: self.plan.source.path.clone(), reason }
    }
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
