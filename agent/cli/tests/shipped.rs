//! What packaging/ ships agrees with the programs.
#![expect(clippy::unwrap_used, reason = "what the tests are set up with fails loudest by a panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailready::manual::shipped;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

fn mailready(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_mailready")).args(args).output().unwrap()
}

#[test]
fn manual_pages_completions_and_the_example_are_up_to_date() {
    let files = shipped();
    assert_eq!(files.len(), 6);
    for file in files {
        let path = packaging().join(&file.path);
        if std::env::var_os("MAILREADY_BLESS").is_some() {
            std::fs::write(&path, &file.text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = there.lines().zip(file.text.lines()).position(|(a, b)| a != b);
        assert!(
            there == file.text,
            "packaging/{} is out of date (line {:?}): MAILREADY_BLESS=1 cargo test -p mailready --test shipped",
            file.path,
            differs.map(|n| n + 1)
        );
    }
}

#[test]
fn every_shipped_configuration_is_right() {
    let mut checked = 0;
    for entry in std::fs::read_dir(packaging().join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let output = mailready(&["check-config", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", path.display());
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} examples found");
}

#[test]
fn every_manual_page_is_complete_and_every_program_has_one() {
    let pages = [
        "mailready.1",
        "mailready-notify.1",
        "mailready.toml.5",
        "mailready-agent.8",
        "mailready-radius.8",
        "mailready-worker.8",
        "pam_mailready.8",
    ];
    let folder = packaging().join("man");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), pages.len());
    for page in pages {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        for wanted in [".TH ", ".SH \"NAME\"", ".SH \"SYNOPSIS\"", ".SH \"DESCRIPTION\"", ".SH \"SEE ALSO\""]
        {
            assert!(text.contains(wanted), "{page} has no {wanted}");
        }
        let (name, section) = page.rsplit_once('.').unwrap();
        let title = format!(".TH \"{}\" {section} ", name.to_uppercase().replace('-', "\\-"));
        assert!(text.contains(&title), "{page} is not titled {title}");
    }
}

/// systemd's own opinion of the unit, with programs in place that this machine has.
#[test]
fn the_unit_is_understood_by_systemd() {
    let unit = std::fs::read_to_string(packaging().join("systemd/mailready-agent.service")).unwrap();
    assert_eq!(unit.matches("/usr/sbin/mailready-agent").count(), 1);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("mailready-agent.service");
    std::fs::write(&copy, unit.replace("/usr/sbin/mailready-agent", "/bin/true")).unwrap();
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output() else {
        // Past the harness's capture: a test that cannot run here must not look like one that passed.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED the_unit_is_understood_by_systemd: no systemd-analyze here");
        return;
    };
    // It also speaks of the machine's other units.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("mailready")).collect();
    assert_eq!(ours, [""; 0]);
}

#[test]
fn the_readme_names_every_command_and_every_exit_code() {
    let readme = std::fs::read_to_string(packaging().join("../README.md")).unwrap();
    for command in [
        "convert",
        "status",
        "explain",
        "convert-file",
        "check-config",
        "hold",
        "release",
        "background start",
    ] {
        assert!(readme.contains(&format!("mailready {command}")), "{command}");
    }
    for (exit, _) in mailready::exit::EXITS {
        assert!(readme.contains(&format!("| {} |", *exit as u8)), "exit code {}", *exit as u8);
    }
}

#[test]
fn check_config_tells_what_a_configuration_does_and_what_it_does_not_do_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (file, allow) = (dir.path().join("m.toml"), dir.path().join("allow"));
    std::fs::write(&allow, "ann\nbob\n").unwrap();
    let text = format!(
        "[users]\nconvert = \"listed\"\nallow = {:?}\nhold = \"/nonexistent\"\n[background]\nmode = \"stage\"\n",
        allow.to_str().unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let output = mailready(&["check-config", file.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "{}: ok\n  arrivals convert the 2 users in {}\n  from /var/mail/%u and %h/mail to %h/Maildir\n  \
         background.mode is set and not in use yet: this version does nothing with it\n",
        file.display(),
        allow.display()
    );
    assert_eq!((output.status.code(), said), (Some(0), expected));

    std::fs::write(&allow, "ann\nbob smith\n").unwrap();
    let output = mailready(&["check-config", file.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("mailready: {}:2: not a user name (one a line, # begins a comment)\n", allow.display());
    assert_eq!((output.status.code(), said), (Some(78), expected));
}
