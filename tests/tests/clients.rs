//! Mail clients that keep state cross a conversion, and come back, without noticing anything.
//!
//! Real programs, from Debian, each with what it has remembered from before: UIDs and flags of a synchronised copy, a cache of
//! headers, a list of POP3 identifiers. What such a program does when a server has changed under it is its own business and
//! nothing that a specification foresees: one downloads everything again, one doubles every message, one deletes its copy.
//! So the programs are asked. What travelled is taken from Dovecot's own account of each session, what the client has made of
//! it from the files of its store.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "clients/account.rs"]
mod account;
#[path = "clients/caches.rs"]
mod caches;
#[path = "clients/collectors.rs"]
mod collectors;
#[path = "clients/control.rs"]
mod control;
#[path = "clients/journey.rs"]
mod journey;
#[path = "clients/laptop.rs"]
mod laptop;
#[path = "clients/store.rs"]
mod store;
#[path = "clients/synchronisers.rs"]
mod synchronisers;
#[path = "clients/traffic.rs"]
mod traffic;
