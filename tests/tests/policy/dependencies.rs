//! Which way dependencies point.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use mailready_tests::lab::tests_folder;

use crate::metadata::Metadata;

/// The table "Crates" of ARCHITECTURE.md: each package of the workspace, and those of the workspace that it may name.
/// `None`: everything.
fn directions() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let page =
        fs::read_to_string(tests_folder().join("../ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let section =
        page.split("\n## ").find(|section| section.starts_with("Crates\n")).expect("it has a section Crates");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, _, may] = cells[..] else { panic!("four columns in {row}") };
        let may = match may {
            "everything" => None,
            "-" => Some(BTreeSet::new()),
            list => Some(list.split(',').map(|one| format!("mailready-{}", first_word(one))).collect()),
        };
        (name.to_owned(), may)
    })
    .collect()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().expect("a name between commas")
}

#[test]
fn dependencies_point_one_way() {
    let metadata = Metadata::read();
    let directions = directions();
    let ours: BTreeSet<&String> = metadata.ours().map(|package| &package.name).collect();
    assert_eq!(ours, directions.keys().collect(), "ARCHITECTURE.md names every package of the workspace");
    for package in metadata.ours() {
        let Some(may) = &directions[&package.name] else { continue };
        for named in package.named.iter().filter(|named| ours.contains(named)) {
            assert!(may.contains(named), "{} names {named}", package.name);
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
