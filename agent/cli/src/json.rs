//! Output for programs: one JSON object a command, on stdout, one line.
//!
//! The shapes are stable: keys may be added, none are renamed, removed or given another meaning without another
//! `version`. Times are unix seconds, sizes bytes. A key without a value is left out.

use mailready_bus::{Checked, Converted, Details, UserStatus, Verified};
use serde::Serialize;

use crate::terminal;

/// The version of all shapes.
pub const VERSION: u32 = 1;

/// A command that did not get to its end: `{"version":1,"error":"...","exit":69}`.
#[derive(Debug, Serialize)]
pub struct Failed<'a> {
    /// [`VERSION`]
    pub version: u32,
    /// What was also told on stderr.
    pub error: &'a str,
    /// The exit code.
    pub exit: u8,
}

/// `convert --json`
#[derive(Debug, Serialize)]
pub struct ConvertOutput<'a> {
    /// [`VERSION`]
    pub version: u32,
    /// One a user, in the order asked.
    pub users: Vec<ConvertUser<'a>>,
}

/// One user of `convert --json`
#[derive(Debug, Serialize)]
pub struct ConvertUser<'a> {
    /// The user.
    pub user: &'a str,
    /// A word of [`mailready_bus::Answer`].
    pub answer: &'a str,
    /// Whether the user's mail is in the Maildir now.
    pub on_maildir: bool,
    /// For people.
    pub text: &'a str,
}

impl<'a> From<&'a Converted> for ConvertUser<'a> {
    fn from(converted: &'a Converted) -> Self {
        Self {
            user: &converted.user,
            answer: &converted.answer,
            on_maildir: converted.known_answer().is_some_and(mailready_bus::Answer::is_on_maildir),
            text: &converted.text,
        }
    }
}

/// `rollback --json`
#[derive(Debug, Serialize)]
pub struct RollbackOutput<'a> {
    /// [`VERSION`]
    pub version: u32,
    /// One a user, in the order asked.
    pub users: Vec<RollbackUser<'a>>,
}

/// One user of `rollback --json`
#[derive(Debug, Serialize)]
pub struct RollbackUser<'a> {
    /// The user.
    pub user: &'a str,
    /// A word of [`mailready_bus::Answer`].
    pub answer: &'a str,
    /// Whether the user's mail is in the mbox now.
    pub on_mbox: bool,
    /// For people.
    pub text: &'a str,
}

impl<'a> From<&'a Converted> for RollbackUser<'a> {
    fn from(answered: &'a Converted) -> Self {
        Self {
            user: &answered.user,
            answer: &answered.answer,
            on_mbox: answered.known_answer().is_some_and(mailready_bus::Answer::is_on_mbox),
            text: &answered.text,
        }
    }
}

/// `verify --json`
#[derive(Debug, Serialize)]
pub struct VerifyOutput<'a> {
    /// [`VERSION`]
    pub version: u32,
    /// One a user, in the order asked.
    pub users: Vec<VerifyUser<'a>>,
}

/// One user of `verify --json`; the figures are those of [`Checked`].
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "each field is the field of Checked of the same name, documented there")]
pub struct VerifyUser<'a> {
    pub user: &'a str,
    pub answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

impl<'a> From<&'a Verified> for VerifyUser<'a> {
    fn from(verified: &'a Verified) -> Self {
        let Checked { same, gone, lost, damaged, unknown, unseen, mailboxes, missing, reason } =
            &verified.checked;
        Self {
            user: &verified.user,
            answer: &verified.answer,
            same: *same,
            gone: *gone,
            lost: *lost,
            damaged: *damaged,
            unknown: *unknown,
            unseen: *unseen,
            mailboxes: *mailboxes,
            missing: *missing,
            reason: reason.as_deref(),
        }
    }
}

/// `status --json`
#[derive(Debug, Serialize)]
pub struct StatusOutput<'a> {
    /// [`VERSION`]
    pub version: u32,
    /// Why the agent has stopped converting arrivals by itself, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<&'a str>,
    /// One a user.
    pub users: Vec<StatusUser<'a>>,
}

/// One user of `status --json`; the keys besides `user` and `state` are those of [`Details`].
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "each field is the field of Details of the same name, documented there")]
pub struct StatusUser<'a> {
    pub user: &'a str,
    pub state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_gone: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

impl<'a> From<&'a UserStatus> for StatusUser<'a> {
    fn from(status: &'a UserStatus) -> Self {
        // Taken apart by name, so that a detail added to the bus and forgotten here does not compile.
        let Details {
            run,
            messages,
            messages_total,
            bytes,
            bytes_total,
            reason,
            code,
            mend,
            since,
            until,
            by,
            ahead,
            mail,
            original,
            original_gone,
            uid,
        } = &status.details;
        Self {
            user: &status.user,
            state: &status.state,
            run: run.as_deref(),
            messages: *messages,
            messages_total: *messages_total,
            bytes: *bytes,
            bytes_total: *bytes_total,
            reason: reason.as_deref(),
            code: code.as_deref(),
            mend: mend.as_deref(),
            since: *since,
            until: *until,
            by: by.as_deref(),
            ahead: *ahead,
            mail: mail.as_deref(),
            original: original.as_deref(),
            original_gone: *original_gone,
            uid: *uid,
        }
    }
}

/// `convert-file --json`
#[derive(Debug, Serialize)]
pub struct ConvertFileOutput<'a> {
    /// [`VERSION`]
    pub version: u32,
    /// The mbox, as named.
    pub mbox: &'a str,
    /// The Maildir, as named.
    pub maildir: &'a str,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of the mbox.
    pub bytes: u64,
    /// BLAKE3 of the mbox, hex.
    pub blake3: &'a str,
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// Its UIDNEXT.
    pub uidnext: u32,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

/// Prints an object as one line.
pub fn print(value: &impl Serialize) {
    // The types here serialize to objects of text and numbers, which cannot fail; a failure would be told as text.
    match serde_json::to_string(value) {
        Ok(line) => terminal::say_json(&line),
        Err(e) => terminal::complain(&format!("mailready: {e}")),
    }
}
