//! The command against an agent that answers from a script, over a real control socket.
#![expect(clippy::unwrap_used, reason = "what the tests are set up with fails loudest by a panic")]

mod back;
mod convert;
mod fake;
mod hold;
mod status;
mod trouble;
