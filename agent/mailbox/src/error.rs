//! What can go wrong, each with the path and, where there is one, the offset. The wording for people is in `Display` alone.

use crate::back::NotForMbox;
use crate::layout::Unkeepable;
use crate::rules::Server;
use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation of the engine failed; no mbox was changed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb that stands before the path.
        doing: &'static str,
        /// On what. Below a handle the path is relative to it.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// By the rules of the server in charge this is no mbox.
    #[error("{} is no mbox: {why} (at byte {offset}); the server refuses it too, so leave it as it is or mend that line", path.display())]
    NotMbox {
        /// The file.
        path: PathBuf,
        /// Byte where the rules were broken.
        offset: u64,
        /// Which rule.
        why: &'static str,
    },
    /// This mailbox cannot be converted without a visible change, for a reason that an operator can act on.
    #[error("{}: {reason}", path.display())]
    Blocked {
        /// The mbox.
        path: PathBuf,
        /// The reason, with the mending step.
        reason: BlockReason,
    },
    /// The mbox is not what it was when its stage was made; make a new stage.
    #[error("{} has changed at byte {offset} while it was read: {why}", path.display())]
    Changed {
        /// The mbox.
        path: PathBuf,
        /// First byte that differs, as far as known.
        offset: u64,
        /// In what way.
        why: &'static str,
    },
    /// A marker, a receipt, a uidlist or a message file is not what was written.
    #[error("{} does not hold what was written (at {at}): {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line or byte.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A file of a format version that this program does not know; nothing was touched.
    #[error("{} was written by a newer mailready (version {version}); nothing was touched", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The target is there already.
    #[error("{} exists already; it is left as it is: choose another name or move it away", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A lock could not be had in time.
    #[error("{} is locked by {holder}; nothing was changed, try again later", path.display())]
    Locked {
        /// The mbox.
        path: PathBuf,
        /// Who has it, as far as the lock tells.
        holder: String,
    },
    /// An mbox cannot hold this message, or this mailbox, exactly; nothing that was written is of use.
    #[error("{} cannot become an mbox without a visible change: UID {uid}: {reason}", path.display())]
    NotForMbox {
        /// The Maildir's mailbox, or the message file.
        path: PathBuf,
        /// The message; 0 where it is the mailbox itself.
        uid: u32,
        /// The reason, with the mending step.
        reason: NotForMbox,
    },
    /// The rules of that server are not known yet.
    #[error("the rules of {0} are not known yet; only dovecot is")]
    NotYet(Server),
    /// The progress callback said stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Why a mailbox cannot be converted without a visible change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockReason {
    /// A Maildir has letters for 26 keywords; more of them are in Dovecot's index only, and there is none to carry over.
    #[error(
        "it has {0} keywords, and without an index of Dovecot's a Maildir can hold 26; open it once with Dovecot, or remove some"
    )]
    TooManyKeywords(usize),
    /// No UIDs are left below 2^32 - 1.
    #[error("the UIDs are used up; have the server give the mailbox a new UIDVALIDITY")]
    UidsUsedUp,
    /// The layout cannot keep the folder's name.
    #[error("the folder `{}`: {why}", name.escape_debug())]
    Name {
        /// The folder.
        name: String,
        /// Why not.
        why: Unkeepable,
    },
    /// A folder of folders without any mailbox below it.
    #[error(
        "it holds no mailbox, and Maildir++ cannot keep an empty folder; remove it or set layout = \"fs\""
    )]
    EmptyLevel,
}

impl Error {
    /// Shorthand for `map_err`: names what was done to what.
    pub(crate) fn io<E: Into<io::Error>>(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |e| Error::Io { doing, path: path.as_ref().to_owned(), source: e.into() }
    }
}
