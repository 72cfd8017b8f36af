//! What is wrong with the site.

use crate::outcome::Reason;

/// One thing that is wrong, and the lines to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) text: String,
    pub(super) mend: String,
}

impl Fault {
    pub(super) fn new(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { text: text.into(), mend: mend.into() }
    }

    /// The same, of something that is named first.
    pub(super) fn of(self, what: impl std::fmt::Display) -> Self {
        Self { text: format!("{what} {}", self.text), ..self }
    }
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        Reason::new("site", fault.text, fault.mend)
    }
}
