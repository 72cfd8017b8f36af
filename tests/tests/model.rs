//! The protocol's model, explored to its end: it holds as it is, and breaks when a step or a guard is taken out.
//!
//! `cargo test --test model -- --nocapture` prints the number of states of each scenario and, for each step and guard, the
//! shortest way in which things go wrong without it.

use mailready_tests::model::check::{Counterexample, explore, explore_by_stateright};
use mailready_tests::model::omissions::{self, free};
use mailready_tests::model::scenarios;
use mailready_tests::model::spec::{Guard, Omit};
use mailready_tests::model::step::Step;

#[test]
fn every_scenario_holds_in_every_state() {
    let mut states = 0;
    for spec in scenarios::all() {
        let found = explore(&spec);
        println!("{:>8} states {:>6} ms  {}", found.states, found.took.as_millis(), spec.name);
        assert!(found.counterexample.is_none(), "{}", found.counterexample.unwrap());
        states += found.states;
    }
    println!("{states:>8} states in all");
}

#[test]
fn another_explorer_finds_the_same_states_and_nothing_wrong() {
    for spec in scenarios::all() {
        assert_eq!(explore_by_stateright(&spec), (explore(&spec).states, None), "{}", spec.name);
    }
}

/// The first counterexample that any scenario has without it.
fn without(omit: Omit) -> Option<Counterexample> {
    scenarios::all().into_iter().find_map(|spec| explore(&spec.without(omit)).counterexample)
}

fn all_matter(omits: impl Iterator<Item = Omit>) {
    let mut wrong = Vec::new();
    for omit in omits {
        match (without(omit), free(omit)) {
            (Some(example), None) => println!("without {}: {example}", omissions::name(omit)),
            (None, Some(why)) => println!("without {}: nothing breaks: {why}", omissions::name(omit)),
            (Some(example), Some(_)) => {
                wrong.push(format!("{} is said to be free, but: {example}", omissions::name(omit)));
            }
            (None, None) => {
                wrong.push(format!("{} is good for nothing that the model sees", omissions::name(omit)))
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_step_is_needed_or_the_reason_is_known() {
    all_matter(Step::ALL.iter().map(|step| Omit::Step(*step)));
}

#[test]
fn each_guard_is_needed_or_the_reason_is_known() {
    all_matter(Guard::ALL.iter().map(|guard| Omit::Guard(*guard)));
}
