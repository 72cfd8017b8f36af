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
    /// `original_gone` (t): unix seconds when the originals were removed, after `keep.original_days`.
    pub original_gone: Option<u64>,
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

#[cfg(test)]
mod tests {
    use zbus::Type;
    use zbus::message::Message;

    use super::*;
    use crate::{Answer, ConvertOptions, Converted};

    #[test]
    fn the_signatures_are_those_of_the_contract() {
        assert_eq!(<Vec<UserStatus>>::SIGNATURE.to_string(), "a(ssa{sv})");
        assert_eq!(<Vec<Converted>>::SIGNATURE.to_string(), "a(sss)");
        assert_eq!(ConvertOptions::SIGNATURE.to_string(), "a{sv}");
    }

    #[test]
    fn what_is_not_known_is_not_sent_and_what_a_later_agent_knows_is_passed_over() {
        use std::collections::HashMap;
        use zbus::Variant;

        let details = Details { messages: Some(3), ..Details::default() };
        let sent = Message::signal("/x", "x.y", "Z").build(&(details.clone(),)).unwrap();
        let body = sent.body();
        let (seen,): (HashMap<String, Variant<'_>>,) = body.deserialize().unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen["messages"], Variant::from(3u64));

        let later = HashMap::from([("messages", Variant::from(3u64)), ("colour", Variant::from("blue"))]);
        let sent = Message::signal("/x", "x.y", "Z").build(&(later,)).unwrap();
        let body = sent.body();
        let (read,): (Details,) = body.deserialize().unwrap();
        assert_eq!(read, details);
    }

    #[test]
    fn every_word_reads_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        for answer in Answer::ALL {
            assert_eq!(Answer::parse(answer.as_str()), Some(answer));
        }
        assert_eq!(State::parse("teleported"), None);
    }
}
