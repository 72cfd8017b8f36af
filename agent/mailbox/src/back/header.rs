//! The header of a message, looked through for what an mbox would take for its own, and mended where nobody has seen it yet.

use super::NotForMbox;
use super::form::CANDIDATE;
use super::maildir::MailFile;
use super::output::Output;
use crate::Result;
use crate::from_line::{self, LOOK_AHEAD};
use crate::header::{Fed, HeaderFilter, Hidden};
use memchr::memmem;

/// A line longer than this is none to take chances with: it counts as what it looks like so far.
const LONG: usize = 8 << 10;

/// What a message's header is like.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Examined {
    /// Bytes of the header, without the empty line.
    pub(super) header: u64,
    /// Where the body begins; `None`: no empty line.
    pub(super) body: Option<u64>,
    /// Why an mbox cannot hold the message.
    pub(super) problem: Option<NotForMbox>,
}

/// Reads the header.
pub(super) fn examine(mail: &MailFile, chunk: &mut [u8]) -> Result<Examined> {
    let mut filter = HeaderFilter::default();
    let (mut shown, mut hidden) = (Vec::new(), None);
    let mut lines = FromLines { pending: Vec::new(), found: false };
    let (mut at, mut last) = (0, b'\n');
    let (mut shown_bytes, mut crs) = (0, 0);
    let body = loop {
        let n = mail.read_at(chunk, at)?;
        let piece = &chunk[..n];
        shown.clear();
        let mut tell = |which, _: &[u8]| hidden = hidden.or(Some(which));
        if n == 0 {
            filter.finish(&mut shown, &mut tell);
            shown_bytes += shown.len() as u64;
            break None;
        }
        let ended = match filter.feed(piece, &mut shown, &mut tell) {
            Fed::All => None,
            Fed::Ended(length) => Some(length),
        };
        let header = &piece[..ended.unwrap_or(n)];
        lines.look_through(header);
        shown_bytes += shown.len() as u64;
        let line_ends = memchr::memchr_iter(b'\n', header);
        let before = |lf: usize| lf.checked_sub(1).map_or(last, |before| header[before]);
        crs += line_ends.filter(|lf| before(*lf) == b'\r').count() as u64;
        if let Some(length) = ended {
            let before = header.len().checked_sub(2).map_or(last, |before| header[before]);
            let body = at + length as u64;
            break Some((body - if before == b'\r' { 2 } else { 1 }, body));
        }
        at += n as u64;
        last = piece[n - 1];
    };
    lines.end();
    let (header, body) = body.map_or((at, None), |(header, body)| (header, Some(body)));
    let first_of_body = match body {
        Some(body) => {
            let mut line = vec![0; LONG];
            let n = mail.read_at(&mut line, body)?;
            begins_a_message(&line[..n])
        }
        None => false,
    };
    let problem = if let Some(which) = hidden {
        Some(NotForMbox::HiddenHeader(name_of(which)))
    } else if lines.found {
        Some(NotForMbox::FromLineInHeader)
    } else if body.is_none() && last != b'\n' {
        Some(NotForMbox::HeaderCutOff)
    } else if body.unwrap_or(at) != shown_bytes + crs {
        // All that is hidden else is the CRs of line ends.
        Some(NotForMbox::NulInName)
    } else {
        first_of_body.then_some(NotForMbox::FromLineFirst)
    };
    Ok(Examined { header, body, problem })
}

/// Whether what begins with this line would begin a message, as far as can be told.
fn begins_a_message(line: &[u8]) -> bool {
    let Some(text) = line.strip_prefix(b"From ") else { return false };
    let length = memchr::memchr(b'\n', line).unwrap_or(line.len());
    length >= LONG || from_line::parse(text).is_some()
}

/// Looks for lines that would begin a message. The very first line of a header stands right behind the From_ line, and cannot.
struct FromLines {
    /// What has not been decided yet.
    pending: Vec<u8>,
    found: bool,
}

impl FromLines {
    fn look_through(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.decide(false);
    }

    fn end(&mut self) {
        self.decide(true);
    }

    fn decide(&mut self, at_end: bool) {
        let mut scanned = 0;
        while let Some(found) = memmem::find(&self.pending[scanned..], CANDIDATE) {
            let lf = scanned + found;
            let line = &self.pending[lf + 1..];
            let line_end = memchr::memchr(b'\n', line);
            let enough = line_end.is_some_and(|end| line.len() >= end + LOOK_AHEAD) || line.len() >= LONG;
            if !enough && !at_end {
                self.pending.drain(..lf);
                return;
            }
            self.found |= begins_a_message(line);
            scanned = lf + CANDIDATE.len();
        }
        // The last bytes may be the beginning of a candidate.
        let rest =
            self.pending.len().saturating_sub(CANDIDATE.len() - 1).max(scanned.min(self.pending.len()));
        self.pending.drain(..rest);
    }
}

/// Writes the first `length` bytes, which are a header, without what is the mbox's own, without CRs in front of line ends, and with
/// a `>` in front of what looks like a From_ line.
pub(super) fn mend(mail: &MailFile, out: &mut Output<'_>, chunk: &mut [u8], length: u64) -> Result<()> {
    let mut filter = HeaderFilter::default();
    let mut lines = Mended { pending: Vec::new(), within_line: false };
    mail.copy(0..length, chunk, |piece| {
        filter.feed(piece, &mut lines.pending, &mut |_, _| {});
        lines.pass_on(out)
    })?;
    filter.finish(&mut lines.pending, &mut |_, _| {});
    lines.pass_on(out)
}

/// Lines on their way out.
struct Mended {
    pending: Vec<u8>,
    /// The beginning of a long line has been passed on.
    within_line: bool,
}

impl Mended {
    fn pass_on(&mut self, out: &mut Output<'_>) -> Result<()> {
        let mut at = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.pending[at..]) {
            let text = self.pending[at..at + length].without_crs();
            if !text.is_empty() || self.within_line {
                self.begin_line(text, out)?;
                out.push(text)?;
                out.push(b"\n")?;
            }
            self.within_line = false;
            at += length + 1;
        }
        self.pending.drain(..at);
        if self.pending.len() > LONG {
            let kept = std::mem::take(&mut self.pending);
            let text = kept.without_crs();
            self.begin_line(text, out)?;
            out.push(text)?;
            self.within_line = true;
            self.pending.extend_from_slice(&kept[text.len()..]);
        }
        Ok(())
    }

    fn begin_line(&self, text: &[u8], out: &mut Output<'_>) -> Result<()> {
        let quote = !self.within_line && text.starts_with(b"From ");
        if quote { out.push(b">") } else { Ok(()) }
    }
}

trait WithoutCrs {
    fn without_crs(&self) -> &Self;
}

impl WithoutCrs for [u8] {
    fn without_crs(&self) -> &[u8] {
        let crs = self.iter().rev().take_while(|b| **b == b'\r').count();
        &self[..self.len() - crs]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn mail(text: &[u8]) -> (tempfile::TempDir, MailFile) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("m"), text).unwrap();
        let mail = MailFile::open(File::open(dir.path()).unwrap().as_fd(), b"m").unwrap();
        (dir, mail)
    }

    fn examined(text: &[u8]) -> Examined {
        examine(&mail(text).1, &mut [0; 1 << 16]).unwrap()
    }

    fn mended(text: &[u8], chunk: usize) -> Vec<u8> {
        let (dir, mail) = mail(text);
        let out = File::create(dir.path().join("out")).unwrap();
        let mut output = Output::resume(out.as_fd(), dir.path(), 0, blake3::Hasher::new());
        mend(&mail, &mut output, &mut vec![0; chunk], mail.size).unwrap();
        output.finish().unwrap();
        std::fs::read(dir.path().join("out")).unwrap()
    }

    #[test]
    fn the_empty_line_is_found_with_and_without_cr() {
        for (text, header, body) in [
            ("A: b\n\nx", 5, Some(6)),
            ("A: b\r\n\r\nx", 6, Some(8)),
            ("\nx", 0, Some(1)),
            ("\r\n", 0, Some(2)),
            ("A: b\n", 5, None),
            ("", 0, None),
            ("A: b\r\r\n\n", 7, Some(8)),
        ] {
            assert_eq!(examined(text.as_bytes()), Examined { header, body, problem: None }, "{text:?}");
        }
    }

    #[test]
    fn a_nul_in_a_name_hides_the_rest_of_it() {
        assert_eq!(examined(b"A: b\r\nC\0D: e\n\n").problem, Some(NotForMbox::NulInName));
        assert_eq!(examined(b"A: \0b\r\n\0 no colon\n\nC\0D: e\n").problem, None);
    }

    #[test]
    fn long_lines_that_look_like_a_beginning_are_not_trusted() {
        let long = "x".repeat(LONG);
        let problem = |text: String| examined(text.as_bytes()).problem;
        assert_eq!(problem(format!("A: b\nFrom {long}\n\n")), Some(NotForMbox::FromLineInHeader));
        assert_eq!(problem(format!("A: b\n\nFrom {long}")), Some(NotForMbox::FromLineFirst));
        assert_eq!(problem(format!("A: b\nFrom: {long}\n\nFrom\n")), None);
        assert_eq!(
            mended(format!("From {long}\nFrom {long}").as_bytes(), 999),
            format!(">From {long}\n>From {long}\n").into_bytes()
        );
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same(
            bits in proptest::collection::vec(proptest::sample::select(vec![
                "\n", "\n", "\r\n", "\r", "From ", "From a@b Fri Nov  9 22:33:52 2001\n", "A: b\n", "Status: R\n", " more\n", "text"]), 0..12),
            chunk in 1usize..40,
        ) {
            let text = bits.concat();
            let whole = examined(text.as_bytes());
            prop_assert_eq!(&examine(&mail(text.as_bytes()).1, &mut vec![0; chunk]).unwrap(), &whole);
            let header = &text.as_bytes()[..whole.header as usize];
            prop_assert_eq!(mended(header, chunk), mended(header, 1 << 16));
        }
    }
}
