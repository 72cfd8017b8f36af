use mailready_bus::{Details, State, UserStatus};

use crate::fake::{Fake, Script, stdout};

fn two() -> Script {
    let on_maildir = Details {
        run: Some("20261122T014400Z-0123456789abcdef".into()),
        messages: Some(20_000),
        mail: Some("/home/ann/Maildir".into()),
        original: Some("/var/mail/.mailready/20261122T014400Z-0123456789abcdef.0".into()),
        since: Some(1_795_311_840),
        uid: Some(1001),
        ..Details::default()
    };
    let blocked = Details {
        reason: Some("/home/bob/Maildir exists already".into()),
        code: Some("maildir-exists".into()),
        mend: Some("move it away".into()),
        ..Details::default()
    };
    Script {
        statuses: vec![
            UserStatus::new("ann", State::Maildir, on_maildir),
            UserStatus::new("bob", State::Blocked, blocked),
        ],
        ..Script::default()
    }
}

#[test]
fn everybody_is_a_line_and_the_total_is_the_last() {
    let agent = Fake::start(two());
    let output = agent.run(&["status"]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[1].starts_with("ann   maildir ") && lines[1].ends_with("20,000 messages"), "{lines:?}");
    assert!(lines[2].ends_with("/home/bob/Maildir exists already; move it away"), "{lines:?}");
    assert_eq!(lines[3], "1 blocked, 1 maildir");
    assert_eq!(agent.heard(), ["status []"]);
}

#[test]
fn json_has_the_details_that_are_there() {
    let agent = Fake::start(two());
    let output = agent.run(&["status", "--json", "ann", "bob"]);
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let expected = serde_json::json!({"version": 1, "users": [
        {"user": "ann", "state": "maildir", "run": "20261122T014400Z-0123456789abcdef", "messages": 20000,
         "mail": "/home/ann/Maildir", "original": "/var/mail/.mailready/20261122T014400Z-0123456789abcdef.0",
         "since": 1795311840u64, "uid": 1001},
        {"user": "bob", "state": "blocked", "reason": "/home/bob/Maildir exists already", "code": "maildir-exists",
         "mend": "move it away"},
    ]});
    assert_eq!(value, expected);
    assert_eq!(agent.heard(), ["status [\"ann\", \"bob\"]"]);
}

#[test]
fn explain_is_a_page_on_one_user() {
    let output = Fake::start(two()).run(&["explain", "ann"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.starts_with("ann: the mail is in the Maildir\n  mail     /home/ann/Maildir\n"), "{text}");
    assert!(text.contains("  since    2026-11-22 01:44 ("), "{text}");
    assert!(text.contains("  why      converted, with 20,000 messages at that time\n"), "{text}");
}

#[test]
fn explain_of_somebody_unknown_is_exit_67() {
    let output = Fake::start(Script::default()).run(&["explain", "nobody-here"]);
    assert_eq!(output.status.code(), Some(67));
    assert_eq!(stdout(&output), "");
}
