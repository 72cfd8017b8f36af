//! What Dovecot itself says of every message's flags: the output of `doveadm -f tab fetch 'mailbox uid flags' mailbox '*' ALL`.
//!
//! A Maildir's file name can name 26 keywords; a mailbox may have more, and then only Dovecot's index knows. It is the user's data and
//! is read with the user's rights, as a stream: a line a message, all of a mailbox together and in the order of their UIDs.

use super::marks::Marks;
use crate::window::read_at;
use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;

/// What it is called in errors.
const NAME: &str = "what doveadm tells of flags";
const HEAD: &[u8] = b"mailbox\tuid\tflags";
/// How the first line of every output begins, whatever was asked for.
const ANY_HEAD: &[u8] = b"mailbox\t";
/// A line with hundreds of keywords of 50 letters each is shorter.
const LINE_MAX: usize = 256 << 10;

/// See the module's text. Where each mailbox's lines begin is held in memory, the lines are not.
#[derive(Debug)]
pub struct Told {
    file: File,
    /// Offset of the first line of each mailbox, by the name that clients see.
    begins: HashMap<String, u64>,
}

/// What is told of one message.
#[derive(Debug, Default)]
pub(super) struct ToldMarks {
    pub(super) uid: u32,
    pub(super) marks: Marks,
    pub(super) recent: bool,
    pub(super) keywords: Vec<String>,
}

impl Told {
    /// Looks through the whole output once. Several may stand one behind the other.
    pub fn read(file: File) -> Result<Told> {
        let mut told = Told { file, begins: HashMap::new() };
        let mut lines = Lines { file: &told.file, buf: Vec::new(), at: 0, offset: 0, number: 0 };
        let mut begins: HashMap<String, (u64, u64)> = HashMap::new();
        let (mut last, mut output, mut ours) = (Vec::new(), 0, true);
        loop {
            let offset = lines.offset;
            let Some(line) = lines.next()? else { break };
            let mailbox = line.split(|b| *b == b'\t').next().unwrap_or_default();
            if is_head(line) {
                // Another output begins, and its word is the later one. What was not asked for is passed over.
                (last, output, ours) = (Vec::new(), output + 1, line == HEAD);
            } else if ours && mailbox != last {
                last = mailbox.to_vec();
                let before = begins.insert(unescape(mailbox), (output, offset));
                if before.is_some_and(|(of, _)| of == output) {
                    return Err(damaged(lines.number, "a mailbox comes twice"));
                }
            }
        }
        told.begins = begins.into_iter().map(|(name, (_, offset))| (name, offset)).collect();
        Ok(told)
    }

    /// Whether there is a message of this mailbox in it (an empty mailbox is not told of at all).
    pub fn has(&self, mailbox: &str) -> bool {
        self.begins.contains_key(mailbox)
    }

    /// The messages of one mailbox.
    pub(super) fn rows<'t>(&'t self, mailbox: &'t str) -> Rows<'t> {
        let at = self.begins.get(mailbox).copied();
        let lines = Lines { file: &self.file, buf: Vec::new(), at: 0, offset: at.unwrap_or(0), number: 0 };
        Rows { lines: at.map(|_| lines), mailbox, row: ToldMarks::default(), ahead: false }
    }
}

/// The messages of one mailbox, in the order of their UIDs.
pub(super) struct Rows<'t> {
    lines: Option<Lines<'t>>,
    mailbox: &'t str,
    row: ToldMarks,
    /// `row` has not been asked for yet.
    ahead: bool,
}

impl Rows<'_> {
    /// What is told of this UID; UIDs are asked for in ascending order.
    pub(super) fn of(&mut self, uid: u32) -> Result<Option<&ToldMarks>> {
        while self.ahead || self.next()?.is_some() {
            self.ahead = self.row.uid >= uid;
            if self.ahead {
                return Ok((self.row.uid == uid).then_some(&self.row));
            }
        }
        Ok(None)
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Result<Option<&ToldMarks>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let last = self.row.uid;
        'row: {
            let number = lines.number + 1;
            let line = match lines.next()? {
                Some(line) if !is_head(line) => line,
                _ => break 'row,
            };
            let mut fields = line.splitn(3, |b| *b == b'\t');
            if unescape(fields.next().unwrap_or_default()) != self.mailbox {
                break 'row;
            }
            let uid = fields.next().and_then(|uid| std::str::from_utf8(uid).ok()?.parse().ok());
            let (Some(uid), Some(flags)) = (uid.filter(|uid| *uid > last), fields.next()) else {
                return Err(damaged(number, "no UID above the one before, and flags"));
            };
            self.row = ToldMarks { uid, ..ToldMarks::default() };
            for word in unescape(flags).split(' ').filter(|word| !word.is_empty()) {
                if word.eq_ignore_ascii_case("\\Recent") {
                    self.row.recent = true;
                } else if !self.row.marks.add_imap(word) && !word.starts_with('\\') {
                    self.row.keywords.push(word.to_owned());
                }
            }
            return Ok(Some(&self.row));
        }
        self.lines = None;
        Ok(None)
    }
}

/// No UID: a mailbox may be called `mailbox`.
fn is_head(line: &[u8]) -> bool {
    line.strip_prefix(ANY_HEAD).is_some_and(|rest| rest.first().is_some_and(|b| !b.is_ascii_digit()))
}

/// Whole lines of a file, from an offset on.
#[derive(Debug)]
struct Lines<'f> {
    file: &'f File,
    buf: Vec<u8>,
    /// Where the next line begins in `buf`.
    at: usize,
    /// Where it begins in the file.
    offset: u64,
    number: u64,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<&[u8]>> {
        let length = loop {
            match memchr::memchr(b'\n', &self.buf[self.at..]) {
                Some(length) => break length,
                None if self.buf.len() - self.at > LINE_MAX => {
                    return Err(damaged(self.number + 1, "a line without end"));
                }
                None => {}
            }
            self.buf.drain(..self.at);
            self.at = 0;
            let filled = self.buf.len();
            self.buf.resize(filled + (64 << 10), 0);
            let from = self.offset + filled as u64;
            let n =
                read_at(self.file.as_fd(), &mut self.buf[filled..], from).map_err(Error::io("read", NAME))?;
            self.buf.truncate(filled + n);
            if n == 0 {
                let cut_off = filled > 0;
                return if cut_off {
                    Err(damaged(self.number + 1, "its last line is cut off"))
                } else {
                    Ok(None)
                };
            }
        };
        let from = self.at;
        self.at += length + 1;
        self.offset += length as u64 + 1;
        self.number += 1;
        Ok(Some(&self.buf[from..from + length]))
    }
}

/// Dovecot's tab escaping: `\001` and a letter stand for what would end a field.
fn unescape(field: &[u8]) -> String {
    let mut text = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            1 => match bytes.next() {
                Some(b'0') => 0,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                // `\001` itself is `\0011`.
                Some(b'1') | None => 1,
                Some(other) => *other,
            },
            byte => *byte,
        });
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn damaged(line: u64, why: &str) -> Error {
    Error::Damaged { path: NAME.into(), at: line, why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn told(text: &str) -> Result<Told> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Told::read(file)
    }

    #[test]
    fn each_mailbox_is_found_and_read_along_with_the_uids() {
        let told = told(
            "mailbox\tuid\tflags\nINBOX\t1\t\\Seen key1 $Junk\nINBOX\t5\t\nINBOX\t6\t\\Recent \\Deleted\n\
             mailbox\tuid\tflags\na/Entwürfe\t2\t\\Draft\n",
        )
        .unwrap();
        assert!(told.has("INBOX") && told.has("a/Entwürfe") && !told.has("mailbox") && !told.has("a"));
        let mut rows = told.rows("INBOX");
        let first = rows.of(1).unwrap().unwrap();
        assert_eq!((first.marks.letters().as_str(), first.recent), ("S", false));
        assert_eq!(first.keywords, ["key1", "$Junk"]);
        assert!(rows.of(2).unwrap().is_none() && rows.of(4).unwrap().is_none());
        assert_eq!(rows.of(6).unwrap().map(|r| (r.marks.letters(), r.recent)), Some(("T".into(), true)));
        assert!(rows.of(7).unwrap().is_none());
        assert_eq!(told.rows("a/Entwürfe").next().unwrap().map(|r| r.uid), Some(2));
        assert!(told.rows("other").next().unwrap().is_none());
    }

    #[test]
    fn an_output_that_was_cut_off_is_not_believed() {
        assert!(told("mailbox\tuid\tflags\nINBOX\t1\t\\Se").is_err());
        assert!(told("INBOX\t1\t\nx\t1\t\nINBOX\t2\t\n").is_err());
        let told = told("INBOX\t2\t\nINBOX\t1\t\n").unwrap();
        assert!(told.rows("INBOX").of(7).is_err());
        assert!(super::tests::told("").unwrap().begins.is_empty());
    }

    #[test]
    fn another_output_in_front_is_passed_over() {
        let told = told("mailbox\tmessages\tuidnext\nINBOX\t7\t8\nmailbox\tuid\tflags\nmailbox\t3\t\\Seen\n")
            .unwrap();
        assert!(!told.has("INBOX") && told.has("mailbox"));
        assert_eq!(told.rows("mailbox").of(3).unwrap().map(|r| r.marks.letters()), Some("S".into()));
    }

    #[test]
    fn escaped_names_are_read() {
        assert_eq!(unescape(b"a\x01tb\x011\x010"), "a\tb\x01\0");
    }
}
