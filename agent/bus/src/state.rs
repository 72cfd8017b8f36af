//! Where a user stands.

use std::fmt;

/// Where a user stands, one word each on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// `mbox`: the mbox is the mail, and nothing is under way.
    Mbox,
    /// `staging`: the Maildir is being written; the mbox is the mail.
    Staging,
    /// `staged`: a Maildir is prepared; the mbox is the mail.
    Staged,
    /// `waiting`: a conversion waits, for its turn or for sessions to end; the mbox is the mail.
    Waiting,
    /// `committing`: under the mailbox's locks, for a moment.
    Committing,
    /// `maildir`: the Maildir is the mail.
    Maildir,
    /// `held`: not to be converted; the mbox is the mail.
    Held,
    /// `blocked`: cannot be converted until somebody mends the reason; the mbox is the mail.
    Blocked,
    /// `failed`: went wrong and will be tried again; the mbox is the mail.
    Failed,
    /// `rollingback`: is being given back mboxes; logins wait for the last moment of it.
    RollingBack,
    /// `rolledback`: was on Maildir and has been given back an mbox.
    RolledBack,
}

impl State {
    /// All of them, in the order of a mailbox's life.
    pub const ALL: [Self; 11] = [
        Self::Mbox,
        Self::Staging,
        Self::Staged,
        Self::Waiting,
        Self::Committing,
        Self::Maildir,
        Self::Held,
        Self::Blocked,
        Self::Failed,
        Self::RollingBack,
        Self::RolledBack,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mbox => "mbox",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Waiting => "waiting",
            Self::Committing => "committing",
            Self::Maildir => "maildir",
            Self::Held => "held",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::RollingBack => "rollingback",
            Self::RolledBack => "rolledback",
        }
    }

    /// The state of a word; None for one that a later agent may know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
