//! The workspace's own rules: which way dependencies point, whose licences and sources come in, how long a file may be, and
//! that nothing of the machine it was written on has stuck to it.

#![expect(clippy::expect_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "policy/dependencies.rs"]
mod dependencies;
#[path = "policy/files.rs"]
mod files;
#[path = "policy/licences.rs"]
mod licences;
#[path = "policy/metadata.rs"]
mod metadata;
#[path = "policy/security.rs"]
mod security;
