//! The fuzz targets of `tests/fuzz`, each over its corpus and over a number of mutations of it that are the same every time.
//!
//! `MAILREADY_LONG=1` takes a hundred times as many; `tests/fuzz/run` is for hours, and goes where the code has not been yet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: what fails here fails the test"
)]

#[path = "../fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use mailready_tests::lab::tests_folder;
use mutate::{Random, mutate};
use targets::{TARGETS, Target};

/// Mutations of each input of a corpus.
const MUTATIONS: usize = 60;

fn corpus(name: &str) -> PathBuf {
    tests_folder().join("fuzz/corpus").join(name)
}

fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<_> = fs::read_dir(corpus(name))
        .unwrap_or_else(|e| panic!("the corpus of {name}: {e}"))
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// Runs one input. One that fails is kept, to be looked at and put into the corpus.
fn run((name, target): Target, input: &[u8], what: &str) {
    if catch_unwind(|| target(input)).is_err() {
        let kept = std::env::temp_dir().join(format!("mailready-fuzz-{name}"));
        fs::write(&kept, input).unwrap();
        panic!("{name} fails for {what}, kept as {}: {}", kept.display(), input.escape_ascii());
    }
}

fn over_corpus_and_mutations(target: Target) {
    let long = std::env::var_os("MAILREADY_LONG").is_some_and(|value| value == "1");
    let mutations = if long { 100 * MUTATIONS } else { MUTATIONS };
    let inputs = inputs(target.0);
    assert!(!inputs.is_empty(), "{} has no corpus", target.0);
    run(target, b"", "nothing");
    for (i, (file, input)) in inputs.iter().enumerate() {
        run(target, input, file);
        let mut random = Random::new(i as u64 + 1);
        let mut mutant = input.clone();
        for n in 0..mutations {
            // Mutations add up for a while.
            if n % 8 == 0 {
                mutant.clone_from(input);
            }
            let other = &inputs[random.below(inputs.len())].1;
            mutate(&mut mutant, other, &mut random);
            run(target, &mutant, &format!("mutation {n} of {file}"));
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            over_corpus_and_mutations(*TARGETS.iter().find(|(name, _)| *name == stringify!($name)).unwrap());
        })*

        #[test]
        fn every_target_has_a_test_and_every_corpus_a_target() {
            let tests: BTreeSet<String> = [$(stringify!($name)),*].map(str::to_owned).into();
            let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            let corpora: BTreeSet<String> = fs::read_dir(tests_folder().join("fuzz/corpus"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(tests, targets);
            assert_eq!(corpora, targets);
        }
    };
}

targets! {
    arrival config from_line header job layout marker meta mutf7 naive order percent qpopper radius receipt
    split subscriptions told tombstone uidl uidlist uw
}
