//! Hashes as text.

/// 64 hex digits to a hash.
pub(crate) fn parse(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|h| *h.as_bytes())
}

/// A hash as 64 lower-case hex digits.
pub(crate) fn text(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}
