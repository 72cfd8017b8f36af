//! A commit at each moment of a login: between "login accepted" and the selected inbox the post-login script, the notify that
//! asks for the lease, and the imap or pop3 process are stopped before each system call, and an operator's `convert` is run
//! against the stopped session.
//!
//! Whatever comes of that, converted or not, what the mail client finally sees is what the mbox showed: it may be told `BYE`
//! or `NO` and come again, but it is never told that the mailbox is empty, nor that a message was expunged.
//!
//! Every call of script and notify is taken, and of imap and pop3 every so many; `MAILREADY_LONG=1` takes all.

#[path = "moments/client.rs"]
mod client;
#[path = "moments/lane.rs"]
mod lane;
#[path = "moments/one_stop.rs"]
mod one_stop;
#[path = "moments/people.rs"]
mod people;
#[path = "moments/phases.rs"]
mod phases;
#[path = "moments/stops.rs"]
mod stops;
