//! The tracer itself: it is invisible to the program, and whoever is killed before a call has not made it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mailready_tests::lab::{Doing, Result};

fn stop_at(control: &Path, order: &str, options: &[&str], script: &str) -> Result<(u32, Output)> {
    fs::write(control.join("ticket"), order).doing(|| "write the ticket")?;
    let child = Command::new(env!("CARGO_BIN_EXE_stop-at"))
        .arg("--control")
        .arg(control)
        .args(options)
        .args(["--", "/bin/sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| "start stop-at")?;
    let pid = child.id();
    Ok((pid, child.wait_with_output().doing(|| "wait for stop-at")?))
}

/// Whether there is no tracer here; said loudly.
fn skipped() -> bool {
    mailready_tests::stops::missing().inspect(|why| mailready_tests::lab::skip(why)).is_some()
}

#[test]
fn the_program_keeps_its_number_and_its_output_ends_with_it() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir().doing(|| "make a folder")?;
    // That the output is read to its end at all shows that the tracer does not hold it open.
    let (pid, output) = stop_at(dir.path(), "count", &[], "echo $$; exit 7")?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), pid.to_string());
    assert_eq!(output.status.code(), Some(7));
    let list = fs::read_to_string(dir.path().join("list")).doing(|| "read the list")?;
    assert!(list.lines().last().is_some_and(|line| line.contains("exit_group")), "{list}");
    Ok(())
}

#[test]
fn whoever_is_killed_before_a_call_has_not_made_it() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir().doing(|| "make a folder")?;
    let file = |name: &str| dir.path().join(name);
    let script = format!("for i in a b c; do echo 1 > {}/x$i; done; echo done", dir.path().display());
    let (_, output) = stop_at(dir.path(), "count", &["--changing"], &script)?;
    assert!(output.status.success());
    let list = fs::read_to_string(file("list")).doing(|| "read the list")?;
    let places: Vec<mailready_tests::stops::Place> =
        list.lines().filter_map(|line| line.parse().ok()).collect();
    // Three times made, three times written; the standard output is no file.
    assert_eq!(places.len(), 6, "{list}");
    for name in ["xa", "xb", "xc"] {
        fs::remove_file(file(name)).doing(|| "remove what was made")?;
    }
    let (_, output) =
        stop_at(dir.path(), &format!("kill itself 1 {}", places[3].kind()), &["--changing"], &script)?;
    assert!(output.status.code().is_none(), "killed");
    assert!(String::from_utf8_lossy(&output.stderr).contains("killed "), "and said so");
    let size = |name: &str| fs::metadata(file(name)).ok().map(|file| file.len());
    assert_eq!([size("xa"), size("xb"), size("xc")], [Some(2), Some(0), None]);
    Ok(())
}

#[test]
fn without_a_ticket_the_program_just_runs() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir().doing(|| "make a folder")?;
    let output = Command::new(env!("CARGO_BIN_EXE_stop-at"))
        .arg("--control")
        .arg(dir.path())
        .args(["--", "/bin/echo", "hello"])
        .output()
        .doing(|| "start stop-at")?;
    assert_eq!(output.stdout, b"hello\n");
    assert!(fs::read_dir(dir.path()).doing(|| "list the folder")?.next().is_none());
    Ok(())
}
