//! The D-Bus interface of the agent: names, types, errors and the proxy, for both ends.
//!
//! | | |
//! |---|---|
//! | name | `org.mailready.Agent` |
//! | object | `/org/mailready/Agent` |
//! | interface | `org.mailready.Agent1` |
//!
//! It is offered on the system bus for desktops and monitoring, and peer to peer on the control socket for the
//! `mailready` command, which therefore works where no bus runs. Peer to peer there are no names; the object and the
//! interface are the same.
//!
//! | method | takes | gives |
//! |---|---|---|
//! | `Convert` | `as` users, `a{sv}` [`ConvertOptions`] | `a(sss)` [`Converted`]: user, [`Answer`] word, text |
//! | `Status` | `as` users (none: all that the caller may see), `a{sv}` (reserved, empty) | `a(ssa{sv})` [`UserStatus`]: user, [`State`] word, [`Details`] |
//! | `Hold` | `s` user, `t` until (unix seconds, 0 = for ever), `s` why | |
//! | `Release` | `s` user | |
//! | `Rollback` | `s` user | `(sss)` [`Converted`] |
//! | `Verify` | `s` user | `(ssa{sv})` [`Verified`]: user, [`Answer`] word, [`Checked`] |
//! | `Background` | `s` `start`, `stop` or `status` | `start` after a `Stopped`: conversions go on; else not yet supported |
//!
//! Signals: `MailboxChanged` (`s` user, `s` state, `a{sv}` details) at each change of state and, while a mailbox is
//! being converted, a few times a second with its progress; sent only to those who may see that user. `Stopped`
//! (`s` code, `s` text) when the agent stopped converting arrivals and background work by itself; sent to everybody, since it names
//! nobody. Properties: `Version` (`s`), `StoppedBecause` (`s`, empty while it has not).
//!
//! Words and keys that a reader does not know are to be passed over: new ones may come within `Agent1`.
#![forbid(unsafe_code)]

mod answer;
mod connect;
mod details;
mod error;
mod proxy;
mod state;
mod verified;

pub use answer::{Answer, ConvertOptions, Converted};
pub use connect::{ConnectError, ConnectErrorKind, connect_p2p};
pub use details::{Details, UserStatus};
pub use error::{ERROR_PREFIX, Error};
pub use proxy::{AgentProxy, MailboxChanged, MailboxChangedStream, Stopped, StoppedStream};
pub use state::State;
pub use verified::{Checked, Verified};

/// Name on the bus.
pub const NAME: &str = "org.mailready.Agent";
/// Path of the one object.
pub const OBJECT: &str = "/org/mailready/Agent";
/// Name of the interface.
pub const INTERFACE: &str = "org.mailready.Agent1";
