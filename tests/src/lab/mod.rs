//! The lab: throw-away machines with real servers, clients that look at them as users' mail clients do, and comparisons of
//! everything such a client can see.
//!
//! A test that needs a machine begins with
//!
//! ```no_run
//! use mailready_tests::lab::{Machine, Result};
//!
//! fn mail_is_served() -> Result<()> {
//!     let Some(machine) = Machine::for_test()? else { return Ok(()) };
//!     let ann = machine.add_user("ann", "secret", b"")?;
//!     // ...
//!     Ok(())
//! }
//! ```

mod agent;
mod binaries;
mod compare;
mod daemon;
mod disk;
mod dump;
mod error;
mod imap;
mod machine;
pub mod mail;
mod namespaces;
mod pop3;
mod processes;
mod root;
mod site;
mod wait;

pub use agent::{CONFIG, Event, event, events};
pub use binaries::Binaries;
pub use compare::{Differences, Strictness, guids_of_several};
pub use daemon::{Daemon, Line, Log};
pub use disk::{Disk, Format};
pub use dump::{Drop3, Dump, Folder, Listed, Look, Message};
pub use error::{Doing, LabError, Result};
pub use imap::{Answer, Imap, Item, Response, quoted};
pub use machine::{MAIL_GID, Machine, User, tests_folder};
pub use namespaces::Namespaces;
pub use pop3::Pop3;
pub use root::{available, script};
pub use site::Site;
pub use wait::{PATIENCE, eventually};

/// Says loudly that the running test cannot run here, and why. `tests/run` counts these lines; they go past the capture of
/// the test harness, which would swallow them.
pub fn skip(reason: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    // If stderr is closed nobody is listening.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}
