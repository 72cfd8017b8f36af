//! One message in the form that an mbox gives it: From_ line, header, the mbox's own headers, body, and a line end that nobody sees.
//!
//! The mbox's own headers stand at the end of the header, where Dovecot puts them: there a header that is cut off, or that begins with
//! a blank, reads the same as before. The message's own bytes stay as they are. Three things decide whether they are read as they
//! were (formats.md 1.2 and 1.5):
//!
//! * A line of the body that would begin a message is harmless behind a Content-Length that leads beyond it; Dovecot writes one for
//!   every body of [`ALWAYS_COUNTED`] bytes and more, and so do we. In the header no Content-Length helps ([`super::header`]).
//! * The line feed in front of the next From_ line takes a CR in front of it along, so behind a last CR there has to be another one.
//! * Dovecot's scanner passes over the byte behind `From `, so if that is the line feed of the next From_ line it misses it: a CR there helps.

use super::NotForMbox;
use super::header::{self, Examined};
use super::maildir::MailFile;
use super::marks::Marks;
use super::output::Output;
use crate::{Error, Result};
use memchr::memmem;
use std::fmt::Write as _;

/// `MBOX_MIN_CONTENT_LENGTH_SIZE`: bodies from here on always have a Content-Length.
const ALWAYS_COUNTED: u64 = 1024;
/// Blanks behind X-UID, as Dovecot leaves them: room for a flag without moving the rest of the mbox.
const ROOM: usize = 50;
/// A header line with keywords is folded when it gets this long.
const FOLD: usize = 1000;
/// Bytes read at a time.
pub(super) const CHUNK: usize = 64 << 10;
/// What begins a message, if the rest of the line is right.
pub(super) const CANDIDATE: &[u8; 6] = b"\nFrom ";

/// What to do with a message that an mbox cannot hold as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Clients have seen it: not a byte may differ.
    Exact,
    /// The same, and it was in the mbox before: what it does to an mbox, it has always done.
    Returned,
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
    mail: &MailFile,
    notes: &Notes<'_>,
    care: Care,
    from_line: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let examined = header::examine(mail, &mut chunk)?;
    let mend = match &examined.problem {
        None => false,
        Some(NotForMbox::FromLineFirst) if care == Care::Returned => false,
        Some(_) if care == Care::AsDelivered => true,
        Some(reason) => {
            let (path, reason) = (mail.name.clone(), reason.clone());
            return Err(Error::NotForMbox { path, uid: notes.uid, reason });
        }
    };
    let first = mail.read_at(&mut chunk, 0)?;
    out.push(&from_line(&chunk[..first])?)?;
    if mend {
        header::mend(mail, out, &mut chunk, examined.header)?;
    } else {
        mail.copy(0..examined.header, &mut chunk, |piece| out.push(piece))?;
    }
    let quote = mend && examined.problem == Some(NotForMbox::FromLineFirst);
    match examined.body {
        Some(body) => write_body(out, mail, notes, &examined, body, quote, &mut chunk),
        None => out.push(own_headers(notes, None).as_bytes()),
    }
}

/// The mbox's own headers, the empty line, the body from offset `body` on, and the line end in front of the next From_ line.
fn write_body(
    out: &mut Output<'_>,
    mail: &MailFile,
    notes: &Notes<'_>,
    examined: &Examined,
    body: u64,
    quote: bool,
    chunk: &mut [u8],
) -> Result<()> {
    let length = mail.size - body + u64::from(quote);
    let counted = length >= ALWAYS_COUNTED || {
        let mut small = vec![b'\n'];
        mail.copy(body..mail.size, chunk, |piece| {
            small.extend_from_slice(piece);
            Ok(())
        })?;
        memmem::find(&small, CANDIDATE).is_some()
    };
    out.push(own_headers(notes, counted.then_some(length)).as_bytes())?;
    mail.copy(examined.header..body, chunk, |empty_line| out.push(empty_line))?;
    let mut tail = Tail(*b"     \n");
    if quote {
        out.push(b">")?;
        tail.take(b">");
    }
    mail.copy(body..mail.size, chunk, |piece| {
        tail.take(piece);
        out.push(piece)
    })?;
    let with_cr = tail.0[5] == b'\r' || tail.0 == *CANDIDATE;
    out.push(if with_cr { b"\r\n" } else { b"\n" })
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
