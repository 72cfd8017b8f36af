//! The tombstone: what stands where an mbox was (`ARCHITECTURE.md`, "Tombstone").
//!
//! Two lines that no From_ grammar takes: Dovecot refuses to open it instead of showing an empty mailbox, and deliverers append
//! behind it. Its length is the same for all runs, so what stands behind it is found without a search.

use crate::RunId;

const WORDS: &str = "This mailbox has become a Maildir. Mail is read from there, and mail that still arrives here is carried over.\n";
const SIGN: &str = "mailready-tombstone 1 ";
const RUN_LEN: usize = 33;

/// Length of every tombstone in bytes.
pub const TOMBSTONE_LEN: u64 = (WORDS.len() + SIGN.len() + RUN_LEN + 1) as u64;

/// The text of a run's tombstone.
pub fn text(run: &RunId) -> Vec<u8> {
    format!("{WORDS}{SIGN}{run}\n").into_bytes()
}

/// The run whose tombstone begins this file, if one does. `head` holds at least [`TOMBSTONE_LEN`] bytes or the whole file.
pub fn recognise(head: &[u8]) -> Option<RunId> {
    let rest = head.strip_prefix(WORDS.as_bytes())?.strip_prefix(SIGN.as_bytes())?;
    if rest.get(RUN_LEN) != Some(&b'\n') {
        return None;
    }
    RunId::parse(std::str::from_utf8(&rest[..RUN_LEN]).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_known_again_with_or_without_mail_behind_it() {
        let run = RunId::generate().unwrap();
        let mut file = text(&run);
        assert_eq!(file.len() as u64, TOMBSTONE_LEN);
        assert_eq!(recognise(&file), Some(run.clone()));
        file.extend_from_slice(b"From a@b Thu Nov  9 22:33:52 2001\n\n");
        assert_eq!(recognise(&file), Some(run));
        file.remove(3);
        assert_eq!(recognise(&file), None);
        assert_eq!(recognise(b""), None);
    }

    #[test]
    fn no_grammar_takes_it_for_mail() {
        assert!(
            text(&RunId::generate().unwrap()).split(|b| *b == b'\n').all(|line| !line.starts_with(b"From "))
        );
    }
}
