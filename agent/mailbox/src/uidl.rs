//! POP3's unique ids (formats.md 3.1): what a server's `pop3_uidl_format` gave each message of an mbox, where a Maildir would give
//! another one.
//!
//! `%u` and `%v` are kept by themselves. `%g` is the header's MD5 on an mbox and the message's GUID in a Maildir, which are the same
//! only for the first message with that MD5. So what the format gave is stored beside each message, where it goes before any format.

use std::fmt::Write;

/// A `pop3_uidl_format` that needs [`Known::uidl`](crate::Known::uidl).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uidl {
    parts: Vec<Part>,
    reuse_x_uidl: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value { of: Variable, zeros: bool, width: usize, how: How },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Uid,
    Validity,
    Guid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    Hex,
    Upper,
    Lower,
}

/// RFC 1939 section 7.
const LONGEST: usize = 70;

impl Uidl {
    /// Takes a format as Dovecot 2.3 has it: `%u`, `%v`, `%g` (and `%m`, the same on an mbox) with `0`, a width, and one of `X`, `U`, `L`
    /// between. `reuse_x_uidl` is `pop3_reuse_xuidl`: a header X-UIDL goes first. `None`: another format.
    pub fn parse(format: &str, reuse_x_uidl: bool) -> Option<Uidl> {
        let mut parts = Vec::new();
        let mut rest = format;
        while let Some((text, tail)) = rest.split_once('%') {
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let (part, tail) = Part::parse(tail)?;
            parts.push(part);
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let uidl = Uidl { parts, reuse_x_uidl };
        let longest = uidl.expand(u32::MAX, u32::MAX, &[0xff; 16]);
        let fits =
            (1..=LONGEST).contains(&longest.len()) && longest.bytes().all(|b| matches!(b, b'!'..=b'~'));
        fits.then_some(uidl)
    }

    /// What this message was called; `None` where its own header said so, and goes on saying so.
    pub(crate) fn of(&self, uid: u32, uid_validity: u32, md5: &[u8; 16], has_x_uidl: bool) -> Option<String> {
        (!self.reuse_x_uidl || !has_x_uidl).then(|| self.expand(uid, uid_validity, md5))
    }

    fn expand(&self, uid: u32, uid_validity: u32, md5: &[u8; 16]) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value { of, zeros, width, how } => {
                    let value = match (of, how) {
                        (Variable::Guid, _) => format!("{:032x}", u128::from_be_bytes(*md5)),
                        (Variable::Uid, How::Hex) => format!("{uid:x}"),
                        (Variable::Validity, How::Hex) => format!("{uid_validity:x}"),
                        (Variable::Uid, _) => uid.to_string(),
                        (Variable::Validity, _) => uid_validity.to_string(),
                    };
                    let value = if *how == How::Upper { value.to_ascii_uppercase() } else { value };
                    pad(&mut out, &value, *zeros, *width);
                }
            }
        }
        out
    }
}

/// A width cuts, but with `0` in front it only fills up.
fn pad(out: &mut String, value: &str, zeros: bool, width: usize) {
    if zeros {
        // Writing to a String cannot fail.
        let _ = write!(out, "{value:0>width$}");
    } else if width > 0 {
        out.push_str(&value[..value.len().min(width)]);
    } else {
        out.push_str(value);
    }
}

impl Part {
    fn parse(text: &str) -> Option<(Part, &str)> {
        if let Some(tail) = text.strip_prefix('%') {
            return Some((Part::Text("%".into()), tail));
        }
        let (zeros, text) = text.strip_prefix('0').map_or((false, text), |tail| (true, tail));
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let width = if digits == 0 { 0 } else { text[..digits].parse().ok().filter(|w| *w <= LONGEST)? };
        let mut chars = text[digits..].chars();
        let mut key = chars.next()?;
        let how = match key {
            'X' => How::Hex,
            'U' => How::Upper,
            'L' => How::Lower,
            _ => How::Plain,
        };
        if how != How::Plain {
            key = chars.next()?;
        }
        let of = match key {
            'u' => Variable::Uid,
            'v' => Variable::Validity,
            'g' | 'm' if how != How::Hex => Variable::Guid,
            _ => return None,
        };
        Some((Part::Value { of, zeros, width, how }, chars.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: [u8; 16] = *b"\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e";

    fn expand(format: &str) -> Option<String> {
        Uidl::parse(format, false)?.of(42, 1_000_000_007, &MD5, true)
    }

    #[test]
    fn formats_expand_as_dovecot_expands_them() {
        for (format, expected) in [
            ("%g", "d41d8cd98f00b204e9800998ecf8427e"),
            ("%m", "d41d8cd98f00b204e9800998ecf8427e"),
            ("%Ug", "D41D8CD98F00B204E9800998ECF8427E"),
            ("%08Xu%08Xv", "0000002a3b9aca07"),
            ("%v.%u", "1000000007.42"),
            ("%8g-%u", "d41d8cd9-42"),
            ("100%%%g", "100%d41d8cd98f00b204e9800998ecf8427e"),
        ] {
            assert_eq!(expand(format).as_deref(), Some(expected), "{format}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_or_stored_is_refused() {
        for format in ["", "%f", "%g ", "%", "%0", "%Xg", "%99u", "%g%g%g", "%Mf", "ü%g"] {
            assert_eq!(Uidl::parse(format, false), None, "{format}");
        }
    }

    #[test]
    fn a_header_goes_first_where_the_server_says_so() {
        let uidl = Uidl::parse("%g", true).unwrap();
        assert_eq!(uidl.of(1, 1, &MD5, true), None);
        assert!(uidl.of(1, 1, &MD5, false).is_some());
    }
}
