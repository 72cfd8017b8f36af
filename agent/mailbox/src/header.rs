//! The header filter: the message's header without the seven headers that are the mbox's own (formats.md 2.1), and without the CR
//! of its line ends; those seven handed to whoever wants to know what they say.
//!
//! It follows message-header-parser.c and istream-header-filter.c of Dovecot 2.3.19 in what decides over bytes: a name ends at the
//! first colon, blanks in front of the colon do not count; a line without a colon is kept; a line that begins with a blank
//! belongs to the header before it, but not if it is the very first; a lone CR is kept. No library parser keeps all of that.
//!
//! The header comes in pieces of any size, and may be as large as the mailbox (there are "mboxes" without one empty line):
//! lines are looked at where they lie, and only one that is cut by the end of a piece is copied.

use crate::fingerprint::{Counted, Fingerprint, Gather};
use std::ops::Range;

/// One of the seven, or what qpopper goes by besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    ContentLength,
    Status,
    XImap,
    XImapBase,
    XKeywords,
    XStatus,
    XUid,
    /// The message is UW's "FOLDER INTERNAL DATA": qpopper's word, by its own signs.
    InternalData,
    /// The POP3 identifier.
    XUidl,
}

const HIDDEN: [(&[u8], Hidden); 7] = [
    (b"content-length", Hidden::ContentLength),
    (b"status", Hidden::Status),
    (b"x-imap", Hidden::XImap),
    (b"x-imapbase", Hidden::XImapBase),
    (b"x-keywords", Hidden::XKeywords),
    (b"x-status", Hidden::XStatus),
    (b"x-uid", Hidden::XUid),
];

impl Hidden {
    fn named(name: &[u8]) -> Option<Self> {
        HIDDEN.iter().find(|(hidden, _)| hidden.eq_ignore_ascii_case(name)).map(|(_, which)| *which)
    }
}

/// Values beyond this are cut: only a list of thousands of keywords, or an attack, is longer.
const VALUE_MAX: usize = 256 << 10;
/// A line longer than this is passed on in parts.
const LINE_MAX: usize = 64 << 10;
/// Dovecot takes a longer name for no name at all.
const NAME_MAX: usize = 1000;

/// What [`HeaderFilter::feed`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Everything was header; more may come.
    All,
    /// The header ended after so many bytes of the input, empty line included.
    Ended(usize),
}

/// See the module's text. One for all messages; [`HeaderFilter::reset`] in between.
#[derive(Debug, Default)]
pub(crate) struct HeaderFilter {
    /// A line whose end has not come yet.
    cut: Vec<u8>,
    /// `cut` was passed on already, all but a last CR: the rest of the line follows suit.
    long_line: bool,
    /// A header has begun: a line with a blank in front goes on with it.
    begun: bool,
    /// The header under way is a hidden one.
    hidden: Option<Hidden>,
    /// Its value so far.
    value: Vec<u8>,
    /// The header under way counts for the fingerprint.
    counted: Option<Counted>,
    /// Where its value begins in the next piece of it.
    value_from: usize,
    /// The part of its name that Dovecot loses.
    lost: Range<usize>,
    gather: Gather,
}

impl HeaderFilter {
    /// A new message.
    pub(crate) fn reset(&mut self) {
        self.cut.clear();
        self.value.clear();
        self.long_line = false;
        self.begun = false;
        self.hidden = None;
        self.counted = None;
        self.value_from = 0;
        self.lost = 0..0;
        self.gather.reset();
    }

    /// Takes the next bytes; what clients see of them is appended to `out`, and `tell` hears each hidden header once it is complete.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        tell: &mut dyn FnMut(Hidden, &[u8]),
    ) -> Fed {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let Some(length) = memchr::memchr(b'\n', rest).map(|i| i + 1) else {
                self.keep_cut(rest, out, tell);
                return Fed::All;
            };
            at += length;
            let ended = if self.cut.is_empty() && !self.long_line {
                self.line(&rest[..length], out, tell)
            } else {
                self.cut.extend_from_slice(&rest[..length]);
                let line = std::mem::take(&mut self.cut);
                let ended = self.line(&line, out, tell);
                self.cut = line;
                self.cut.clear();
                ended
            };
            if ended {
                return Fed::Ended(at);
            }
        }
        Fed::All
    }

    /// Tells of a header that may be complete, before it is known whether another line belongs to it.
    pub(crate) fn tell_pending(&mut self, tell: &mut dyn FnMut(Hidden, &[u8])) {
        // A line that has begun and is no continuation completes the one before it.
        if !matches!(self.cut.first(), Some(b' ' | b'\t')) {
            self.header_complete(tell);
        }
    }

    /// The message could have ended here, in its header: for what the header says it did, whatever follows.
    pub(crate) fn says_no_more(&mut self) {
        let line = self.cut.strip_suffix(b"\r").unwrap_or(&self.cut);
        let goes_on = self.begun && matches!(line.first(), Some(b' ' | b'\t'));
        if self.long_line || goes_on {
            if let Some(counted) = self.counted {
                self.gather.value(counted, line);
            }
        } else if let Some(Name { name, value_from, .. }) = Name::of(line) {
            self.gather.begin(name);
            if let Some(counted) = Counted::named(name) {
                self.gather.value(counted, &line[value_from..]);
            }
        }
        self.gather.close();
    }

    /// What the header says about who the message is.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.gather.finish()
    }

    /// The message ended within its header: what is left of it.
    ///
    /// A line that the end has cut off gets a line end: Dovecot adds headers of its own behind it the first time it writes to such
    /// an mbox, and from then on this is what clients see.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) {
        if self.long_line || !self.cut.is_empty() {
            let line = std::mem::take(&mut self.cut);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if !self.long_line {
                self.begin_line(line, tell);
            }
            self.pass_on(line, out);
            if self.hidden.is_none() {
                out.push(b'\n');
            }
        }
        self.header_complete(tell);
    }

    /// Takes the beginning of a line whose end is in a later piece.
    fn keep_cut(&mut self, rest: &[u8], out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) {
        self.cut.extend_from_slice(rest);
        if self.cut.len() > LINE_MAX {
            let line = std::mem::take(&mut self.cut);
            let cr = line.ends_with(b"\r");
            if !self.long_line {
                self.begin_line(&line, tell);
            }
            self.long_line = true;
            self.pass_on(&line[..line.len() - usize::from(cr)], out);
            self.cut = line;
            self.cut.clear();
            if cr {
                self.cut.push(b'\r');
            }
        }
    }

    /// A line with its LF (or the rest of one that was passed on already). `true`: it is the empty one.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) -> bool {
        let text = &line[..line.len() - 1];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if self.long_line {
            self.long_line = false;
        } else if text.is_empty() {
            self.header_complete(tell);
            out.push(b'\n');
            return true;
        } else {
            self.begin_line(text, tell);
        }
        self.pass_on(text, out);
        match self.hidden {
            None => out.push(b'\n'),
            Some(_) => self.add_value(&line[text.len()..]),
        }
        false
    }

    /// Looks at the beginning of a line: does it go on with a header, or begin one, and which?
    fn begin_line(&mut self, text: &[u8], tell: &mut dyn FnMut(Hidden, &[u8])) {
        if self.begun && matches!(text.first(), Some(b' ' | b'\t')) {
            return;
        }
        self.header_complete(tell);
        self.begun = true;
        self.value.clear();
        self.hidden = None;
        let Some(Name { name, end, value_from }) = Name::of(text) else { return };
        self.lost = name.len()..end;
        self.hidden = Hidden::named(name);
        self.counted = Counted::named(name);
        self.value_from = value_from;
        self.gather.begin(name);
    }

    fn pass_on(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let value_from = std::mem::take(&mut self.value_from);
        if let Some(counted) = self.counted {
            self.gather.value(counted, text.get(value_from..).unwrap_or_default());
        }
        let lost = std::mem::take(&mut self.lost);
        match self.hidden {
            None => {
                out.extend_from_slice(&text[..lost.start]);
                out.extend_from_slice(&text[lost.end..]);
            }
            Some(_) => self.add_value(text),
        }
    }

    fn add_value(&mut self, text: &[u8]) {
        let room = VALUE_MAX.saturating_sub(self.value.len());
        self.value.extend_from_slice(&text[..text.len().min(room)]);
    }

    /// Tells of the hidden header under way, whose value is now complete.
    fn header_complete(&mut self, tell: &mut dyn FnMut(Hidden, &[u8])) {
        if let Some(counted) = self.counted.take() {
            self.gather.complete(counted);
        }
        if let Some(which) = self.hidden.take() {
            let value = self
                .value
                .strip_suffix(b"\n")
                .map_or(&self.value[..], |v| v.strip_suffix(b"\r").unwrap_or(v));
            let colon = memchr::memchr(b':', value).map_or(0, |i| i + 1);
            let value = &value[colon..];
            // One blank behind the colon is not part of the value, further ones are.
            let value = value.strip_prefix(b" ").or_else(|| value.strip_prefix(b"\t")).unwrap_or(value);
            tell(which, value);
        }
    }
}

/// The name of the header that begins with a line.
struct Name<'a> {
    /// Up to a NUL: it is a C string to Dovecot, which neither compares nor shows what stands behind one.
    name: &'a [u8],
    /// Where the name ends, NULs or not.
    end: usize,
    /// Where the value begins.
    value_from: usize,
}

impl<'a> Name<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        // Names are short, lines may not be.
        let colon = memchr::memchr(b':', &line[..line.len().min(2 * NAME_MAX)])?;
        let blanks = line[..colon].iter().rev().take_while(|b| is_blank(**b)).count();
        let end = colon - blanks;
        if end > NAME_MAX {
            return None;
        }
        let name = &line[..memchr::memchr(0, &line[..end]).unwrap_or(end)];
        // One blank behind the colon is not part of the value, further ones are.
        let value_from = colon + 1 + usize::from(line.get(colon + 1).is_some_and(|b| is_blank(*b)));
        Some(Name { name, end, value_from })
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What clients see, what was told, what is left behind the header, and who the message is.
    type Ran = (Vec<u8>, Vec<(Hidden, Vec<u8>)>, Vec<u8>, Fingerprint);

    /// `input` comes in pieces cut at `cuts`.
    fn run(input: &[u8], cuts: &[usize]) -> Ran {
        let mut filter = HeaderFilter::default();
        filter.reset();
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let mut from = 0;
        for to in cuts.iter().copied().chain([input.len()]) {
            match filter.feed(&input[from..to], &mut out, &mut |h, v| told.push((h, v.to_vec()))) {
                Fed::All => from = to,
                Fed::Ended(n) => return (out, told, input[from + n..].to_vec(), filter.fingerprint()),
            }
        }
        filter.finish(&mut out, &mut |h, v| told.push((h, v.to_vec())));
        (out, told, Vec::new(), filter.fingerprint())
    }

    fn seen(input: &str) -> String {
        String::from_utf8(run(input.as_bytes(), &[]).0).unwrap()
    }

    #[test]
    fn the_seven_go_and_everything_else_stays() {
        let input = "From: a\nSTATUS: RO\nx-uid : 7\nX-Uidl: k\nX-Keywords: a\n\tb\n c\nLines: 3\nX-IMAP\n\n";
        assert_eq!(seen(input), "From: a\nX-Uidl: k\nLines: 3\nX-IMAP\n\n");
        let told = run(input.as_bytes(), &[]).1;
        assert_eq!(
            told,
            [
                (Hidden::Status, b"RO".to_vec()),
                (Hidden::XUid, b"7".to_vec()),
                (Hidden::XKeywords, b"a\n\tb\n c".to_vec())
            ]
        );
    }

    #[test]
    fn only_the_cr_of_a_line_end_goes() {
        assert_eq!(seen("A: b\rc\r\nStatus: R\r\nB\r\n\r\nx"), "A: b\rc\nB\n\n");
        assert_eq!(seen("A: b\r"), "A: b\n");
        assert_eq!(run(b"A: b\n\r\nbody\r\n", &[]).2, b"body\r\n");
    }

    #[test]
    fn a_blank_in_front_of_the_first_line_does_not_make_it_a_continuation() {
        assert_eq!(seen(" Status: R\nStatus: R\n more\nTo: x\n\n"), " Status: R\nTo: x\n\n");
    }

    #[test]
    fn a_header_that_is_cut_off_gets_a_line_end() {
        assert_eq!(seen("A: b\nStatus: R"), "A: b\n");
        assert_eq!(run(b"A: b\nStatus: R", &[]).1, [(Hidden::Status, b"R".to_vec())]);
        assert_eq!(seen("A: b\nC"), "A: b\nC\n");
    }

    #[test]
    fn lines_longer_than_any_buffer_pass_whole() {
        let long = format!("A: {}\nStatus: {}\nB: c\n\n", "x".repeat(3 * LINE_MAX), " ".repeat(3 * LINE_MAX));
        let cuts: Vec<usize> = (1..long.len() / 50_000).map(|i| i * 50_000).collect();
        let (out, told, _, _) = run(long.as_bytes(), &cuts);
        assert_eq!(out.len(), 3 * LINE_MAX + "A: \nB: c\n\n".len());
        assert_eq!(told.len(), 1);
        assert!(told[0].1.len() <= VALUE_MAX);
    }

    /// Checked against the X-GUID that Dovecot 2.3.19 shows for such messages.
    #[test]
    fn the_fingerprint_goes_over_the_values_that_dovecot_takes() {
        let md5 = |header: &str| run(format!("{header}\n").as_bytes(), &[]).3.md5;
        let of = |values: &str| <[u8; 16]>::from(<md5::Md5 as md5::Digest>::digest(values));
        for (header, values) in [
            ("", ""),
            ("Subject: x\nStatus: RO\n", ""),
            ("Date: d\nmessage-ID:\t m\nReceived: r\n", "d mr"),
            ("Received: r\n one\n\ttwo\nDate: d\nMessage-ID: m\nReceived: s\n", "r one\ttwo"),
            ("Received: r\r\nDelivered-To:  a \nX-Delivery-ID: 7\nDelivered-To: b\n", "r a 7b"),
            ("Date : d\nDate: e\n", "de"),
            ("Received\nDate: d\n", "d"),
            ("Received:\nDate: d\n", ""),
            (" Date: x\n", ""),
        ] {
            assert_eq!(md5(header), of(values), "{header:?}");
        }
        assert!(run(b"x-UIDL : k\n\n", &[]).3.has_x_uidl);
    }

    /// A Content-Length may say that the message goes on behind a place where it could have ended.
    #[test]
    fn a_header_that_could_have_ended_says_no_more_from_there() {
        for (pending, values) in
            [("Date: d", "d"), ("Received: r\n s", "r s"), ("Received: r\nDate: d", "r"), ("Date: d\n", "d")]
        {
            let mut filter = HeaderFilter::default();
            filter.feed(pending.as_bytes(), &mut Vec::new(), &mut |_, _| {});
            filter.tell_pending(&mut |_, _| {});
            filter.says_no_more();
            filter.feed(b"more\nDelivered-To: x\nX-UIDL: k\n", &mut Vec::new(), &mut |_, _| {});
            let md5 = <md5::Md5 as md5::Digest>::digest(values);
            assert_eq!(
                filter.fingerprint(),
                Fingerprint { md5: md5.into(), has_x_uidl: false },
                "{pending:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same(
            input in proptest::collection::vec(proptest::sample::select(vec![
                &b"Status: RO"[..], b"X-UID: 1", b"Received: a", b"Date: b", b"X-UIDL", b"\n", b"\n", b"\r\n", b"\r", b" ", b"\t", b":", b"To: you", b"\0"]), 0..40),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6)
        ) {
            let input = input.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(run(&input, &cuts), run(&input, &[]));
        }

        /// An independent parser agrees on what is left of a well-formed header.
        #[test]
        fn mailparse_agrees_on_well_formed_headers(
            fields in proptest::collection::vec((0usize..12, "[a-z0-9 ]{0,20}[a-z0-9]", any::<bool>()), 1..20)
        ) {
            const NAMES: [&str; 12] = ["Subject", "To", "Status", "X-Status", "X-UID", "X-IMAP", "X-IMAPbase", "X-Keywords",
                "Content-Length", "X-Statuses", "Content-Type", "Received"];
            let mut text = String::new();
            for (name, value, folded) in &fields {
                text += &format!("{}: {value}{}\n", NAMES[*name], if *folded { "\n more" } else { "" });
            }
            text += "\n";
            let expected: Vec<(String, String)> = mailparse::parse_headers(text.as_bytes()).unwrap().0.iter()
                .filter(|h| !HIDDEN.iter().any(|(n, _)| h.get_key_raw().eq_ignore_ascii_case(n)))
                .map(|h| (h.get_key(), h.get_value())).collect();
            let out = run(text.as_bytes(), &[]).0;
            let got: Vec<(String, String)> = mailparse::parse_headers(&out).unwrap().0.iter()
                .map(|h| (h.get_key(), h.get_value())).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
