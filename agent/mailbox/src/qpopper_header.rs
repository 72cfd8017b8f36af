//! The header as qpopper sends it (`header_mucker_input`, popper/pop_send.c of 4.0; the same in 2.53): without Content-Length and X-UIDL,
//! line by line, and with one X-UIDL of its own, in front of the first Status or at the end of the header. The state headers that others
//! hide are shown: qpopper knows none but Status, and sends that too.
//!
//! The X-UIDL is the one that the message has, if it is one of qpopper's, and is made of the message if not. What is made here is what
//! qpopper 4 tells where it may not write to the mbox (`--disable-status`): elsewhere a message without X-UIDL has not been told of yet,
//! or was told of by an identifier that nobody can make again, as the time is in it.

use crate::header::{Fed, Hidden};
use crate::header_lines::{Lines, Part};
use md5::{Digest, Md5};

/// `MIN_UIDL_LENGTH` and `MAX_UIDL_LENGTH`, both without the line end that qpopper counts.
const OURS: std::ops::RangeInclusive<usize> = 11..=32;
/// A header beyond this is passed on as it comes.
const HEADER_MAX: usize = 1 << 20;

/// See the module's text. One for all messages; [`QpopperFilter::begin`] in between.
#[derive(Debug, Default)]
pub(crate) struct QpopperFilter {
    lines: Lines,
    header: Header,
}

#[derive(Debug, Default)]
struct Header {
    /// What is going to be sent of it.
    kept: Vec<u8>,
    /// Where the X-UIDL goes, if not to the end.
    status_at: Option<usize>,
    /// The line under way is not sent.
    dropped: bool,
    uidl: Option<String>,
    from_line: Vec<u8>,
    hash: Md5,
    /// Signs of UW's "FOLDER INTERNAL DATA".
    internal: u8,
    /// It was too large to be held.
    passed_on: bool,
}

impl QpopperFilter {
    /// A new message, with this From_ line.
    pub(crate) fn begin(&mut self, from_line: &[u8]) {
        self.lines.reset();
        let header = &mut self.header;
        *header = Header { kept: std::mem::take(&mut header.kept), ..Header::default() };
        header.kept.clear();
        header.from_line.extend_from_slice(from_line);
        header.hash.update(from_line);
    }

    /// Takes the next bytes; what clients see is appended to `out` when the header has ended, and `tell` hears what it says.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        tell: &mut dyn FnMut(Hidden, &[u8]),
    ) -> Fed {
        let fed = self.lines.feed(input, |part| self.header.part(part, tell));
        if let Fed::Ended(_) = fed {
            self.header.end(out, tell);
        } else if self.header.kept.len() > HEADER_MAX {
            out.append(&mut self.header.kept);
            self.header.passed_on = true;
        }
        fed
    }

    /// The message ended within its header: there is no end at which an X-UIDL could go.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) {
        self.lines.finish(|part| self.header.part(part, tell));
        out.append(&mut self.header.kept);
    }
}

impl Header {
    /// `true`: it is the empty line.
    fn part(&mut self, part: Part<'_>, tell: &mut dyn FnMut(Hidden, &[u8])) -> bool {
        let Part { bytes, first } = part;
        if first {
            self.begin_line(bytes, tell);
        }
        if first && bytes == b"\n" {
            return true;
        }
        if !self.dropped {
            self.kept.extend_from_slice(bytes);
        }
        false
    }

    fn begin_line(&mut self, line: &[u8], tell: &mut dyn FnMut(Hidden, &[u8])) {
        let value = |name: &[u8]| {
            let head = line.get(..name.len())?;
            head.eq_ignore_ascii_case(name).then(|| line[name.len()..].trim_ascii_end())
        };
        self.dropped = false;
        if value(b"Content-Length:").is_some() {
            self.dropped = true;
        } else if let Some(uidl) = value(b"X-UIDL:") {
            self.dropped = true;
            let uidl = uidl.trim_ascii_start();
            if self.uidl.is_none() && OURS.contains(&uidl.len()) && uidl.iter().all(u8::is_ascii_graphic) {
                self.uidl = Some(String::from_utf8_lossy(uidl).into_owned());
            }
        } else if let Some(value) = value(b"Status:") {
            self.status_at.get_or_insert(self.kept.len());
            tell(Hidden::Status, value);
        } else if let Some(value) = value(b"X-Status:") {
            tell(Hidden::XStatus, value);
        }
        if self.uidl.is_none()
            && [&b"Received:"[..], b"Date:", b"Message-Id:", b"Subject:"]
                .iter()
                .any(|name| value(name).is_some())
        {
            self.hash.update(line);
        }
        let subject = value(b"Subject: ").is_some_and(|subject| {
            [&b"DO NOT DELETE"[..], b"DON'T DELETE THIS MESSAGE", b"FOLDER INTERNAL DATA"]
                .iter()
                .any(|words| memchr::memmem::find(subject, words).is_some())
        });
        let from = value(b"From: Mail System Internal Data").is_some();
        self.internal += u8::from(subject || from || value(b"X-IMAP: ").is_some());
    }

    /// The empty line has come.
    fn end(&mut self, out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) {
        if self.internal >= 2 {
            tell(Hidden::InternalData, b"");
        }
        let uidl = match self.uidl.take() {
            Some(uidl) => uidl,
            None => {
                self.hash.update(&self.from_line);
                base80(&self.hash.finalize_reset().into())
            }
        };
        tell(Hidden::XUidl, uidl.as_bytes());
        let at = if self.passed_on { 0 } else { self.status_at.unwrap_or(self.kept.len()) };
        out.extend_from_slice(&self.kept[..at]);
        out.extend_from_slice(format!("X-UIDL: {uidl}\n").as_bytes());
        out.extend_from_slice(&self.kept[at..]);
        out.push(b'\n');
        self.kept.clear();
    }
}

/// Five characters for each four bytes of an MD5, as qpopper makes them: the bytes overlap by a half, and `~` stands for the dot.
fn base80(digest: &[u8; 16]) -> String {
    let mut text = String::with_capacity(20);
    for four in digest.chunks(4) {
        let mut value = four.iter().fold(0u32, |value, byte| (value << 4) + u32::from(*byte));
        for _ in 0..5 {
            text.push(match 0x21 + (value % 80) as u8 {
                b'.' => '~',
                byte => char::from(byte),
            });
            value /= 80;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &[u8] = b"From a@b Fri Nov  9 22:33:52 2001\n";

    fn run(header: &str, pieces: usize) -> (String, Vec<(Hidden, String)>) {
        let (mut filter, mut out, mut told) = (QpopperFilter::default(), Vec::new(), Vec::new());
        let mut tell =
            |which, value: &[u8]| told.push((which, String::from_utf8_lossy(value).trim().to_owned()));
        filter.begin(FROM);
        let ended = header
            .as_bytes()
            .chunks(pieces)
            .any(|piece| matches!(filter.feed(piece, &mut out, &mut tell), Fed::Ended(_)));
        if !ended {
            filter.finish(&mut out, &mut tell);
        }
        (String::from_utf8(out).unwrap(), told)
    }

    #[test]
    fn the_uidl_moves_in_front_of_the_first_status() {
        let header =
            "X-UIDL: 3a~!\"#$%&'()*+,-/0123\nA: 1\nContent-Length: 5\nStatus: RO\nX-UID: 4\nstatus: U\n\n";
        for pieces in [1, 5, 1000] {
            let (sent, told) = run(header, pieces);
            assert_eq!(sent, "A: 1\nX-UIDL: 3a~!\"#$%&'()*+,-/0123\nStatus: RO\nX-UID: 4\nstatus: U\n\n");
            let expected =
                [(Hidden::Status, "RO"), (Hidden::Status, "U"), (Hidden::XUidl, "3a~!\"#$%&'()*+,-/0123")];
            assert_eq!(told, expected.map(|(which, value)| (which, value.to_owned())));
        }
    }

    #[test]
    fn without_one_of_its_own_it_is_made_of_the_message() {
        let (sent, told) = run("X-UIDL: short\nSubject: s\nA: 1\n\n", 1000);
        let expected = base80(&Md5::digest([FROM, b"Subject: s\n", FROM].concat()).into());
        assert_eq!((expected.len(), &told), (20, &vec![(Hidden::XUidl, expected.clone())]));
        assert_eq!(sent, format!("Subject: s\nA: 1\nX-UIDL: {expected}\n\n"));
        assert!(expected.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.'));
    }

    #[test]
    fn uws_message_is_known_by_two_of_three_signs() {
        let internal = |header| run(header, 1000).1.iter().any(|(which, _)| *which == Hidden::InternalData);
        assert!(internal("Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\n"));
        assert!(internal("From: Mail System Internal Data <MAILER-DAEMON@x>\nX-IMAP: 1 2\n\n"));
        assert!(!internal("X-IMAP: 1 2\n\n"));
    }

    #[test]
    fn a_header_without_an_end_gets_none() {
        assert_eq!(run("A: 1\nStatus: R", 1000).0, "A: 1\nStatus: R");
    }
}
