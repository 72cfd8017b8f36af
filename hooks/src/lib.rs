//! What tells the agent of an arrival where no program of ours is in the way: `mailready-notify`, the scripts of
//! pppd, FreeRADIUS and Dovecot that call it, and `mailready-radius`, which hears of arrivals from other machines.
//!
//! All of these run in the middle of somebody's login. They have one duty above their own: the login goes on.

mod args;
mod notify;
pub mod radius;
mod session;
mod spelling;

pub use args::command;
pub use notify::main;
