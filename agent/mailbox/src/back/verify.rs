//! The written mbox read again by the rules that it will be read by, and compared with the Maildir message by message.
//!
//! The files are hashed as they lie there, without the code that wrote them: only a message with CRs in its header, which an mbox
//! never shows, and mail that was put in as a deliverer would do it, need more than that.

use super::expected::{Expectations, Expected};
use super::form::{CHUNK, Care};
use super::header;
use super::maildir::{Homes, Mail, MailFile, Maildir};
use super::{Way, Written, file_name};
use crate::content::{Measure, Reader};
use crate::header::{Fed, HeaderFilter};
use crate::meta::{Folder, Meta};
use crate::rules::LocalTime;
use crate::split::Splitter;
use crate::window::Window;
use crate::{Error, Known, OnProgress, Progress, Result};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

/// What was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Messages compared.
    pub messages: u64,
    /// Bytes of messages compared, as clients see them.
    pub bytes: u64,
}

impl Way<'_> {
    /// Reads the mbox (by `pread`) and compares every message with the Maildir: UID, flags, keywords, \Recent, INTERNALDATE, all bytes. The
    /// first difference is [`Error::Damaged`], or [`Error::Changed`] if the Maildir is not what it was when the mbox was written. Call it
    /// before anybody else appends to the mbox.
    pub fn verify(
        &self,
        mbox: BorrowedFd<'_>,
        written: &Written,
        progress: OnProgress<'_>,
    ) -> Result<Verified> {
        let changed = |state: &[u8; 32]| *state != written.state;
        let why = "a client changed the mailbox after it was written";
        let has_changed = || Error::Changed { path: self.path.to_owned(), offset: 0, why };
        let maildir = Maildir::read(self.folder, self.path)?;
        if changed(&maildir.state) {
            return Err(has_changed());
        }
        match self.compare_all(&maildir, mbox, written, progress) {
            // A client may have been at work meanwhile, and then it is not the mbox that is wrong.
            Err(Error::Damaged { .. }) if changed(&self.state()?) => Err(has_changed()),
            other => other,
        }
    }

    fn compare_all(
        &self,
        maildir: &Maildir,
        mbox: BorrowedFd<'_>,
        written: &Written,
        progress: OnProgress<'_>,
    ) -> Result<Verified> {
        let mut expectations = Expectations::new(self, maildir)?;
        let mut mails = self.in_order(maildir, written)?.into_iter();
        let homes = Homes::open(self.folder)?;
        let mut mbox = Mbox::open(self, mbox, written)?;
        let mut verified = Verified { messages: 0, bytes: 0 };
        while let Some(found) = mbox.next()? {
            let (mail, uid) =
                mails.next().ok_or_else(|| self.differs(found.uid, "the Maildir has no such message"))?;
            if found.uid != uid {
                return Err(self.differs(uid, &format!("the mbox has UID {} in its place", found.uid)));
            }
            if let Some(mail) = mail {
                let file = homes.open_mail(&mail)?;
                self.compare(&found, file, &expectations.of(&mail)?)?;
            }
            verified.messages += 1;
            verified.bytes += found.measure.size;
            let told = Progress { messages: verified.messages, bytes: found.end, total: written.length };
            if progress(told) == ControlFlow::Break(()) {
                return Err(Error::Cancelled);
            }
        }
        match mails.next() {
            Some((_, uid)) => Err(self.differs(uid, "it is missing")),
            None => mbox.close(self, written).map(|()| verified),
        }
    }

    /// The messages that the mbox should hold, with their UIDs; `None` for one that is not of this Maildir.
    fn in_order<'m>(&self, maildir: &'m Maildir, written: &Written) -> Result<Vec<(Option<Mail<'m>>, u32)>> {
        let listed = maildir.mail().filter(|mail| mail.uid < maildir.unlisted_from);
        let mut order: Vec<_> = listed.map(|mail| (Some(mail), mail.uid)).collect();
        let mut unlisted: HashMap<&[u8], Vec<Mail<'_>>> = HashMap::new();
        for mail in maildir.unlisted() {
            unlisted.entry(file_name::base(mail.name)).or_default().push(mail);
        }
        let first = written.uid_next - written.tail.len() as u32;
        for (uid, late) in (first..).zip(&written.tail) {
            let mail = match late {
                Some(base) => {
                    let mail = unlisted
                        .get_mut(&base[..])
                        .filter(|mails| !mails.is_empty())
                        .map(|mails| mails.remove(0));
                    Some(mail.ok_or_else(|| self.differs(uid, "its file is gone"))?)
                }
                None => None,
            };
            order.push((mail, uid));
        }
        match unlisted.into_values().flatten().next() {
            Some(mail) => Err(self.differs(mail.uid, "it has come since, and is not in the mbox")),
            None => Ok(order),
        }
    }

    fn compare(&self, found: &Found, file: MailFile, expected: &Expected) -> Result<()> {
        let differs = |what: &str, here: &dyn std::fmt::Debug, there: &dyn std::fmt::Debug| {
            Err(self.differs(found.uid, &format!("{what} {here:?} became {there:?}")))
        };
        let (flags, mut keywords) = (expected.marks.letters(), expected.keywords.clone());
        keywords.iter_mut().for_each(|keyword| keyword.make_ascii_lowercase());
        keywords.sort_unstable();
        if flags != found.flags {
            return differs("flags", &flags, &found.flags);
        }
        if keywords != found.keywords {
            return differs("keywords", &keywords, &found.keywords);
        }
        if expected.recent != found.recent {
            return differs("\\Recent", &expected.recent, &found.recent);
        }
        let says_date = found.date == file.date || (expected.care == Care::AsDelivered && file.date < 0);
        if !says_date {
            return differs("date", &file.date, &found.date);
        }
        let mut chunk = vec![0; CHUNK];
        let same = hash_of(&file, &mut chunk)? == found.measure.hash
            || hash_without_header_crs(&file, &mut chunk)? == found.measure.hash
            // Nobody has seen it, and it had to be mended: there is nothing that it could be compared with.
            || (expected.care == Care::AsDelivered && header::examine(&file, &mut chunk)?.problem.is_some());
        if same { Ok(()) } else { Err(self.differs(found.uid, "its bytes differ")) }
    }

    fn differs(&self, uid: u32, why: &str) -> Error {
        Error::Damaged { path: self.path.to_owned(), at: u64::from(uid), why: format!("UID {uid}: {why}") }
    }
}

/// A message as the mbox shows it.
struct Found {
    uid: u32,
    flags: String,
    recent: bool,
    /// Sorted, in lower case.
    keywords: Vec<String>,
    date: i64,
    measure: Measure,
    /// Offset of its end.
    end: u64,
}

/// The mbox, read as its server reads it.
struct Mbox<'a> {
    split: Splitter<'a>,
    reader: Reader<'static>,
    folder: Folder,
    local: LocalTime<'a>,
}

impl<'a> Mbox<'a> {
    fn open(way: &Way<'a>, mbox: BorrowedFd<'a>, written: &Written) -> Result<Self> {
        let length = crate::stage::length_of(mbox, way.path)?;
        if length != written.length {
            return Err(way.differs(0, &format!("the mbox has {length} bytes, not {}", written.length)));
        }
        // Read again from the disk, where the kernel takes the advice.
        let _ = posix_fadvise(mbox, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        Ok(Mbox {
            split: Splitter::new(Window::new(mbox, way.path.to_owned(), 0, length)),
            reader: Reader::measuring(),
            folder: Folder::new(&Known::default()),
            local: LocalTime::new(&way.rules.zone),
        })
    }

    /// The next message; the pseudo message is none.
    fn next(&mut self) -> Result<Option<Found>> {
        loop {
            let Some(head) = self.split.next_message()? else { return Ok(None) };
            let mut meta = Meta::default();
            self.folder.begin();
            let content = self.reader.read(&mut self.split, false, &mut |which, value| {
                self.folder.header(&mut meta, which, value);
                meta.content_length
            })?;
            let path = "the mbox".into();
            self.folder.complete(&mut meta).map_err(|reason| Error::Blocked { path, reason })?;
            if meta.pseudo {
                continue;
            }
            let of = |place: &u16| self.folder.keywords()[usize::from(*place)].to_ascii_lowercase();
            let mut keywords: Vec<String> = meta.keywords.iter().map(of).collect();
            keywords.sort_unstable();
            return Ok(Some(Found {
                uid: meta.uid,
                flags: meta.flags.letters().collect(),
                recent: !meta.old,
                keywords,
                date: head.stamp.map_or(0, |stamp| stamp.unix_seconds(&mut self.local)),
                measure: content.measure(),
                end: self.split.pos(),
            }));
        }
    }

    /// All messages are right; so are the mailbox's own numbers?
    fn close(mut self, way: &Way<'_>, written: &Written) -> Result<()> {
        let (validity, next) = (self.folder.uid_validity(0), self.folder.uid_next());
        if (validity, next) != (written.uid_validity, written.uid_next) {
            return Err(way.differs(0, &format!("UIDVALIDITY {validity} and UIDNEXT {next} are others")));
        }
        let hash = self.split.into_window().into_hasher()?.finalize();
        if *hash.as_bytes() != written.hash() {
            return Err(way.differs(0, "the mbox does not hold the bytes that were written"));
        }
        Ok(())
    }
}

/// Of the file's bytes as they are.
fn hash_of(mail: &MailFile, chunk: &mut [u8]) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    mail.copy(0..mail.size, chunk, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hasher.finalize())
}

/// Of what an mbox shows of it.
fn hash_without_header_crs(mail: &MailFile, chunk: &mut [u8]) -> Result<blake3::Hash> {
    let (mut hasher, mut filter) = (blake3::Hasher::new(), HeaderFilter::default());
    let (mut header, mut in_header) = (Vec::new(), true);
    mail.copy(0..mail.size, chunk, |piece| {
        let mut body = piece;
        if in_header {
            header.clear();
            body = match filter.feed(piece, &mut header, &mut |_, _| {}) {
                Fed::All => &[],
                Fed::Ended(n) => {
                    in_header = false;
                    &piece[n..]
                }
            };
            hasher.update(&header);
        }
        hasher.update(body);
        Ok(())
    })?;
    if in_header {
        header.clear();
        filter.finish(&mut header, &mut |_, _| {});
        hasher.update(&header);
    }
    Ok(hasher.finalize())
}
