//! Which messages a client has expunged, by Dovecot's own transaction log.
//!
//! Dovecot removes the file at once and the line in its uidlist some day. In between, a message that somebody has expunged looks as one that got lost, but for the record in the log that asked for it
//! (mail-transaction-log.h of Dovecot 2.3.19): a client's expunge is a request, not marked external, as what Dovecot merely finds missing is.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use crate::file;

const LOGS: [&str; 2] = ["dovecot.index.log.2", "dovecot.index.log"];

/// Read up to here; Dovecot rotates its log at 1 MiB.
const AT_MOST: u64 = 64 << 20;

const TYPE_MASK: u32 = 0x0fff_ffff;
const EXTERNAL: u32 = 0x1000_0000;
const EXPUNGE: u32 = 0x0000_0001;
const EXPUNGE_GUID: u32 = 0x0000_2000;
/// Keeps a log of zeros or garbage from expunging anything.
const EXPUNGE_PROTECTION: u32 = 0x0000_cd90;

/// UIDs that clients have asked to be expunged, as far as the logs go back.
pub(super) fn requested(mailbox: BorrowedFd<'_>) -> nix::Result<HashSet<u32>> {
    let mut uids = HashSet::new();
    for name in LOGS {
        if let Some(log) = file::read_small(mailbox, name, AT_MOST)? {
            scan(&log, &mut uids);
        }
    }
    Ok(uids)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Sizes are written last and so that half of one is none: seven bits a byte, the highest set, in quarters.
fn size(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?;
    if bytes.iter().any(|byte| byte & 0x80 == 0) {
        return None;
    }
    Some(bytes.iter().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f)) << 2)
}

fn scan(log: &[u8], uids: &mut HashSet<u32>) {
    let Some(header) = log.get(2..4).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    else {
        return;
    };
    let mut at = header;
    // Where the log is not what it should be, it ends.
    while let (Some(size), Some(kind)) = (size(log, at), word(log, at + 4)) {
        let Some(record) = log.get(at + 8..at + size.max(8)).filter(|_| size >= 8) else { return };
        at += size;
        let kind_only = kind & TYPE_MASK;
        if kind & EXTERNAL != 0 || kind_only & EXPUNGE_PROTECTION != EXPUNGE_PROTECTION {
            continue;
        }
        if kind_only & EXPUNGE_GUID != 0 {
            uids.extend(record.chunks_exact(20).filter_map(|entry| word(entry, 0)));
        } else if kind_only & EXPUNGE != 0 {
            for range in record.chunks_exact(8) {
                let (Some(first), Some(last)) = (word(range, 0), word(range, 4)) else { continue };
                uids.extend(first..=last.min(first.saturating_add(1 << 20)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(log: &mut Vec<u8>, kind: u32, body: &[u8]) {
        let quarters = (body.len() + 8) >> 2;
        for shift in [21, 14, 7, 0] {
            log.push(0x80 | (quarters >> shift & 0x7f) as u8);
        }
        log.extend_from_slice(&kind.to_le_bytes());
        log.extend_from_slice(body);
    }

    #[test]
    fn a_request_counts_and_what_dovecot_found_missing_does_not() {
        let mut log = vec![0; 40];
        log[2] = 40;
        let guid = |uid: u32| [&uid.to_le_bytes()[..], &[7; 16]].concat();
        record(&mut log, 0x4, &[0; 12]);
        record(&mut log, EXPUNGE_GUID | EXPUNGE_PROTECTION, &[guid(3), guid(5)].concat());
        record(&mut log, EXPUNGE_GUID | EXPUNGE_PROTECTION | EXTERNAL, &guid(9));
        record(&mut log, EXPUNGE_GUID, &guid(11));
        record(&mut log, EXPUNGE | EXPUNGE_PROTECTION, &[20u32.to_le_bytes(), 22u32.to_le_bytes()].concat());
        let mut uids = HashSet::new();
        scan(&log, &mut uids);
        let mut found: Vec<u32> = uids.into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, [3, 5, 20, 21, 22]);
        for cut in 0..log.len() {
            scan(&log[..cut], &mut HashSet::new());
        }
    }
}
