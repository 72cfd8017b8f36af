//! The name of one run, unique for ever.

use crate::{Error, Result};
use jiff::Timestamp;
use std::fmt;

/// `YYYYMMDDThhmmssZ-` and 16 lower-case hex digits; 33 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

const LEN: usize = 33;

impl RunId {
    /// A new one: the present second and 64 bits of the kernel's random source.
    pub fn generate() -> Result<Self> {
        let random = u64::from_ne_bytes(random_bytes()?);
        Ok(RunId(format!("{}-{random:016x}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))))
    }

    /// Takes exactly the form above; this is also the check on what another process says.
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == LEN
            && text.bytes().enumerate().all(|(i, b)| match i {
                8 => b == b'T',
                15 => b == b'Z',
                16 => b == b'-',
                0..=14 => b.is_ascii_digit(),
                _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            });
        well_formed.then(|| RunId(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The random half: what makes file names of this run unlike those of every other.
    pub(crate) fn random(&self) -> &str {
        &self.0[LEN - 16..]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes of the kernel's random source, by the system call: no file has to be reachable for it.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::io("read", "the kernel's random source"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_is_well_formed_and_new() {
        let (a, b) = (RunId::generate().unwrap(), RunId::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(RunId::parse(a.as_str()), Some(a.clone()));
        assert_eq!(a.random().len(), 16);
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "20261122T013051Z-0123456789abcde",
            "20261122T013051Z-0123456789ABCDEF",
            "20261122T013051Z/0123456789abcdef",
            "20261122T013051Z-0123456789abcdef0",
            "../../..//////////////////////////",
        ] {
            assert_eq!(RunId::parse(text), None, "{text:?}");
        }
    }
}
