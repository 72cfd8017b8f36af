//! The name of one run, unique for ever.
use crate::Result;
use std::fmt;

/// `YYYYMMDDThhmmssZ-` and 16 lower-case hex digits; 33 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    /// A new one: the present second and 64 bits of the kernel's random source.
    pub fn generate() -> Result<Self> {
        Err(crate::Error::Cancelled)
    }
    /// Takes exactly the form above; this is also the check on what another process says.
    pub fn parse(_text: &str) -> Option<Self> {
        None
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
