//! The engine: mbox to Maildir, byte for byte what the present server shows, with proof.
//!
//! The problem: a converter that reads an mbox by rules of its own shows clients other mail than they knew, and a client that sees
//! other mail throws its cache away, or worse, its trust. So the only rules here are those of the server in charge (`formats.md` 1
//! to 4 say which and where they were read): where a message ends, which headers it hides, which UID a message has.
//!
//! The crate knows files by handle and nothing else: no sockets, no processes, no users, no D-Bus. It never changes an mbox: it
//! reads it by `pread` alone, because offset and locks of the description are shared with another process.
//!
//! | module | what |
//! |---|---|
//! | [`tree`] | all mailboxes of a user as one Maildir under construction; the seal |
//! | [`stage`] | one of them: one streaming pass over its mbox; the rest |
//! | [`salvage`] | message files of an earlier stage, taken over |
//! | [`layout`] | where a mailbox lies in the tree, and which names can be kept |
//! | [`index`] | Dovecot's index, carried over |
//! | [`verify`] | the stage read back from disk and compared with its receipt |
//! | [`extract`] | new mail behind a tombstone or a converted length, as message files |
//! | [`back`] | the way back: a Maildir's mailbox read, written as an mbox, read back and compared |
//! | [`convert_file`] | one file, no agent: locks, stage, verify, commit |
//! | [`marker`], [`receipt`], [`tombstone`] | formats of `ARCHITECTURE.md` |
//! | [`subscriptions`] | the list of subscribed folders, there and back |
//! | [`validity`] | what keeps a new folder from getting a UIDVALIDITY that an old one had |
//!
//! Memory is constant: whatever there is one of per message goes to disk while it streams. Only the GUIDs that messages have got are
//! remembered, of the first million of a mailbox, in 8 bytes each.

#![forbid(unsafe_code)]

pub mod back;
mod content;
pub mod convert_file;
mod dir;
mod durable;
pub mod error;
pub mod extract;
mod filter;
mod fingerprint;
mod from_line;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod header_lines;
mod hex;
pub mod index;
mod index_note;
mod keywords;
mod known_mail;
pub mod layout;
mod line_file;
mod locks;
pub mod marker;
mod meta;
mod mutf7;
mod names;
mod output;
mod percent;
mod qpopper_header;
mod reading;
pub mod receipt;
pub mod rules;
pub mod run_id;
pub mod salvage;
mod split;
pub mod stage;
pub mod subscriptions;
pub mod tombstone;
pub mod tree;
mod uidl;
mod uidlist;
mod uw_header;
pub mod validity;
pub mod verify;
mod window;

pub use error::{Error, Result};
pub use layout::Layout;
pub use rules::{Known, Rules, Server, Zone};
pub use run_id::RunId;
pub use stage::{Source, Stage, Summary, SyncHow, is_mbox};
pub use tree::Tree;
pub use uidl::Uidl;

use std::ops::ControlFlow;

/// How far a pass over a mailbox has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Messages done.
    pub messages: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Called now and then during a long pass; [`ControlFlow::Break`] stops it with [`Error::Cancelled`].
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;
