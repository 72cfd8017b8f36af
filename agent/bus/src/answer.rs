//! What `Convert` takes and gives; `Rollback` gives the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use zbus::{DeserializeDict, SerializeDict, Type};

/// Options of `Convert`; a key that is not there is false.
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}")]
pub struct ConvertOptions {
    /// `all`: all users that may be converted by the configuration; the list of users must be empty.
    pub all: Option<bool>,
    /// `wait`: answer only when open sessions have ended and the users are converted, or the wait limit has passed.
    /// Else a user whose sessions may not be ended is answered with `waiting`, and nothing is changed.
    pub wait: Option<bool>,
    /// `dry_run`: look and tell, change nothing.
    pub dry_run: Option<bool>,
}

/// How a request for one user ended, one word each on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Answer {
    /// `converted`: now on Maildir.
    Converted,
    /// `already`: was on Maildir before.
    Already,
    /// `would-convert`: a dry run found nothing in the way.
    WouldConvert,
    /// `waiting`: sessions use the mailbox and may not be ended; nothing was changed.
    Waiting,
    /// `held`: there is a hold; the text says whose and why.
    Held,
    /// `blocked`: cannot be converted until somebody mends the reason; nothing was changed.
    Blocked,
    /// `failed`: went wrong and may pass; nothing was changed.
    Failed,
    /// `stopped`: the agent is stopping; nothing was changed.
    Stopped,
    /// `refused`: no such user, a user that may never be converted, or none of the caller's business.
    Refused,
    /// `rolledback`: now on mbox again.
    RolledBack,
    /// `mbox`: was not on Maildir, so there is nothing to roll back or to verify.
    OnMbox,
    /// `verified`: the original as Dovecot reads it is in the Maildir, or was expunged since.
    Verified,
    /// `damaged`: it is not; the figures say how much.
    Damaged,
}

impl Answer {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Converted,
        Self::Already,
        Self::WouldConvert,
        Self::Waiting,
        Self::Held,
        Self::Blocked,
        Self::Failed,
        Self::Stopped,
        Self::Refused,
        Self::RolledBack,
        Self::OnMbox,
        Self::Verified,
        Self::Damaged,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Converted => "converted",
            Self::Already => "already",
            Self::WouldConvert => "would-convert",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
            Self::RolledBack => "rolledback",
            Self::OnMbox => "mbox",
            Self::Verified => "verified",
            Self::Damaged => "damaged",
        }
    }

    /// The answer of a word; None for one that a later agent may know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|answer| answer.as_str() == word)
    }

    /// Whether the user's mail is in the Maildir now.
    #[must_use]
    pub const fn is_on_maildir(self) -> bool {
        matches!(self, Self::Converted | Self::Already)
    }

    /// Whether the user's mail is in the mbox now, and was to be.
    #[must_use]
    pub const fn is_on_mbox(self) -> bool {
        matches!(self, Self::RolledBack | Self::OnMbox)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `Convert` gives for one user, and `Rollback` for its one: `(sss)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Converted {
    /// The user, as named in the request (or by the account, for `all`).
    pub user: String,
    /// A word of [`Answer`]; text, because a later agent may know more.
    pub answer: String,
    /// One line for people: what was done, or the reason and the mending step. May be empty.
    pub text: String,
}

impl Converted {
    /// Puts one together.
    pub fn new(user: impl Into<String>, answer: Answer, text: impl Into<String>) -> Self {
        Self { user: user.into(), answer: answer.as_str().to_owned(), text: text.into() }
    }

    /// The answer, if it is one we know.
    #[must_use]
    pub fn known_answer(&self) -> Option<Answer> {
        Answer::parse(&self.answer)
    }
}
