//! Which way dependencies point.

use std::collections::BTreeSet;

use crate::metadata::Metadata;

/// The table "Crates" of ARCHITECTURE.md: each package of the workspace and those of the workspace that it may name.
const DIRECTIONS: [(&str, &[&str]); 10] = [
    ("mailready-protocol", &[]),
    ("mailready-config", &[]),
    ("mailready-bus", &[]),
    ("mailready-mailbox", &[]),
    ("mailready-worker", &["mailready-mailbox"]),
    ("mailready-agent", &["mailready-protocol", "mailready-config", "mailready-bus", "mailready-worker"]),
    ("mailready", &["mailready-protocol", "mailready-config", "mailready-bus", "mailready-mailbox"]),
    ("mailready-hooks", &["mailready-protocol", "mailready-config"]),
    ("pam_mailready", &["mailready-protocol"]),
    ("mailready-tests", &["*"]),
];

#[test]
fn dependencies_point_one_way() {
    let metadata = Metadata::read();
    let ours: BTreeSet<&str> = metadata.ours().map(|package| &*package.name).collect();
    let table: BTreeSet<&str> = DIRECTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, table, "the table names every package of the workspace");
    for package in metadata.ours() {
        let (_, allowed) = DIRECTIONS.iter().find(|(name, _)| *name == package.name).expect("in the table");
        for named in package.named.iter().filter(|named| ours.contains(&***named)) {
            assert!(allowed.contains(&"*") || allowed.contains(&&**named), "{} names {named}", package.name);
        }
    }
}

/// What is loaded into sshd and into Dovecot's auth worker has to be small enough to be read.
#[test]
fn the_pam_module_is_made_of_little() {
    let may =
        ["pam_mailready", "mailready-protocol", "pam-sys", "nix", "libc", "bitflags", "cfg-if", "memoffset"];
    let linked = Metadata::read().linked_into("pam_mailready");
    let foreign: Vec<_> = linked.iter().filter(|name| !may.contains(&name.as_str())).collect();
    assert!(foreign.is_empty(), "pam_mailready is linked with {foreign:?}");
}

/// The engine and the worker act with the user's rights on the user's files, and have no business on any network.
#[test]
fn engine_and_worker_have_no_runtime_and_no_bus() {
    let metadata = Metadata::read();
    for package in ["mailready-mailbox", "mailready-worker", "mailready-protocol", "pam_mailready"] {
        let linked = metadata.linked_into(package);
        for unwanted in ["tokio", "async-io", "zbus", "mio", "io-uring"] {
            assert!(!linked.contains(unwanted), "{package} is linked with {unwanted}");
        }
    }
}

/// io_uring slips past a system-call filter; nothing may bring it in.
#[test]
fn nothing_uses_io_uring() {
    let metadata = Metadata::read();
    let found = metadata.packages.iter().find(|package| package.name.contains("uring"));
    assert!(found.is_none(), "{} is linked", found.map_or("", |package| &package.name));
}

#[test]
fn the_workspace_asks_for_a_compiler_that_can_build_its_dependencies() {
    let metadata = Metadata::read();
    let number = |version: &str| -> [u32; 3] {
        let mut parts = version.split('.').map(|part| part.parse().expect("a number in a rust-version"));
        std::array::from_fn(|_| parts.next().unwrap_or(0))
    };
    let ours =
        metadata.ours().next().and_then(|package| package.rust_version.clone()).expect("rust-version is set");
    for package in &metadata.packages {
        if let Some(needs) = &package.rust_version {
            assert!(number(needs) <= number(&ours), "{} needs Rust {needs}, we say {ours}", package.name);
        }
    }
}
