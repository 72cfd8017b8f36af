//! The agent: arrivals, queue, gate, commit, drain.

pub mod account;
pub mod conversions;
pub mod durable;
pub mod flow;
pub mod holds;
pub mod outcome;
pub mod queue;
pub mod records;
pub mod settings;
pub mod users;
pub mod whom;
