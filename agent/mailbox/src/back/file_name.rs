//! Names of message files, read as Dovecot reads them (formats.md 2.4 and 3.4; maildir-filename.c, maildir-filename-flags.c of 2.3.19).

use super::marks::Marks;
use std::cmp::Ordering;

/// The name without `:2,` and flags: what the uidlist calls the file.
pub(super) fn base(name: &[u8]) -> &[u8] {
    name.split(|b| *b == b':').next().unwrap_or(name)
}

/// Whether a file of that name is a message for Dovecot.
pub(super) fn is_message(name: &[u8]) -> bool {
    !matches!(name.first(), None | Some(b'.' | b':')) && !name.iter().any(|b| matches!(b, b'\r' | b'\n'))
}

/// Flags and keyword letters; `keyword` hears the place of each letter.
pub(super) fn marks(name: &[u8], mut keyword: impl FnMut(usize)) -> Marks {
    let mut marks = Marks::default();
    let info = memchr::memchr(b':', name).map_or(&b""[..], |colon| &name[colon..]);
    for letter in info.strip_prefix(b":2,").unwrap_or_default() {
        match letter {
            b',' => break,
            b'a'..=b'z' => keyword(usize::from(letter - b'a')),
            _ => marks.add_letter(char::from(*letter)),
        }
    }
    marks
}

/// The order in which Dovecot gives UIDs to files that its list does not know: by time, as far as the name tells it, then by name.
pub(super) fn order(a: &[u8], b: &[u8]) -> Ordering {
    time(a).cmp(&time(b)).then_with(|| a.cmp(b))
}

/// Seconds and microseconds: the digits at the beginning, and those behind an `M` in the part that follows.
fn time(name: &[u8]) -> (u64, u64) {
    let (seconds, rest) = number(name);
    let Some(unique) = rest.strip_prefix(b".") else { return (seconds, 0) };
    let unique = unique.split(|b| matches!(b, b'.' | b':')).next().unwrap_or_default();
    let micros = memchr::memchr(b'M', unique).map_or(0, |m| number(&unique[m + 1..]).0);
    (seconds, micros)
}

fn number(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let number =
        text[..digits].iter().fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')));
    (number, &text[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_keywords_are_read_wherever_they_stand() {
        let read = |name: &[u8]| {
            let mut keywords = Vec::new();
            let marks = marks(name, |k| keywords.push(k));
            (marks.letters(), keywords)
        };
        assert_eq!(read(b"1.x,S=3:2,FSa"), ("FS".into(), vec![0]));
        assert_eq!(read(b"1.x:2,zTPR,x=D"), ("RT".into(), vec![25]));
        assert_eq!(read(b"1.x:1,S"), (String::new(), vec![]));
        assert_eq!(read(b"1.x"), (String::new(), vec![]));
        assert_eq!(base(b"1.x,S=3:2,FSa"), b"1.x,S=3");
    }

    #[test]
    fn new_files_come_in_the_order_of_their_times() {
        let mut names: Vec<&[u8]> = vec![
            b"x",
            b"1000000000.M2P1.h",
            b"999999999.x",
            b"1000000000.M10P1.h",
            b"1000000000.P1M1.h",
            b"1000000000.h",
        ];
        names.sort_by(|a, b| order(a, b));
        assert_eq!(
            names,
            [
                &b"x"[..],
                b"999999999.x",
                b"1000000000.h",
                b"1000000000.P1M1.h",
                b"1000000000.M2P1.h",
                b"1000000000.M10P1.h"
            ]
        );
    }

    #[test]
    fn what_dovecot_passes_over_is_no_message() {
        for name in [&b".x"[..], b":2,S", b"", b"a\nb", b"a\r"] {
            assert!(!is_message(name), "{name:?}");
        }
        assert!(is_message(b"1.x:2,S"));
    }
}
