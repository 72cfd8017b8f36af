//! The worker itself, driven over its wire as the agent drives it: as another user, in its sandbox, on real files.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what went wrong by failing")]

mod convert;
mod drain;
mod resume;
mod rollback;
mod scale;
mod trouble;
mod user;
mod verify;
