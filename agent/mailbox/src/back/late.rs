//! Mail that comes while the way back is under way, and behind it: nobody has seen it, so nothing about it can be refused.

use super::expected::{Expectations, Expected};
use super::form::Care;
use super::maildir::{Homes, MailFile, Maildir};
use super::output::Output;
use super::{NotForMbox, Way, Written, file_name};
use crate::{Error, Result, Rules, dir};
use std::os::fd::BorrowedFd;
use std::path::Path;

impl Way<'_> {
    /// Appends the message files that have come since; returns how many. `into` is the file that [`Way::write`] has written;
    /// after an error it has to be cut back to [`Written::length`].
    pub fn append_late(&self, into: BorrowedFd<'_>, written: &mut Written) -> Result<u64> {
        let maildir = Maildir::read(self.folder, self.path)?;
        let homes = Homes::open(self.folder)?;
        let mut expectations = Expectations::new(self, &maildir)?;
        let mut there: Vec<Vec<u8>> = written.tail.iter().flatten().cloned().collect();
        let mut appending = Appending::new(into, self.path, written);
        for mail in maildir.unlisted() {
            let base = file_name::base(mail.name);
            if let Some(known) = there.iter().position(|name| name == base) {
                there.swap_remove(known);
                continue;
            }
            let expected = expectations.of(&mail)?;
            let expected = Expected { uid: appending.next_uid(Some(base))?, ..expected };
            self.write_message(&mut appending.out, homes.open_mail(&mail)?, &expected, None)?;
        }
        let messages = appending.finish(written)?;
        written.state = maildir.state;
        Ok(messages)
    }
}

/// Appends the message files of a folder, in the order of their names, as mail that has just been delivered: say, what [`extract`](crate::extract::extract())
/// has found behind a tombstone. Returns how many; after an error the mbox has to be cut back to [`Written::length`]. `path` is for error
/// messages only.
pub fn append_files(
    folder: BorrowedFd<'_>,
    path: &Path,
    rules: &Rules,
    into: BorrowedFd<'_>,
    written: &mut Written,
) -> Result<u64> {
    let listed = dir::open(folder, ".")?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    dir::for_each_name(&listed, ".", |name| {
        if file_name::is_message(name) {
            names.push(name.to_vec());
        }
    })?;
    names.sort_by(|a, b| file_name::order(a, b));
    let way = Way { folder, path, original: None, told: None, rules };
    let mut appending = Appending::new(into, path, written);
    for name in &names {
        let expected = Expected {
            uid: appending.next_uid(None)?,
            marks: file_name::marks(name, |_| {}),
            recent: true,
            keywords: Vec::new(),
            care: Care::AsDelivered,
            original: None,
        };
        way.write_message(&mut appending.out, MailFile::open(folder, name)?, &expected, None)?;
    }
    appending.finish(written)
}

/// An mbox that grows.
struct Appending<'a> {
    out: Output<'a>,
    path: &'a Path,
    uid_next: u32,
    tail: Vec<Option<Vec<u8>>>,
}

impl<'a> Appending<'a> {
    fn new(into: BorrowedFd<'a>, path: &'a Path, written: &Written) -> Self {
        let out = Output::resume(into, path, written.length, written.hasher.clone());
        Appending { out, path, uid_next: written.uid_next, tail: Vec::new() }
    }

    /// For the next message, out of a file of the mailbox's or from elsewhere. The UIDs of what is appended follow one another: then the
    /// mbox believes them, though its head does not know of them yet.
    fn next_uid(&mut self, base: Option<&[u8]>) -> Result<u32> {
        let uid = self.uid_next;
        if uid == u32::MAX {
            let reason = NotForMbox::UidsUsedUp;
            return Err(Error::NotForMbox { path: self.path.to_owned(), uid, reason });
        }
        self.uid_next += 1;
        self.tail.push(base.map(<[u8]>::to_vec));
        Ok(uid)
    }

    /// All of it is durable, and part of what was written.
    fn finish(self, written: &mut Written) -> Result<u64> {
        (written.length, written.hasher) = self.out.finish()?;
        let messages = self.tail.len() as u64;
        written.uid_next = self.uid_next;
        written.messages += messages;
        written.tail.extend(self.tail);
        Ok(messages)
    }
}
