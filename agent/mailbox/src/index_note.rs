//! What Dovecot notes in a Maildir's index after its first look, noted beforehand.
//!
//! Before Dovecot believes an index of a Maildir it compares the times of new/ and cur/ and time and size of the uidlist with those
//! that it noted there when it last looked. An index that was carried over from an mbox has no such note, so the first client would wait
//! until all names are read: half a second for twenty thousand. Where it is certain that index and Maildir hold the same messages, the
//! note is appended to the copied log as Dovecot appends it, in one transaction. A message that a deliverer brings later changes a time, and
//! with that the note counts for nothing. What is changed in the stage itself may come within one tick of the file system's clock: then
//! the note is taken back first.
//!
//! The format: `mail-transaction-log.h` and `maildir-storage.h` (`struct maildir_index_header`) of Dovecot, the same in 2.3 and 2.4;
//! compared with what 2.3.19 wrote.

use crate::window::read_at;
use crate::{Error, Result, dir, uidlist};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

const LOG: &str = "dovecot.index.log";

/// A log is rotated long before (`mail_index_log_rotate_max_size` is 1 MB); a longer one is left alone.
const LOG_MAX: u64 = 16 << 20;

/// Of `struct mail_transaction_log_header`: the version that is known here.
const MAJOR: u8 = 1;
const HEADER_MIN: usize = 24;

/// Of `enum mail_transaction_type`.
const EXTERNAL: u32 = 0x1000_0000;
const BOUNDARY: u32 = 0x0008_0000 | EXTERNAL;
const EXT_INTRO: u32 = 0x0000_0040 | EXTERNAL;
const EXT_HDR_UPDATE: u32 = 0x0000_0100 | EXTERNAL;

/// Size of `struct maildir_index_header`.
const NOTE: u32 = 36;

/// Seconds: a folder that was looked at so soon after its last change is looked at again (`MAILDIR_SYNC_SECS` is 1).
const SETTLED_AFTER: u32 = 2;

/// Appends the note to the log of a mailbox folder; gives the log, not synced, and its length before. `None`: it is not a log that can be appended to, and
/// Dovecot is going to look.
pub(crate) fn append(folder: BorrowedFd<'_>) -> Result<Option<(File, u64)>> {
    let log = open(folder)?;
    let length = fstat(&log).map_err(Error::io("look at", LOG))?.st_size.unsigned_abs();
    let mut text = vec![0; usize::try_from(length.min(LOG_MAX)).unwrap_or(0)];
    let read = read_at(log.as_fd(), &mut text, 0).map_err(Error::io("read", LOG))?;
    if length > LOG_MAX || read != text.len() || !is_whole(&text) {
        return Ok(None);
    }
    let stat = |name| fstatat(folder, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
    let look = || Ok::<_, nix::errno::Errno>((stat("new")?, stat("cur")?, stat(uidlist::NAME)?));
    let (new, cur, uids) = look().map_err(Error::io("look at", "the mailbox"))?;
    let mut waiting = false;
    dir::for_each_name(&dir::open(folder, "new")?, "new", |name| waiting |= !name.starts_with(b"."))?;
    let log = File::from(log);
    log.write_all_at(&transaction(&new, &cur, &uids, waiting), length).map_err(Error::io("write", LOG))?;
    Ok(Some((log, length)))
}

/// Takes the note back; gives the log, not synced.
pub(crate) fn take_back(folder: BorrowedFd<'_>, length: u64) -> Result<File> {
    let log = File::from(open(folder)?);
    log.set_len(length).map_err(Error::io("cut", LOG))?;
    Ok(log)
}

fn open(folder: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, LOG, flags, Mode::empty()).map_err(Error::io("open", LOG))
}

/// Whether the log is made of whole transactions from its header to its end.
fn is_whole(log: &[u8]) -> bool {
    let header = usize::from(log.get(2..4).map_or(0, |size| u16::from_ne_bytes([size[0], size[1]])));
    if log.first() != Some(&MAJOR) || header < HEADER_MIN || header > log.len() {
        return false;
    }
    let mut rest = &log[header..];
    while !rest.is_empty() {
        let size = rest.get(..4).map_or(0, |size| offset([size[0], size[1], size[2], size[3]]));
        match rest.get(size..) {
            Some(after) if size >= 8 => rest = after,
            _ => return false,
        }
    }
    true
}

/// `mail_index_offset_to_uint32()`: four times a number of 28 bits, seven in each byte, the highest first; 0 if it is none.
fn offset(bytes: [u8; 4]) -> usize {
    if bytes.iter().any(|byte| byte & 0x80 == 0) {
        return 0;
    }
    bytes.iter().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f)) << 2
}

/// `mail_index_uint32_to_offset()`.
fn to_offset(size: u32) -> [u8; 4] {
    // Each is masked to seven bits.
    [23, 16, 9, 2].map(|shift| 0x80 | (size >> shift & 0x7f) as u8)
}

/// One transaction: that the extension `maildir` exists, and what its header says.
fn transaction(new: &FileStat, cur: &FileStat, uids: &FileStat, waiting: bool) -> Vec<u8> {
    let seconds = |stat: &FileStat| u32::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = |stat: &FileStat| u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    // What waits in new/ is moved by a look, so there has to be one.
    let new_time = if waiting { 0 } else { seconds(new) };
    let size = u32::try_from(uids.st_size).unwrap_or(0);
    let note = [
        new_time.saturating_add(SETTLED_AFTER),
        new_time,
        if waiting { 0 } else { nanos(new) },
        seconds(cur).saturating_add(SETTLED_AFTER),
        seconds(cur),
        nanos(cur),
        seconds(uids),
        nanos(uids),
        size,
    ];
    let intro = [u32::MAX, 0, NOTE, 0, u32::from_ne_bytes(two(1, 7))];
    let mut records = Vec::with_capacity(96);
    record(&mut records, EXT_INTRO, &[&words(&intro), b"maildir\0"]);
    record(&mut records, EXT_HDR_UPDATE, &[&two(0, NOTE as u16), &words(&note)]);
    let mut all = Vec::with_capacity(96);
    // The boundary's number counts itself.
    record(&mut all, BOUNDARY, &[&(12 + records.len() as u32).to_ne_bytes()]);
    all.extend_from_slice(&records);
    all
}

fn record(out: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&to_offset(size as u32));
    out.extend_from_slice(&kind.to_ne_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Two numbers of 16 bits side by side.
fn two(first: u16, second: u16) -> [u8; 4] {
    let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
    [first[0], first[1], second[0], second[1]]
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_spelt_as_dovecot_spells_them() {
        for (size, bytes) in [(12, [0x80, 0x80, 0x80, 0x83]), (48, [0x80, 0x80, 0x80, 0x8c])] {
            assert_eq!(to_offset(size), bytes);
        }
        for size in [8, 12, 508, 512, 1 << 16, (1 << 24) + 4, (1 << 30) - 4] {
            assert_eq!(offset(to_offset(size)), size as usize);
        }
        assert_eq!(offset([0x80, 0x80, 0x80, 0x03]), 0);
    }

    /// What Dovecot 2.3.19 appended after its first look at a Maildir, but for the time of the look.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_note_is_what_dovecot_writes() {
        let folder = tempfile::tempdir().unwrap();
        let mut stat = nix::sys::stat::stat(folder.path()).unwrap();
        (stat.st_mtime, stat.st_mtime_nsec, stat.st_size) = (0x6b02_84fb, 0x03bc_3a4b, 0x268);
        let mut cur = stat;
        cur.st_mtime_nsec = 0x0342_284b;
        let expected = [
            [0x80, 0x80, 0x80, 0x83, 0x00, 0x00, 0x08, 0x10],
            [0x60, 0x00, 0x00, 0x00, 0x80, 0x80, 0x80, 0x89],
            [0x40, 0x00, 0x00, 0x10, 0xff, 0xff, 0xff, 0xff],
            [0x00, 0x00, 0x00, 0x00, 0x24, 0x00, 0x00, 0x00],
            [0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x07, 0x00],
            *b"maildir\0",
            [0x80, 0x80, 0x80, 0x8c, 0x00, 0x01, 0x00, 0x10],
            [0x00, 0x00, 0x24, 0x00, 0xfd, 0x84, 0x02, 0x6b],
            [0xfb, 0x84, 0x02, 0x6b, 0x4b, 0x3a, 0xbc, 0x03],
            [0xfd, 0x84, 0x02, 0x6b, 0xfb, 0x84, 0x02, 0x6b],
            [0x4b, 0x28, 0x42, 0x03, 0xfb, 0x84, 0x02, 0x6b],
            [0x4b, 0x3a, 0xbc, 0x03, 0x68, 0x02, 0x00, 0x00],
        ];
        assert_eq!(transaction(&stat, &cur, &stat, false), expected.as_flattened());
        let mut log = vec![1, 3, 40, 0];
        log.resize(40, 0);
        assert!(is_whole(&log));
        log.extend_from_slice(expected.as_flattened());
        assert!(is_whole(&log));
        assert!((41..log.len()).all(|cut| !is_whole(&log[..cut]) || cut == 52 || cut == 88));
    }

    #[test]
    fn what_waits_in_new_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let stat = nix::sys::stat::stat(folder.path()).unwrap();
        let note = transaction(&stat, &stat, &stat, true);
        assert_eq!(note[64..72], [0; 8]);
    }
}
