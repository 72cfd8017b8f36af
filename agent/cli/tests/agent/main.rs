//! The command against an agent that answers from a script, over a real control socket.

mod convert;
mod fake;
mod hold;
mod status;
mod trouble;
