//! Nothing is committed before the site is proven to follow.
//!
//! A site that is right in everything (Dovecot, Postfix, Exim, procmail, maildrop) is spoilt in one thing at a time: each is found before the first commit, with a text that says how to mend it, and mended the
//! site is right again. Then what only a first commit shows: a Dovecot that reads the stage otherwise, and a post-login script that leads a converted user elsewhere.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "site/bench.rs"]
mod bench;
#[path = "site/deliverers.rs"]
mod deliverers;
#[path = "site/dovecot.rs"]
mod dovecot;
#[path = "site/first.rs"]
mod first;
#[path = "site/script.rs"]
mod script;
#[path = "site/tools.rs"]
mod tools;
