//! The main job, end to end: real Dovecot with PAM and our module in its stack, IMAP and POP3 clients, real mail.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "e2e/back.rs"]
mod back;
#[path = "e2e/corpora.rs"]
mod corpora;
#[path = "e2e/login_goes_on.rs"]
mod login_goes_on;
#[path = "e2e/modseq.rs"]
mod modseq;
#[path = "e2e/same_mail.rs"]
mod same_mail;
#[path = "e2e/start.rs"]
mod start;
