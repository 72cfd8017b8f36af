//! What `doveadm -f pager fetch 'mailbox uid date.received.unixtime size.physical text'` prints, message by message.
//!
//! A line a field, the text last and without any escape, then a form feed on a line of its own unless it was the last message. The text may hold all of that, too: so it is read by its size.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// One message as Dovecot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) mailbox: String,
    pub(super) uid: u32,
    /// INTERNALDATE.
    pub(super) date: i64,
    pub(super) size: u64,
    /// blake3 of its bytes.
    pub(super) hash: [u8; 32],
}

/// Lines before the text are short; mailbox names have a limit.
const LINE_MAX: u64 = 64 << 10;

pub(super) struct Shown<R = File> {
    lines: BufReader<R>,
    piece: Vec<u8>,
}

impl<R: Read> Shown<R> {
    pub(super) fn new(from: R) -> Self {
        Self { lines: BufReader::with_capacity(1 << 20, from), piece: vec![0; 256 << 10] }
    }

    /// The next message; `None` at the end. Anything that is not as above is an error.
    pub(super) fn next(&mut self) -> io::Result<Option<Message>> {
        let Some(mailbox) = self.field("mailbox: ")? else { return Ok(None) };
        let uid = self.number("uid: ")?;
        let date = self.number("date.received.unixtime: ")?;
        let size: u64 = self.number("size.physical: ")?;
        if self.field("text:")?.as_deref() != Some("") {
            return Err(broken());
        }
        let mut hasher = blake3::Hasher::new();
        let mut left = size;
        while left > 0 {
            let wanted = self.piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = self.lines.read(&mut self.piece[..wanted])?;
            if got == 0 {
                return Err(broken());
            }
            hasher.update(&self.piece[..got]);
            left -= got as u64;
        }
        let mut end = [0; 2];
        match self.lines.read(&mut end[..1])? {
            0 => {}
            _ => {
                self.lines.read_exact(&mut end[1..])?;
                if &end != b"\x0c\n" {
                    return Err(broken());
                }
            }
        }
        Ok(Some(Message { mailbox, uid, date, size, hash: *hasher.finalize().as_bytes() }))
    }

    /// A line with that beginning; `None` at the end.
    fn field(&mut self, name: &str) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.lines).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let line = String::from_utf8(line).map_err(|_| broken())?;
        let value = line.strip_suffix('\n').and_then(|line| line.strip_prefix(name)).ok_or_else(broken)?;
        Ok(Some(value.to_owned()))
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> io::Result<T> {
        self.field(name)?.and_then(|text| text.parse().ok()).ok_or_else(broken)
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "Dovecot's tool did not print what was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_sizes_whatever_is_in_them() {
        let text = b"a\n\x0c\nmailbox: x\nuid: 1\n\0";
        let one = format!(
            "mailbox: lists/d\u{e4}b x\nuid: 7\ndate.received.unixtime: -5\nsize.physical: {}\ntext:\n",
            text.len()
        );
        let mut printed = one.into_bytes();
        printed.extend_from_slice(text);
        printed.extend_from_slice(
            b"\x0c\nmailbox: INBOX\nuid: 1\ndate.received.unixtime: 1767279600\nsize.physical: 0\ntext:\n",
        );
        let mut shown = Shown::new(printed.as_slice());
        let first = shown.next().unwrap().unwrap();
        assert_eq!(
            (first.mailbox.as_str(), first.uid, first.date, first.size),
            ("lists/d\u{e4}b x", 7, -5, 23)
        );
        assert_eq!(first.hash, *blake3::hash(text).as_bytes());
        assert_eq!(shown.next().unwrap().unwrap().mailbox, "INBOX");
        assert_eq!(shown.next().unwrap(), None);
        for cut in 1..printed.len() - 1 {
            let mut shown = Shown::new(&printed[..cut]);
            // Cut behind a whole message it is a shorter answer, everywhere else it is none.
            while let Ok(Some(message)) = shown.next() {
                assert_eq!(message.uid, 7, "cut at {cut}");
            }
        }
    }
}
