//! Stopping and killing programs at every system call.
//!
//! The problem: a promise such as "whatever is killed, at whatever instruction" is kept or broken between two system calls,
//! and a test that kills after so many milliseconds hits the same two or three moments for ever. So a first run counts the
//! calls, and then one run each stops, or kills, at call number 1, 2, 3 ... before the kernel carries it out.
//!
//! `stop-at` is put before a program: `stop-at --control DIR -- PROGRAM ARGS`. It must be invisible: the program keeps its
//! process number (Dovecot's master knows its children by it, leases are bound to it), its parent and its descriptors, so the
//! tracer is not its parent but a process of its own that attaches (`PTRACE_SEIZE`) just before the program is executed. The
//! tracer holds none of the program's descriptors, or the client's connection would outlive the session.
//!
//! What is to be done is a [`ticket`](control::Order) in DIR. It is claimed by one `rename`, so it is good for one program; a
//! program that finds none runs untraced. So the wrapper can stand in a server's configuration for good, and each test
//! arms it for one login.
//!
//! Linux on x86-64 only: the names and arguments of calls are the machine's own.

pub mod control;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod calls;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod command;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tracee;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tracer;

pub use control::{Control, Order, Place, Whom};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use calls::disk_errors;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use command::main;

/// Why `stop-at` cannot work in this environment, if it cannot.
#[must_use]
pub const fn missing() -> Option<&'static str> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        None
    } else {
        Some("stop-at knows the system calls of Linux on x86-64 only")
    }
}

/// No call is known here.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[must_use]
pub fn disk_errors(_name: &str) -> &'static [i32] {
    &[]
}

/// The whole of `stop-at`, where there is none.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[must_use]
pub fn main() -> std::process::ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "stop-at: {}", missing().unwrap_or_default());
    std::process::ExitCode::from(69)
}
