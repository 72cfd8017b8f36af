//! The demo from beginning to end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

use mailready_tests::lab::{Binaries, available, mail, skip, tests_folder};

use crate::host::Host;

/// `packaging/demo` with the programs that are under test; `None` where there can be no machines.
pub fn demo() -> Option<Command> {
    if let Err(reason) = available() {
        skip(&reason);
        return None;
    }
    let binaries = Binaries::find().unwrap();
    let mut command = Command::new(tests_folder().join("../packaging/demo"));
    command.env("MAILREADY_BIN_DIR", binaries.path(""));
    Some(command)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn it_shows_the_same_mail_and_leaves_the_host_alone() {
    let Some(mut demo) = demo() else { return };
    let before = Host::look();
    let output = demo.args(["--messages", "40"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("122 messages before, 122 after"), "{said}");
    assert!(said.contains("no difference"), "{said}");
    assert!(said.contains("is in the Maildir, byte for byte"), "{said}");
    assert!(!said.contains('\x1b'), "plain where there is no terminal: {said}");
    before.assert_same(&Host::look());
}

#[test]
fn it_runs_with_another_configuration() {
    let Some(mut demo) = demo() else { return };
    let output = demo.args(["--site", "small", "--messages", "10"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// An administrator's own mail is read, and nothing of it changes, not even when it was last read.
#[test]
fn ones_own_mail_is_copied_and_never_touched() {
    let Some(mut demo) = demo() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my mail");
    fs::write(&path, mail::awkward()).unwrap();
    let look = || {
        let about = fs::metadata(&path).unwrap();
        (about.ino(), about.len(), about.mtime_nsec(), about.ctime_nsec(), about.atime_nsec())
    };
    let before = look();
    let output = demo.arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("98 messages before, 98 after"), "{}", text(&output));
    assert_eq!(look(), before);
    assert_eq!(fs::read(&path).unwrap(), mail::awkward());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside it, no lock either");
}

#[test]
fn a_file_that_is_no_mbox_is_said_to_be_none() {
    let Some(mut demo) = demo() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "this is a shopping list\n").unwrap();
    let output = demo.arg(file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("isn't a valid mbox"), "{}", text(&output));
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_done() {
    let Some(mut demo) = demo() else { return };
    assert_eq!(demo.arg("--sight").output().unwrap().status.code(), Some(64));
    let Some(mut demo) = self::demo() else { return };
    assert_eq!(demo.arg("/nowhere/mbox").output().unwrap().status.code(), Some(66));
}

/// Fetches a hundred megabytes, so only when asked for.
#[test]
fn it_begins_with_an_empty_cache() {
    if std::env::var_os("MAILREADY_LONG").is_none() {
        return skip("fetches a whole server root; MAILREADY_LONG=1 runs it");
    }
    let Some(mut demo) = demo() else { return };
    let before = Host::look();
    let cache = tempfile::tempdir_in("/var/tmp").unwrap();
    let output = demo.args(["--messages", "10"]).env("MAILREADY_LAB", cache.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    before.assert_same(&Host::look());
}
