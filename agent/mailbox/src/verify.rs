//! The stage read back from disk and compared with its receipt.
//!
//! Retention relies on this: the original is given up one day because this said that the copy is good. So it knows nothing of the
//! process that wrote the stage, and asks the kernel to forget what it has cached (which works only once that is on disk).

use crate::receipt::{Entry, Reader};
use crate::stage::file_name;
use crate::{Error, OnProgress, Progress, Result, dir, uidlist};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Messages compared.
    pub messages: u64,
    /// Bytes of message files compared.
    pub bytes: u64,
}

/// Reads every message file of the Maildir again and compares it with receipt and uidlist, which have to agree line by line. The
/// first difference is [`Error::Damaged`].
///
/// For a Maildir that nobody has used yet: a reader moves files and renames them.
pub fn verify(maildir: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<Verified> {
    let mut receipt = Reader::open(maildir)?;
    let mut uids = Uids::open(maildir)?;
    let (cur, new) = (dir::open(maildir, "cur")?, dir::open(maildir, "new")?);
    let mut done = Verified { messages: 0, bytes: 0 };
    let mut buf = vec![0; 1 << 20];
    while let Some(entry) = receipt.next_entry()? {
        uids.expect(&entry)?;
        let (file, name) = find(&cur, &new, &entry)?;
        done.bytes += compare(file, &name, &entry, &mut buf)?;
        done.messages += 1;
        let told = Progress { messages: done.messages, bytes: done.bytes, total: 0 };
        if progress(told) == ControlFlow::Break(()) {
            return Err(Error::Cancelled);
        }
    }
    uids.expect_end()?;
    let files = count(&cur, "cur")? + count(&new, "new")?;
    if files != done.messages {
        return Err(damaged("cur and new", 0, format!("{files} files for {} messages", done.messages)));
    }
    Ok(done)
}

fn find(cur: &OwnedFd, new: &OwnedFd, entry: &Entry) -> Result<(File, String)> {
    for (folder, in_cur) in [(cur, true), (new, false)] {
        let name = file_name(&entry.file, in_cur, &entry.flags);
        if let Some(file) = dir::find_file(folder, &name)? {
            return Ok((file, name));
        }
    }
    Err(damaged(&entry.file, 0, "the file is missing".into()))
}

fn compare(mut file: File, name: &str, entry: &Entry, buf: &mut [u8]) -> Result<u64> {
    let stat = nix::sys::stat::fstat(&file).map_err(Error::io("look at", name))?;
    if stat.st_mtime != entry.date {
        return Err(damaged(name, 0, format!("its time is {}, not {}", stat.st_mtime, entry.date)));
    }
    // Advice: where it is not taken the comparison is worth a little less, not nothing.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        let n = file.read(buf).map_err(Error::io("read", name))?;
        if n == 0 {
            break;
        }
        hasher.update(&buf[..n]);
        size += n as u64;
    }
    if *hasher.finalize().as_bytes() != entry.hash {
        return Err(damaged(name, size, "its bytes are others".into()));
    }
    if !entry.file.contains(&format!(",S={size},")) {
        return Err(damaged(name, size, "its name tells another size".into()));
    }
    Ok(size)
}

/// Message files in a folder.
fn count(folder: &OwnedFd, name: &str) -> Result<u64> {
    let mut listing = nix::dir::Dir::openat(
        folder,
        ".",
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .map_err(Error::io("list", name))?;
    let mut files = 0;
    for entry in listing.iter() {
        let entry = entry.map_err(Error::io("list", name))?;
        files += u64::from(!entry.file_name().to_bytes().starts_with(b"."));
    }
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
        let mut uids = Uids {
            lines: BufReader::new(dir::open_file(maildir.as_fd(), uidlist::NAME)?),
            line: String::new(),
            number: 0,
            last: 0,
        };
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
