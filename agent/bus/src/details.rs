//! What is told of one user besides the state: the `a{sv}` of `Status` and `MailboxChanged`.

use serde::{Deserialize, Serialize};
use zbus::{DeserializeDict, SerializeDict, Type};

use crate::State;

/// The details, each under the key of its field's name; all are optional, and readers pass over keys they do not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}")]
pub struct Details {
    /// `run` (s): id of the run that is under way or that did it.
    pub run: Option<String>,
    /// `messages` (t): messages written so far, or in the Maildir at its commit.
    pub messages: Option<u64>,
    /// `messages_total` (t): messages in all, where known.
    pub messages_total: Option<u64>,
    /// `bytes` (t): bytes of the mbox read so far.
    pub bytes: Option<u64>,
    /// `bytes_total` (t): bytes of the mbox in all.
    pub bytes_total: Option<u64>,
    /// `reason` (s): one sentence: why the user is held, blocked, waiting or failed.
    pub reason: Option<String>,
    /// `code` (s): the reason as a stable word for programs, such as `maildir-exists`.
    pub code: Option<String>,
    /// `mend` (s): one sentence: what to do about it.
    pub mend: Option<String>,
    /// `since` (t): unix seconds when this state began.
    pub since: Option<u64>,
    /// `until` (t): unix seconds when a hold ends or the next try comes.
    pub until: Option<u64>,
    /// `by` (s): who holds, the operator's name.
    pub by: Option<String>,
    /// `ahead` (u): mailboxes before this one in the queue.
    pub ahead: Option<u32>,
    /// `mail` (s): where the mail is now, a path.
    pub mail: Option<String>,
    /// `original` (s): where the original mbox is kept, a path.
    pub original: Option<String>,
    /// `uid` (u): the account's uid.
    pub uid: Option<u32>,
}

/// What `Status` gives for one user: `(ssa{sv})`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct UserStatus {
    /// The user.
    pub user: String,
    /// A word of [`State`]; text, because a later agent may know more.
    pub state: String,
    /// The rest.
    pub details: Details,
}

impl UserStatus {
    /// Puts one together.
    pub fn new(user: impl Into<String>, state: State, details: Details) -> Self {
        Self { user: user.into(), state: state.as_str().to_owned(), details }
    }

    /// The state, if it is one we know.
    #[must_use]
    pub fn known_state(&self) -> Option<State> {
        State::parse(&self.state)
    }
}
