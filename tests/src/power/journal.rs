//! What the guest did to its disks, in one order, and the disks as a power cut would have left them at any moment.
//!
//! Written by `tests/lab/guest-shim.c`. A disk with a write cache has, when the power goes, everything that it was told before its last flush, and of what came after it anything: all, nothing, some
//! pages of it. And each disk for itself, so one may be far ahead of another.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::lab::mail::Seeded;

const MAGIC: u32 = 0x474f_4c50;
const HEAD: usize = 32;
/// Bytes of a page: file systems write whole ones, and disks tear at this size at the earliest.
pub const PAGE: usize = 4096;

/// A change, or a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Bytes written.
    Write {
        /// Number of the disk.
        disk: usize,
        /// In bytes.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Bytes made zero, or given back.
    Zero {
        /// Number of the disk.
        disk: usize,
        /// In bytes.
        offset: u64,
        /// In bytes.
        length: u64,
    },
    /// All before it is durable on this disk.
    Flush {
        /// Number of the disk.
        disk: usize,
    },
    /// Said on the console; not always a whole line.
    Said(String),
}

/// Reads a journal. What stands half written at its end, when the guest was killed, is left out.
///
/// # Errors
/// If it is no journal.
pub fn read(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_at_checked(HEAD) {
        let word = |at: usize| head[at..at + 4].iter().rev().fold(0u32, |n, byte| n << 8 | u32::from(*byte));
        let long = |at: usize| u64::from(word(at + 4)) << 32 | u64::from(word(at));
        if word(0) != MAGIC {
            return Err(format!("no record at byte {}", bytes.len() - rest.len()));
        }
        let (disk, offset, length) = (word(8) as usize, long(16), long(24));
        let has_data = matches!(word(4), 1 | 4);
        let size = if has_data { usize::try_from(length).map_err(|e| e.to_string())? } else { 0 };
        let Some((data, after)) = after.split_at_checked(size) else { break };
        rest = after;
        records.push(match word(4) {
            1 => Record::Write { disk, offset, data: data.to_vec() },
            2 => Record::Flush { disk },
            3 => Record::Zero { disk, offset, length },
            4 => Record::Said(String::from_utf8_lossy(data).into_owned()),
            other => return Err(format!("a record of kind {other}")),
        });
    }
    Ok(records)
}

/// What differs from the disk as it was at the beginning, page by page. Clones share the pages.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: BTreeMap<u64, Arc<Vec<u8>>>,
    /// Of all pages together; the order of changes does not matter.
    hash: u64,
}

impl Pages {
    /// The changed pages by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(number, page)| (*number, page.as_slice()))
    }

    /// Equal for equal contents.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    fn put(&mut self, number: u64, page: Arc<Vec<u8>>) {
        self.hash ^= hash_of(number, &page);
        if let Some(old) = self.pages.insert(number, page) {
            self.hash ^= hash_of(number, &old);
        }
    }
}

fn hash_of(number: u64, page: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (number, page).hash(&mut hasher);
    hasher.finish()
}

/// How much of what came after its last flush a disk keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeps {
    /// Everything.
    All,
    /// Nothing.
    Flushed,
    /// Some pages, by chance.
    Some(u64),
}

/// A disk while its journal is gone through.
pub struct Disk {
    /// As it was at the beginning.
    base: Vec<u8>,
    now: Pages,
    flushed: Pages,
}

impl Disk {
    /// A disk that holds `base`.
    #[must_use]
    pub fn new(base: Vec<u8>) -> Self {
        Self { base, now: Pages::default(), flushed: Pages::default() }
    }

    /// Takes in what is done to it.
    pub fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut offset = offset;
        while !data.is_empty() {
            let (number, at) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
            let (here, after) = data.split_at(data.len().min(PAGE - at));
            let mut page = self.page(number);
            page[at..at + here.len()].copy_from_slice(here);
            self.now.put(number, Arc::new(page));
            offset += here.len() as u64;
            data = after;
        }
    }

    /// Zeroes; only where there is something else, since whole disks are given back at times.
    pub fn zero(&mut self, offset: u64, length: u64) {
        let end = (offset + length).min(self.base.len() as u64);
        let mut at = offset;
        while at < end {
            let next = ((at / PAGE as u64 + 1) * PAGE as u64).min(end);
            if self.page(at / PAGE as u64).iter().any(|byte| *byte != 0) {
                self.write(at, &vec![0; (next - at) as usize]);
            }
            at = next;
        }
    }

    /// What it was told so far is durable.
    pub fn flush(&mut self) {
        self.flushed = self.now.clone();
    }

    /// Its pages after a power cut now.
    #[must_use]
    pub fn after_cut(&self, keeps: Keeps) -> Pages {
        match keeps {
            Keeps::All => self.now.clone(),
            Keeps::Flushed => self.flushed.clone(),
            Keeps::Some(seed) => {
                let (mut random, mut pages) = (Seeded::new(seed), self.flushed.clone());
                for (number, page) in &self.now.pages {
                    let is_new = self.flushed.pages.get(number).is_none_or(|old| !Arc::ptr_eq(old, page));
                    if is_new && random.below(2) == 0 {
                        pages.put(*number, Arc::clone(page));
                    }
                }
                pages
            }
        }
    }

    fn page(&self, number: u64) -> Vec<u8> {
        if let Some(page) = self.now.pages.get(&number) {
            return page.to_vec();
        }
        let from = (number as usize * PAGE).min(self.base.len());
        let mut page = self.base[from..(from + PAGE).min(self.base.len())].to_vec();
        page.resize(PAGE, 0);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, disk: u32, offset: u64, length: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC, kind, disk, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(offset.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_journal_is_read_up_to_what_is_torn() {
        let mut bytes = record(1, 2, 1 << 33, 3, b"abc");
        bytes.extend(record(2, 2, 0, 0, b""));
        bytes.extend(record(3, 1, 8192, 4096, b""));
        bytes.extend(record(4, 0, 0, 3, b"hi\n"));
        let whole = read(&bytes).unwrap();
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0], Record::Write { disk: 2, offset: 1 << 33, data: b"abc".to_vec() });
        assert_eq!(whole[3], Record::Said("hi\n".into()));
        bytes.extend(record(1, 0, 0, 9, b"torn"));
        assert_eq!(read(&bytes).unwrap(), whole);
        assert!(read(&[1; 40]).is_err());
    }

    #[test]
    fn a_disk_keeps_what_was_flushed_and_as_much_more_as_it_likes() {
        let mut disk = Disk::new(vec![7; 3 * PAGE]);
        let whole = |disk: &Disk, keeps| {
            let mut bytes = disk.base.clone();
            for (number, page) in disk.after_cut(keeps).iter() {
                bytes[number as usize * PAGE..][..PAGE].copy_from_slice(page);
            }
            bytes
        };
        disk.write(PAGE as u64 - 1, b"xy");
        assert_eq!(whole(&disk, Keeps::Flushed), vec![7; 3 * PAGE]);
        disk.flush();
        disk.zero(2 * PAGE as u64, 1 << 40);
        disk.write(0, b"z");
        let flushed = whole(&disk, Keeps::Flushed);
        assert_eq!((&flushed[PAGE - 1..=PAGE], flushed[0], flushed[3 * PAGE - 1]), (&b"xy"[..], 7, 7));
        let all = whole(&disk, Keeps::All);
        assert_eq!((&all[PAGE - 1..=PAGE], all[0], all[3 * PAGE - 1]), (&b"xy"[..], b'z', 0));
        let ends: std::collections::BTreeSet<_> = (0..64)
            .map(|seed| whole(&disk, Keeps::Some(seed)))
            .map(|bytes| (bytes[0], bytes[3 * PAGE - 1]))
            .collect();
        assert_eq!(ends.len(), 4, "each page for itself");
    }

    #[test]
    fn the_same_content_has_the_same_hash_whichever_way_it_came_about() {
        let (mut one, mut other) = (Disk::new(vec![0; 2 * PAGE]), Disk::new(vec![0; 2 * PAGE]));
        one.write(0, b"a");
        one.write(PAGE as u64, b"b");
        other.write(PAGE as u64, b"c");
        other.write(0, b"a");
        assert_ne!(one.after_cut(Keeps::All).hash(), other.after_cut(Keeps::All).hash());
        other.write(PAGE as u64, b"b");
        assert_eq!(one.after_cut(Keeps::All).hash(), other.after_cut(Keeps::All).hash());
    }
}
