use mailready_bus::{Answer, Checked, Converted, Details, State, UserStatus, Verified};

use crate::fake::{Fake, Script, stderr, stdout};

fn checked(lost: u64) -> Checked {
    let zero = Some(0);
    Checked {
        same: Some(1204),
        gone: Some(12),
        lost: Some(lost),
        damaged: zero,
        unknown: zero,
        unseen: zero,
        mailboxes: Some(3),
        missing: zero,
        reason: None,
    }
}

fn back(user: &str, answer: Answer, text: &str) -> Converted {
    Converted::new(user, answer, text)
}

#[test]
fn each_user_is_rolled_back_and_told() {
    let agent = Fake::start(Script {
        changes: vec![("ann", State::RollingBack, Details { messages: Some(3), ..Details::default() })],
        rolled_back: vec![back("ann", Answer::RolledBack, "20 messages"), back("bob", Answer::OnMbox, "")],
        ..Script::default()
    });
    let output = agent.run(&["rollback", "--yes", "ann", "bob"]);
    assert_eq!(stdout(&output), "ann: rolled back to mbox: 20 messages\nbob: on mbox already\n");
    assert_eq!((stderr(&output), output.status.code()), ("", Some(0)));
    assert_eq!(agent.heard(), ["rollback ann", "rollback bob"]);
}

#[test]
fn nobody_is_rolled_back_unasked() {
    let agent =
        Fake::start(Script { rolled_back: vec![back("ann", Answer::RolledBack, "")], ..Script::default() });
    // Standard input is no terminal here: there is nobody to ask.
    let output = agent.run(&["rollback", "ann"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
    assert_eq!(agent.heard(), [] as [&str; 0]);
}

#[test]
fn all_are_those_on_maildir() {
    let user = |name: &str, state| UserStatus::new(name, state, Details::default());
    let agent = Fake::start(Script {
        statuses: vec![
            user("ann", State::Maildir),
            user("bob", State::Mbox),
            user("cy", State::Maildir),
            user("dee", State::RolledBack),
        ],
        rolled_back: vec![back("ann", Answer::RolledBack, ""), back("cy", Answer::Waiting, "a POP3 session")],
        ..Script::default()
    });
    let output = agent.run(&["rollback", "--all", "--yes", "--json"]);
    assert_eq!(agent.heard(), ["status []", "rollback ann", "rollback cy"]);
    assert_eq!(output.status.code(), Some(75), "cy has to wait");
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let expected = serde_json::json!({"version": 1, "users": [
        {"user": "ann", "answer": "rolledback", "on_mbox": true, "text": ""},
        {"user": "cy", "answer": "waiting", "on_mbox": false, "text": "a POP3 session"},
    ]});
    assert_eq!(value, expected);
}

#[test]
fn a_name_that_is_nobodys_does_not_keep_the_others_waiting() {
    let agent =
        Fake::start(Script { rolled_back: vec![back("bob", Answer::RolledBack, "")], ..Script::default() });
    let output = agent.run(&["rollback", "--yes", "ann", "bob"]);
    assert_eq!(stdout(&output), "ann: refused: no such user\nbob: rolled back to mbox\n");
    assert_eq!(output.status.code(), Some(65));
}

#[test]
fn only_what_is_sound_is_verified() {
    let agent = Fake::start(Script {
        verified: vec![
            Verified::new("ann", Answer::Verified, checked(0)),
            Verified::new("bob", Answer::Damaged, checked(2)),
        ],
        ..Script::default()
    });
    let output = agent.run(&["verify", "ann"]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("USER  MAILBOXES") && lines[2].contains("byte for byte"), "{lines:?}");

    let output = agent.run(&["verify", "--json", "ann", "bob"]);
    assert_eq!(output.status.code(), Some(65));
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let user = |name, answer, lost| {
        serde_json::json!({"user": name, "answer": answer, "same": 1204, "gone": 12, "lost": lost, "damaged": 0,
            "unknown": 0, "unseen": 0, "mailboxes": 3, "missing": 0})
    };
    let users = [user("ann", "verified", 0), user("bob", "damaged", 2)];
    assert_eq!(value, serde_json::json!({"version": 1, "users": users}));
}
