//! What the hidden headers mean: UIDs, flags, keywords (formats.md 2.2; mbox-sync-parse.c and mbox_sync_loop of Dovecot 2.3.19).
//!
//! UIDs are the part that clients hang on. The rules are Dovecot's with an index that knows nothing: X-IMAPbase counts in the
//! first message only; an X-UID counts if it is larger than the one before and not larger than the next free one (a larger one
//! may come from a stranger, and would use the UIDs up); whatever has none gets the next free one.

mod uw;

use crate::error::BlockReason;
use crate::header::Hidden;
use crate::{Known, Server};

/// Maildir flags of a message, as bits in the order of their letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    const LETTERS: [(u8, char); 5] = [(1, 'D'), (2, 'F'), (4, 'R'), (8, 'S'), (16, 'T')];

    fn add(&mut self, letter: char) {
        self.0 |= Self::LETTERS.iter().find(|(_, l)| *l == letter).map_or(0, |(bit, _)| *bit);
    }

    /// The letters in ASCII order, as Maildir wants them.
    pub(crate) fn letters(self) -> impl Iterator<Item = char> {
        Self::LETTERS.into_iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, letter)| letter)
    }
}

/// What a message's own headers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) flags: Flags,
    /// `O` in Status: a session has seen it, it is not \Recent.
    pub(crate) old: bool,
    /// 0 until it is known.
    pub(crate) uid: u32,
    /// Places in the folder's list of keywords.
    pub(crate) keywords: Vec<u16>,
    pub(crate) content_length: Option<u64>,
    /// What POP3 clients know it by, where that is not Dovecot's to say.
    pub(crate) uidl: Option<String>,
    /// "FOLDER INTERNAL DATA": no message.
    pub(crate) pseudo: bool,
    seen_imapbase: bool,
    /// X-Keywords of the first message that stand above the X-IMAPbase which lists them.
    waiting: Option<Vec<u8>>,
}

impl Meta {
    pub(crate) fn reset(&mut self) {
        let keywords = std::mem::take(&mut self.keywords);
        *self = Meta { keywords, ..Meta::default() };
        self.keywords.clear();
    }
}

/// What is known of the mailbox so far.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    server: Server,
    known_validity: Option<u32>,
    uid_validity: Option<u32>,
    /// UW: an X-UID counts.
    uids_count: bool,
    keywords: Vec<String>,
    /// Dovecot has an index, so it knows keywords that the file has not listed yet.
    indexed: bool,
    position: Position,
}

/// The part of [`Folder`] that every message moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Messages begun, the pseudo message among them.
    pub(crate) sequence: u64,
    next_uid: u32,
    last_uid: u32,
}

impl Folder {
    /// By Dovecot's rules.
    pub(crate) fn new(known: &Known) -> Self {
        Self::by(Server::Dovecot, known)
    }

    /// By the rules of this server.
    pub(crate) fn by(server: Server, known: &Known) -> Self {
        Folder {
            server,
            known_validity: known.uid_validity.filter(|v| *v != 0),
            uid_validity: None,
            uids_count: false,
            keywords: known.keywords.clone(),
            indexed: known.index,
            position: Position { sequence: 0, next_uid: known.uid_next.unwrap_or(1).max(1), last_uid: 0 },
        }
    }

    /// Where this folder stands, to come back to.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Takes back everything since `position`; not across the first message, which also sets the rest.
    pub(crate) fn go_back(&mut self, position: Position) {
        self.position = position;
    }

    /// A message begins.
    pub(crate) fn begin(&mut self) {
        self.position.sequence += 1;
    }

    pub(crate) fn uid_next(&self) -> u32 {
        self.position.next_uid
    }

    /// UIDVALIDITY. Without one in the file or the index it is the present second, as Dovecot does it.
    pub(crate) fn uid_validity(&mut self, now: i64) -> u32 {
        let fallback = u32::try_from(now).unwrap_or(u32::MAX).max(1);
        *self.uid_validity.get_or_insert(self.known_validity.unwrap_or(fallback))
    }

    pub(crate) fn keywords(&self) -> &[String] {
        &self.keywords
    }

    /// A hidden header of the message under way.
    pub(crate) fn header(&mut self, meta: &mut Meta, which: Hidden, value: &[u8]) {
        match self.server {
            Server::Dovecot => {}
            Server::Uw => return self.uw_header(meta, which, value),
            Server::Qpopper => return self.qpopper_header(meta, which, value),
        }
        match which {
            Hidden::Status => {
                for byte in value {
                    match byte {
                        b'R' => meta.flags.add('S'),
                        b'O' => meta.old = true,
                        _ => {}
                    }
                }
            }
            Hidden::XStatus => {
                for byte in value {
                    match byte {
                        b'A' => meta.flags.add('R'),
                        b'F' => meta.flags.add('F'),
                        b'T' => meta.flags.add('D'),
                        b'D' => meta.flags.add('T'),
                        _ => {}
                    }
                }
            }
            Hidden::XImapBase => {
                self.imap_base(meta, value);
            }
            Hidden::XImap => meta.pseudo |= self.imap_base(meta, value),
            Hidden::XKeywords => self.x_keywords(meta, value),
            Hidden::XUid => self.x_uid(meta, value),
            Hidden::ContentLength => {
                if meta.content_length.is_none() {
                    meta.content_length = content_length(value);
                }
            }
            // Not Dovecot's.
            Hidden::InternalData | Hidden::XUidl => {}
        }
    }

    /// `UIDVALIDITY UIDLAST KEYWORD...`. `false`: does not count.
    fn imap_base(&mut self, meta: &mut Meta, value: &[u8]) -> bool {
        if self.position.sequence != 1 || meta.seen_imapbase {
            return false;
        }
        let (validity, rest) = number(value);
        if validity == 0 || !matches!(rest.first(), None | Some(b' ')) {
            return false;
        }
        let rest = skip_blanks(rest);
        let (uid_last, rest) = number(rest);
        if !rest.first().is_none_or(|b| is_blank(*b)) {
            return false;
        }
        if self.known_validity.is_some_and(|known| known != validity) {
            self.known_validity = None;
            self.position.next_uid = 1;
        }
        self.uid_validity = Some(validity);
        self.position.next_uid = self.position.next_uid.max(uid_last.saturating_add(1));
        meta.seen_imapbase = true;
        for word in words(rest) {
            if self.keyword(word).is_none() && is_keyword(word) && self.keywords.len() < usize::from(u16::MAX)
            {
                self.keywords.push(String::from_utf8_lossy(word).into_owned());
            }
        }
        if let Some(waiting) = meta.waiting.take() {
            self.x_keywords(meta, &waiting);
        }
        true
    }

    fn keyword(&self, word: &[u8]) -> Option<u16> {
        let place = self.keywords.iter().position(|k| k.as_bytes().eq_ignore_ascii_case(word))?;
        u16::try_from(place).ok()
    }

    /// All or nothing: one unknown word, and the header came with the mail from outside. Dovecot itself writes the first message's keywords above X-IMAPbase now and then, and looks them up in its
    /// index.
    fn x_keywords(&self, meta: &mut Meta, value: &[u8]) {
        if !meta.keywords.is_empty() {
            return;
        }
        for word in words(value) {
            match self.keyword(word) {
                Some(place) if meta.keywords.contains(&place) => {}
                Some(place) => meta.keywords.push(place),
                None => {
                    meta.keywords.clear();
                    if self.indexed && self.position.sequence == 1 && !meta.seen_imapbase {
                        meta.waiting.get_or_insert_with(|| value.to_vec());
                    }
                    return;
                }
            }
        }
    }

    fn x_uid(&mut self, meta: &mut Meta, value: &[u8]) {
        let (uid, rest) = number(value);
        if meta.uid != 0 || !rest.iter().all(|b| is_blank(*b)) {
            return;
        }
        let at = &mut self.position;
        if at.sequence == 1 && !meta.seen_imapbase {
            return;
        }
        if uid == at.next_uid {
            at.next_uid = at.next_uid.saturating_add(1);
        } else if uid > at.next_uid {
            return;
        }
        if uid > at.last_uid {
            meta.uid = uid;
        }
    }

    /// The message's header is complete: its UID.
    pub(crate) fn complete(&mut self, meta: &mut Meta) -> Result<(), BlockReason> {
        let at = &mut self.position;
        if meta.uid == 0 && !meta.pseudo {
            if at.next_uid == u32::MAX {
                return Err(BlockReason::UidsUsedUp);
            }
            meta.uid = at.next_uid;
            at.next_uid += 1;
        }
        at.last_uid = meta.uid;
        Ok(())
    }
}

/// Leading digits, modulo 2^32 as in C, and what follows them.
fn number(value: &[u8]) -> (u32, &[u8]) {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let number =
        value[..digits].iter().fold(0u32, |n, b| n.wrapping_mul(10).wrapping_add(u32::from(b - b'0')));
    (number, &value[digits..])
}

/// Digits, then blanks only. No digits at all are a 0.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    if !value[digits..].iter().all(|b| is_blank(*b)) {
        return None;
    }
    Some(value[..digits].iter().fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n')
}

fn skip_blanks(value: &[u8]) -> &[u8] {
    let blanks = value.iter().take_while(|b| is_blank(**b)).count();
    &value[blanks..]
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| is_blank(*b)).filter(|w| !w.is_empty())
}

/// An IMAP atom of at most 50 bytes (`mail_max_keyword_length`).
pub(crate) fn is_keyword(word: &[u8]) -> bool {
    word.len() <= 50 && word.iter().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mailbox(Folder);

    impl Mailbox {
        fn new() -> Self {
            Mailbox(Folder::new(&Known::default()))
        }
        fn message(&mut self, headers: &[(Hidden, &str)]) -> Meta {
            let mut meta = Meta::default();
            self.0.begin();
            for (which, value) in headers {
                self.0.header(&mut meta, *which, value.as_bytes());
            }
            self.0.complete(&mut meta).unwrap();
            meta
        }
    }

    #[test]
    fn uids_follow_the_file() {
        let mut m = Mailbox::new();
        assert_eq!(m.message(&[(Hidden::XImapBase, "7 0000000020"), (Hidden::XUid, "5")]).uid, 5);
        assert_eq!(m.message(&[(Hidden::XUid, "9   ")]).uid, 9);
        assert_eq!(m.message(&[]).uid, 21);
        assert_eq!(m.message(&[(Hidden::XUid, "22")]).uid, 22);
        assert_eq!((m.0.uid_validity(1), m.0.uid_next()), (7, 23));
    }

    #[test]
    fn a_broken_uid_and_all_after_it_are_new() {
        let mut m = Mailbox::new();
        m.message(&[(Hidden::XImapBase, "7 20"), (Hidden::XUid, "5")]);
        assert_eq!(m.message(&[(Hidden::XUid, "5")]).uid, 21, "not growing");
        assert_eq!(m.message(&[(Hidden::XUid, "6")]).uid, 22, "the one before is 21 now");
        assert_eq!(m.message(&[(Hidden::XUid, "4000000000")]).uid, 23, "a stranger's");
        assert_eq!(m.message(&[(Hidden::XUid, "24 x")]).uid, 24, "not a number");
        assert_eq!(m.message(&[(Hidden::XUid, ""), (Hidden::XUid, "25")]).uid, 25);
    }

    #[test]
    fn without_imapbase_uids_begin_at_one_and_its_own_uid_does_not_count_above_it() {
        let mut m = Mailbox::new();
        assert_eq!(m.message(&[(Hidden::XUid, "1")]).uid, 1);
        assert_eq!(m.message(&[(Hidden::XImapBase, "7 20")]).uid, 2);
        assert_eq!(m.0.uid_validity(1234), 1234);
        let mut m = Mailbox::new();
        assert_eq!(m.message(&[(Hidden::XUid, "3"), (Hidden::XImapBase, "7 20")]).uid, 21);
    }

    #[test]
    fn broken_imapbases_do_not_count_and_the_next_good_one_does() {
        let mut m = Mailbox::new();
        m.message(&[
            (Hidden::XImapBase, "0 20"),
            (Hidden::XImapBase, "7x 20"),
            (Hidden::XImapBase, "9 30 k"),
        ]);
        assert_eq!((m.0.uid_validity(1), m.0.uid_next()), (9, 32));
        assert_eq!(m.0.keywords(), ["k"]);
    }

    #[test]
    fn the_pseudo_message_gives_numbers_and_is_none() {
        let mut m = Mailbox::new();
        let meta = m.message(&[(Hidden::XImap, "7 20 A b"), (Hidden::Status, "RO")]);
        assert!(meta.pseudo);
        assert_eq!(m.message(&[(Hidden::XKeywords, "B a B")]).keywords, [1, 0]);
        assert!(!m.message(&[(Hidden::XImap, "7 20")]).pseudo, "only the first message can be it");
        assert_eq!(m.0.uid_next(), 23);
    }

    #[test]
    fn unknown_keywords_drop_all_of_the_message() {
        let mut m = Mailbox::new();
        m.message(&[(Hidden::XImapBase, "7 20 $Junk work (bad)")]);
        assert_eq!(m.0.keywords(), ["$Junk", "work"]);
        assert!(m.message(&[(Hidden::XKeywords, "work other")]).keywords.is_empty());
        assert_eq!(m.message(&[(Hidden::XKeywords, "nope"), (Hidden::XKeywords, "WORK")]).keywords, [1]);
    }

    /// Dovecot writes the first message's keywords above X-IMAPbase when they were set before it had one.
    #[test]
    fn an_index_knows_keywords_before_they_are_listed() {
        let headers = [(Hidden::XKeywords, "work $Junk"), (Hidden::XImapBase, "7 20 $Junk work")];
        let known = Known { index: true, ..Known::default() };
        assert_eq!(Mailbox(Folder::new(&known)).message(&headers).keywords, [1, 0]);
        assert!(Mailbox::new().message(&headers).keywords.is_empty(), "nobody knew them");
        let foreign = [(Hidden::XKeywords, "other"), (Hidden::XImapBase, "7 20 $Junk work")];
        assert!(Mailbox(Folder::new(&known)).message(&foreign).keywords.is_empty());
    }

    #[test]
    fn flags_add_up_over_repeated_headers() {
        let mut m = Mailbox::new();
        let meta = m.message(&[
            (Hidden::Status, "R"),
            (Hidden::XStatus, "AFTD?"),
            (Hidden::Status, "xO"),
            (Hidden::ContentLength, "12 \t"),
            (Hidden::ContentLength, "13"),
        ]);
        assert_eq!(meta.flags.letters().collect::<String>(), "DFRST");
        assert!(meta.old);
        assert_eq!(meta.content_length, Some(12));
    }

    #[test]
    fn an_index_of_another_uidvalidity_counts_for_nothing() {
        let known = Known { uid_validity: Some(3), uid_next: Some(100), ..Known::default() };
        let mut m = Mailbox(Folder::new(&known));
        assert_eq!(m.message(&[(Hidden::XImapBase, "7 20")]).uid, 21);
        let mut m = Mailbox(Folder::new(&known));
        assert_eq!(m.message(&[(Hidden::XImapBase, "3 20")]).uid, 100);
        let mut m = Mailbox(Folder::new(&known));
        assert_eq!(m.message(&[]).uid, 100);
        assert_eq!(m.0.uid_validity(5), 3);
    }
}
