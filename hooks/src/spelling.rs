//! How FreeRADIUS spells a string in a hook's environment: `USER_NAME="bob"`, the quotes part of the value.
//!
//! `rlm_exec` prints attributes as its log does (src/lib/print.c, `fr_prints`): in double quotes, `"` and `\` behind a
//! backslash, `\r`, `\n`, `\t`, and three octal digits for other bytes that do not print. An argument written as
//! `%{User-Name}` comes without any of that, so what does not begin and end with a quote is left alone.

use std::borrow::Cow;

/// The name that a quoted spelling means; anything else as it is.
pub(crate) fn unquoted(spelling: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = spelling.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(spelling);
    };
    let mut name = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        let (meant, after) = match (byte, after) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [h @ b'0'..=b'3', m @ b'0'..=b'7', l @ b'0'..=b'7', after @ ..]) => {
                ((h - b'0') * 64 + (m - b'0') * 8 + (l - b'0'), after)
            }
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            (byte, after) => (byte, after),
        };
        name.push(meant);
        rest = after;
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_are_taken_off() {
        for (spelling, name) in [
            (&b"\"bob\""[..], &b"bob"[..]),
            (b"\"o'brien\"", b"o'brien"),
            (b"\"a\\\"b\\\\c\"", b"a\"b\\c"),
            (b"\"a\\tb\"", b"a\tb"),
            (b"\"b\\303\\274rger\"", "b\u{fc}rger".as_bytes()),
            (b"\"\\377\"", b"\xff"),
            (b"\"\"", b""),
            (b"\"a\\9\"", b"a9"),
        ] {
            assert_eq!(unquoted(spelling), name, "{}", spelling.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_quoted_stays() {
        for name in [&b"bob"[..], b"", b"\"", b"\"bob", b"bob\"", b"a\\b"] {
            assert_eq!(unquoted(name), name);
        }
    }
}
