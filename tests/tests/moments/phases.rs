//! Where in a login a session stood when it was stopped.

use std::fmt;

use mailready_tests::stops::Place;

/// The part of a login, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody has asked the agent yet: it knows nothing of this session.
    BeforeTheLease,
    /// The agent is being asked; of an imap or pop3 process: its script is at work by itself.
    InTheRequest,
    /// The answer is there, the script has not given its word to the session yet.
    AfterTheAnswer,
    /// The session has the script's word and goes on by itself, until the inbox is selected or further.
    InTheSession,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::BeforeTheLease, Self::InTheRequest, Self::AfterTheAnswer, Self::InTheSession];

    /// The phase of a login whose script has made these calls. One process stands before one of them, but its children go on,
    /// so the list may be longer than to there.
    pub fn of_script(places: &[Place], stands: &Place) -> Self {
        let done = |program: &str, call: &str| {
            let is_it = |place: &Place| place.program == program && place.call == call;
            places.iter().any(|place| place.number != stands.number && is_it(place))
        };
        // At its end script-login hands the session back, with the script's environment.
        if done("script-login", "sendmsg") {
            Self::InTheSession
        } else if done("mailready-notify", "exit_group") {
            Self::AfterTheAnswer
        } else if done("mailready-notify", "sendmsg") {
            Self::InTheRequest
        } else {
            Self::BeforeTheLease
        }
    }

    /// The phase of an imap or pop3 process that has made these calls. By one `sendmsg` it hands its client over to the script,
    /// which then goes its own way, and in `recvmsg` it waits for the script's word.
    pub fn of_session(places: &[Place], stands: &Place) -> Self {
        let done = |call: &str| places.iter().any(|place| place.number < stands.number && place.call == call);
        match (done("sendmsg"), done("recvmsg")) {
            (false, _) => Self::BeforeTheLease,
            (true, false) => Self::InTheRequest,
            (true, true) => Self::InTheSession,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeTheLease => "before the lease",
            Self::InTheRequest => "in the request",
            Self::AfterTheAnswer => "after the answer",
            Self::InTheSession => "in the session",
        })
    }
}
