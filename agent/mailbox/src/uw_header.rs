//! The header as UW imapd shows it: without the six headers that are its own, and without any CR (`unix_header`, src/osdep/unix/unix.c;
//! `mail_filter`, src/c-client/mail.c). A Content-Length is a header like any other here.
//!
//! What hides a header and what makes one count differ: hidden is a line whose first word is one of the six names in any case,
//! with what continues it; it counts only in the one spelling that UW writes, with the colon right behind, and only its first line does.

use crate::header::{Fed, Hidden};
use crate::header_lines::{Lines, Part};

const HIDDEN: [(&[u8], Hidden); 6] = [
    (b"Status", Hidden::Status),
    (b"X-IMAP", Hidden::XImap),
    (b"X-IMAPbase", Hidden::XImapBase),
    (b"X-Keywords", Hidden::XKeywords),
    (b"X-Status", Hidden::XStatus),
    (b"X-UID", Hidden::XUid),
];

/// See the module's text. One for all messages; [`UwFilter::reset`] in between.
#[derive(Debug, Default)]
pub(crate) struct UwFilter {
    lines: Lines,
    shown: Shown,
}

/// What becomes of lines.
#[derive(Debug, Default)]
struct Shown {
    /// A header has begun: a line with a blank in front goes on with it.
    begun: bool,
    /// The header under way is hidden.
    hidden: bool,
}

impl UwFilter {
    /// A new message.
    pub(crate) fn reset(&mut self) {
        self.lines.reset();
        self.shown = Shown::default();
    }

    /// Takes the next bytes; what clients see of them is appended to `out`, and `tell` hears each header that counts.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        tell: &mut dyn FnMut(Hidden, &[u8]),
    ) -> Fed {
        self.lines.feed(input, |part| self.shown.part(part, out, tell))
    }

    /// The message ended within its header: what is left of it. (Of a line that the end of the file cuts off UW shows more than there is:
    /// it reads behind its buffer.)
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) {
        self.lines.finish(|part| self.shown.part(part, out, tell));
    }
}

impl Shown {
    /// `true`: it is the empty line.
    fn part(&mut self, part: Part<'_>, out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) -> bool {
        let Part { bytes, first } = part;
        let goes_on = self.begun && matches!(bytes.first(), Some(b' ' | b'\t'));
        if first && !goes_on {
            let named = Named::of(bytes);
            self.begun = true;
            self.hidden = named.hidden.is_some();
            if let Some(which) = named.hidden.filter(|_| named.counts) {
                tell(which, named.value);
            }
        }
        if !self.hidden {
            without_cr(bytes, out);
        }
        first && matches!(bytes, b"\n" | b"\r\n")
    }
}

struct Named<'a> {
    hidden: Option<Hidden>,
    counts: bool,
    value: &'a [u8],
}

impl<'a> Named<'a> {
    fn of(line: &'a [u8]) -> Self {
        let length = line.iter().take_while(|b| !b" \t:\r\n".contains(b)).count();
        let (name, rest) = line.split_at(length);
        let found = HIDDEN.iter().find(|(hidden, _)| hidden.eq_ignore_ascii_case(name));
        let value = rest.strip_prefix(b":");
        Named {
            hidden: found.map(|(_, which)| *which),
            counts: value.is_some() && found.is_some_and(|(exact, _)| *exact == name),
            value: value.unwrap_or_default().trim_ascii_end(),
        }
    }
}

/// Appends all but the CRs.
pub(crate) fn without_cr(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(cr) = memchr::memchr(b'\r', rest) {
        out.extend_from_slice(&rest[..cr]);
        rest = &rest[cr + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown, and what counts.
    fn run(header: &str, pieces: usize) -> (String, Vec<(Hidden, String)>) {
        let (mut filter, mut out, mut told) = (UwFilter::default(), Vec::new(), Vec::new());
        let mut tell = |which, value: &[u8]| told.push((which, String::from_utf8_lossy(value).into_owned()));
        for piece in header.as_bytes().chunks(pieces) {
            filter.feed(piece, &mut out, &mut tell);
        }
        filter.finish(&mut out, &mut tell);
        (String::from_utf8(out).unwrap(), told)
    }

    #[test]
    fn its_own_headers_are_hidden_with_what_continues_them() {
        let header = "A: 1\nStatus: RO\n more\nX-Status: F\nX-Keywords: a b   \nX-UID: 7\nX-IMAPbase: 1 2\nB: 2\n\tfolded\nContent-Length: 5\n\n";
        for pieces in [1, 3, 1000] {
            let (shown, told) = run(header, pieces);
            assert_eq!(shown, "A: 1\nB: 2\n\tfolded\nContent-Length: 5\n\n");
            let expected = [
                (Hidden::Status, " RO"),
                (Hidden::XStatus, " F"),
                (Hidden::XKeywords, " a b"),
                (Hidden::XUid, " 7"),
                (Hidden::XImapBase, " 1 2"),
            ];
            assert_eq!(told, expected.map(|(which, value)| (which, value.to_owned())));
        }
    }

    #[test]
    fn another_spelling_is_hidden_and_does_not_count() {
        let (shown, told) = run("status: RO\nX-STATUS: F\nStatus : R\nX-UID\nStatuses: x\n begins\n\n", 1000);
        assert_eq!(shown, "Statuses: x\n begins\n\n");
        assert_eq!(told, []);
    }

    #[test]
    fn no_cr_is_shown_and_a_first_line_may_begin_with_a_blank() {
        assert_eq!(run(" x\r\nA: \r1\r\n\r\n", 1000).0, " x\nA: 1\n\n");
    }

    #[test]
    fn a_line_that_is_cut_off_is_what_it_is() {
        assert_eq!(run("A: 1\r\nStatus: R", 1000).0, "A: 1\n");
        assert_eq!(run("A: 1\nB", 1000).0, "A: 1\nB");
    }
}
