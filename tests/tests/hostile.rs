//! Hostile users and hostile mail: what somebody with an account on the server, or membership of group mail, can do to mailready, and to others through it. `SECURITY.md` says who they are and what stops them; it names these tests.
//!
//! Swaps happen at the one moment that matters: the agent, or a worker, is stopped before a system call (`stop-at`) while the attacker acts. The races of which nobody knows the moment are run as races, a few seconds each;
//! `MAILREADY_LONG=1` runs them for minutes: `MAILREADY_LONG=1 cargo test -p mailready-tests --test hostile`.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "hostile/archive.rs"]
mod archive;
#[path = "hostile/dotlock.rs"]
mod dotlock;
#[path = "hostile/exchange.rs"]
mod exchange;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/racing.rs"]
mod racing;
#[path = "hostile/site.rs"]
mod site;
#[path = "hostile/stopped.rs"]
mod stopped;
