//! The agent: arrivals, queue, gate, commit, drain.
//!
//! One arrival through the files: [`listener`] takes the connection and knows the peer, `arrivals` decides what it means with [`users`] (who is
//! that?), [`whom`] (may this user be converted?) and [`conversions`] (the jobs; [`queue`] is the pure part of it), and [`flow`] converts. [`bus`]
//! is the operator's way to the same jobs. [`lifecycle`] starts and stops all of it; [`records`] and [`holds`] are what survives.

pub mod account;
pub mod agent;
mod arrivals;
pub mod breaker;
pub mod bus;
pub mod conversions;
pub mod counters;
pub mod durable;
pub mod exit;
pub mod flow;
pub mod holds;
pub mod lifecycle;
pub mod listener;
mod log;
mod logind;
pub mod operations;
pub mod options;
pub mod outcome;
pub mod passed;
pub mod peer;
pub mod queue;
pub mod records;
pub mod reload;
mod service;
pub mod settings;
pub mod sockets;
pub mod state;
pub mod stops;
pub mod users;
pub mod whom;

pub use lifecycle::run;
