//! What tells the agent of an arrival where no program of ours is in the way: `mailready-notify`, and the scripts of
//! pppd, FreeRADIUS and Dovecot that call it.
//!
//! All of these run in the middle of somebody's login. They have one duty above their own: the login goes on.

mod args;
mod notify;
mod session;
mod spelling;

pub use args::command;
pub use notify::main;
