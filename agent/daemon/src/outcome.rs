//! What a conversion can end as, and what it says on the way. All of these are safe to meet again: asking twice gives the same or a later answer.

use std::fmt;

/// How one conversion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This run put the Maildir in place.
    Converted {
        /// Run id.
        run: String,
        /// Messages in the Maildir at the commit.
        messages: u64,
    },
    /// The mailbox was on Maildir before.
    Already {
        /// Run id of the conversion that did it.
        run: String,
    },
    /// Sessions are using the mbox and may not be ended; nothing was changed. Ask again when they have ended.
    Busy(Reason),
    /// The mailbox cannot be converted until somebody mends what the reason names; nothing was changed.
    Blocked(Reason),
    /// Something went wrong that may pass; the mbox is in use as before.
    Failed(Reason),
    /// The agent is stopping; the mbox is in use as before.
    Stopped,
}

/// Code of the reason of a user who keeps the own worker from working: the mailbox rests for long.
pub const WORKER_STOPPED: &str = "worker-stopped";

/// Why not, in a form that an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable word for programs, for example `maildir-exists`.
    pub code: &'static str,
    /// One sentence: what is in the way.
    pub text: String,
    /// One sentence: what to do about it; empty if it passes by itself.
    pub mend: String,
}

impl Reason {
    /// A reason with its mending step.
    pub fn new(code: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { code, text: text.into(), mend: mend.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.mend.is_empty() {
            write!(f, " ({})", self.mend)?;
        }
        Ok(())
    }
}

/// On whose behalf a conversion runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Background work: gives way to everything.
    Background,
    /// An operator asked for this user.
    Operator,
    /// The user is arriving.
    Arrival,
}

/// Where a running conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Messages are being written into the stage; no lock is held.
    Staging,
    /// The stage stands; sessions are being ended, Dovecot's pending flags written out.
    Gate,
    /// Under the mailbox's locks.
    Committing,
    /// The Maildir is in place; the rest is rolled forward.
    Finishing,
}

/// Progress of a running conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it is.
    pub stage: Stage,
    /// Messages written so far.
    pub messages: u64,
    /// Bytes of the mbox read so far.
    pub bytes: u64,
    /// Bytes of the mbox in all.
    pub bytes_total: u64,
}
