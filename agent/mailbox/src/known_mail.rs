//! The receipt as a multiset of messages, in parts that fit in memory.
//!
//! A receipt of a million messages is 200 MB of text. What is held of it here is a short key and the place of its line; the line
//! itself is read when a key matches. More than [`PART`] messages are taken in parts by their hash, one pass over the mail each.

use crate::receipt::{self, Entry, Line, Reader};
use crate::{Error, Result};
use std::os::fd::BorrowedFd;

/// Messages held at a time: 16 bytes each.
const PART: u64 = 1 << 20;

/// One part of a receipt.
pub(crate) struct KnownMail {
    /// Sorted. The first bytes of a hash, and the number of the line.
    keys: Vec<(u64, u64)>,
    /// At the first place of each key: how many with that key are taken. Those come first.
    taken: Vec<u32>,
    lines: receipt::Lookup,
    part: u64,
    parts: u64,
}

impl KnownMail {
    /// Calls `each` with every part of the messages of `source` in the Maildir's receipt.
    pub(crate) fn in_parts(
        maildir: BorrowedFd<'_>,
        source: &str,
        mut each: impl FnMut(&mut KnownMail) -> Result<()>,
    ) -> Result<()> {
        let mut messages = 0;
        entries(maildir, source, |_, _| messages += 1)?;
        let parts = messages / PART + 1;
        for part in 0..parts {
            let mut keys = Vec::with_capacity((messages / parts) as usize);
            entries(maildir, source, |at, entry| {
                let key = key(&entry.hash);
                if key % parts == part {
                    keys.push((key, at));
                }
            })?;
            keys.sort_unstable();
            let taken = vec![0; keys.len()];
            each(&mut KnownMail { keys, taken, lines: receipt::Lookup::open(maildir)?, part, parts })?;
        }
        Ok(())
    }

    /// Whether a message with this hash would be in this part.
    pub(crate) fn covers(&self, hash: &blake3::Hash) -> bool {
        key(hash.as_bytes()) % self.parts == self.part
    }

    /// A message with this hash that was not taken yet, if there is one.
    pub(crate) fn take(&mut self, hash: &blake3::Hash) -> Result<Option<Entry>> {
        let key = key(hash.as_bytes());
        let first = self.keys.partition_point(|(k, _)| *k < key);
        let Some(taken) = self.taken.get(first).map(|n| *n as usize) else { return Ok(None) };
        let mut i = first + taken;
        while let Some((_, at)) = self.keys.get(i).filter(|(k, _)| *k == key).copied() {
            let entry = self.lines.entry_at(at)?;
            if entry.hash == *hash.as_bytes() {
                self.keys.swap(i, first + taken);
                self.taken[first] += 1;
                return Ok(Some(entry));
            }
            i += 1;
        }
        Ok(None)
    }
}

fn key(hash: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// The messages of one mailbox, each with its place. No receipt: none.
fn entries(maildir: BorrowedFd<'_>, source: &str, mut each: impl FnMut(u64, &Entry)) -> Result<()> {
    let mut reader = match Reader::open(maildir) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut ours = false;
    loop {
        let at = reader.offset();
        match reader.next_line()? {
            Some(Line::Source(name)) => ours = name == source,
            Some(Line::Entry(entry)) if ours => each(at, &entry),
            Some(Line::Entry(_)) => {}
            None => return Ok(()),
        }
    }
}
