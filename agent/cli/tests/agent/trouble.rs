use std::os::unix::net::UnixListener;

use mailready_bus::Error;

use crate::fake::{Fake, Refusal, Script, folder, run, stderr, stdout};

#[test]
fn without_an_agent_every_command_says_how_to_start_it() {
    let dir = folder();
    for args in
        [&["convert", "ann"][..], &["status"], &["explain", "ann"], &["hold", "ann"], &["release", "ann"]]
    {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(69), "{args:?}");
        assert!(stderr(&output).contains("mailready-agent is not running"), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("systemctl start mailready-agent"), "{args:?}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn a_socket_that_an_agent_left_behind_is_no_agent() {
    let dir = folder();
    drop(UnixListener::bind(dir.path().join("control.sock")).unwrap());
    let output = run(dir.path(), &["status"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("is not running"));
}

#[test]
fn an_agent_that_is_hung_does_not_hang_its_operator() {
    let dir = folder();
    let _never_accepts = UnixListener::bind(dir.path().join("control.sock")).unwrap();
    let output = run(dir.path(), &["status"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("does not answer"), "{}", stderr(&output));
}

#[test]
fn for_programs_a_failure_is_an_object_too() {
    let output = run(folder().path(), &["status", "--json"]);
    assert_eq!(output.status.code(), Some(69));
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&value["version"], &value["exit"]), (&1.into(), &69.into()));
    assert!(value["error"].as_str().unwrap().contains("not running"));
}

#[test]
fn what_the_agent_refuses_has_its_own_exit_code_and_is_shown_harmless() {
    let errors: [(Refusal, i32); 7] = [
        (Error::AccessDenied, 77),
        (Error::NotSupported, 69),
        (Error::InvalidArgs, 64),
        (Error::NoSuchUser, 67),
        (Error::Busy, 75),
        (Error::Stopping, 75),
        (Error::Failed, 70),
    ];
    for (refuse, exit) in errors {
        let agent = Fake::start(Script { refuse: Some(refuse), ..Script::default() });
        let output = agent.run(&["convert", "ann"]);
        assert_eq!(output.status.code(), Some(exit));
        assert_eq!(stderr(&output), "mailready: as the script \\u{1b}[31msays\n");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_exit_78_with_file_and_line() {
    let dir = folder();
    let file = dir.path().join("mailready.toml");
    std::fs::write(&file, "[agent]\ncontrol = \"/x\"\nworker = 2\n").unwrap();
    let output = run(dir.path(), &["status"]);
    assert_eq!(output.status.code(), Some(78));
    let expected = format!(
        "mailready: {}:3: unknown key agent.worker; the nearest known key is agent.workers\n",
        file.display()
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn wrong_usage_is_exit_64_and_help_is_not_wrong() {
    let dir = folder();
    for args in [&["convert"][..], &["convert", "--all", "ann"], &["frobnicate"], &["status", "--jsn"], &[]] {
        assert_eq!(run(dir.path(), args).status.code(), Some(64), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["convert", "--help"]] {
        assert_eq!(run(dir.path(), args).status.code(), Some(0), "{args:?}");
    }
}
