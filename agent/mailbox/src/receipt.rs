//! The receipt `mailready-receipt`: a line a message (`ARCHITECTURE.md`, "Receipt"). Written and read as a stream.

use crate::window::read_at;
use crate::{Error, Result, RunId, dir, hex, percent};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

/// Its name in the Maildir.
pub const NAME: &str = "mailready-receipt";

const HEAD: &str = "mailready-receipt";
const VERSION: u64 = 1;
/// No line of ours is longer: what is, is no receipt.
const LINE_MAX: u64 = 8192;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Offset in the mbox of its From_ line.
    pub offset: u64,
    /// Bytes of the whole message in the mbox, From_ line included.
    pub length: u64,
    /// blake3 of the message file's bytes.
    pub hash: [u8; 32],
    /// UID.
    pub uid: u32,
    /// Maildir flag letters, then keyword letters; may be empty.
    pub flags: String,
    /// INTERNALDATE, unix seconds.
    pub date: i64,
    /// Base name of the file, without `:2,` and flags.
    pub file: String,
}

/// A line of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The messages of this mailbox follow.
    Source(String),
    /// A message.
    Entry(Entry),
}

/// First line.
pub(crate) fn head(run: &RunId) -> String {
    format!("{HEAD} {VERSION} {run}\n")
}

/// Line before a mailbox's messages.
pub(crate) fn source(name: &str) -> String {
    format!("source {}\n", percent::encode(name.as_bytes()))
}

impl Entry {
    /// Appends the line to a buffer.
    pub(crate) fn write(&self, out: &mut String) {
        use std::fmt::Write;
        let flags = if self.flags.is_empty() { "-" } else { &self.flags };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}\t{}\t{}\t{}\t{flags}\t{}\t{}",
            self.offset,
            self.length,
            hex::text(&self.hash),
            self.uid,
            self.date,
            self.file
        );
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let entry = Entry {
            offset: fields.next()?.parse().ok()?,
            length: fields.next()?.parse().ok()?,
            hash: hex::parse(fields.next()?)?,
            uid: fields.next()?.parse().ok()?,
            flags: match fields.next()? {
                "-" => String::new(),
                flags if flags.bytes().all(|b| b.is_ascii_alphabetic()) => flags.to_owned(),
                _ => return None,
            },
            date: fields.next()?.parse().ok()?,
            file: fields.next().filter(|name| is_base_name(name))?.to_owned(),
        };
        fields.next().is_none().then_some(entry)
    }
}

/// A name that leads nowhere else.
fn is_base_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', ':', '\0']) && name.len() <= 255
}

/// Reads a receipt line by line.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    run: RunId,
}

#[derive(Debug)]
struct Lines {
    input: BufReader<File>,
    buf: Vec<u8>,
    number: u64,
    /// Bytes read.
    offset: u64,
}

impl Reader {
    /// Opens the receipt of a Maildir.
    pub fn open(maildir: BorrowedFd<'_>) -> Result<Reader> {
        let mut lines = Lines {
            input: BufReader::new(dir::open_file(maildir, NAME)?),
            buf: Vec::new(),
            number: 0,
            offset: 0,
        };
        let head = lines.next()?.unwrap_or_default();
        let rest = head.strip_prefix(HEAD).and_then(|h| h.strip_prefix(' ')).and_then(|h| h.split_once(' '));
        let (version, run) = rest.ok_or_else(|| damaged(1, "no receipt"))?;
        let version = version.parse().map_err(|_| damaged(1, "no version"))?;
        if version != VERSION {
            return Err(Error::Newer { path: NAME.into(), version });
        }
        let run = RunId::parse(run).ok_or_else(|| damaged(1, "no run id"))?;
        Ok(Reader { lines, run })
    }

    /// The run that wrote it.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Number of the line read last, from 1.
    pub fn line(&self) -> u64 {
        self.lines.number
    }

    /// Offset of the line that comes next; for [`Lookup`].
    pub(crate) fn offset(&self) -> u64 {
        self.lines.offset
    }

    /// The next line, `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        let at = self.lines.number + 1;
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let parsed = match line.strip_prefix("source ") {
            Some(name) => {
                percent::decode(name).and_then(|name| String::from_utf8(name).ok()).map(Line::Source)
            }
            None => Entry::parse(line).map(Line::Entry),
        };
        parsed.map(Some).ok_or_else(|| damaged(at, "not a line of a receipt"))
    }

    /// The next message, `None` at the end; source lines are passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            match self.next_line()? {
                Some(Line::Entry(entry)) => return Ok(Some(entry)),
                Some(Line::Source(_)) => {}
                None => return Ok(None),
            }
        }
    }
}

impl Lines {
    fn next(&mut self) -> Result<Option<&str>> {
        self.buf.clear();
        let input = &mut self.input;
        input.take(LINE_MAX).read_until(b'\n', &mut self.buf).map_err(Error::io("read", NAME))?;
        if self.buf.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        self.offset += self.buf.len() as u64;
        let line = self.buf.strip_suffix(b"\n").and_then(|l| std::str::from_utf8(l).ok());
        line.map(Some).ok_or_else(|| damaged(self.number, "a line without end, or not text"))
    }
}

/// Reads single lines of a receipt by their place.
pub(crate) struct Lookup {
    file: File,
}

impl Lookup {
    pub(crate) fn open(maildir: BorrowedFd<'_>) -> Result<Self> {
        Ok(Lookup { file: dir::open_file(maildir, NAME)? })
    }

    /// The message whose line begins at `offset`.
    pub(crate) fn entry_at(&self, offset: u64) -> Result<Entry> {
        let mut buf = [0; LINE_MAX as usize];
        let n = read_at(self.file.as_fd(), &mut buf, offset).map_err(Error::io("read", NAME))?;
        let line = buf[..n].split(|b| *b == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
        line.and_then(Entry::parse).ok_or_else(|| damaged(0, "it changed while it was read"))
    }
}

fn damaged(line: u64, why: &str) -> Error {
    Error::Damaged { path: NAME.into(), at: line, why: why.into() }
}
