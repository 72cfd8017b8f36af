//! The names of the protocol's steps, shared by the architecture page, the agent, the worker and the model.

use std::fmt;
use std::str::FromStr;

/// Which of the two processes takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// `mailready-agent`: the spool folder, the state folder, locks and leases.
    Agent,
    /// `mailready-worker`: everything below the user's home.
    Worker,
}

impl Who {
    /// The name in a trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Who::Agent => "agent",
            Who::Worker => "worker",
        }
    }
}

impl FromStr for Who {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Who, UnknownName> {
        match name {
            "agent" => Ok(Who::Agent),
            "worker" => Ok(Who::Worker),
            _ => Err(UnknownName(name.to_owned())),
        }
    }
}

/// A name that is no step's and no process's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName(pub String);

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown name {:?}", self.0)
    }
}

impl std::error::Error for UnknownName {}

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident $name:literal $who:ident,)*) => {
        /// One step, under the name that every log and every trace uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Step { $($(#[$doc])* $variant,)* }

        impl Step {
            /// All steps, in the order of the architecture page.
            pub const ALL: &'static [Step] = &[$(Step::$variant,)*];

            /// The name in logs and traces.
            pub fn as_str(self) -> &'static str {
                match self { $(Step::$variant => $name,)* }
            }

            /// The process that takes it.
            pub fn who(self) -> Who {
                match self { $(Step::$variant => Who::$who,)* }
            }
        }

        impl FromStr for Step {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Step, UnknownName> {
                match name {
                    $($name => Ok(Step::$variant),)*
                    _ => Err(UnknownName(name.to_owned())),
                }
            }
        }
    };
}

steps! {
    /// Archive record `begun`, synced.
    Record "record" Agent,
    /// Complete Maildir in the work folder, synced.
    Stage "stage" Worker,
    /// The stage read back and compared.
    Verify "verify" Worker,
    /// New logins wait, sessions ended, pending flags written out.
    Gate "gate" Agent,
    /// A new stage from the old one if the mbox changed.
    Refresh "refresh" Worker,
    /// Tombstone made in the archive folder, synced.
    Tombstone "tombstone" Agent,
    /// Link of the run's lock file to the spool's dotlock.
    Dotlock "dotlock" Agent,
    /// Kernel write lock on the spool's description.
    Lock "lock" Agent,
    /// Write lease on the same description: nobody else has it open.
    Lease "lease" Agent,
    /// Index logs locked, last look holds, rest taken.
    Confirm "confirm" Worker,
    /// Rest, uidlist, receipt and marker synced.
    Seal "seal" Worker,
    /// The stage renamed to the Maildir's place.
    Commit "commit" Worker,
    /// The Maildir's folder synced.
    SyncCommit "sync_commit" Worker,
    /// Spool and tombstone exchanged.
    SetAside "set_aside" Agent,
    /// Spool and archive folder synced.
    SyncSetAside "sync_set_aside" Agent,
    /// Lease, lock and dotlock dropped.
    Unlock "unlock" Agent,
    /// Map replaced.
    Map "map" Agent,
    /// Record `converted`.
    Converted "converted" Agent,
    /// Drain: the place and a fresh tombstone exchanged, synced.
    Rotate "rotate" Agent,
    /// New mail of an archive entry written to a temporary folder, synced.
    Extract "extract" Worker,
    /// That folder renamed to the name that carries the position, synced.
    Extracted "extracted" Worker,
    /// One message moved to `new/`.
    Deliver "deliver" Worker,
    /// `new/` synced.
    Delivered "delivered" Worker,
    /// A drained archive entry unlinked.
    Forget "forget" Agent,
    /// The stage removed.
    Abort "abort" Worker,
    /// Recovery: is there a Maildir with this run's marker?
    Probe "probe" Worker,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
