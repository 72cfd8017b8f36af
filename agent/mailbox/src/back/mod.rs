//! The way back: a mailbox of the Maildir as an mbox in which the server shows exactly what it showed before.
//!
//! Whatever an mbox cannot say is found before anything is used ([`NotForMbox`]): it has no way to show a header that it takes for
//! its own, and no way to quote a line that begins a message.

mod reason;

pub use reason::NotForMbox;
