//! The worker itself, driven over its wire as the agent drives it: as another user, in its sandbox, on real files.

mod convert;
mod drain;
mod user;
