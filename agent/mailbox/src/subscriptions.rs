//! Dovecot's list of subscribed folders (formats.md 3.5; subscription-file.c of 2.3.19).
//!
//! Version 1 holds plain names with the storage's separator, version 2 names whose parts are separated by TAB and escaped, so that
//! it does not depend on a separator any more: which is why the new one is always version 2.

const VERSION_2: &[u8] = b"V\t2\n\n";

/// Turns the mbox root's `.subscriptions` (either version) into the bytes of the Maildir root's `subscriptions` (version 2).
/// `separator` is the mbox storage's (`/`). A name that is there twice, or empty, is there once, or not at all.
pub fn convert(old: &[u8], separator: char) -> Vec<u8> {
    let (version_2, lines) = match old.strip_prefix(VERSION_2) {
        Some(rest) => (true, rest),
        None => (false, old),
    };
    let mut new = VERSION_2.to_vec();
    let mut seen = std::collections::HashSet::new();
    for line in lines.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)) {
        if line.is_empty() {
            continue;
        }
        let line = if version_2 { line.to_vec() } else { escape_parts(line, separator) };
        if seen.insert(line.clone()) {
            new.extend_from_slice(&line);
            new.push(b'\n');
        }
    }
    new
}

/// The parts of a name, escaped and separated by TAB.
fn escape_parts(name: &[u8], separator: char) -> Vec<u8> {
    let mut utf8 = [0; 4];
    let separator = separator.encode_utf8(&mut utf8).as_bytes();
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(&byte) = rest.first() {
        if let Some(behind) = rest.strip_prefix(separator) {
            out.push(b'\t');
            rest = behind;
            continue;
        }
        match byte {
            1 => out.extend_from_slice(b"\x011"),
            b'\t' => out.extend_from_slice(b"\x01t"),
            b'\r' => out.extend_from_slice(b"\x01r"),
            _ => out.push(byte),
        }
        rest = &rest[1..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_become_version_2() {
        assert_eq!(convert(b"Sent\nlists/a.b\nlists/a.b\n\nx", '/'), b"V\t2\n\nSent\nlists\ta.b\nx\n");
        assert_eq!(
            convert(b"V\t2\n\nSent\nlists\ta.b\nt\x01tab\n", '/'),
            b"V\t2\n\nSent\nlists\ta.b\nt\x01tab\n"
        );
        assert_eq!(convert(b"a\tb\x01\n", '/'), b"V\t2\n\na\x01tb\x011\n");
        assert_eq!(convert(b"", '/'), b"V\t2\n\n");
    }
}
