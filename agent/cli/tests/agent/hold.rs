use crate::fake::{Fake, Script, stderr, stdout};

#[test]
fn a_hold_reaches_the_agent_with_its_end_and_its_reason() {
    let agent = Fake::start(Script::default());
    let output = agent.run(&["hold", "ann", "--until", "2099-01-31 18:00", "--why", "on leave"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "ann: held until 2099-01-31 18:00\n"));
    let output = agent.run(&["hold", "bob"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "bob: held until released\n"));
    let output = agent.run(&["release", "ann"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "ann: released\n"));
    assert_eq!(agent.heard(), ["hold ann 4073565600 \"on leave\"", "hold bob 0 \"\"", "release ann"]);
}

#[test]
fn a_time_that_is_none_is_wrong_usage_and_reaches_nobody() {
    let agent = Fake::start(Script::default());
    for bad in ["tomorrow", "2001-01-01", "0s"] {
        let output = agent.run(&["hold", "ann", "--until", bad]);
        assert_eq!(output.status.code(), Some(64), "{bad}");
        assert!(stderr(&output).starts_with("mailready: \""), "{bad}: {}", stderr(&output));
    }
    assert_eq!(agent.heard(), [""; 0]);
}
