//! The demo, ended half way: by Ctrl-C at each of its stages, and by a kill that it cannot answer.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use mailready_tests::lab::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::demo::demo;
use crate::host::{Host, alive, family};

/// The titles of its stages, as it writes them.
const STAGES: [&str; 6] = [
    "A private machine",
    "The old server shows",
    "mailready comes in",
    "One login",
    "The new server shows",
    "On disk",
];

/// Runs the demo until it has written `title`.
fn up_to(title: &str) -> Option<(Child, impl Read)> {
    let mut command = demo()?;
    command.args(["--messages", "20"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != title {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the demo ended before {title:?}");
    }
    Some((child, output))
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn ctrl_c_at_each_stage_leaves_nothing() {
    let before = Host::look();
    for title in STAGES {
        let Some((mut child, mut output)) = up_to(title) else { return };
        let all = family(child.id());
        signal(&child, Signal::SIGINT);
        let status = child.wait().unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(status.code(), Some(130), "{title}: {rest}");
        assert!(rest.contains("Nothing is left of it."), "{title}: {rest}");
        // It has waited for all of them before it ended.
        assert_eq!(alive(&all), [0_u32; 0], "{title}: processes are left");
    }
    before.assert_same(&Host::look());
}

#[test]
fn a_kill_leaves_nothing_either() {
    let before = Host::look();
    for title in ["mailready comes in", "One login"] {
        let Some((mut child, _output)) = up_to(title) else { return };
        let all = family(child.id());
        assert!(all.len() > 2, "a machine is running: {all:?}");
        signal(&child, Signal::SIGKILL);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // Nobody is left who could wait for them; the kernel takes a moment.
        eventually(format!("{title}: all processes have gone"), String::new, || {
            alive(&all).is_empty().then_some(())
        })
        .unwrap();
    }
    before.assert_same(&Host::look());
}
