//! The stage read back from disk and compared with its receipt.
//!
//! Retention relies on this: the original is given up one day because this said that the copy is good. So it knows nothing of the
//! process that wrote the stage, and asks the kernel to forget what it has cached (which works only once that is on disk).
//!
//! A few threads read: the files are small, the disk is what they wait for, and it answers many questions at once.

use crate::receipt::{Entry, Reader};
use crate::stage::file_name;
use crate::{Error, OnProgress, Progress, Result, dir, receipt, uidlist};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Threads that read.
const THREADS: usize = 4;
/// Messages that a thread takes at a time: few hand-overs, and little to wait for at a stop.
const BATCH: usize = 32;
/// A receipt of some fifty messages.
const SMALL_RECEIPT: u64 = 8 << 10;
/// Bytes read at a time.
const BUFFER: usize = 256 << 10;

/// What was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Messages compared.
    pub messages: u64,
    /// Bytes of message files compared.
    pub bytes: u64,
}

impl Verified {
    /// How far it is, with this before it.
    pub(crate) fn with(self, now: Progress) -> Progress {
        Progress { messages: self.messages + now.messages, bytes: self.bytes + now.bytes, total: now.total }
    }
}

impl std::ops::AddAssign for Verified {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }
}

/// Reads every message file of one mailbox again and compares it with receipt and uidlist, which have to agree line by line. The
/// first difference found is [`Error::Damaged`].
///
/// For a mailbox that nobody has used yet: a reader moves files and renames them.
pub fn verify(maildir: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<Verified> {
    read_back(maildir, ReadFrom::Disk, progress)
}

/// Where the bytes come from that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// The disk, as far as the kernel can be made to read it again.
    Disk,
    /// Wherever the kernel has them: finds every mistake of ours, and none of the disk's.
    Kernel,
}

/// [`verify`], with the choice of where to read from.
pub(crate) fn read_back(
    maildir: BorrowedFd<'_>,
    from: ReadFrom,
    progress: OnProgress<'_>,
) -> Result<Verified> {
    let (cur, new) = (dir::open(maildir, "cur")?, dir::open(maildir, "new")?);
    let files = Files { cur, new, from, bytes: AtomicU64::new(0) };
    let messages = if is_small(maildir)? {
        let mut buf = vec![0; BUFFER];
        compare_lists(maildir, |batch| files.compare(batch, &mut buf), &files.bytes, progress)?
    } else {
        files.compare_by_threads(maildir, progress)?
    };
    let there = count(&files.cur, "cur")? + count(&files.new, "new")?;
    if there != messages {
        return Err(damaged("cur and new", 0, format!("{there} files for {messages} messages")));
    }
    Ok(Verified { messages, bytes: files.bytes.into_inner() })
}

/// Reads receipt and uidlist side by side and hands each message to whoever reads its file. Returns how many there are.
fn compare_lists(
    maildir: BorrowedFd<'_>,
    mut hand_over: impl FnMut(Vec<Entry>) -> Result<()>,
    bytes: &AtomicU64,
    progress: OnProgress<'_>,
) -> Result<u64> {
    let mut receipt = Reader::open(maildir)?;
    let mut uids = Uids::open(maildir)?;
    let mut messages = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(entry) = receipt.next_entry()? {
        uids.expect(&entry)?;
        batch.push(entry);
        messages += 1;
        if batch.len() == BATCH {
            hand_over(std::mem::take(&mut batch))?;
        }
        let told = Progress { messages, bytes: bytes.load(Ordering::Relaxed), total: 0 };
        if progress(told) == ControlFlow::Break(()) {
            return Err(Error::Cancelled);
        }
    }
    hand_over(std::mem::take(&mut batch))?;
    uids.expect_end()?;
    Ok(messages)
}

/// The message files.
struct Files {
    cur: OwnedFd,
    new: OwnedFd,
    from: ReadFrom,
    /// Compared so far.
    bytes: AtomicU64,
}

impl Files {
    fn compare_by_threads(&self, maildir: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<u64> {
        let (batches, queue) = sync_channel(THREADS);
        let queue = Mutex::new(queue);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| self.compare_all(&queue))).collect();
            // Where nobody takes a batch every thread has ended with an error, which counts more than this one.
            let hand_over = |batch| batches.send(batch).map_err(|_| Error::Cancelled);
            let listed = compare_lists(maildir, hand_over, &self.bytes, progress);
            drop(batches);
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            listed
        })
    }

    fn compare_all(&self, queue: &Mutex<Receiver<Vec<Entry>>>) -> Result<()> {
        let mut buf = vec![0; BUFFER];
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { return Ok(()) };
            if let Err(e) = self.compare(batch, &mut buf) {
                // Nobody needs the rest: it is taken out of the way of whoever hands it over.
                while queue.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok() {}
                return Err(e);
            }
        }
    }

    fn compare(&self, batch: Vec<Entry>, buf: &mut [u8]) -> Result<()> {
        for entry in batch {
            let (file, name) = self.find(&entry)?;
            let bytes = compare(file, &name, &entry, self.from, buf)?;
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn find(&self, entry: &Entry) -> Result<(File, String)> {
        for (folder, in_cur) in [(&self.cur, true), (&self.new, false)] {
            let name = file_name(&entry.file, in_cur, &entry.flags);
            if let Some(file) = dir::find_file(folder, &name)? {
                return Ok((file, name));
            }
        }
        Err(damaged(&entry.file, 0, "the file is missing".into()))
    }
}

/// Returns the file's size if it is what the receipt says.
fn compare(mut file: File, name: &str, entry: &Entry, from: ReadFrom, buf: &mut [u8]) -> Result<u64> {
    let stat = nix::sys::stat::fstat(&file).map_err(Error::io("look at", name))?;
    if stat.st_mtime != entry.date {
        return Err(damaged(name, 0, format!("its time is {}, not {}", stat.st_mtime, entry.date)));
    }
    if from == ReadFrom::Disk {
        // Advice: where it is not taken the comparison is worth a little less, not nothing.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        let n = file.read(buf).map_err(Error::io("read", name))?;
        hasher.update(&buf[..n]);
        size += n as u64;
        // A short read is the end of a file that nobody writes to; its size says so, too.
        if n == 0 || i64::try_from(size) == Ok(stat.st_size) {
            break;
        }
    }
    if *hasher.finalize().as_bytes() != entry.hash {
        return Err(damaged(name, size, "its bytes are others".into()));
    }
    if !entry.file.contains(&format!(",S={size},")) {
        return Err(damaged(name, size, "its name tells another size".into()));
    }
    Ok(size)
}

/// Whether the mailbox has so little mail that threads are not worth their start.
fn is_small(maildir: BorrowedFd<'_>) -> Result<bool> {
    let receipt = dir::open_file(maildir, receipt::NAME)?;
    Ok(receipt.metadata().map_err(Error::io("look at", receipt::NAME))?.len() <= SMALL_RECEIPT)
}

/// Message files in a folder.
fn count(folder: &OwnedFd, name: &str) -> Result<u64> {
    let mut files = 0;
    dir::for_each_name(folder, name, |file| files += u64::from(!file.starts_with(b".")))?;
    Ok(files)
}

/// The uidlist, read beside the receipt.
struct Uids {
    lines: BufReader<File>,
    line: String,
    number: u64,
    last: u32,
}

impl Uids {
    fn open(maildir: BorrowedFd<'_>) -> Result<Self> {
        let lines = BufReader::new(dir::open_file(maildir.as_fd(), uidlist::NAME)?);
        let mut uids = Uids { lines, line: String::new(), number: 0, last: 0 };
        if !uids.next()?.starts_with("3 V") {
            return Err(damaged(uidlist::NAME, 1, "no head of version 3".into()));
        }
        Ok(uids)
    }

    fn next(&mut self) -> Result<&str> {
        self.line.clear();
        self.number += 1;
        self.lines.read_line(&mut self.line).map_err(Error::io("read", uidlist::NAME))?;
        Ok(self.line.strip_suffix('\n').unwrap_or(&self.line))
    }

    fn expect(&mut self, entry: &Entry) -> Result<()> {
        let expected = (entry.uid, entry.file.as_str());
        let ascending = entry.uid > self.last;
        if !ascending || uidlist::parse(self.next()?) != Some(expected) {
            return Err(damaged(uidlist::NAME, self.number, format!("not UID {} of the receipt", entry.uid)));
        }
        self.last = entry.uid;
        Ok(())
    }

    fn expect_end(&mut self) -> Result<()> {
        if self.next()?.is_empty() {
            return Ok(());
        }
        Err(damaged(uidlist::NAME, self.number, "more lines than the receipt".into()))
    }
}

fn damaged(path: &str, at: u64, why: String) -> Error {
    Error::Damaged { path: path.into(), at, why }
}
