//! The protocol, explored.

use mailready_tests::model::check::explore;
use mailready_tests::model::scenarios;

#[test]
fn every_scenario_holds() {
    for spec in scenarios::all() {
        let found = explore(&spec);
        eprintln!("{:>8} states {:>6} ms  {}", found.states, found.took.as_millis(), spec.name);
        if let Some(c) = found.counterexample {
            eprintln!("   {c}");
        } else {
            let began = std::time::Instant::now();
            assert_eq!((found.states, None), mailready_tests::model::check::explore_by_stateright(&spec));
            eprintln!("      stateright {} ms", began.elapsed().as_millis());
        }
    }
}

#[test]
fn omissions() {
    use mailready_tests::model::spec::{Guard, Omit};
    use mailready_tests::model::step::Step;
    let all = Step::ALL.iter().map(|s| Omit::Step(*s)).chain(Guard::ALL.iter().map(|g| Omit::Guard(*g)));
    for omit in all {
        let mut shortest: Option<mailready_tests::model::check::Counterexample> = None;
        for spec in scenarios::all() {
            if let Some(c) = explore(&spec.without(omit)).counterexample {
                shortest = Some(c);
                break;
            }
        }
        match shortest {
            Some(c) => eprintln!("{omit:?}: {c}"),
            None => eprintln!("{omit:?}: NOTHING BREAKS"),
        }
    }
}
