//! What may stand in the tracked files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailready_tests::lab::{skip, tests_folder};

/// With its tests. Longer than this, a file holds more than one idea.
const MOST_LINES: usize = 800;

/// Written by tools, or a text of others.
const NOT_OURS: [&str; 3] = ["Cargo.lock", "LICENSE", "tests/fuzz/guided/Cargo.lock"];

fn project() -> PathBuf {
    fs::canonicalize(tests_folder().join("..")).expect("the checkout is there")
}

/// The tracked files that are text, each with its content; `None` outside a git checkout.
fn tracked() -> Option<Vec<(PathBuf, String)>> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(project()).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        skip("no git, or no checkout: which files are tracked is not known");
        return None;
    };
    let names = String::from_utf8(listed.stdout).expect("tracked names are UTF-8");
    let files = names.split_terminator('\0').filter(|name| !NOT_OURS.contains(name));
    // A tracked file may be deleted in the work tree; a file that is no text has no lines.
    let read = |name: &str| Some((PathBuf::from(name), fs::read_to_string(project().join(name)).ok()?));
    Some(files.filter_map(read).collect())
}

#[test]
fn no_file_is_too_long_to_be_read() {
    for (name, content) in tracked().into_iter().flatten() {
        let lines = content.lines().count();
        // Message corpora and captured traces are data.
        if !is_data(&name) {
            assert!(lines <= MOST_LINES, "{} has {lines} lines", name.display());
        }
    }
}

fn is_data(name: &Path) -> bool {
    name.components().any(|part| part.as_os_str() == "corpus" || part.as_os_str() == "data")
}

/// Where this checkout lies, whose machine it is and which mirrors it uses is nobody else's business, and breaks elsewhere.
#[test]
fn nothing_of_this_machine_is_in_the_files() {
    let mut traces = vec![project().display().to_string()];
    traces.extend(std::env::var("HOME").ok().filter(|home| home != "/root" && home != "/"));
    traces.extend(mirrors());
    for (name, content) in tracked().into_iter().flatten() {
        for trace in &traces {
            assert!(!content.contains(trace.as_str()), "{} holds {trace:?}", name.display());
        }
    }
}

/// Hosts from which this machine takes packages and crates, the public ones left out: those may be talked about.
fn mirrors() -> Vec<String> {
    let sites = Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]).output();
    let mut text = sites.map(|sites| String::from_utf8_lossy(&sites.stdout).into_owned()).unwrap_or_default();
    let cargo_home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap_or_default()));
    text += &fs::read_to_string(Path::new(&cargo_home).join("config.toml")).unwrap_or_default();
    let hosts = text.split("://").skip(1).filter_map(|rest| {
        let host = rest.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-')).next()?;
        (!host.is_empty()).then(|| host.to_owned())
    });
    let public = ["debian.org", "crates.io", "github.com", "rust-lang.org", "localhost"];
    hosts.filter(|host| !public.iter().any(|known| host.ends_with(known))).collect()
}
