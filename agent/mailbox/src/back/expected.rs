//! What the mbox has to say of each message: who it is, its flags, its keywords, and whether clients have seen it.

use super::form::Care;
use super::maildir::{Mail, Maildir};
use super::marks::Marks;
use super::told::Rows;
use super::{NotForMbox, Way, file_name};
use crate::receipt::{Entry, Reader};
use crate::{Error, Result, meta};

/// What is expected of one message.
pub(super) struct Expected {
    pub(super) uid: u32,
    pub(super) marks: Marks,
    pub(super) recent: bool,
    pub(super) keywords: Vec<String>,
    pub(super) care: Care,
    /// Offset in the original mbox.
    pub(super) original: Option<u64>,
}

/// Goes along with the messages in the order of their UIDs.
pub(super) struct Expectations<'a> {
    maildir: &'a Maildir,
    told: Option<Rows<'a>>,
    receipt: Option<Reader>,
    /// The receipt's line that comes next.
    entry: Option<Entry>,
}

impl<'a> Expectations<'a> {
    pub(super) fn new(way: &Way<'a>, maildir: &'a Maildir) -> Result<Self> {
        let mut receipt = match way.original.map(|_| Reader::open(way.folder)) {
            Some(Ok(reader)) => Some(reader),
            Some(Err(Error::Io { source, .. })) if source.kind() == std::io::ErrorKind::NotFound => None,
            Some(Err(e)) => return Err(e),
            None => None,
        };
        let entry = receipt.as_mut().map(Reader::next_entry).transpose()?.flatten();
        let told = way.told.map(|(told, mailbox)| told.rows(mailbox));
        Ok(Expectations { maildir, told, receipt, entry })
    }

    pub(super) fn of(&mut self, mail: &Mail<'_>) -> Result<Expected> {
        let mut keywords = Vec::new();
        let marks = file_name::marks(mail.name, |letter| {
            let keyword = self.maildir.keyword(letter);
            if !keywords.contains(&keyword) {
                keywords.push(keyword);
            }
        });
        let original = self.original(mail)?;
        let listed = mail.uid < self.maildir.unlisted_from;
        let mut expected = Expected {
            uid: mail.uid,
            marks,
            recent: mail.in_new,
            keywords,
            care: match original {
                Some(_) => Care::Returned,
                // Also where no session has claimed it: Dovecot's cache may know its size, and a message of another size ends the session.
                None if listed => Care::Exact,
                None => Care::AsDelivered,
            },
            original,
        };
        let told = self.told.as_mut().filter(|_| listed).map(|rows| rows.of(mail.uid)).transpose()?.flatten();
        if let Some(told) = told {
            expected.marks = told.marks;
            expected.recent = told.recent;
            expected.keywords.clone_from(&told.keywords);
        }
        Ok(expected)
    }

    /// Where the message was in the original mbox, if it is one of it. The receipt is in the order of UIDs, too.
    fn original(&mut self, mail: &Mail<'_>) -> Result<Option<u64>> {
        while self.entry.as_ref().is_some_and(|entry| entry.uid < mail.uid) {
            self.entry = self.receipt.as_mut().map(Reader::next_entry).transpose()?.flatten();
        }
        let same =
            |entry: &&Entry| entry.uid == mail.uid && entry.file.as_bytes() == file_name::base(mail.name);
        Ok(self.entry.as_ref().filter(same).map(|entry| entry.offset))
    }
}

/// All keywords of the mailbox: those that have a letter, then what else is in use. An mbox does not believe in any other.
pub(super) fn keywords(way: &Way<'_>, maildir: &Maildir) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut add = |keyword: &str| {
        let known = all.iter().any(|known: &String| known.eq_ignore_ascii_case(keyword));
        if !known {
            all.push(keyword.to_owned());
        }
    };
    maildir
        .keywords
        .iter()
        .flatten()
        .filter(|keyword| meta::is_keyword(keyword.as_bytes()))
        .for_each(|k| add(k));
    let mut expectations = Expectations::new(&Way { original: None, ..*way }, maildir)?;
    for mail in maildir.mail() {
        for keyword in expectations.of(&mail)?.keywords {
            if !meta::is_keyword(keyword.as_bytes()) {
                let reason = NotForMbox::Keyword(keyword);
                return Err(Error::NotForMbox { path: way.path.to_owned(), uid: mail.uid, reason });
            }
            add(&keyword);
        }
    }
    Ok(all)
}
