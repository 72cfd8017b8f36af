//! The operator's way to the agent: the D-Bus interface of [`mailready_bus`], peer to peer on the control socket and, besides, on a bus.
//!
//! The control socket is open to everybody, and the peer's credentials decide what it may see and do; so it is the one place where any user
//! gets a D-Bus parser of ours to talk to. Frames are capped before anything is allocated for them, connections are counted by uid, calls by
//! connection, and no descriptor is ever taken. The bus may be absent, hang or restart: that is one task's trouble, and no arrival waits for it.

mod back;
mod capped;
mod control;
mod convert;
mod holds;
mod interface;
mod rights;
mod status;
mod system;

pub use control::serve as serve_control;
pub use system::stay_on_bus;
