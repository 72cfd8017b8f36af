//! Folder names: as people write them, as IMAP clients and Dovecot's mbox tree have them (modified UTF-7, RFC 3501 5.1.3).
//!
//! Written for the tests alone. The converter has its own; were it used here, an error in it would be on both sides.

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// A folder name in modified UTF-7: what clients send, and what the mbox is called on disk.
#[must_use]
pub fn wire(name: &str) -> String {
    let mut wire = String::new();
    let mut run = Vec::new();
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            shift(&mut wire, &mut run);
            wire.push(character);
            if character == '&' {
                wire.push('-');
            }
        } else {
            let mut units = [0; 2];
            run.extend(character.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    shift(&mut wire, &mut run);
    wire
}

/// Writes out what has gathered of characters that are not printable ASCII: `&BASE64-`, without padding.
fn shift(wire: &mut String, run: &mut Vec<u8>) {
    if run.is_empty() {
        return;
    }
    wire.push('&');
    for bytes in run.chunks(3) {
        let word =
            bytes.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - bytes.len()));
        for digit in 0..=bytes.len() {
            wire.push(char::from(BASE64[(word >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    wire.push('-');
    run.clear();
}

/// Folders as people name them over the years; any layout can keep these.
pub const PLAIN: [&str; 16] = [
    "Sent",
    "sent",
    "Drafts",
    "Trash",
    "Entwürfe",
    "Kunden/Müller & Söhne",
    "R&D",
    "with some spaces",
    "日本語/下書き",
    "lists/debian/d-user",
    "lists/debian/d-devel",
    "lists/rust",
    "a/b/c/d/e",
    "Archive/2019",
    "keywords",
    "empty",
];

/// Names that only `layout = "fs"` can keep: its levels may have dots.
pub const WITH_DOTS: [&str; 3] = ["lists/v1.2", "example.org/info", "Re. holidays"];

#[cfg(test)]
mod tests {
    use super::wire;

    /// The examples of RFC 3501, and the one that every German server has.
    #[test]
    fn names_are_written_as_the_standard_says() {
        assert_eq!(wire("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(wire("Entwürfe"), "Entw&APw-rfe");
        assert_eq!(wire("R&D"), "R&-D");
        assert_eq!(wire("😀"), "&2D3eAA-");
    }
}
