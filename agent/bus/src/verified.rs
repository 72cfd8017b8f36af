//! What `Verify` gives.

use serde::{Deserialize, Serialize};
use zbus::{DeserializeDict, SerializeDict, Type};

use crate::Answer;

/// The figures of a verification, each under the key of its field's name; a key that is not there is not known. Messages, each counted once, but for the last two figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}")]
pub struct Checked {
    /// `same` (t): Dovecot's reading of the original, the receipt and the Maildir agree.
    pub same: Option<u64>,
    /// `gone` (t): expunged since the conversion.
    pub gone: Option<u64>,
    /// `lost` (t): Dovecot lists it in the Maildir, and there is no file.
    pub lost: Option<u64>,
    /// `damaged` (t): in the Maildir with other bytes or another date.
    pub damaged: Option<u64>,
    /// `unknown` (t): in the original as Dovecot reads it, and not in the receipt, or otherwise there.
    pub unknown: Option<u64>,
    /// `unseen` (t): in the receipt, and Dovecot did not show it.
    pub unseen: Option<u64>,
    /// `mailboxes` (t): mailboxes that were checked.
    pub mailboxes: Option<u64>,
    /// `missing` (t): mailboxes whose original is not there any more, and could not be checked.
    pub missing: Option<u64>,
    /// `reason` (s): one sentence: why nothing could be verified.
    pub reason: Option<String>,
}

impl Checked {
    /// Whether nothing is lost, damaged, or otherwise than the receipt says.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        [self.lost, self.damaged, self.unknown, self.unseen].iter().all(|count| *count == Some(0))
    }
}

/// What `Verify` gives for its user: `(ssa{sv})`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Verified {
    /// The user, as named in the request.
    pub user: String,
    /// A word of [`Answer`]: `verified`, `damaged`, or why nothing could be verified.
    pub answer: String,
    /// The figures.
    pub checked: Checked,
}

impl Verified {
    /// Puts one together.
    pub fn new(user: impl Into<String>, answer: Answer, checked: Checked) -> Self {
        Self { user: user.into(), answer: answer.as_str().to_owned(), checked }
    }

    /// One that could not be done, and why.
    pub fn not(user: impl Into<String>, answer: Answer, reason: impl Into<String>) -> Self {
        let reason = Some(reason.into()).filter(|reason: &String| !reason.is_empty());
        Self::new(user, answer, Checked { reason, ..Checked::default() })
    }

    /// The answer, if it is one we know.
    #[must_use]
    pub fn known_answer(&self) -> Option<Answer> {
        Answer::parse(&self.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_contract() {
        assert_eq!(Verified::SIGNATURE.to_string(), "(ssa{sv})");
    }

    #[test]
    fn only_all_figures_at_zero_are_sound() {
        let sound = Checked {
            same: Some(3),
            gone: Some(2),
            lost: Some(0),
            damaged: Some(0),
            unknown: Some(0),
            unseen: Some(0),
            ..Checked::default()
        };
        assert!(sound.is_sound());
        for spoilt in [
            Checked { lost: Some(1), ..sound.clone() },
            Checked { damaged: Some(1), ..sound.clone() },
            Checked { unknown: Some(1), ..sound.clone() },
            Checked { unseen: Some(1), ..sound.clone() },
            Checked { unseen: None, ..sound.clone() },
        ] {
            assert!(!spoilt.is_sound(), "{spoilt:?}");
        }
    }
}
