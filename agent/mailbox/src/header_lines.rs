//! A header line by line, out of pieces of any size: for the servers that look at lines and not at headers.

use crate::header::Fed;

/// A line longer than this comes in parts: what decides about a line stands at its beginning.
const LINE_MAX: usize = 64 << 10;

/// A line, or a part of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// With its line end, if it has one.
    pub(crate) bytes: &'a [u8],
    /// The line begins here.
    pub(crate) first: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come yet.
    cut: Vec<u8>,
    /// A part of the line under way was given out.
    inside: bool,
}

impl Lines {
    pub(crate) fn reset(&mut self) {
        self.cut.clear();
        self.inside = false;
    }

    /// Gives each line to `take`, until that says that one was the last.
    pub(crate) fn feed(&mut self, input: &[u8], mut take: impl FnMut(Part<'_>) -> bool) -> Fed {
        let mut at = 0;
        while let Some(length) = memchr::memchr(b'\n', &input[at..]).map(|i| i + 1) {
            let rest = &input[at..at + length];
            at += length;
            let first = !std::mem::take(&mut self.inside);
            let ended = if self.cut.is_empty() {
                take(Part { bytes: rest, first })
            } else {
                self.cut.extend_from_slice(rest);
                let ended = take(Part { bytes: &self.cut, first });
                self.cut.clear();
                ended
            };
            if ended {
                return Fed::Ended(at);
            }
        }
        self.cut.extend_from_slice(&input[at..]);
        if self.cut.len() > LINE_MAX {
            let first = !std::mem::replace(&mut self.inside, true);
            take(Part { bytes: &self.cut, first });
            self.cut.clear();
        }
        Fed::All
    }

    /// The message ended in its header: what is left of the last line.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(Part<'_>) -> bool) {
        if !self.cut.is_empty() {
            take(Part { bytes: &self.cut, first: !self.inside });
        }
        self.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(input: &[u8], pieces: usize) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in input.chunks(pieces.max(1)) {
            lines.feed(piece, |part| {
                seen.push((part.bytes.to_vec(), part.first));
                false
            });
        }
        lines.finish(|part| {
            seen.push((part.bytes.to_vec(), part.first));
            false
        });
        seen
    }

    proptest! {
        #[test]
        fn lines_are_whole_whatever_the_pieces(input in "[a\n]{0,40}", pieces in 1usize..9) {
            let expected: Vec<_> =
                input.as_bytes().split_inclusive(|b| *b == b'\n').map(|line| (line.to_vec(), true)).collect();
            prop_assert_eq!(parts(input.as_bytes(), pieces), expected);
        }
    }

    #[test]
    fn a_long_line_comes_in_parts_and_nothing_of_it_is_lost() {
        let line = format!("{}\nnext\n", "x".repeat(3 * LINE_MAX));
        let seen = parts(line.as_bytes(), 1000);
        assert!(seen.len() > 3, "{}", seen.len());
        assert_eq!(seen.iter().filter(|(_, first)| *first).count(), 2);
        assert_eq!(seen.concat_bytes(), line.as_bytes());
    }

    trait Concat {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl Concat for Vec<(Vec<u8>, bool)> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|(bytes, _)| bytes.clone()).collect()
        }
    }
}
