//! The arrival packets: what a hook tells the agent, what the agent answers, and both ends of that talk.
//!
//! The client lives in other people's processes: in `sshd`, in Dovecot's auth workers, in a post-login script between
//! a mail client and its inbox. Whatever the agent does (gone, hung, stopped, its backlog full, half an
//! answer), the client comes back in time. So every wait here has a deadline, no call blocks outside of `ppoll`, nothing
//! raises a signal, and nothing decoded here can panic, whatever its bytes.
//!
//! The format is written down in `ARCHITECTURE.md`, "Arrival packets". This crate knows neither users nor mail nor
//! configuration; it needs `std` and `nix`, because the PAM module carries it into foreign processes.

mod answer;
mod client;
mod names;
mod receive;
mod request;
mod sparing;

pub use answer::{Answer, AnswerError, Progress, Reason};
pub use client::{ClientError, Deadlines, announce, tell};
pub use names::{NameError, Service, User};
pub use receive::{DroppedDescriptors, ReceiveError, Received, recv_request, send_answer};
pub use request::{Kind, Phase, Request, RequestError, Source, Wait};
pub use sparing::Sparing;

/// Where root's hooks announce arrivals (`agent.socket`).
pub const ARRIVAL_SOCKET: &str = "/run/mailready/arrival.sock";

/// Where users announce themselves, and where leases are asked for (`agent.self_socket`).
pub const SELF_SOCKET: &str = "/run/mailready/self.sock";

/// The version that this crate speaks; a packet of another one is refused unread.
pub const VERSION: u8 = 1;

/// No packet is longer, whatever its kind and version: a receiver needs no larger buffer.
pub const PACKET_MAX: usize = 1024;

/// Every packet begins with these two bytes.
const MAGIC: [u8; 2] = *b"MR";
