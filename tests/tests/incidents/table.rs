//! The table itself: each incident has a test, and each test here is an incident's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mailready_tests::lab::tests_folder;

/// A row: what happened, where that is told, and the tests (`FILE::NAME`, the file as seen from the project's folder).
struct Incident {
    what: String,
    source: String,
    tests: Vec<String>,
}

fn incidents() -> Vec<Incident> {
    let table = fs::read_to_string(tests_folder().join("INCIDENTS.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let incidents: Vec<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [what, source, tests] = cells.as_slice() else { panic!("not three cells: {row}") };
            let tests = tests.split("<br>").map(|test| test.trim().trim_matches('`').to_owned()).collect();
            Incident { what: (*what).to_owned(), source: (*source).to_owned(), tests }
        })
        .collect();
    assert!(incidents.len() > 20, "{} rows read", incidents.len());
    incidents
}

/// Whether a source has a test of that name, and not merely a function.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let Some(at) = source.find(&head) else { return false };
    let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut above = source[..line].lines().rev().map(str::trim).take_while(|line| line.starts_with("#["));
    above.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
}

#[test]
fn each_incident_names_tests_that_there_are_and_where_it_is_told() {
    let tests = tests_folder();
    let project = tests.parent().unwrap_or(&tests);
    for Incident { what, source, tests } in incidents() {
        assert!(source.contains("](http") || source.starts_with("observed"), "{what}: told nowhere");
        assert!(!tests.is_empty(), "{what}");
        for test in tests {
            let (file, name) =
                test.split_once("::").unwrap_or_else(|| panic!("{what}: {test:?} is no FILE::NAME"));
            let text =
                fs::read_to_string(project.join(file)).unwrap_or_else(|e| panic!("{what}: {file}: {e}"));
            assert!(has_test(&text, name), "{what}: no test {name} in {file}");
        }
    }
}

#[test]
fn each_test_of_this_theme_is_in_the_table() {
    let named: BTreeSet<String> = incidents().into_iter().flat_map(|incident| incident.tests).collect();
    let folder = tests_folder().join("tests/incidents");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem() == Path::new(file!()).file_stem() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let tests =
            text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split('(').next());
        for name in tests {
            let full = format!("tests/tests/incidents/{file}::{name}");
            assert!(named.contains(&full), "{full} is no incident's");
        }
    }
}
