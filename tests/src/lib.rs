//! The lab, end-to-end tests by theme, the protocol's model, benchmarks.

pub mod demo;
pub mod differential;
pub mod fake_agent;
pub mod lab;
pub mod model;
pub mod pam_host;
pub mod power;
pub mod stops;
