//! The threat model: each threat in SECURITY.md has tests that there are, and each test of the theme `hostile` shows a threat that is told there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use mailready_tests::lab::tests_folder;

fn project() -> PathBuf {
    fs::canonicalize(tests_folder().join("..")).expect("the checkout is there")
}

/// Every `FILE::NAME` in the last cells of the tables.
fn named() -> BTreeSet<String> {
    let page = fs::read_to_string(project().join("SECURITY.md")).expect("there is a threat model");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat "));
    let mut named = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "threat, what stops it, test: {row}");
        let tests = cells[2].split("<br>").map(|test| test.trim().trim_matches('`').to_owned());
        for test in tests {
            assert!(test.contains(".rs::"), "{test:?} is no FILE::NAME: {row}");
            named.insert(test);
        }
    }
    named
}

/// The names of a source's tests.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let tests = source.split("#[test]").skip(1);
    tests.filter_map(|rest| rest.split_once("fn ")?.1.split('(').next()).collect()
}

#[test]
fn every_threat_names_tests_that_there_are() {
    let named = named();
    assert!(named.len() > 30, "{} tests named", named.len());
    for test in named {
        let (file, name) = test.split_once("::").expect("checked above");
        let source = fs::read_to_string(project().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(tests_in(&source).contains(name), "no test {name} in {file}");
    }
}

#[test]
fn every_test_of_the_theme_hostile_shows_a_threat_that_is_told() {
    let named = named();
    let folder = project().join("tests/tests/hostile");
    for entry in fs::read_dir(folder).expect("the theme is there") {
        let path = entry.expect("it can be listed").path();
        let source = fs::read_to_string(&path).expect("it is text");
        let file = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        for test in tests_in(&source) {
            let full = format!("tests/tests/hostile/{file}::{test}");
            assert!(named.contains(&full), "{full} is no threat's");
        }
    }
}
