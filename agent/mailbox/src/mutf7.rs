//! Modified UTF-7 (RFC 3501 section 5.1.3): how Dovecot 2.3 writes mailbox names on disk, for mbox and Maildir alike.
//!
//! The judge is Dovecot's imap-utf7.c. It decodes a little more than it would ever write (bits left over at the end of a run); a name
//! like that is listed to clients and then cannot be opened, because it is looked up by what encoding gives. So here only
//! what encoding gives is decoded.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// The form on disk of a UTF-8 name.
pub(crate) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut run = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            close(&mut run, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            run.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    close(&mut run, &mut out);
    out
}

/// Ends a run of characters that have to be encoded.
fn close(run: &mut Vec<u16>, out: &mut String) {
    if run.is_empty() {
        return;
    }
    out.push('&');
    let (mut bits, mut held) = (0_u32, 0);
    for unit in run.drain(..) {
        bits = bits << 16 | u32::from(unit);
        held += 16;
        while held >= 6 {
            held -= 6;
            out.push(digit(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(digit(bits << (6 - held)));
    }
    out.push('-');
}

fn digit(bits: u32) -> char {
    char::from(DIGITS[(bits & 63) as usize])
}

/// The UTF-8 name of one on disk; `None` where [`encode`] would never write that.
pub(crate) fn decode(disk: &[u8]) -> Option<String> {
    let disk = std::str::from_utf8(disk).ok()?;
    let mut name = String::with_capacity(disk.len());
    let mut rest = disk;
    while let Some((before, run)) = rest.split_once('&') {
        name.push_str(before);
        let (run, behind) = run.split_once('-')?;
        if run.is_empty() {
            name.push('&');
        } else {
            decode_run(run, &mut name)?;
        }
        rest = behind;
    }
    name.push_str(rest);
    // A NUL would end the name early wherever it is looked up.
    (encode(&name) == disk && !name.contains('\0')).then_some(name)
}

fn decode_run(run: &str, name: &mut String) -> Option<()> {
    let mut units = Vec::with_capacity(run.len() / 2);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in run.bytes() {
        let value = DIGITS.iter().position(|digit| *digit == byte)?;
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    char::decode_utf16(units).try_for_each(|c| c.map(|c| name.push(c))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_written_as_dovecot_writes_them() {
        for (name, disk) in [
            ("plain name", "plain name"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("a&b", "a&-b"),
            ("&", "&-"),
            ("日本語", "&ZeVnLIqe-"),
            ("🙂", "&2D3eQg-"),
            ("é&é", "&AOk-&-&AOk-"),
            ("tab\there", "tab&AAk-here"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("", ""),
        ] {
            assert_eq!(encode(name), disk);
            assert_eq!(decode(disk.as_bytes()).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_dovecot_never_writes_is_no_name() {
        let wrong: [&[u8]; 11] = [
            b"a&b",
            b"&",
            b"&AOk",
            b"&AOk-&AOk-",
            b"&AGE-",
            b"&AO-",
            b"&AOl-",
            b"&2D0-",
            b"&AAA-",
            "ü".as_bytes(),
            b"\xff",
        ];
        for disk in wrong {
            assert_eq!(decode(disk), None, "{}", disk.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "[^\0]{0,20}") {
            let disk = encode(&name);
            prop_assert!(disk.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(decode(disk.as_bytes()), Some(name));
        }

        #[test]
        fn no_two_forms_on_disk_are_one_name(disk in "[&AOkz0+,-]{0,12}") {
            if let Some(name) = decode(disk.as_bytes()) {
                prop_assert_eq!(encode(&name), disk);
            }
        }
    }
}
