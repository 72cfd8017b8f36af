//! New mail out of a file that was an mbox's place: as message files in a folder.
//!
//! Three kinds of file can stand there (`ARCHITECTURE.md`, "Archive folder entries"): our tombstone with mail behind it; the very
//! file that was converted, with mail that a slow deliverer added; a file that some program wrote in place of ours, which may
//! hold all the old mail again. What is new in the first two is a matter of position and always mail, whatever it says. In the
//! third each message is looked up in the receipt, as often as it is there: what the receipt knows has been converted, and at most
//! its flags have changed.
//!
//! Nothing is thrown away because it looks wrong: bytes without a From_ line are a message, too.

use crate::content::Reader;
use crate::durable::Syncer;
use crate::known_mail::KnownMail;
use crate::marker::Marker;
use crate::meta::{Folder, Meta};
use crate::names::{Namer, now};
use crate::rules::LocalTime;
use crate::split::{Head, Splitter};
use crate::stage::{file_name, length_of};
use crate::tombstone::{self, TOMBSTONE_LEN};
use crate::window::Window;
use crate::{Error, Known, Result, Rules, RunId, SyncHow, dir};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Where the new mail begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin<'a> {
    /// Here: behind a tombstone, or at the length that was converted.
    At(u64),
    /// Decide by the file's content: behind a tombstone of ours, behind the bytes that the marker's source holds, or, in a file
    /// that reappeared, whichever messages the receipt does not know.
    ByContent {
        /// The committed Maildir, with the marker.
        maildir: BorrowedFd<'a>,
        /// The folder of the mailbox in it, with the receipt.
        folder: BorrowedFd<'a>,
        /// Which source of the marker: `INBOX`, or the folder's name.
        source: &'a str,
    },
}

/// Which file: entry `number` of the source at `position` (`RUNID.N` for the inbox, `aside-RUNID/POSITION.N` for a folder).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Position of the source in the marker; 0 is INBOX.
    pub position: usize,
    /// N.
    pub number: u64,
}

/// A flag difference that a reader wrote back into a file that reappeared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagMerge {
    /// UID in the receipt.
    pub uid: u32,
    /// Base name in the Maildir.
    pub file: String,
    /// Maildir flag letters that the message has now (keywords are not among them).
    pub flags: String,
}

/// What an extraction found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// Where new mail began.
    pub from: u64,
    /// Where it ended: the entry's position from now on.
    pub to: u64,
    /// Message files written.
    pub messages: u64,
    /// Messages known already whose flags differ.
    pub merges: Vec<FlagMerge>,
}

/// Splits the new mail of `source` (read by `pread`, up to `to`) into message files in `drain` (a folder of its own, empty), each
/// synced, and syncs the folder. The names are those they will have in `new/`, flags of a Status header behind them.
///
/// With the run, `entry` makes the names unique. `path` is for error messages only.
#[expect(clippy::too_many_arguments, reason = "it is what the drain knows, and nothing to mix up in it")]
pub fn extract(
    source: BorrowedFd<'_>,
    path: &Path,
    begin: Begin<'_>,
    to: u64,
    drain: BorrowedFd<'_>,
    run: &RunId,
    entry: ArchiveEntry,
    rules: &Rules,
) -> Result<Extracted> {
    rules.check()?;
    let length = length_of(source, path)?;
    if to > length {
        return Err(Error::Changed { path: path.to_owned(), offset: length, why: "it became shorter" });
    }
    let syncer = Syncer::new(SyncHow::PerFile);
    let mut job = Job { source, path, run, entry, drain, rules, to, syncer, messages: 0, merges: Vec::new() };
    let from = match begin {
        Begin::At(from) => job.all_from(from)?,
        Begin::ByContent { maildir, folder, source } => job.by_content(maildir, folder, source)?,
    };
    job.syncer.wait()?;
    dir::sync(drain, "the drain folder")?;
    Ok(Extracted { from, to, messages: job.messages, merges: job.merges })
}

struct Job<'a> {
    source: BorrowedFd<'a>,
    path: &'a Path,
    run: &'a RunId,
    entry: ArchiveEntry,
    drain: BorrowedFd<'a>,
    rules: &'a Rules,
    to: u64,
    syncer: Syncer,
    messages: u64,
    merges: Vec<FlagMerge>,
}

impl Job<'_> {
    fn by_content(&mut self, maildir: BorrowedFd<'_>, folder: BorrowedFd<'_>, source: &str) -> Result<u64> {
        let window = self.window(0);
        let mut head = [0; TOMBSTONE_LEN as usize];
        if tombstone::recognise(window.peek(0, &mut head)?).is_some() {
            return self.all_from(TOMBSTONE_LEN);
        }
        let marker = Marker::read(maildir)?;
        let known = marker.as_ref().and_then(|m| m.source(source));
        if let Some(known) = known
            && known.length <= self.to
            && self.hash_of_first(known.length)? == known.hash
        {
            return self.all_from(known.length);
        }
        KnownMail::in_parts(folder, source, |known| self.unknown_mail(known))?;
        Ok(0)
    }

    fn hash_of_first(&self, length: u64) -> Result<[u8; 32]> {
        let path = self.path.to_owned();
        let hasher = Window::new(self.source, path, 0, length).into_hasher()?;
        Ok(*hasher.finalize().as_bytes())
    }

    fn window(&self, from: u64) -> Window<'_> {
        Window::new(self.source, self.path.to_owned(), from, self.to)
    }

    fn all_from(&mut self, from: u64) -> Result<u64> {
        self.pass(from, |_, _| Ok(true))?;
        Ok(from)
    }

    /// One pass over a file that reappeared: what this part of the receipt would know, and does not, is new mail.
    fn unknown_mail(&mut self, known: &mut KnownMail) -> Result<()> {
        let mut merges = Vec::new();
        self.pass(0, |hash, meta| {
            if !known.covers(hash) {
                return Ok(false);
            }
            let Some(found) = known.take(hash)? else { return Ok(true) };
            let flags: String = meta.flags.letters().collect();
            let before: String = found.flags.chars().filter(char::is_ascii_uppercase).collect();
            if flags != before {
                merges.push(FlagMerge { uid: found.uid, file: found.file, flags });
            }
            Ok(false)
        })?;
        self.merges.append(&mut merges);
        Ok(())
    }

    /// Reads the messages from `from` on, and writes those that `wanted` says are new.
    fn pass(
        &mut self,
        from: u64,
        mut wanted: impl FnMut(&blake3::Hash, &Meta) -> Result<bool>,
    ) -> Result<()> {
        let (file, path, to) = (self.source, self.path.to_owned(), self.to);
        let mut split = Splitter::new(Window::new(file, path, from, to));
        let mut reader = Reader::new(self.rules.server, self.drain);
        let arrived = i64::try_from(now()).unwrap_or(i64::MAX);
        let namer = Namer::of_entry(self.run, self.entry, now());
        // Keywords and UIDs of new mail are what whoever sent it says: they do not count.
        let mut mailbox = Folder::new(&Known::default());
        let mut meta = Meta::default();
        let mut local = LocalTime::new(&self.rules.zone);
        let (mut sequence, mut name) = (0, String::new());
        while let Some(Head { stamp, .. }) = split.next_whatever()? {
            // Only at the beginning of a file can a message be the pseudo message; behind a tombstone it is somebody's mail.
            if from == 0 {
                mailbox.begin();
            }
            meta.reset();
            let content = reader.read(&mut split, stamp.is_none(), &mut |which, value| {
                mailbox.header(&mut meta, which, value);
                meta.content_length
            })?;
            sequence += 1;
            let measure = content.measure();
            if meta.pseudo || !wanted(&measure.hash, &meta)? {
                content.discard(self.drain)?;
                continue;
            }
            namer.base(&mut name, sequence, measure.size, measure.virtual_size);
            let flags: String = meta.flags.letters().collect();
            let date = stamp.map_or(arrived, |stamp| stamp.unix_seconds(&mut local));
            let name = file_name(&name, false, &flags);
            let file = content.store(self.drain, self.drain, &name)?;
            dir::set_time(&file, &name, date)?;
            self.syncer.take(file);
            self.messages += 1;
        }
        Ok(())
    }
}
