//! The flags that a message can have, in the words of all who name them.

/// Flags of one message. \Recent is none of them: it is not stored with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks(u8);

/// One flag: in IMAP, in a Maildir's file name, and in the mbox header that holds it.
struct Word {
    bit: u8,
    imap: &'static str,
    letter: char,
    /// In `Status` if it is `R`, else in `X-Status`.
    header: char,
}

/// In the order of the Maildir's letters.
const WORDS: [Word; 5] = [
    Word { bit: 1, imap: "\\Draft", letter: 'D', header: 'T' },
    Word { bit: 2, imap: "\\Flagged", letter: 'F', header: 'F' },
    Word { bit: 4, imap: "\\Answered", letter: 'R', header: 'A' },
    Word { bit: 8, imap: "\\Seen", letter: 'S', header: 'R' },
    Word { bit: 16, imap: "\\Deleted", letter: 'T', header: 'D' },
];

impl Marks {
    /// A letter of a file name; one that IMAP has no flag for is passed over.
    pub(super) fn add_letter(&mut self, letter: char) {
        self.0 |= WORDS.iter().find(|w| w.letter == letter).map_or(0, |w| w.bit);
    }

    /// A word of IMAP's. `false`: it is no flag that is stored.
    pub(super) fn add_imap(&mut self, word: &str) -> bool {
        let found = WORDS.iter().find(|w| w.imap.eq_ignore_ascii_case(word));
        self.0 |= found.map_or(0, |w| w.bit);
        found.is_some()
    }

    /// The letters of a file name, in their order.
    pub(super) fn letters(self) -> String {
        WORDS.iter().filter(|w| self.0 & w.bit != 0).map(|w| w.letter).collect()
    }

    /// What `Status` says of them: `R`, or nothing.
    pub(super) fn status(self) -> &'static str {
        if self.letters().contains('S') { "R" } else { "" }
    }

    /// What `X-Status` says of them, in Dovecot's order.
    pub(super) fn x_status(self) -> String {
        ["A", "D", "F", "T"]
            .into_iter()
            .filter(|h| WORDS.iter().any(|w| h.starts_with(w.header) && self.0 & w.bit != 0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_languages_say_the_same() {
        let mut marks = Marks::default();
        for word in ["\\seen", "\\Answered", "\\Draft", "\\Deleted", "\\Flagged"] {
            assert!(marks.add_imap(word));
        }
        assert!(!marks.add_imap("\\Recent"));
        let mut same = Marks::default();
        "STDFRPx".chars().for_each(|letter| same.add_letter(letter));
        assert_eq!(marks, same);
        assert_eq!(
            (marks.letters().as_str(), marks.status(), marks.x_status().as_str()),
            ("DFRST", "R", "ADFT")
        );
    }
}
