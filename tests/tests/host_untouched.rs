//! The demo runs on an administrator's machine, so: the same packages, units, accounts, ports, mounts and mail before and
//! after, whenever it ends and however.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "host_untouched/demo.rs"]
mod demo;
#[path = "host_untouched/host.rs"]
mod host;
#[path = "host_untouched/interrupted.rs"]
mod interrupted;
