//! HIGHESTMODSEQ never goes backwards: the beginning of Dovecot's index of the new Maildir, `dovecot.index.log`.
//!
//! A client with CONDSTORE or QRESYNC asks for what has changed since the highest mod-sequence that it has seen (RFC 7162). Dovecot
//! keeps these numbers in its index alone, and one that begins at 1 again has nothing to tell such a client until it has caught up:
//! for months, flags set elsewhere would not arrive (formats.md 3.6). `doveadm mailbox update --min-highest-modseq` would mend it,
//! but looks at the mail first, and with that moves it from new/ to cur/.
//!
//! So the log gets a first line from us: the header alone, as Dovecot writes it before its first transaction, with `initial_modseq`
//! set. Whoever opens the mailbox first appends the messages behind it, all of them above what was shown before, and every client
//! fetches the flags of all once: safe, and what Dovecot does after any loss of its index but for the number. UIDs,
//! UIDVALIDITY and \Recent still come from the uidlist and the folders. A Dovecot that keeps its index elsewhere never reads it.
//!
//! The format: `struct mail_transaction_log_header` in Dovecot's src/lib-index/mail-transaction-log.h, the same in 2.3 and 2.4;
//! how it is checked: `mail_transaction_log_file_read_hdr()` beside it.

use crate::names::now;
use crate::{Error, Result, dir};
use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

pub(crate) const NAME: &str = "dovecot.index.log";

/// How far above what was told the numbers begin. It was told before the last lock was taken, and a later question may have failed.
const MARGIN: u64 = 1 << 20;

/// Mod-sequences have 63 bits (RFC 7162 section 7). Only a user who has forged his own index comes near.
const HIGHEST: u64 = i64::MAX as u64 >> 1;

const SIZE: usize = 40;
const MAJOR: u8 = 1;
const MINOR: u8 = 3;
/// MAIL_INDEX_COMPAT_LITTLE_ENDIAN: numbers are as the machine has them.
const COMPAT: u8 = cfg!(target_endian = "little") as u8;

/// Writes the log of a mailbox whose clients have seen mod-sequences up to `highest`. There must be none. Not synced.
pub(crate) fn write(folder: BorrowedFd<'_>, highest: NonZeroU64) -> Result<File> {
    let mut file = dir::create_file(folder, NAME)?;
    let unix = u32::try_from(now()).unwrap_or(u32::MAX);
    file.write_all(&header(highest, unix)).map_err(Error::io("write", NAME))?;
    Ok(file)
}

fn header(highest: NonZeroU64, unix: u32) -> [u8; SIZE] {
    let mut out = [0; SIZE];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[MAJOR, MINOR]);
    put(&(SIZE as u16).to_ne_bytes());
    // indexid: any but 0, which marks a broken file. Dovecot takes the time, too.
    put(&unix.max(1).to_ne_bytes());
    // file_seq; prev_file_seq and prev_file_offset: there is none.
    put(&1_u32.to_ne_bytes());
    put(&[0; 8]);
    // create_stamp
    put(&unix.to_ne_bytes());
    put(&highest.get().saturating_add(MARGIN).min(HIGHEST).to_ne_bytes());
    put(&[COMPAT]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Dovecot 2.3.19 wrote by itself, but for the number, at unix time 0x6b0259a3.
    #[cfg(target_endian = "little")]
    #[test]
    fn it_begins_as_dovecot_begins_it() {
        let expected = [
            [0x01, 0x03, 0x28, 0x00, 0xa3, 0x59, 0x02, 0x6b],
            [0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
            [0x00, 0x00, 0x00, 0x00, 0xa3, 0x59, 0x02, 0x6b],
            [0xf5, 0x01, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00],
            [0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        assert_eq!(header(NonZeroU64::new(501).unwrap(), 0x6b02_59a3), *expected.as_flattened());
    }

    fn initial_modseq(highest: u64) -> u64 {
        let header = header(NonZeroU64::new(highest).unwrap(), 0);
        u64::from_ne_bytes(header[24..32].try_into().unwrap())
    }

    #[test]
    fn the_numbers_begin_above_what_was_seen_and_leave_room() {
        assert_eq!(initial_modseq(1), 1 + MARGIN);
        assert_eq!(initial_modseq(1 << 40), (1 << 40) + MARGIN);
        assert!(initial_modseq(u64::MAX) < 1 << 62);
    }

    #[test]
    fn it_is_never_marked_as_broken() {
        assert_ne!(header(NonZeroU64::MIN, 0)[4..8], [0; 4]);
    }
}
