//! `cargo metadata`, as far as the rules need it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use mailready_tests::lab::tests_folder;
use serde_json::Value;

/// A package, ours or of others.
pub struct Package {
    pub id: String,
    pub name: String,
    pub licence: Option<String>,
    /// `None`: a package of the workspace.
    pub source: Option<String>,
    pub rust_version: Option<String>,
    /// Names of the packages that its manifest names, of every kind.
    pub named: BTreeSet<String>,
}

/// The workspace and everything that it is built from on this platform.
pub struct Metadata {
    pub packages: Vec<Package>,
    /// From a package id to the ids of those that are linked into it: normal dependencies, not those for tests or build scripts.
    linked: BTreeMap<String, Vec<String>>,
}

impl Metadata {
    pub fn read() -> Self {
        let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
        let version = String::from_utf8(rustc.stdout).expect("rustc speaks UTF-8");
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
        let cargo = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
            .current_dir(tests_folder())
            .output()
            .expect("cargo runs");
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
        let all: Value = serde_json::from_slice(&cargo.stdout).expect("cargo writes JSON");

        let nodes = array(&all["resolve"]["nodes"]);
        // Only what was resolved for this platform; `packages` lists the others as well.
        let used: BTreeSet<&str> = nodes.iter().map(|node| text(&node["id"])).collect();
        let packages =
            array(&all["packages"]).iter().map(package).filter(|package| used.contains(&*package.id));
        let linked = nodes.iter().map(|node| {
            let normal = |dep: &&Value| array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let ids = array(&node["deps"]).iter().filter(normal).map(|dep| text(&dep["pkg"]).to_owned());
            (text(&node["id"]).to_owned(), ids.collect())
        });
        Self { packages: packages.collect(), linked: linked.collect() }
    }

    /// The packages of the workspace.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }

    /// The packages of others.
    pub fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }

    /// The names of all packages that end up in `name`, itself included.
    pub fn linked_into(&self, name: &str) -> BTreeSet<String> {
        let package = self.ours().find(|package| package.name == name).expect("a package of the workspace");
        let mut ids = BTreeSet::new();
        let mut open = vec![package.id.clone()];
        while let Some(id) = open.pop() {
            if ids.insert(id.clone()) {
                open.extend(self.linked.get(&id).into_iter().flatten().cloned());
            }
        }
        self.packages.iter().filter(|p| ids.contains(&p.id)).map(|p| p.name.clone()).collect()
    }
}

fn package(value: &Value) -> Package {
    let optional = |key: &str| value[key].as_str().map(str::to_owned);
    Package {
        id: text(&value["id"]).to_owned(),
        name: text(&value["name"]).to_owned(),
        licence: optional("license"),
        source: optional("source"),
        rust_version: optional("rust_version"),
        named: array(&value["dependencies"]).iter().map(|dep| text(&dep["name"]).to_owned()).collect(),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string in cargo's metadata")
}
