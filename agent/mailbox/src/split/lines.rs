//! Where messages end for UW imapd and for qpopper: what [`Splitter`] does in their names.
//!
//! Both read by lines, and a line that begins a message takes nothing of the line in front of it. For UW (`unix_parse`, src/osdep/unix/
//! unix.c) a header ends at an empty line and nowhere else, a From_ line in it being text; a body ends at a From_ line, and one empty line
//! at its end is not part of it, nor at the end of the file. For qpopper (`isfromline`, popper/pop_dropcopy.c) a From_ line separates only
//! behind an empty line, which is part of the message before. Neither goes by a Content-Length (qpopper can be built to; on Linux it is not).

use super::Splitter;
use crate::from_line::right;
use crate::{Result, Server};

/// What is looked at in front of a line feed, and so is not handed out before that line feed is decided about.
const HELD_BACK: u64 = 3;

impl Splitter<'_> {
    /// UW skips blanks that broken deliverers left at the beginning of the file.
    pub(super) fn skip_leading_blanks(&mut self) -> Result<()> {
        loop {
            while self.window.filled_to() <= self.pos && self.window.fill(self.pos)? {}
            match self.window.from(self.pos).first() {
                Some(b'\n' | b'\r' | b' ' | b'\t') => self.pos += 1,
                _ => break,
            }
        }
        self.limit = Some(self.pos);
        Ok(())
    }

    /// Like [`Splitter::search`]: how far the message's bytes reach for sure.
    pub(super) fn search_lines(&mut self) -> Result<u64> {
        if self.server == Server::Uw && self.body.is_none() {
            let sure = self.search_body()?;
            if self.body.is_none() {
                return Ok(sure);
            }
        }
        self.search_separator()
    }

    /// Looks for the empty line that ends a header. All that it has looked at belongs to the message.
    fn search_body(&mut self) -> Result<u64> {
        if self.searched == self.header {
            // The line end of the From_ line may be gone: the first line is looked at by itself.
            while self.window.filled_to() < self.header + 2 && self.window.fill(self.pos)? {}
            self.body = self.behind_empty_line(self.header);
        }
        while self.body.is_none() {
            let Some(i) = memchr::memchr(b'\n', self.window.from(self.searched)) else {
                self.searched = self.window.filled_to();
                return Ok(if self.window.at_end() { self.ends(self.end()) } else { self.searched });
            };
            let lf = self.searched + i as u64;
            if self.window.filled_to() < lf + 3 && !self.window.at_end() {
                if self.window.fill(self.pos)? {
                    continue;
                }
                self.searched = lf;
                return Ok(lf);
            }
            self.body = self.behind_empty_line(lf + 1);
            self.searched = lf + 1;
        }
        // A From_ line may follow at once: the search begins with the line feed in front of the body.
        if let Some(body) = self.body {
            self.searched = body - 1;
        }
        Ok(self.pos)
    }

    /// The offset behind the empty line that begins here.
    fn behind_empty_line(&self, at: u64) -> Option<u64> {
        match self.window.from(at) {
            [b'\n', ..] => Some(at + 1),
            [b'\r', b'\n', ..] => Some(at + 2),
            _ => None,
        }
    }

    fn search_separator(&mut self) -> Result<u64> {
        loop {
            let Some(i) = self.finder.find(self.window.from(self.searched)) else {
                if self.window.at_end() {
                    return Ok(self.ends(self.end()));
                }
                // The last bytes may be the beginning of a separator.
                self.searched = self.searched.max(self.window.filled_to().saturating_sub(5));
                return Ok(self.searched.saturating_sub(HELD_BACK).max(self.pos));
            };
            let lf = self.searched + i as u64;
            let line_end = memchr::memchr(b'\n', self.window.from(lf + 1)).map(|i| lf + 1 + i as u64);
            if line_end.is_none() && !self.window.at_end() {
                if self.window.fill(self.pos)? {
                    continue;
                }
                // No room: what stands before has to go first.
                let before = lf.saturating_sub(HELD_BACK);
                if before > self.pos {
                    self.searched = lf;
                    return Ok(before);
                }
                // A line that fills the window is no separator.
            }
            let separates = match (line_end, self.server) {
                (None, _) => false,
                (Some(end), Server::Qpopper) => {
                    self.empty_line_before(lf)
                        && right::parse(self.window.slice(lf + 1, end + 1), false).is_some()
                }
                (Some(end), _) => right::parse(self.window.slice(lf + 1, end + 1), true).is_some(),
            };
            if separates {
                return Ok(self.ends(lf + 1));
            }
            self.searched = lf + 1;
        }
    }

    /// The line that ends with this line feed is empty.
    fn empty_line_before(&self, lf: u64) -> bool {
        lf == self.header || self.window.byte(lf.wrapping_sub(1)) == Some(b'\n')
    }

    /// The message's lines end here; its bytes may end before.
    fn ends(&mut self, behind: u64) -> u64 {
        self.next = behind;
        let end = match self.body {
            Some(body) => self.without_empty_line(body, behind),
            None => behind,
        };
        self.limit = Some(end);
        end
    }

    /// Without an empty line at the end of a UW body.
    fn without_empty_line(&self, body: u64, end: u64) -> u64 {
        let byte =
            |back: u64| end.checked_sub(back).filter(|at| *at >= body).and_then(|at| self.window.byte(at));
        // An empty line is one of the body, and stands at its beginning or behind a line feed.
        let begins_line = |back: u64| end - back == body || byte(back + 1) == Some(b'\n');
        match (byte(2), byte(1)) {
            (_, Some(b'\n')) if begins_line(1) => end - 1,
            (Some(b'\r'), Some(b'\n')) if begins_line(2) => end - 2,
            _ => end,
        }
    }

    /// The From_ line that begins here, line end and all, if it is one and fits in the window.
    pub(super) fn whole_from_line(&mut self) -> Result<Option<u64>> {
        let mut from = 0;
        loop {
            let data = self.window.from(self.pos);
            if let Some(i) = memchr::memchr(b'\n', &data[from..]) {
                return Ok(Some(self.pos + (from + i) as u64 + 1));
            }
            from = data.len();
            if !self.window.fill(self.pos)? {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Server;
    use crate::split::tests::split_by;
    use proptest::prelude::*;

    const FROM: &str = "From a@b Fri Nov  9 22:33:52 2001\n";

    fn texts(server: Server, mbox: &str) -> Vec<String> {
        let (messages, _) = split_by(server, mbox.as_bytes(), 1 << 20).unwrap();
        messages.into_iter().map(|(_, _, bytes)| String::from_utf8(bytes).unwrap()).collect()
    }

    /// The same once more, line by line on a whole file in memory.
    fn naive(server: Server, mbox: &[u8]) -> Option<Vec<Vec<u8>>> {
        let blanks = mbox.iter().take_while(|b| server == Server::Uw && b" \t\r\n".contains(b)).count();
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let (mut in_header, mut after_empty, mut trailer) = (false, true, 0);
        for line in mbox[blanks..].split_inclusive(|b| *b == b'\n') {
            let empty = line == b"\n" || (server == Server::Uw && line == b"\r\n");
            let text = line.strip_suffix(b"\n").unwrap_or(b"");
            let text = if server == Server::Uw { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
            let line_is_from =
                text.starts_with(b"From ") && text.ends_with(&FROM.as_bytes()[8..FROM.len() - 1]);
            let allowed = if server == Server::Uw { !in_header } else { after_empty };
            after_empty = empty;
            if line_is_from && allowed {
                let last = messages.last_mut();
                last.into_iter().for_each(|last| last.truncate(last.len() - trailer));
                messages.push(Vec::new());
                (in_header, trailer) = (true, 0);
                continue;
            }
            messages.last_mut()?.extend_from_slice(line);
            trailer = if server == Server::Uw && empty && !in_header { line.len() } else { 0 };
            in_header &= !empty;
        }
        messages.last_mut().into_iter().for_each(|last| last.truncate(last.len() - trailer));
        Some(messages)
    }

    #[test]
    fn uw_takes_one_empty_line_from_the_end_of_a_body_and_no_line_end() {
        let mbox = format!("\n \r\n{FROM}A: 1\n\nx\n\n{FROM}B: 2\n\ny\n{FROM}C: 3\n\n{FROM}D: 4\n\n\n\n");
        assert_eq!(texts(Server::Uw, &mbox), ["A: 1\n\nx\n", "B: 2\n\ny\n", "C: 3\n\n", "D: 4\n\n\n"]);
    }

    #[test]
    fn uw_finds_no_message_in_a_header() {
        assert_eq!(
            texts(Server::Uw, &format!("{FROM}A: 1\n{FROM}B: 2\n\nx\n")),
            [format!("A: 1\n{FROM}B: 2\n\nx\n")]
        );
    }

    #[test]
    fn qpopper_separates_behind_an_empty_line_which_is_the_messages() {
        let mbox = format!("{FROM}A: 1\n\nx\n{FROM}y\n\n{FROM}\n{FROM}B: 2\n\n");
        assert_eq!(texts(Server::Qpopper, &mbox), [&format!("A: 1\n\nx\n{FROM}y\n\n"), "\n", "B: 2\n\n"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn generated_mailboxes_are_split_as_line_by_line_in_windows_of_any_size(
            bits in proptest::collection::vec(proptest::sample::select(vec![
                FROM, FROM, "From a@b Fri Nov  9 22:33:52 2001\r\n", "\n", "\n", "\n", "\r\n", "\r", "From ", "F", "body\n", "From x y\n",
                "a line that is long enough to fill a good part of a small window, and some more, until it is full\n"]), 0..60),
            leading in proptest::sample::select(vec!["", "\n", " \r\n", "x"]),
            capacity in 300usize..700,
            server in proptest::sample::select(vec![Server::Uw, Server::Qpopper]),
        ) {
            let mbox = [leading, FROM, &bits.concat()].concat();
            let expected = naive(server, mbox.as_bytes());
            for capacity in [capacity, 1 << 20] {
                match (split_by(server, mbox.as_bytes(), capacity), &expected) {
                    (Ok((messages, hash)), Some(expected)) => {
                        let bytes: Vec<_> = messages.into_iter().map(|(_, _, bytes)| bytes).collect();
                        prop_assert_eq!(&bytes, expected);
                        prop_assert_eq!(hash, blake3::hash(mbox.as_bytes()));
                    }
                    (Err(_), None) => {}
                    (got, expected) => prop_assert!(false, "{:?} and {:?}", got, expected),
                }
            }
        }
    }
}
