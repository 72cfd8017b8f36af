//! Writing for people.
//!
//! User names, reasons and paths come from outside: a mailbox may have a name that, written raw, would rewrite the
//! screen, retitle the window or hide the line before it. So every line goes through [`shown`]; nothing else writes.

use std::io::{self, IsTerminal, Write};

/// The text with everything made visible that a terminal would obey or that would turn its reading order round.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a terminal would obey a character, or its reader overlook it.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Marks of direction, zero-width characters and line separators: not control characters by their class, and as
/// misleading in a name.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line to stdout.
pub fn say(line: &str) {
    write(&mut io::stdout().lock(), &shown(line));
}

/// One line of JSON to stdout; inside its strings everything unsafe is written as JSON writes it, so that it is harmless on
/// a terminal and still JSON.
pub fn say_json(json: &str) {
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            line.push(c);
        }
    }
    write(&mut io::stdout().lock(), &line);
}

/// One line to stderr.
pub fn complain(line: &str) {
    write(&mut io::stderr().lock(), &shown(line));
}

/// Whether progress can be drawn.
#[must_use]
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

fn write(to: &mut dyn Write, harmless: &str) {
    // A reader that has seen enough (`| head`) is no error, and there is nowhere to tell others.
    let _ = to.write_all(format!("{harmless}\n").as_bytes());
}

/// Numbers with their thousands apart: 20,000.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Sizes as people read them: 291 MB.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut rest = 0;
    let mut unit = "bytes";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 1000 {
            break;
        }
        (rest, value, unit) = (value % 1000 / 100, value / 1000, larger);
    }
    match (value, unit) {
        (1, "bytes") => "1 byte".to_owned(),
        (0..10, unit) if unit != "bytes" => format!("{value}.{rest} {unit}"),
        _ => format!("{value} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| is_unsafe(*c)) {
            let out = shown(&format!("a{c}b"));
            assert!(out.starts_with("a\\u{") && out.ends_with("}b"), "{c:?}");
            assert!(!out.chars().any(char::is_control));
        }
        assert_eq!(shown("\u{1b}[2J\u{9b}31mroot\r\n"), "\\u{1b}[2J\\u{9b}31mroot\\u{d}\\u{a}");
        assert_eq!(shown("Jörg 日本 {}"), "Jörg 日本 {}");
    }

    #[test]
    fn numbers_and_sizes_read_well() {
        assert_eq!((grouped(0), grouped(999), grouped(1000), grouped(1_234_567)).3, "1,234,567");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1999), "1.9 kB");
        assert_eq!(size(291_000_000), "291 MB");
        assert_eq!(size(u64::MAX), "18 EB");
    }
}
