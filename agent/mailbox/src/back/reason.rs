//! What an mbox cannot say.

/// Why an mbox cannot hold a message, or a mailbox, exactly as it is (formats.md 1 and 2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotForMbox {
    /// The message has one of the seven headers that an mbox keeps its own notes in; its readers would hide it, or obey it.
    #[error(
        "it has a header {0}, which an mbox takes for its own; move the message out of the mailbox, or delete it"
    )]
    HiddenHeader(&'static str),
    /// A line of its header would begin another message, and in a header no Content-Length helps.
    #[error(
        "a line of its header looks like the beginning of another message; move it out of the mailbox, or delete it"
    )]
    FromLineInHeader,
    /// Its body begins with a line that would begin another message. Dovecot reads it by its Content-Length, and then writes wrong bytes
    /// into it whenever it moves it within the mbox (seen on 2.3.19).
    #[error(
        "its body begins with a line that looks like the beginning of another message; move it out of the mailbox, or delete it"
    )]
    FromLineFirst,
    /// Bytes without an empty line and without a line end: an mbox would end the line.
    #[error("its header is cut off in the middle of a line; move it out of the mailbox, or delete it")]
    HeaderCutOff,
    /// The name of a header has a NUL byte: of it and what follows an mbox's reader shows nothing.
    #[error(
        "the name of one of its headers has a NUL byte, which an mbox hides; move it out of the mailbox, or delete it"
    )]
    NulInName,
    /// The date lies outside the years that a From_ line can say, or is the one second that `mktime` cannot.
    #[error(
        "its date ({0} seconds since 1970) is none that an mbox can say; copy the message, and delete this one"
    )]
    Date(i64),
    /// The mbox lists keywords as words.
    #[error("the keyword {0:?} cannot stand in an mbox; remove it in a mail client")]
    Keyword(String),
    /// The next UID would be the last one there is.
    #[error("the UIDs are used up; have the server give the mailbox a new UIDVALIDITY")]
    UidsUsedUp,
}
