//! Whose work comes in, and under which terms: what `deny.toml` allows, checked here so that no further tool is needed.

use std::fs;

use mailready_tests::lab::tests_folder;

use crate::metadata::Metadata;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn allowed() -> Vec<String> {
    let path = tests_folder().join("../deny.toml");
    let deny: toml::Table =
        fs::read_to_string(path).expect("deny.toml is there").parse().expect("deny.toml is TOML");
    let list = deny["licenses"]["allow"].as_array().expect("licenses.allow is a list").iter();
    list.map(|name| name.as_str().expect("a licence is a string").to_owned()).collect()
}

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed();
    let metadata = Metadata::read();
    assert!(metadata.foreign().count() > 10, "the metadata names our dependencies");
    for package in &metadata.packages {
        let licence = package.licence.as_deref().unwrap_or("");
        assert!(permits(licence, &allowed), "{} is under {licence:?}", package.name);
    }
}

#[test]
fn every_dependency_comes_from_crates_io() {
    for package in Metadata::read().foreign() {
        assert_eq!(package.source.as_deref(), Some(CRATES_IO), "{}", package.name);
    }
}

/// Whether an SPDX expression can be met with `allowed` alone. `A/B` is the old way of writing `A OR B`.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at, allowed);
    met && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, allowed);
    }
    met
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let met = either(words, at, allowed);
        *at += 1;
        return met;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn expressions_mean_what_spdx_says() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for fine in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permits(fine, &allowed), "{fine}");
    }
    for wrong in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 OR (MIT AND GPL-2.0)", "MIT WITH X", "MIT Apache-2.0"]
    {
        assert!(!permits(wrong, &allowed), "{wrong}");
    }
}
