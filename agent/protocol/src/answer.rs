//! What the agent answers: sixteen bytes.

use std::fmt;

use crate::{MAGIC, VERSION};

/// One answer. All but [`Answer::Wait`] are the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The announcement is noted; nothing more will be said about it.
    Taken,
    /// The mail is under way, go on waiting. Only this buys more time than the first answer's, and only until the
    /// next one is due.
    Wait(Progress),
    /// The Maildir is the mail.
    Ready,
    /// The mbox is the mail, and stays it for as long as the lease holds.
    Stay(Reason),
    /// The request itself was wrong. For whoever waits this means the same as [`Answer::Stay`].
    Refused(Reason),
}

/// How far a conversion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Messages done.
    pub done: u32,
    /// Messages in all; 0 while nobody has counted them.
    pub total: u32,
}

/// Why the mbox stays, or why a request was refused. A client shows it; it acts alike on all of them, so a reason that
/// it does not know yet ([`Reason::Other`]) is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// None was given.
    Unspecified,
    /// This user is not among those to be converted (`users.convert`).
    NotSelected,
    /// The user is held back.
    Held,
    /// Mailbox or site cannot be converted; `mailready explain USER` says what blocks it and how to mend it.
    Blocked,
    /// Sessions that cannot be ended now have the mbox open.
    Busy,
    /// As many leases wait already as may (`sessions.max_waiting`).
    Crowded,
    /// The budget ran out before the mail was ready; the conversion goes on.
    Late,
    /// The agent has only just started, or is about to end.
    Unsettled,
    /// The conversion failed; the mbox is as it was.
    Failed,
    /// The user's mail is on its way back to mbox.
    RollingBack,
    /// The user has no mbox here.
    NoMail,
    /// The agent could not make sense of the request.
    Malformed,
    /// This peer may not speak for this user, or not as this source.
    NotAllowed,
    /// There is no such user.
    UnknownUser,
    /// Too many requests from this peer at once.
    TooMany,
    /// Arrivals from this source or service do not count (`arrival.sources`, `arrival.services`).
    NotCounted,
    /// The connection ended without an answer. Made by the client, which takes it as [`Answer::Stay`]; never sent.
    HungUp,
    /// A reason that this version does not know.
    Other(u8),
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// Not the sixteen bytes of an answer.
    Length(usize),
    /// Not of this protocol at all.
    Magic,
    /// Of a version that this program does not speak.
    Version(u8),
    /// A byte that means nothing where it stands.
    Unknown {
        /// The field's name in `ARCHITECTURE.md`.
        field: &'static str,
        /// Where it stands in the packet, counted from 0.
        at: usize,
        /// What was there.
        value: u8,
    },
}

const TAKEN: u8 = 1;
const WAIT: u8 = 2;
const READY: u8 = 3;
const STAY: u8 = 4;
const REFUSED: u8 = 5;

impl Answer {
    /// Bytes in an answer.
    pub const LEN: usize = 16;

    /// The packet that says this.
    pub fn encode(self) -> [u8; Self::LEN] {
        let (kind, reason, progress) = match self {
            Answer::Taken => (TAKEN, 0, Progress::default()),
            Answer::Wait(progress) => (WAIT, 0, progress),
            Answer::Ready => (READY, 0, Progress::default()),
            Answer::Stay(reason) => (STAY, reason.code(), Progress::default()),
            Answer::Refused(reason) => (REFUSED, reason.code(), Progress::default()),
        };
        let [d0, d1, d2, d3] = progress.done.to_le_bytes();
        let [t0, t1, t2, t3] = progress.total.to_le_bytes();
        let [m0, m1] = MAGIC;
        [m0, m1, VERSION, kind, reason, 0, 0, 0, d0, d1, d2, d3, t0, t1, t2, t3]
    }

    /// Reads a packet. The two counts mean nothing but in `wait`, and are not looked at elsewhere.
    pub fn decode(packet: &[u8]) -> Result<Answer, AnswerError> {
        let Ok(&packet) = <&[u8; Self::LEN]>::try_from(packet) else {
            return Err(AnswerError::Length(packet.len()));
        };
        let [m0, m1, version, kind, reason, zeros @ .., d0, d1, d2, d3, t0, t1, t2, t3] = packet;
        if [m0, m1] != MAGIC {
            return Err(AnswerError::Magic);
        }
        if version != VERSION {
            return Err(AnswerError::Version(version));
        }
        for (at, value) in (5..).zip(zeros) {
            if value != 0 {
                return Err(AnswerError::Unknown { field: "zero", at, value });
            }
        }
        let answer = match kind {
            TAKEN => Answer::Taken,
            WAIT => Answer::Wait(Progress {
                done: u32::from_le_bytes([d0, d1, d2, d3]),
                total: u32::from_le_bytes([t0, t1, t2, t3]),
            }),
            READY => Answer::Ready,
            STAY => return Ok(Answer::Stay(Reason::from_code(reason))),
            REFUSED => return Ok(Answer::Refused(Reason::from_code(reason))),
            value => return Err(AnswerError::Unknown { field: "kind", at: 3, value }),
        };
        match reason {
            0 => Ok(answer),
            value => Err(AnswerError::Unknown { field: "reason", at: 4, value }),
        }
    }
}

/// Code, reason, word: the one table of reasons. Codes from 32 on refuse; 255 is never sent.
const REASONS: [(u8, Reason, &str); 17] = [
    (0, Reason::Unspecified, "unspecified"),
    (1, Reason::NotSelected, "not-selected"),
    (2, Reason::Held, "held"),
    (3, Reason::Blocked, "blocked"),
    (4, Reason::Busy, "busy"),
    (5, Reason::Crowded, "crowded"),
    (6, Reason::Late, "late"),
    (7, Reason::Unsettled, "unsettled"),
    (8, Reason::Failed, "failed"),
    (9, Reason::RollingBack, "rolling-back"),
    (10, Reason::NoMail, "no-mail"),
    (32, Reason::Malformed, "malformed"),
    (33, Reason::NotAllowed, "not-allowed"),
    (34, Reason::UnknownUser, "unknown-user"),
    (35, Reason::TooMany, "too-many"),
    (36, Reason::NotCounted, "not-counted"),
    (255, Reason::HungUp, "hung-up"),
];

impl Reason {
    /// The byte that stands for it.
    pub fn code(self) -> u8 {
        match self {
            Reason::Other(code) => code,
            known => REASONS.iter().find(|(_, reason, _)| *reason == known).map_or(0, |(code, ..)| *code),
        }
    }

    /// The reason that a byte stands for.
    pub fn from_code(code: u8) -> Reason {
        REASONS
            .iter()
            .find(|(known, ..)| *known == code)
            .map_or(Reason::Other(code), |(_, reason, _)| *reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match REASONS.iter().find(|(_, reason, _)| reason == self) {
            Some((_, _, word)) => f.write_str(word),
            None => write!(f, "reason-{}", self.code()),
        }
    }
}

/// One line without spaces at its ends: the word first, for scripts, then what belongs to it.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Taken => write!(f, "taken"),
            Answer::Wait(Progress { done, total: 0 }) => write!(f, "wait {done}"),
            Answer::Wait(Progress { done, total }) => write!(f, "wait {done}/{total}"),
            Answer::Ready => write!(f, "ready"),
            Answer::Stay(reason) => write!(f, "stay {reason}"),
            Answer::Refused(reason) => write!(f, "refused {reason}"),
        }
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::Length(len) => write!(f, "the answer has {len} bytes, not {}", Answer::LEN),
            AnswerError::Magic => write!(f, "not an answer of mailready"),
            AnswerError::Version(version) => {
                write!(f, "an answer of version {version}; this program speaks version {VERSION}")
            }
            AnswerError::Unknown { field, at, value } => {
                write!(f, "the answer's {field} (byte {at}) is {value}, which means nothing")
            }
        }
    }
}

impl std::error::Error for AnswerError {}
