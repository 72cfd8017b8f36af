use std::process::{Command, Stdio};

use mailready_bus::{Answer, Converted, Details, State};

use crate::fake::{Fake, Script, stderr, stdout, until};

fn answers(answers: &[(&str, Answer, &str)]) -> Script {
    let converted =
        answers.iter().map(|(user, answer, text)| Converted::new(*user, *answer, *text)).collect();
    Script { converted, ..Script::default() }
}

#[test]
fn all_on_maildir_is_exit_zero_and_a_line_each() {
    let agent =
        Fake::start(answers(&[("ann", Answer::Converted, "20000 messages"), ("bob", Answer::Already, "")]));
    let output = agent.run(&["convert", "ann", "bob"]);
    assert_eq!(stdout(&output), "ann: converted: 20000 messages\nbob: on Maildir already\n");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(agent.heard().len(), 1);
    assert!(agent.heard()[0].starts_with("convert [\"ann\", \"bob\"] "), "{:?}", agent.heard());
}

#[test]
fn options_reach_the_agent_and_absent_ones_do_not() {
    let agent = Fake::start(Script::default());
    agent.run(&["convert", "--all", "--wait"]);
    agent.run(&["convert", "--dry-run", "ann"]);
    let heard = agent.heard();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0], "convert [] ConvertOptions { all: Some(true), wait: Some(true), dry_run: None }");
    assert_eq!(heard[1], "convert [\"ann\"] ConvertOptions { all: None, wait: None, dry_run: Some(true) }");
}

#[test]
fn who_has_to_mend_something_is_told_apart_from_who_has_to_wait() {
    let waiting =
        answers(&[("ann", Answer::Converted, ""), ("bob", Answer::Waiting, "an open POP3 session")]);
    assert_eq!(Fake::start(waiting).run(&["convert", "ann", "bob"]).status.code(), Some(75));
    let blocked = answers(&[("ann", Answer::Waiting, ""), ("bob", Answer::Blocked, "a Maildir is there")]);
    assert_eq!(Fake::start(blocked).run(&["convert", "ann", "bob"]).status.code(), Some(65));
}

#[test]
fn json_is_one_object_of_the_documented_shape() {
    let agent = Fake::start(answers(&[
        ("ann", Answer::Converted, "x"),
        ("b\u{1b}]0;owned\u{7}\u{9b}\u{202e}b", Answer::Held, "\u{7f}\u{e0001}"),
    ]));
    let output = agent.run(&["convert", "--json", "ann", "bob"]);
    assert_eq!(output.status.code(), Some(65));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1);
    assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{e0001}'));
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let expected = serde_json::json!({"version": 1, "users": [
        {"user": "ann", "answer": "converted", "on_maildir": true, "text": "x"},
        {"user": "b\u{1b}]0;owned\u{7}\u{9b}\u{202e}b", "answer": "held", "on_maildir": false, "text": "\u{7f}\u{e0001}"},
    ]});
    assert_eq!(value, expected);
}

#[test]
fn nothing_from_outside_reaches_the_terminal_raw() {
    let agent = Fake::start(answers(&[("ann\u{1b}[2J", Answer::Blocked, "see\n\u{9b}31mroot: converted\r")]));
    let output = agent.run(&["convert", "ann"]);
    assert_eq!(stdout(&output), "ann\\u{1b}[2J: blocked: see\\u{a}\\u{9b}31mroot: converted\\u{d}\n");
}

fn moving() -> Script {
    let at = |bytes| Details {
        bytes: Some(bytes),
        bytes_total: Some(1000),
        messages: Some(bytes / 10),
        ..Details::default()
    };
    Script {
        changes: vec![
            ("ann\u{1b}[5m", State::Staging, at(250)),
            ("bob", State::Waiting, Details::default()),
            ("bob", State::Staging, at(500)),
            ("ann\u{1b}[5m", State::Committing, at(1000)),
        ],
        hang: true,
        ..Script::default()
    }
}

/// `script` gives a program a terminal. A convert that is never answered keeps its bars until it is told to stop.
#[test]
fn on_a_terminal_each_mailbox_has_a_bar() {
    let agent = Fake::start(moving());
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let line = format!("stty cols 120 rows 24; exec {}", agent.command_line("convert ann bob"));
    let mut child = Command::new("script")
        .args(["--quiet", "--flush", "--command", &line, seen.to_str().unwrap()])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let screen =
        || std::fs::read(&seen).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    until("both bars are drawn", || {
        let screen = screen();
        let is_there = screen.contains("bob ") && screen.contains(" 50%");
        is_there && screen.contains("committing, 100 messages")
    });
    assert!(screen().contains("ann\\u{1b}[5m"), "the name is drawn harmless");
    assert!(!screen().contains("ann\u{1b}[5m"), "and never raw");
    // Ctrl-C, as a terminal sends it.
    use std::io::Write;
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    until("it ends", || child.try_wait().unwrap().is_some());
    assert!(screen().contains("the agent goes on"), "{}", screen());
}

#[test]
fn off_a_terminal_there_is_no_progress() {
    let script =
        Script { hang: false, converted: vec![Converted::new("ann", Answer::Converted, "")], ..moving() };
    let output = Fake::start(script).run(&["convert", "ann"]);
    assert_eq!((stdout(&output), stderr(&output)), ("ann: converted\n", ""));
}
