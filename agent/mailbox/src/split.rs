//! Where messages begin and end, by Dovecot's rules (formats.md 1.2 and 1.5; istream-raw-mbox.c of 2.3.19).
//!
//! A separator is a line feed and a line that the From_ grammar takes; the line feed, and a CR in front of it, belong to the
//! separator and not to the message before. The file's last line end is such a trailer too. A Content-Length counts only if it
//! leads farther than the first separator and lands on another or on the end.
//!
//! The file is a stream here: a message comes as pieces, and its end is found while they pass.
//!
//! Other servers split by rules of their own; what they do otherwise is in `split/lines.rs`.

mod lines;

use crate::from_line::{self, Stamp};
use crate::window::Window;
use crate::{Error, Result, Server};
use memchr::memmem::Finder;

/// A message's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Offset of its From_ line.
    pub(crate) offset: u64,
    /// The From_ line's date; `None` for bytes that no From_ line stands before.
    pub(crate) stamp: Option<Stamp>,
}

/// What the header parser saw when it came to the end of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderEnd {
    /// Offset of the body.
    pub(crate) body: u64,
    /// Value of the first well-formed Content-Length.
    pub(crate) content_length: Option<u64>,
}

/// See the module's text. Call [`Splitter::next_message`], then [`Splitter::piece`] until it gives `None`, and so on.
pub(crate) struct Splitter<'fd> {
    server: Server,
    window: Window<'fd>,
    finder: Finder<'static>,
    /// Offset of the next byte to hand out.
    pos: u64,
    /// No separator begins between `pos` and here.
    searched: u64,
    /// First byte behind the From_ line.
    header: u64,
    /// End of this message, once known.
    limit: Option<u64>,
    /// The first message has no separator in front.
    first: bool,
    /// Where the body begins: for UW, which looks for separators in bodies alone.
    body: Option<u64>,
    /// Where the next From_ line begins: for UW and qpopper, whose separator is that line and nothing before it.
    next: u64,
    /// The From_ line of this message: for qpopper, which makes identifiers of it.
    from_line: Vec<u8>,
}

/// The longest line whose end decides whether a separator stands where a Content-Length points.
const PEEK: usize = 8192;

impl<'fd> Splitter<'fd> {
    /// By Dovecot's rules; begins at the window's beginning, where a From_ line has to be.
    pub(crate) fn new(window: Window<'fd>) -> Self {
        Self::by(Server::Dovecot, window)
    }

    /// By the rules of this server.
    pub(crate) fn by(server: Server, window: Window<'fd>) -> Self {
        let pos = window.filled_to();
        Splitter {
            server,
            window,
            finder: Finder::new(b"\nFrom "),
            pos,
            searched: pos,
            header: pos,
            limit: Some(pos),
            first: true,
            body: None,
            next: pos,
            from_line: Vec::new(),
        }
    }

    /// The window back, with its hash.
    pub(crate) fn into_window(self) -> Window<'fd> {
        self.window
    }

    /// Where the file ends for us.
    pub(crate) fn end(&self) -> u64 {
        self.window.end()
    }

    /// Offset of the next byte to hand out.
    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }

    /// The next message. The pieces of the one before have all been taken.
    pub(crate) fn next_message(&mut self) -> Result<Option<Head>> {
        debug_assert_eq!(self.limit, Some(self.pos), "the message before was not read to its end");
        match (self.server, self.first) {
            (Server::Dovecot, false) => drop(self.skip_line_end()?),
            (Server::Uw, true) => self.skip_leading_blanks()?,
            (_, true) => {}
            (_, false) => self.pos = self.next,
        }
        if self.pos >= self.end() {
            return Ok(None);
        }
        let Some((stamp, behind)) = self.take_from_line()? else {
            return Err(self.no_mbox("it does not begin with a From_ line"));
        };
        Ok(Some(self.enter(Some(stamp), behind)))
    }

    /// Like [`Splitter::next_message`] for the first message of a file that need not be an mbox: blank lines are skipped, and bytes
    /// without a From_ line are a message without a head of its own.
    pub(crate) fn next_whatever(&mut self) -> Result<Option<Head>> {
        if !self.first {
            return self.next_message();
        }
        while self.skip_line_end()? {}
        if self.pos >= self.end() {
            return Ok(None);
        }
        match self.take_from_line()? {
            Some((stamp, behind)) => Ok(Some(self.enter(Some(stamp), behind))),
            None => Ok(Some(self.enter(None, self.pos))),
        }
    }

    fn enter(&mut self, stamp: Option<Stamp>, behind: u64) -> Head {
        let head = Head { offset: self.pos, stamp };
        self.first = false;
        self.pos = behind;
        self.header = behind;
        self.searched = behind;
        self.limit = None;
        self.body = None;
        head
    }

    /// The From_ line of the message under way; qpopper's alone.
    pub(crate) fn opening_line(&self) -> &[u8] {
        &self.from_line
    }

    /// Skips LF or CRLF if one is here.
    fn skip_line_end(&mut self) -> Result<bool> {
        while self.window.filled_to() < self.pos + 2 && self.window.fill(self.pos)? {}
        let skip = match self.window.from(self.pos) {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        self.pos += skip;
        self.limit = Some(self.pos);
        Ok(skip > 0)
    }

    /// The From_ line that begins at `pos`: its date and the offset behind it.
    fn take_from_line(&mut self) -> Result<Option<(Stamp, u64)>> {
        if self.server != Server::Dovecot {
            let Some(behind) = self.whole_from_line()? else { return Ok(None) };
            let line = self.window.slice(self.pos, behind);
            if self.server == Server::Qpopper {
                self.from_line.clear();
                self.from_line.extend_from_slice(line);
            }
            return Ok(from_line::right::parse(line, self.server == Server::Uw).map(|stamp| (stamp, behind)));
        }
        let mut from = 0;
        let line_end = loop {
            let data = self.window.from(self.pos);
            if data.len() >= 5 && !data.starts_with(b"From ") {
                return Ok(None);
            }
            match memchr::memchr(b'\n', &data[from..]) {
                Some(i) => break Some(from + i),
                None => from = data.len(),
            }
            if !self.window.fill(self.pos)? {
                break None;
            }
        };
        // A line without end at the end of the file is none; one that is larger than the window still can be.
        let Some(line_end) = line_end else {
            return if self.window.at_end() { Ok(None) } else { self.oversized_from_line() };
        };
        self.look_ahead(self.pos, self.pos + line_end as u64)?;
        let data = self.window.from(self.pos);
        if !data.starts_with(b"From ") {
            return Ok(None);
        }
        Ok(from_line::parse(&data[5..]).map(|stamp| (stamp, self.pos + line_end as u64 + 1)))
    }

    /// A From_ line that fills the window: what is there is parsed, the rest is skipped.
    fn oversized_from_line(&mut self) -> Result<Option<(Stamp, u64)>> {
        let Some(stamp) = from_line::parse(&self.window.from(self.pos)[5..]) else { return Ok(None) };
        loop {
            let at = self.window.filled_to();
            if !self.window.fill(at)? {
                return Ok(None);
            }
            if let Some(i) = memchr::memchr(b'\n', self.window.from(at)) {
                let behind = at + i as u64 + 1;
                return Ok(Some((stamp, behind)));
            }
        }
    }

    /// Has enough behind the end of a line in the window for the grammar to look at.
    fn look_ahead(&mut self, keep: u64, line_end: u64) -> Result<()> {
        while self.window.filled_to() < line_end + from_line::LOOK_AHEAD as u64 && self.window.fill(keep)? {}
        Ok(())
    }

    /// The next bytes of the message, or `None` at its end.
    pub(crate) fn piece(&mut self) -> Result<Option<&[u8]>> {
        let to = loop {
            if self.limit == Some(self.pos) {
                return Ok(None);
            }
            let to = match self.limit {
                Some(limit) => limit.min(self.window.filled_to()),
                None => self.search()?,
            };
            if to > self.pos {
                break to;
            }
            if self.limit != Some(self.pos) {
                self.window.fill(self.pos)?;
            }
        };
        let from = self.pos;
        self.pos = to;
        Ok(Some(self.window.slice(from, to)))
    }

    /// Looks for the separator. Returns how far the message's bytes reach for sure; sets `limit` when that is its end.
    fn search(&mut self) -> Result<u64> {
        if self.server != Server::Dovecot {
            return self.search_lines();
        }
        loop {
            let Some(i) = self.finder.find(self.window.from(self.searched)) else {
                if self.window.at_end() {
                    return Ok(self.end_at(self.without_last_line_end()));
                }
                // The last bytes may be the beginning of a separator, with a CR in front.
                let filled = self.window.filled_to();
                self.searched = self.searched.max(filled.saturating_sub(5));
                return Ok(filled.saturating_sub(6).max(self.pos));
            };
            let lf = self.searched + i as u64;
            let line = lf + 6;
            let line_end = memchr::memchr(b'\n', self.window.from(line)).map(|i| line + i as u64);
            let enough = match line_end {
                Some(end) => self.window.filled_to() >= end + from_line::LOOK_AHEAD as u64,
                None => false,
            };
            if !enough && !self.window.at_end() {
                if self.window.fill(self.pos)? {
                    continue;
                }
                // No room: what stands before has to go first.
                let before = lf.saturating_sub(1);
                if before > self.pos {
                    self.searched = lf;
                    return Ok(before);
                }
            }
            // A From_ line without a line end counts only if it is longer than the window.
            let complete = line_end.is_some() || !self.window.at_end();
            if complete && from_line::parse(self.window.from(line)).is_some() {
                let cr = lf > self.header && self.window.byte(lf - 1) == Some(b'\r');
                return Ok(self.end_at(if cr { lf - 1 } else { lf }));
            }
            // The byte behind `From ` is not looked at again, even if it is a line feed with a From_ line behind it.
            self.searched = (lf + 7).min(self.window.filled_to());
        }
    }

    fn end_at(&mut self, end: u64) -> u64 {
        self.limit = Some(end);
        end
    }

    /// The end of the file without the last LF or CRLF, which is its trailer.
    fn without_last_line_end(&self) -> u64 {
        let end = self.end();
        let lower = self.pos.max(self.header);
        if end > lower && self.window.byte(end - 1) == Some(b'\n') {
            if end - 1 > lower && self.window.byte(end - 2) == Some(b'\r') {
                return end - 2;
            }
            return end - 1;
        }
        end
    }

    /// The header parser has come to the empty line: the Content-Length, if it lands, moves the message's end.
    pub(crate) fn header_ended(&mut self, end: HeaderEnd) -> Result<()> {
        let Some(length) = end.content_length.filter(|_| self.server == Server::Dovecot) else {
            return Ok(());
        };
        if self.limit.is_some_and(|limit| length <= limit - end.body) {
            return Ok(());
        }
        if let Some(limit) = self.lands(end.body, length)? {
            self.limit = Some(limit);
        }
        Ok(())
    }

    /// The message ended before its header did. If the body begins with a From_ line, the empty line before it looked like a
    /// separator, and a Content-Length can still say otherwise: then there are more pieces.
    pub(crate) fn header_did_not_end(&mut self, content_length: u64) -> Result<bool> {
        if content_length == 0 || self.server != Server::Dovecot {
            return Ok(false);
        }
        let mut tail = [0; 2];
        let tail = self.window.peek(self.pos, &mut tail)?;
        let separator = if tail.starts_with(b"\r\n") { 2 } else { 1 };
        let blank = match self.window.byte(self.pos.wrapping_sub(1)) {
            _ if self.pos == self.header => separator == 1,
            before => before == Some(b'\n'),
        };
        let from = if blank { self.pos + separator } else { self.pos };
        let Some(limit) = self.lands(from, content_length)? else { return Ok(false) };
        self.limit = Some(limit);
        Ok(true)
    }

    /// Whether a body of `length` bytes from `body` ends at a separator or at the end of the file; where, if so.
    fn lands(&self, body: u64, length: u64) -> Result<Option<u64>> {
        let Some(at) = body.checked_add(length).filter(|at| *at < self.end()) else { return Ok(None) };
        let mut buf = [0; PEEK];
        let data = self.window.peek(at, &mut buf)?;
        let left = self.end() - at;
        let lands = match data {
            [b'\n'] | [b'\r', b'\n'] => true,
            [b'\n', rest @ ..] => left > 31 && is_from_line(rest),
            [b'\r', b'\n', rest @ ..] => left > 32 && is_from_line(rest),
            _ => false,
        };
        if !lands {
            return Ok(None);
        }
        // A CR that the length counts as the last of the body belongs to the line end, which nobody can read otherwise.
        if data[0] == b'\n' && length > 0 {
            let mut last = [0];
            if self.window.peek(at - 1, &mut last)? == b"\r" {
                return Ok(Some(at - 1));
            }
        }
        Ok(Some(at))
    }

    fn no_mbox(&self, why: &'static str) -> Error {
        Error::NotMbox { path: self.window.path().clone(), offset: self.pos, why }
    }
}

/// Whether a complete line that begins a message stands here.
fn is_from_line(data: &[u8]) -> bool {
    let complete = data.len() >= PEEK - 2 || memchr::memchr(b'\n', data).is_some();
    complete && data.strip_prefix(b"From ").is_some_and(|rest| from_line::parse(rest).is_some())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    /// Offset, end and bytes of a message.
    pub(crate) type Seen = (u64, u64, Vec<u8>);

    /// The messages, read through a window of that many bytes, and the hash of all.
    fn split(mbox: &[u8], capacity: usize) -> Result<(Vec<Seen>, blake3::Hash)> {
        split_by(Server::Dovecot, mbox, capacity)
    }

    pub(crate) fn split_by(
        server: Server,
        mbox: &[u8],
        capacity: usize,
    ) -> Result<(Vec<Seen>, blake3::Hash)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(mbox).unwrap();
        let end = mbox.len() as u64;
        let hasher = blake3::Hasher::new();
        let window = Window::with_capacity(file.as_fd(), "mbox".into(), 0, end, hasher, 0, capacity);
        let mut split = Splitter::by(server, window);
        let mut messages = Vec::new();
        while let Some(head) = split.next_message()? {
            let mut bytes = Vec::new();
            while let Some(piece) = split.piece()? {
                bytes.extend_from_slice(piece);
            }
            messages.push((head.offset, split.pos(), bytes));
        }
        Ok((messages, split.into_window().into_hasher()?.finalize()))
    }

    const FROM: &str = "From a@b Fri Nov  9 22:33:52 2001\n";

    proptest! {
        #[test]
        fn windows_of_any_size_show_the_same(
            bits in proptest::collection::vec(proptest::sample::select(vec![
                FROM, "\n", "\n", "\r\n", "\r", "From ", "F", "body\n", "From x y\n",
                "a line that is long enough to fill a good part of a small window, and some more, until it is full\n"]), 0..60),
            capacity in 300usize..700,
        ) {
            let mbox = [FROM, &bits.concat()].concat();
            let (small, small_hash) = split(mbox.as_bytes(), capacity).unwrap();
            let (large, large_hash) = split(mbox.as_bytes(), 1 << 20).unwrap();
            prop_assert_eq!(small, large);
            prop_assert_eq!(small_hash, large_hash);
            prop_assert_eq!(large_hash, blake3::hash(mbox.as_bytes()));
        }
    }

    #[test]
    fn a_from_line_larger_than_the_window_still_separates() {
        let long = format!("From a@b Fri Nov  9 22:33:52 2001 {}\n", "x".repeat(5000));
        let (messages, _) = split(format!("{long}A: 1\n\nx\n\n{long}B: 2\n\ny\n").as_bytes(), 1000).unwrap();
        let bytes: Vec<_> = messages.into_iter().map(|(_, _, bytes)| bytes).collect();
        assert_eq!(bytes, [b"A: 1\n\nx\n".to_vec(), b"B: 2\n\ny".to_vec()]);
    }
}
