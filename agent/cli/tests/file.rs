//! `mailready convert-file`: what it says, what it leaves, and as whom it works.
#![expect(clippy::unwrap_used, reason = "what the tests are set up with fails loudest by a panic")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const MBOX: &str = "From ann@example.org Mon Jan  5 10:00:00 2026\nFrom: ann@example.org\nSubject: one\n\nFirst.\n\n\
                    From bob@example.org Mon Jan  5 11:00:00 2026\nFrom: bob@example.org\nSubject: two\nStatus: RO\n\nSecond.\n";

/// A folder with an mbox, and a configuration that is all defaults.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mailready.toml"), "").unwrap();
    fs::write(dir.path().join("mbox"), MBOX).unwrap();
    dir
}

fn run(dir: &Path, args: &[&str]) -> Output {
    let config = dir.join("mailready.toml");
    let mut command = Command::new("timeout");
    command.arg("60").arg(env!("CARGO_BIN_EXE_mailready")).arg("--config").arg(config).arg("convert-file");
    command.args(args).env("TZ", "UTC").current_dir(dir).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Nothing but what was there, and that as it was.
#[track_caller]
fn is_untouched(dir: &Path, also: &[&str]) {
    let mut expected = vec!["mailready.toml", "mbox"];
    expected.extend(also);
    expected.sort_unstable();
    assert_eq!(names(dir), expected);
    assert_eq!(fs::read_to_string(dir.join("mbox")).unwrap(), MBOX);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Said past the harness's capture, since a test that cannot run here must not look like one that passed.
fn skipped(test: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

#[test]
fn a_mailbox_becomes_a_maildir_and_stays_what_it_was() {
    let dir = folder();
    let output = run(dir.path(), &["mbox", "Maildir"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("Maildir: 2 messages, "), "{}", stdout(&output));
    assert!(
        stdout(&output).ends_with("mbox is as it was; mail that arrives there now is not carried over\n")
    );
    is_untouched(dir.path(), &["Maildir"]);
    let messages = |sub: &str| names(&dir.path().join("Maildir").join(sub)).len();
    assert_eq!((messages("new") + messages("cur"), messages("tmp")), (2, 0));
}

#[test]
fn json_has_the_documented_keys() {
    let dir = folder();
    let output = run(dir.path(), &["--json", "mbox", "Maildir"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let wanted =
        ["blake3", "bytes", "maildir", "mbox", "messages", "took_ms", "uidnext", "uidvalidity", "version"];
    assert_eq!(keys, wanted);
    assert_eq!((&value["version"], &value["messages"]), (&1.into(), &2.into()));
    assert_eq!((&value["bytes"], &value["uidnext"]), (&MBOX.len().into(), &3.into()));
    assert_eq!(value["blake3"].as_str().unwrap().len(), 64);
}

#[test]
fn a_maildir_that_exists_is_left_alone_even_if_it_is_empty() {
    let dir = folder();
    fs::create_dir(dir.path().join("Maildir")).unwrap();
    let output = run(dir.path(), &["mbox", "Maildir"]);
    assert_eq!(output.status.code(), Some(73));
    assert!(stderr(&output).starts_with("mailready: Maildir exists already"), "{}", stderr(&output));
    assert_eq!(names(&dir.path().join("Maildir")), [""; 0]);
    is_untouched(dir.path(), &["Maildir"]);
}

#[test]
fn what_is_not_there_and_what_is_no_mbox_are_told_apart() {
    let dir = folder();
    let output = run(dir.path(), &["nothing", "Maildir"]);
    assert_eq!(output.status.code(), Some(66), "{}", stderr(&output));
    fs::write(dir.path().join("text"), "Dear Ann,\n\nthis is a letter.\n").unwrap();
    let output = run(dir.path(), &["text", "Maildir"]);
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(stderr(&output).contains("text is no mbox"), "{}", stderr(&output));
    fs::create_dir(dir.path().join("folder")).unwrap();
    let output = run(dir.path(), &["folder", "Maildir"]);
    assert_ne!(output.status.code(), Some(0));
    is_untouched(dir.path(), &["folder", "text"]);
}

#[test]
fn other_servers_split_by_rules_of_their_own() {
    // UW takes a sender with spaces, and qpopper wants an empty line in front; Dovecot does neither.
    for (server, messages) in [("dovecot", 2), ("uw", 3), ("qpopper", 1)] {
        let dir = folder();
        let from = |who: &str| format!("From {who} Fri Nov  9 22:33:52 2001\nSubject: s\n\nx\n");
        fs::write(dir.path().join("mbox"), [from("a@b"), from("c@d"), from("e f")].concat()).unwrap();
        let output = run(dir.path(), &["--json", "--server", server, "mbox", "Maildir"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["messages"], messages, "{server}");
    }
}

#[test]
fn a_time_zone_that_nobody_knows_is_a_wrong_configuration() {
    let dir = folder();
    fs::write(dir.path().join("mailready.toml"), "[mail]\ntimezone = \"Mars/Olympus\"\n").unwrap();
    let output = run(dir.path(), &["mbox", "Maildir"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("mail.timezone"), "{}", stderr(&output));
    is_untouched(dir.path(), &[]);
}

#[test]
fn the_name_of_a_file_does_not_reach_the_terminal_raw() {
    let dir = folder();
    let output = run(dir.path(), &["no\u{1b}[2Jthing\n", "Maildir"]);
    assert!(stderr(&output).contains("no\\u{1b}[2Jthing"), "{:?}", stderr(&output));
    assert!(!stderr(&output).contains('\u{1b}'));
}

/// A home that is a user's, in a folder that everybody may look into.
fn home_of(uid: u32) -> (TempDir, PathBuf) {
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::rename(dir.path().join("mbox"), home.join("mbox")).unwrap();
    fs::set_permissions(home.join("mbox"), fs::Permissions::from_mode(0o600)).unwrap();
    for path in [&home, &home.join("mbox")] {
        chown(path, Some(uid), Some(uid)).unwrap();
    }
    (dir, home)
}

/// No account has it.
const SOMEBODY: u32 = 54_321;

#[test]
fn root_becomes_the_owner_of_the_mbox() {
    if !is_root() {
        return skipped("root_becomes_the_owner_of_the_mbox", "needs root");
    }
    let (dir, home) = home_of(SOMEBODY);
    let output = run(dir.path(), &["home/mbox", "home/Maildir"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut looked_at = 0;
    let mut folders = vec![home.join("Maildir")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid()), (SOMEBODY, SOMEBODY), "{}", path.display());
            looked_at += 1;
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(looked_at >= 5, "{looked_at}");
    // What only root may do is not done: the folder around is root's.
    let output = run(dir.path(), &["home/mbox", "Maildir"]);
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(names(dir.path()), ["home", "mailready.toml"]);
}

#[test]
fn a_link_does_not_decide_whom_root_becomes() {
    if !is_root() {
        return skipped("a_link_does_not_decide_whom_root_becomes", "needs root");
    }
    let (dir, home) = home_of(SOMEBODY);
    fs::write(dir.path().join("secret"), MBOX).unwrap();
    symlink(dir.path().join("secret"), home.join("link")).unwrap();
    let output = run(dir.path(), &["home/link", "home/Maildir"]);
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert_eq!(names(&home), ["link", "mbox"]);
}

#[test]
fn mail_of_root_does_not_go_where_others_have_a_hand() {
    if !is_root() {
        return skipped("mail_of_root_does_not_go_where_others_have_a_hand", "needs root");
    }
    let (dir, home) = home_of(SOMEBODY);
    fs::write(home.join("roots"), MBOX).unwrap();
    let output = run(dir.path(), &["home/roots", "home/Maildir"]);
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    assert_eq!(names(&home), ["mbox", "roots"]);
}
