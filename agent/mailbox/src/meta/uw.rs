//! What UW's headers mean to UW (`unix_parse`, src/osdep/unix/unix.c of UW imap), and those that qpopper goes by.
//!
//! Other than for Dovecot: an X-UID may be larger than the last one given out; of a message's keywords those that the folder has not
//! are dropped one by one; Status and X-Status take each other's letters; there are thirty keywords.
//!
//! One thing is not as in UW: after an X-UID that does not grow, UW gives the folder a new UIDVALIDITY, and all clients read all mail
//! again. It writes the folder anew when it has done so; an mbox with such an X-UID has got it since, with mail from outside, and no client
//! has seen what UW would make of it. So here UIDVALIDITY stays, and that message and those behind it get new UIDs.

use super::{Folder, Meta, is_keyword, words};
use crate::Server;
use crate::header::Hidden;

/// `NUSERFLAGS`.
const KEYWORDS: usize = 30;

impl Folder {
    /// A header that counts, of the message under way.
    pub(super) fn uw_header(&mut self, meta: &mut Meta, which: Hidden, value: &[u8]) {
        match which {
            Hidden::Status | Hidden::XStatus => meta.uw_status(value),
            Hidden::XImapBase => drop(self.uw_imap_base(value)),
            Hidden::XImap => meta.pseudo |= self.uw_imap_base(value),
            Hidden::XKeywords => self.uw_keywords(meta, value),
            Hidden::XUid => self.uw_uid(meta, value),
            Hidden::ContentLength | Hidden::InternalData | Hidden::XUidl => {}
        }
    }

    /// A header that counts for qpopper: it has no folders, no UIDs and no keywords.
    pub(super) fn qpopper_header(&mut self, meta: &mut Meta, which: Hidden, value: &[u8]) {
        match which {
            Hidden::Status | Hidden::XStatus => meta.uw_status(value),
            Hidden::InternalData => meta.pseudo = self.position.sequence == 1,
            Hidden::XUidl => meta.uidl = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {}
        }
    }

    /// By what POP3 clients know a message: for UW that follows from its numbers (`ipop3d.c`: validity and UID), and not as Dovecot has it.
    pub(crate) fn uidl(&self, meta: &Meta, uid_validity: u32) -> Option<String> {
        match self.server {
            Server::Dovecot => None,
            Server::Uw => Some(format!("{uid_validity:08x}{:08x}", meta.uid)),
            Server::Qpopper => meta.uidl.clone(),
        }
    }

    /// `UIDVALIDITY UIDLAST KEYWORD...` in the first message. `false`: does not count.
    fn uw_imap_base(&mut self, value: &[u8]) -> bool {
        if self.position.sequence != 1 || self.uid_validity.is_some() {
            return false;
        }
        let (Some(validity), rest) = number(value) else { return false };
        let (Some(last), rest) = number(rest) else { return false };
        if validity == 0 {
            return false;
        }
        self.uid_validity = Some(validity);
        self.uids_count = true;
        self.position.next_uid = last.saturating_add(1);
        let words = rest.split(|b| matches!(b, b' ' | b'\r')).filter(|word| !word.is_empty());
        // UW takes any 64 bytes for a keyword; of those Dovecot has the ones that it can name to clients.
        for word in words.take(KEYWORDS).filter(|word| is_keyword(word)) {
            self.keywords.push(String::from_utf8_lossy(word).into_owned());
        }
        true
    }

    fn uw_keywords(&self, meta: &mut Meta, value: &[u8]) {
        for place in words(value).filter_map(|word| self.keyword(word)) {
            if !meta.keywords.contains(&place) {
                meta.keywords.push(place);
            }
        }
    }

    fn uw_uid(&mut self, meta: &mut Meta, value: &[u8]) {
        let at = &mut self.position;
        if !self.uids_count || meta.pseudo {
            return;
        }
        let uid = number(value).0.unwrap_or(0);
        // One that does not grow, and a second one in a message: that is the last that counts in this folder.
        if meta.uid != 0 || uid <= at.last_uid {
            meta.uid = 0;
            self.uids_count = false;
            return;
        }
        meta.uid = uid;
        at.next_uid = at.next_uid.max(uid + 1);
    }
}

impl Meta {
    fn uw_status(&mut self, value: &[u8]) {
        for byte in value {
            match byte {
                b'R' => self.flags.add('S'),
                b'O' => self.old = true,
                b'A' => self.flags.add('R'),
                b'F' => self.flags.add('F'),
                b'T' => self.flags.add('D'),
                b'D' => self.flags.add('T'),
                _ => {}
            }
        }
    }
}

/// A number behind spaces. One that no UID or UIDVALIDITY can be is none.
fn number(value: &[u8]) -> (Option<u32>, &[u8]) {
    let spaces = value.iter().take_while(|b| **b == b' ').count();
    let value = &value[spaces..];
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(&value[..digits]).ok().and_then(|digits| digits.parse().ok());
    (number.filter(|number| *number < u32::MAX), &value[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;

    struct Mailbox(Folder);

    impl Mailbox {
        fn new(server: Server) -> Self {
            Mailbox(Folder::by(server, &Known::default()))
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
    fn uids_follow_the_file_and_may_be_ahead_of_the_folder() {
        let mut m = Mailbox::new(Server::Uw);
        assert_eq!(m.message(&[(Hidden::XImapBase, " 7 20"), (Hidden::XUid, " 5")]).uid, 5);
        assert_eq!(m.message(&[(Hidden::XUid, " 9 and more")]).uid, 9);
        assert_eq!(m.message(&[]).uid, 21);
        assert_eq!(m.message(&[(Hidden::XUid, " 40")]).uid, 40);
        assert_eq!((m.0.uid_validity(1), m.0.uid_next()), (7, 41));
    }

    #[test]
    fn a_uid_that_does_not_grow_is_new_and_the_uidvalidity_stays() {
        let mut m = Mailbox::new(Server::Uw);
        m.message(&[(Hidden::XImapBase, " 7 20"), (Hidden::XUid, " 5")]);
        assert_eq!(m.message(&[(Hidden::XUid, " 5")]).uid, 21);
        assert_eq!(m.message(&[(Hidden::XUid, " 30")]).uid, 22, "no X-UID counts behind it");
        assert_eq!(m.0.uid_validity(1), 7);
        let mut m = Mailbox::new(Server::Uw);
        assert_eq!(
            m.message(&[(Hidden::XImapBase, " 7 20"), (Hidden::XUid, " 25"), (Hidden::XUid, " 26")]).uid,
            26,
            "twice"
        );
        let mut m = Mailbox::new(Server::Uw);
        assert_eq!(
            m.message(&[(Hidden::XImapBase, " 7 20"), (Hidden::XUid, " 99999999999")]).uid,
            21,
            "larger than a UID"
        );
    }

    #[test]
    fn the_pseudo_message_gives_numbers_and_has_no_uid() {
        let mut m = Mailbox::new(Server::Uw);
        let meta = m.message(&[
            (Hidden::XImap, " 0000000007 0000000020 A b"),
            (Hidden::XUid, " 3"),
            (Hidden::Status, " RO"),
        ]);
        assert!(meta.pseudo);
        assert_eq!(m.message(&[(Hidden::XKeywords, " B unknown a")]).keywords, [1, 0]);
        assert_eq!(m.message(&[(Hidden::XUid, " 3")]).uid, 22);
        assert_eq!(m.0.keywords(), ["A", "b"]);
    }

    #[test]
    fn without_imapbase_an_x_uid_is_a_strangers() {
        let mut m = Mailbox::new(Server::Uw);
        assert_eq!(m.message(&[(Hidden::XUid, " 8")]).uid, 1);
        assert_eq!(m.0.uid_validity(1234), 1234, "as soon as a message is written");
        assert_eq!(m.message(&[(Hidden::XImapBase, " 7 20"), (Hidden::XUid, " 8")]).uid, 2);
        assert_eq!(m.0.uid_validity(1), 1234);
    }

    #[test]
    fn both_status_headers_take_all_letters() {
        let mut m = Mailbox::new(Server::Uw);
        let meta = m.message(&[(Hidden::Status, " RF"), (Hidden::XStatus, " ATDO")]);
        assert_eq!(meta.flags.letters().collect::<String>(), "DFRST");
        assert!(meta.old);
    }

    #[test]
    fn qpopper_knows_identifiers_and_neither_uids_nor_keywords() {
        let mut m = Mailbox::new(Server::Qpopper);
        let meta = m.message(&[(Hidden::XImapBase, " 7 20 k"), (Hidden::XUid, " 8"), (Hidden::XUidl, "abc")]);
        assert_eq!((meta.uid, meta.uidl.as_deref()), (1, Some("abc")));
        assert!(!m.message(&[(Hidden::InternalData, "")]).pseudo, "only the first can be it");
    }
}
