//! The agent's shell: sockets, peers, users, queue, leases, holds, the operator's interface, start and stop.
//!
//! All but `program` run the agent's own `serve` in this process, over real sockets, with a twin in place of the mailboxes: what a conversion does
//! is scripted here, and what the shell makes of it is the question. Peers of other uids are threads with another effective uid, which the kernel
//! reports as it would a process's; without root those tests cannot run.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "agent_shell/abuse.rs"]
mod abuse;
#[path = "agent_shell/announcements.rs"]
mod announcements;
#[path = "agent_shell/control.rs"]
mod control;
#[path = "agent_shell/leases.rs"]
mod leases;
#[path = "agent_shell/life.rs"]
mod life;
#[path = "agent_shell/peers.rs"]
mod peers;
#[path = "agent_shell/program.rs"]
mod program;
#[path = "agent_shell/site.rs"]
mod site;
#[path = "agent_shell/twin.rs"]
mod twin;
