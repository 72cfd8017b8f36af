//! `dovecot-uidlist` (version 3) (formats.md 3.4).

use std::fmt::Write as _;

/// Its name.
pub(crate) const NAME: &str = "dovecot-uidlist";

/// First line.
pub(crate) fn head(uid_validity: u32, uid_next: u32, guid: &[u8; 16]) -> String {
    let guid = u128::from_be_bytes(*guid);
    format!("3 V{uid_validity} N{uid_next} G{guid:032x}\n")
}

/// By what else than its UID a message is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    /// Its GUID; without one, the file's name is it.
    pub(crate) guid: Option<[u8; 16]>,
    /// What POP3 clients know it by, where that does not follow from the server's settings.
    pub(crate) uidl: Option<String>,
}

/// Appends a message's line; `file` is the name without `:2,`.
pub(crate) fn line(text: &mut String, uid: u32, ids: &Ids, file: &str) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{uid} ");
    if let Some(guid) = &ids.guid {
        let _ = write!(text, "G{:032x} ", u128::from_be_bytes(*guid));
    }
    if let Some(uidl) = &ids.uidl {
        let _ = write!(text, "P{uidl} ");
    }
    let _ = writeln!(text, ":{file}");
}

/// UID and base name of a line; `None` if it is none.
pub(crate) fn parse(line: &str) -> Option<(u32, &str)> {
    // A field has no space, and the name stands behind the first field that begins with a colon.
    let (fields, file) = line.split_once(" :")?;
    Some((fields.split(' ').next()?.parse().ok()?, file))
}

/// The GUID that a line gives its message.
pub(crate) fn guid(line: &str) -> Option<[u8; 16]> {
    let (fields, _) = line.split_once(" :")?;
    let guid = fields.split(' ').skip(1).find_map(|field| field.strip_prefix('G'))?;
    u128::from_str_radix(guid, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        for (ids, expected) in [
            (Ids::default(), "7 :1.M2.x,S=3\n"),
            (Ids { guid: Some([0xab; 16]), uidl: None }, "7 Gabababababababababababababababab :1.M2.x,S=3\n"),
            (
                Ids { guid: Some([0; 16]), uidl: Some("a:b".into()) },
                "7 G00000000000000000000000000000000 Pa:b :1.M2.x,S=3\n",
            ),
        ] {
            let mut text = String::new();
            line(&mut text, 7, &ids, "1.M2.x,S=3");
            assert_eq!(text, expected);
            let line = text.trim_end();
            assert_eq!((parse(line), guid(line)), (Some((7, "1.M2.x,S=3")), ids.guid));
        }
    }

    #[test]
    fn what_is_no_line_is_none() {
        for line in ["", "x :f", "7", "7:f", "4294967296 :f"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
