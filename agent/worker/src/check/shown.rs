//! What `doveadm -f pager fetch 'mailbox uid date.received.unixtime text'` prints, message by message; with `guid flags` behind the UID where those were asked for.
//!
//! A line a field, the text last and without any escape, then a form feed on a line of its own unless it was the last message. Dovecot is not asked for sizes: of some
//! messages in an mbox it has a wrong one, and then refuses to show them. So a text ends where the fields of another message begin; a message that
//! holds such lines itself is told as damaged, never as the same.

use std::fs::File;
use std::io::{self, Read};

/// One message as Dovecot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) mailbox: String,
    pub(crate) uid: u32,
    /// INTERNALDATE.
    pub(crate) date: i64,
    pub(crate) size: u64,
    /// blake3 of its bytes.
    pub(crate) hash: [u8; 32],
    /// Empty where it was not asked for.
    pub(crate) guid: String,
    /// Likewise.
    pub(crate) flags: String,
}

/// All fields before a text are shorter; mailbox names have a limit.
const FIELDS_MAX: usize = 64 << 10;

/// Bytes looked at together, all fields of a message among them.
const PIECE: usize = 512 << 10;

pub(crate) struct Shown<R = File> {
    from: R,
    buffer: Vec<u8>,
    /// What is not read yet begins here.
    at: usize,
    ended: bool,
}

impl<R: Read> Shown<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, buffer: Vec::with_capacity(PIECE), at: 0, ended: false }
    }

    /// The next message; `None` at the end. Anything that is not as above is an error.
    pub(crate) fn next(&mut self) -> io::Result<Option<Message>> {
        self.fill()?;
        if self.at == self.buffer.len() {
            return Ok(None);
        }
        let (fields, length) = fields(&self.buffer[self.at..]).ok_or_else(broken)?;
        self.at += length;
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
        loop {
            self.fill()?;
            let here = &self.buffer[self.at..];
            // What is nearer to the end may be the beginning of more.
            let sure = if self.ended { here.len() } else { here.len() - FIELDS_MAX };
            let end = (0..sure).find(|at| here[*at] == b'\x0c' && is_end(&here[*at..]));
            let text = end.unwrap_or(sure);
            hasher.update(&here[..text]);
            size += text as u64;
            self.at += text;
            if end.is_some() {
                self.at += END.len();
                break;
            }
            if self.ended {
                break;
            }
        }
        let Fields { mailbox, uid, guid, flags, date } = fields;
        Ok(Some(Message { mailbox, uid, date, size, hash: *hasher.finalize().as_bytes(), guid, flags }))
    }

    /// Has a whole piece ready, unless there is no more.
    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.buffer.len() - self.at >= 2 * FIELDS_MAX {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let wanted = (PIECE - self.buffer.len()) as u64;
        let got = (&mut self.from).take(wanted).read_to_end(&mut self.buffer)?;
        self.ended = got as u64 != wanted;
        Ok(())
    }
}

/// What stands before a text.
struct Fields {
    mailbox: String,
    uid: u32,
    guid: String,
    flags: String,
    date: i64,
}

/// Between two messages.
const END: &[u8] = b"\x0c\n";

fn is_end(rest: &[u8]) -> bool {
    rest.strip_prefix(END).is_some_and(|rest| fields(rest).is_some())
}

/// The fields at the beginning, and how long they are.
fn fields(from: &[u8]) -> Option<(Fields, usize)> {
    let mut at = 0;
    let mut field = |name: &str| {
        let line = &from[at..];
        let line = &line[..line.iter().take(FIELDS_MAX).position(|byte| *byte == b'\n')?];
        let value = std::str::from_utf8(line).ok()?.strip_prefix(name)?;
        at += line.len() + 1;
        Some(value)
    };
    let mailbox = field("mailbox: ")?.to_owned();
    let uid = field("uid: ")?.parse().ok()?;
    let guid = field("guid: ").unwrap_or_default().to_owned();
    let flags = field("flags: ").unwrap_or_default().to_owned();
    let date = field("date.received.unixtime: ")?.parse().ok()?;
    field("text:").filter(|rest| rest.is_empty())?;
    Some((Fields { mailbox, uid, guid, flags, date }, at))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "Dovecot's tool did not print what was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_the_fields_of_the_next_one() {
        let text = b"a\n\x0c\nmailbox: x\nuid: 1\n\0";
        let mut printed =
            "mailbox: lists/d\u{e4}b x\nuid: 7\ndate.received.unixtime: -5\ntext:\n".to_owned().into_bytes();
        printed.extend_from_slice(text);
        printed
            .extend_from_slice(b"\x0c\nmailbox: INBOX\nuid: 1\ndate.received.unixtime: 1767279600\ntext:\n");
        let mut shown = Shown::new(printed.as_slice());
        let first = shown.next().unwrap().unwrap();
        assert_eq!(
            (first.mailbox.as_str(), first.uid, first.date, first.size),
            ("lists/d\u{e4}b x", 7, -5, 23)
        );
        assert_eq!(first.hash, *blake3::hash(text).as_bytes());
        let second = shown.next().unwrap().unwrap();
        assert_eq!((second.mailbox.as_str(), second.size), ("INBOX", 0));
        assert_eq!(shown.next().unwrap(), None);
        assert!(Shown::new(&printed[1..]).next().is_err());
    }

    #[test]
    fn guid_and_flags_are_read_where_they_were_asked_for() {
        let printed =
            b"mailbox: INBOX\nuid: 1\nguid: ab\nflags: \\Seen a\ndate.received.unixtime: 3\ntext:\nx\n";
        let message = Shown::new(printed.as_slice()).next().unwrap().unwrap();
        assert_eq!((message.guid.as_str(), message.flags.as_str()), ("ab", "\\Seen a"));
        assert_eq!((message.date, message.size), (3, 2));
    }

    #[test]
    fn texts_of_any_size_are_read_to_their_end() {
        let sizes = [0, 1, FIELDS_MAX - 1, PIECE - 60, PIECE, PIECE + 1, 3 * PIECE + 7];
        let mut printed = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            if number > 0 {
                printed.extend_from_slice(END);
            }
            let head = format!("mailbox: INBOX\nuid: {}\ndate.received.unixtime: 0\ntext:\n", number + 1);
            printed.extend_from_slice(head.as_bytes());
            printed.extend(std::iter::repeat_n(b'\x0c', *size));
        }
        let mut shown = Shown::new(printed.as_slice());
        for (number, size) in sizes.iter().enumerate() {
            let message = shown.next().unwrap().unwrap();
            assert_eq!((message.uid, message.size), (number as u32 + 1, *size as u64));
        }
        assert_eq!(shown.next().unwrap(), None);
    }
}
