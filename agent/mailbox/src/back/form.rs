//! One message in the form that an mbox gives it: From_ line, header, the mbox's own headers, body, and a line end that nobody sees.
//!
//! The mbox's own headers stand at the end of the header, where Dovecot puts them: there a header that is cut off, or that begins with
//! a blank, reads the same as before. Three things decide whether the message is read as it was (formats.md 1.2 and 1.5):
//!
//! * A line of the body that would begin a message is harmless behind a Content-Length that leads beyond it; Dovecot writes one for
//!   every body of [`ALWAYS_COUNTED`] bytes and more, and so do we. In the header no Content-Length helps.
//! * The line feed in front of the next From_ line takes a CR in front of it along, so behind a last CR there has to be another one.
//! * Dovecot's scanner passes over the byte behind `From `, so if that is the line feed of the next From_ line it misses it: a CR there helps.

use super::NotForMbox;
use super::maildir::MailFile;
use super::marks::Marks;
use super::output::Output;
use crate::from_line::{self, LOOK_AHEAD};
use crate::header::{Fed, HeaderFilter, Hidden};
use crate::{Error, Result};
use memchr::memmem;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// `MBOX_MIN_CONTENT_LENGTH_SIZE`: bodies from here on always have a Content-Length.
const ALWAYS_COUNTED: u64 = 1024;
/// Blanks behind X-UID, as Dovecot leaves them: room for a flag without moving the rest of the mbox.
const ROOM: usize = 50;
/// A header line with keywords is folded when it gets this long.
const FOLD: usize = 1000;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// What begins a message, if the rest of the line is right.
const CANDIDATE: &[u8; 6] = b"\nFrom ";

/// What to do with a message that an mbox cannot hold as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Clients have seen it: not a byte may differ.
    Exact,
    /// Nobody has seen it: it is put into the mbox as a deliverer would do it, without the headers that are the mbox's own, and with
    /// `>` in front of what would begin a message.
    AsDelivered,
}

/// What the mbox says of a message besides its bytes.
pub(super) struct Notes<'a> {
    pub(super) uid: u32,
    pub(super) marks: Marks,
    pub(super) recent: bool,
    pub(super) keywords: &'a [String],
    /// Only in the first message: what the mbox says of itself ([`Base`]).
    pub(super) base: Option<&'a Base<'a>>,
}

/// What the mbox says of itself.
pub(super) struct Base<'a> {
    pub(super) uid_validity: u32,
    pub(super) last_uid: u32,
    pub(super) keywords: &'a [String],
}

/// Writes a message. `from_line` makes its From_ line out of the first bytes of its header.
pub(super) fn write(
    out: &mut Output<'_>,
    mail: &mut MailFile,
    notes: &Notes<'_>,
    care: Care,
    from_line: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<()> {
    let refused = |path: &Path, reason| Error::NotForMbox { path: path.to_owned(), uid: notes.uid, reason };
    let mut chunk = vec![0; CHUNK];
    let mut read = fill(mail, &mut chunk)?;
    out.push(&from_line(&chunk[..read])?)?;
    let mut header =
        Header { filter: HeaderFilter::default(), pending: Vec::new(), scanned: 0, care, hidden: None };
    let mut raw = 0;
    let (ended, mut last_byte) = loop {
        let fed = header.feed(&chunk[..read]);
        let ended = matches!(fed, Fed::Ended(_));
        header.check(ended || read == 0).map_err(|reason| refused(&mail.name, reason))?;
        match fed {
            Fed::Ended(n) => break (Some(n), b'\n'),
            Fed::All if read == 0 => break (None, b'\n'),
            Fed::All => {}
        }
        header.pass_on(out)?;
        raw += read as u64;
        let last = chunk[read - 1];
        read = fill(mail, &mut chunk)?;
        if read == 0 && last != b'\n' && care == Care::Exact {
            return Err(refused(&mail.name, NotForMbox::HeaderCutOff));
        }
    };
    let Some(begin) = ended else {
        header.finish();
        header.check(true).map_err(|reason| refused(&mail.name, reason))?;
        out.push(&header.pending)?;
        out.push(own_headers(notes, None).as_bytes())?;
        return mail_is_whole(mail, raw);
    };
    raw += begin as u64;
    let body = mail.size.checked_sub(raw).ok_or_else(|| changed(mail))?;
    // The empty line comes behind the headers of the mbox's own.
    header.pending.pop();
    out.push(&header.pending)?;
    let mut piece = &chunk[begin..read];
    let mut small = Vec::new();
    if body < ALWAYS_COUNTED {
        small.push(b'\n');
        small.extend_from_slice(piece);
        mail.file.read_to_end(&mut small).map_err(Error::io("read", &mail.name))?;
        piece = &small[1..];
    }
    let counted = body >= ALWAYS_COUNTED || memmem::find(&small, CANDIDATE).is_some();
    out.push(own_headers(notes, counted.then_some(body)).as_bytes())?;
    out.push(b"\n")?;
    let mut tail = Tail(*b"     \n");
    loop {
        out.push(piece)?;
        tail.take(piece);
        last_byte = piece.last().copied().unwrap_or(last_byte);
        raw += piece.len() as u64;
        if body < ALWAYS_COUNTED {
            break;
        }
        let read = fill(mail, &mut chunk)?;
        if read == 0 {
            break;
        }
        piece = &chunk[..read];
    }
    let with_cr = last_byte == b'\r' || tail.0 == *CANDIDATE;
    out.push(if with_cr { b"\r\n" } else { b"\n" })?;
    mail_is_whole(mail, raw)
}

fn fill(mail: &mut MailFile, chunk: &mut [u8]) -> Result<usize> {
    loop {
        match mail.file.read(chunk) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other.map_err(Error::io("read", &mail.name)),
        }
    }
}

fn mail_is_whole(mail: &MailFile, read: u64) -> Result<()> {
    if read == mail.size { Ok(()) } else { Err(changed(mail)) }
}

fn changed(mail: &MailFile) -> Error {
    Error::Changed { path: mail.name.clone(), offset: mail.size, why: "its size is another one now" }
}

/// The last bytes that passed.
struct Tail([u8; 6]);

impl Tail {
    fn take(&mut self, piece: &[u8]) {
        let keep = self.0.len().saturating_sub(piece.len());
        let from = self.0.len() - keep;
        self.0.copy_within(from.., 0);
        self.0[keep..].copy_from_slice(&piece[piece.len() - from..]);
    }
}

/// The header on its way out: without CRs, and looked through for what the mbox would take for its own.
struct Header {
    filter: HeaderFilter,
    /// Not yet written. Begins with the header's first byte, or with the last bytes that were looked through.
    pending: Vec<u8>,
    /// No line that would begin a message begins below.
    scanned: usize,
    care: Care,
    hidden: Option<Hidden>,
}

impl Header {
    fn feed(&mut self, bytes: &[u8]) -> Fed {
        let hidden = &mut self.hidden;
        self.filter.feed(bytes, &mut self.pending, &mut |which, _| *hidden = Some(which))
    }

    fn finish(&mut self) {
        let hidden = &mut self.hidden;
        self.filter.finish(&mut self.pending, &mut |which, _| *hidden = Some(which));
    }

    /// Looks through what has come. The very first line stands behind the From_ line, and cannot begin a message.
    fn check(&mut self, at_end: bool) -> Result<(), NotForMbox> {
        if let Some(which) = self.hidden.filter(|_| self.care == Care::Exact) {
            return Err(NotForMbox::HiddenHeader(name_of(which)));
        }
        while let Some(found) = memmem::find(&self.pending[self.scanned..], CANDIDATE) {
            let lf = self.scanned + found;
            let line = &self.pending[lf + 1..];
            let line_end = memchr::memchr(b'\n', line);
            let decided = line_end.is_some_and(|end| line.len() >= end + LOOK_AHEAD);
            if !decided && !at_end && line.len() < CHUNK {
                return Ok(());
            }
            // A line that is longer than anything that is looked at is none to take chances with.
            let begins =
                from_line::parse(&line[5..]).is_some() || (line_end.is_none() && line.len() >= CHUNK);
            match self.care {
                Care::Exact if begins => return Err(NotForMbox::FromLineInHeader),
                Care::AsDelivered if begins => self.pending.insert(lf + 1, b'>'),
                _ => {}
            }
            self.scanned = lf + CANDIDATE.len();
        }
        // The last bytes may be the beginning of a candidate.
        self.scanned = self.scanned.max(self.pending.len().saturating_sub(CANDIDATE.len() - 1));
        Ok(())
    }

    fn pass_on(&mut self, out: &mut Output<'_>) -> Result<()> {
        if self.pending.len() > CHUNK {
            out.push(&self.pending[..self.scanned])?;
            self.pending.drain(..self.scanned);
            self.scanned = 0;
        }
        Ok(())
    }
}

/// The mbox's own headers, each with its line end.
fn own_headers(notes: &Notes<'_>, content_length: Option<u64>) -> String {
    let mut text = String::with_capacity(128);
    // Writing to a String cannot fail.
    if let Some(base) = notes.base {
        let _ = write!(text, "X-IMAPbase: {}", base.value());
        text.push('\n');
    }
    let _ = writeln!(text, "X-UID: {}{:ROOM$}", notes.uid, "");
    let (status, old) = (notes.marks.status(), if notes.recent { "" } else { "O" });
    if !status.is_empty() || !old.is_empty() {
        let _ = writeln!(text, "Status: {status}{old}");
    }
    let x_status = notes.marks.x_status();
    if !x_status.is_empty() {
        let _ = writeln!(text, "X-Status: {x_status}");
    }
    if !notes.keywords.is_empty() {
        text.push_str("X-Keywords:");
        fold(&mut text, notes.keywords);
        text.push('\n');
    }
    if let Some(length) = content_length {
        let _ = writeln!(text, "Content-Length: {length}");
    }
    text
}

impl Base<'_> {
    fn value(&self) -> String {
        let mut text = format!("{} {:010}", self.uid_validity, self.last_uid);
        fold(&mut text, self.keywords);
        text
    }

    /// The message that is none, for an mbox without any: it keeps UIDVALIDITY, the UIDs that were used, and the keywords.
    pub(super) fn pseudo_message(&self, from_line: &[u8]) -> Vec<u8> {
        let text = format!(
            "From: Mail System Internal Data <MAILER-DAEMON@localhost>\n\
             Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\
             X-IMAP: {}\n\
             Status: RO\n\
             \n\
             This text is part of the internal format of your mail folder, and is not\n\
             a real message.  It is created automatically by the mail system software.\n\
             If deleted, important folder data will be lost, and it will be re-created\n\
             with the data reset to initial values.\n\
             \n",
            self.value()
        );
        [from_line, text.as_bytes()].concat()
    }
}

/// Appends words, in lines that are not too long.
fn fold(text: &mut String, words: &[String]) {
    let mut line = text.len() - text.rfind('\n').map_or(0, |lf| lf + 1);
    for word in words {
        if line + word.len() > FOLD {
            text.push_str("\n\t");
            line = 1;
        } else {
            text.push(' ');
        }
        text.push_str(word);
        line += word.len() + 1;
    }
}

fn name_of(which: Hidden) -> &'static str {
    match which {
        Hidden::ContentLength => "Content-Length",
        Hidden::Status => "Status",
        Hidden::XImap => "X-IMAP",
        Hidden::XImapBase => "X-IMAPbase",
        Hidden::XKeywords => "X-Keywords",
        Hidden::XStatus => "X-Status",
        Hidden::XUid => "X-UID",
        // Other servers' headers; Dovecot's filter knows none of them.
        Hidden::XUidl | Hidden::InternalData => "of another server",
    }
}
