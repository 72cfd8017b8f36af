//! The way back: a mailbox of the Maildir as an mbox in which the server shows exactly what it showed before.
//!
//! An mbox can hold less than a Maildir: it has no way to show a header that it takes for its own, and none to quote a line in a
//! header that begins a message. Whatever it cannot hold is found while the mbox is written, before anything of it is used
//! ([`NotForMbox`]). Mail that no client has seen yet is another matter: it is put into the mbox as a deliverer would have done it.
//!
//! Nothing is locked here. What a client does meanwhile is found by the look afterwards ([`Way::state`]); what comes after that
//! look is appended ([`Way::append_late`], [`append_files`]). [`Way::verify`] reads the mbox again by the rules that it will be read by.

mod boxes;
mod expected;
mod file_name;
mod form;
mod from_line;
mod header;
mod late;
mod maildir;
mod marks;
mod output;
mod reason;
mod told;
mod verify;

pub use boxes::{Listing, Place, list};
pub use late::append_files;
pub use reason::NotForMbox;
pub use told::Told;
pub use verify::Verified;

use crate::names::now;
use crate::{Error, OnProgress, Progress, Result, Rules};
use expected::{Expectations, Expected};
use form::{Base, Care, Notes};
use maildir::{Homes, MailFile, Maildir};
use output::Output;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// What it takes to make one mailbox an mbox.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The mailbox's folder, with cur/, new/ and Dovecot's lists.
    pub folder: BorrowedFd<'a>,
    /// Where it is; for error messages only.
    pub path: &'a Path,
    /// The mbox that it was made of: its messages get their From_ lines back. The receipt in `folder` says where they are.
    pub original: Option<BorrowedFd<'a>>,
    /// What Dovecot says of the flags, and this mailbox's name there. Wins over what the file names say; without it, keywords that only
    /// the index knows are lost.
    pub told: Option<(&'a Told, &'a str)>,
    /// Whose rules, and where that server's clock is.
    pub rules: &'a Rules,
}

/// An mbox that was written, and what has to be known to go on with it.
#[derive(Debug, Clone)]
pub struct Written {
    length: u64,
    messages: u64,
    hasher: blake3::Hasher,
    uid_validity: u32,
    uid_next: u32,
    state: [u8; 32],
    /// The last messages: those that no uidlist knew, by the base names of their files, and (`None`) those from elsewhere.
    tail: Vec<Option<Vec<u8>>>,
}

impl Written {
    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Messages; the pseudo message of an empty mailbox is none.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// blake3 of all bytes.
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// UIDVALIDITY.
    pub fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// Lowest UID that has never been given out.
    pub fn uid_next(&self) -> u32 {
        self.uid_next
    }

    /// [`Way::state`] as it was when the mailbox was read, last by [`Way::append_late`].
    pub fn state(&self) -> &[u8; 32] {
        &self.state
    }
}

impl Way<'_> {
    /// A fingerprint of the mailbox's lists and of the names of its files: the same as [`Written::state`], and nothing has changed since
    /// but what only Dovecot's index knows.
    pub fn state(&self) -> Result<[u8; 32]> {
        Ok(Maildir::read(self.folder, self.path)?.state)
    }

    /// Writes the mbox into an empty file (by `pwrite`) and makes it durable. After an error the file has to be emptied again;
    /// [`Error::Changed`] says that a client was at work meanwhile, and another attempt may succeed.
    pub fn write(&self, into: BorrowedFd<'_>, progress: OnProgress<'_>) -> Result<Written> {
        self.rules.check()?;
        let maildir = Maildir::read(self.folder, self.path)?;
        let keywords = expected::keywords(self, &maildir)?;
        let base = Base {
            uid_validity: maildir.uid_validity.unwrap_or_else(|| u32::try_from(now()).unwrap_or(u32::MAX)),
            last_uid: maildir.uid_next - 1,
            keywords: &keywords,
        };
        let mut out = Output::resume(into, self.path, 0, blake3::Hasher::new());
        if maildir.len() == 0 {
            // UIDVALIDITY is the second of the mailbox's making, as a rule; no client sees it.
            let date = i64::from(base.uid_validity);
            out.push(&base.pseudo_message(&self.begin_with(None, 0, &[], date, Care::AsDelivered)?))?;
        } else {
            self.write_messages(&mut out, &maildir, &base, progress)?;
        }
        let (length, hasher) = out.finish()?;
        Ok(Written {
            length,
            messages: maildir.len() as u64,
            hasher,
            uid_validity: base.uid_validity,
            uid_next: maildir.uid_next,
            state: maildir.state,
            tail: maildir.unlisted().map(|mail| Some(file_name::base(mail.name).to_vec())).collect(),
        })
    }

    fn write_messages(
        &self,
        out: &mut Output<'_>,
        maildir: &Maildir,
        base: &Base<'_>,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let homes = Homes::open(self.folder)?;
        let mut expectations = Expectations::new(self, maildir)?;
        let (mut messages, total) = (0, maildir.len() as u64);
        for mail in maildir.mail() {
            let expected = expectations.of(&mail)?;
            let file = homes.open_mail(&mail)?;
            let base = Some(base).filter(|_| messages == 0);
            self.write_message(out, file, &expected, base)?;
            messages += 1;
            let told = Progress { messages, bytes: out.length(), total };
            if progress(told) == ControlFlow::Break(()) {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// One message, whichever way it came.
    fn write_message(
        &self,
        out: &mut Output<'_>,
        file: MailFile,
        expected: &Expected,
        base: Option<&Base<'_>>,
    ) -> Result<()> {
        let Expected { uid, marks, recent, ref keywords, care, original, .. } = *expected;
        let notes = Notes { uid, marks, recent, keywords, base };
        let date = file.date;
        form::write(out, &file, &notes, care, |head| self.begin_with(original, uid, head, date, care))
    }

    /// The From_ line of a message: the original one if there is one and it says the right second.
    fn begin_with(
        &self,
        original: Option<u64>,
        uid: u32,
        head: &[u8],
        date: i64,
        care: Care,
    ) -> Result<Vec<u8>> {
        let zone = &self.rules.zone;
        let mut buf = [0; from_line::LINE_MAX];
        let line = match (original, self.original) {
            (Some(offset), Some(mbox)) => output::line_at(mbox, offset, &mut buf),
            _ => &[],
        };
        if from_line::again(line, date, zone) {
            return Ok(line.to_vec());
        }
        let sender = from_line::sender(line).or_else(|| from_line::return_path(head));
        let now = || from_line::make(sender, i64::try_from(now()).unwrap_or(0), zone);
        from_line::make(sender, date, zone)
            .or_else(|| now().filter(|_| care == Care::AsDelivered))
            .ok_or_else(|| Error::NotForMbox {
                path: self.path.to_owned(),
                uid,
                reason: NotForMbox::Date(date),
            })
    }
}
/// The From_ line, with its end, of a message that was delivered at `date` (unix seconds), for an mbox that Dovecot reads in `zone`; the sender is taken from the message's own first `Return-Path`, as far as `head`
/// reaches. `None`: there is no way to say that date.
#[must_use]
pub fn delivered_line(head: &[u8], date: i64, zone: &crate::Zone) -> Option<Vec<u8>> {
    from_line::make(from_line::return_path(head), date, zone)
}
