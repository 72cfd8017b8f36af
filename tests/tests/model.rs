//! The protocol's model, explored to its end: it holds as it is, and breaks when a step or a guard is taken out.
//!
//! `cargo test --test model -- --nocapture` prints the number of states of each scenario and, for each step and guard, the
//! shortest way in which things go wrong without it.

use mailready_tests::model::check::{Counterexample, explore, explore_by_stateright};
use mailready_tests::model::omissions::{self, free};
use mailready_tests::model::scenarios;
use mailready_tests::model::spec::{Delivery, Drain, Guard, Omit, Spec};
use mailready_tests::model::step::Step;

#[test]
fn every_scenario_holds_in_every_state() {
    let mut states = 0;
    for spec in scenarios::all() {
        let found = explore(&spec);
        println!("{:>8} states {:>6} ms  {}", found.states, found.took.as_millis(), spec.name);
        assert!(found.counterexample.is_none(), "{}", found.counterexample.unwrap());
        assert_eq!(explore_by_stateright(&spec), (found.states, None), "stateright: {}", spec.name);
        states += found.states;
    }
    println!("{states:>8} states in all, and stateright counts the same");
}

#[test]
fn a_drain_by_truncation_loses_or_doubles_identical_messages() {
    for (cut_again, name) in [(true, "cut again after a crash"), (false, "never cut again")] {
        let spec = Spec {
            deliverers: vec![Delivery::Dotlock, Delivery::Dotlock],
            twins: true,
            kills: 1,
            drain: Drain::Truncation { cut_again },
            ..Spec::quiet_maildir(name, 0)
        };
        let example = explore(&spec).counterexample.expect("the reason for rotation");
        println!("drain by truncation: {example}");
        let rotated = explore(&Spec { drain: Drain::Rotation, ..spec });
        assert!(rotated.counterexample.is_none());
    }
}

/// Nobody can tell a new message from one that a reader wrote back, if the bytes are the same and the reader dropped the old
/// one: the drain takes it for the old one. Known, and rare: it takes a removed tombstone, and a message without a
/// line of its own trace in it.
#[test]
fn a_new_message_equal_to_a_converted_one_in_a_reappeared_mbox_is_taken_for_it() {
    let spec = Spec {
        deliverers: vec![Delivery::KernelChecked],
        twins: true,
        vanish: 1,
        ..Spec::quiet_maildir("a twin in a reappeared mbox", 1)
    };
    let example = explore(&spec).counterexample.expect("if this holds now, say so in ARCHITECTURE.md");
    assert_eq!(example.property, "at rest: every acknowledged message is served exactly once");
    assert!(explore(&Spec { twins: false, ..spec }).counterexample.is_none());
}

/// The first counterexample that any scenario has without it.
fn without(omit: Omit) -> Option<Counterexample> {
    scenarios::all().into_iter().find_map(|spec| explore(&spec.without(omit)).counterexample)
}

/// What comes of leaving it out; an error if that is not what [`omissions::FREE`] says.
fn verdict(omit: Omit) -> Result<String, String> {
    let name = omissions::name(omit);
    match (without(omit), free(omit)) {
        (Some(example), None) => Ok(format!("without {name}: {example}")),
        (None, Some(why)) => Ok(format!("without {name}: nothing breaks: {why}")),
        (Some(example), Some(_)) => Err(format!("{name} is said to be free, but: {example}")),
        (None, None) => Err(format!("{name} is good for nothing that the model sees")),
    }
}

#[test]
fn each_step_is_needed_or_the_reason_is_known() {
    for step in Step::ALL {
        println!("{}", verdict(Omit::Step(*step)).unwrap());
    }
}

#[test]
fn each_guard_is_needed_or_the_reason_is_known() {
    for guard in Guard::ALL {
        println!("{}", verdict(Omit::Guard(*guard)).unwrap());
    }
}

#[test]
fn the_steps_are_those_of_the_architecture_page() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page.split("## The steps").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: Vec<String> = rows
        .map(|row| {
            row.splitn(3, '|').take(2).map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let ours: Vec<String> = Step::ALL.iter().map(|step| format!("{step} {}", step.who().as_str())).collect();
    assert_eq!(named, ours);
}
