//! The agent: arrivals, queue, gate, commit, drain.

pub mod account;
pub mod durable;
pub mod flow;
pub mod outcome;
pub mod queue;
pub mod records;
