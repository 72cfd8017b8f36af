//! `mailready-notify`: what it prints, what it tells the agent, and that it never fails who called it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mailready_tests::fake_agent::{FakeAgent, Play};
use mailready_tests::lab::Binaries;

/// What no test comes near unless something waits without a deadline.
const TOO_LONG: Duration = Duration::from_secs(15);

struct Scene {
    folder: tempfile::TempDir,
    notify: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let notify = Binaries::find().unwrap().path("mailready-notify");
        Scene { folder: tempfile::tempdir().unwrap(), notify }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn agent(&self, play: &Play) -> FakeAgent {
        let program = Path::new(env!("CARGO_BIN_EXE_fake-agent"));
        FakeAgent::start(program, &self.socket(), 64, play).unwrap()
    }

    /// As a daemon's hook would: no environment, no PATH.
    fn notify(&self) -> Command {
        let mut command = Command::new(&self.notify);
        command.env_clear().current_dir("/").stdin(Stdio::null());
        command
    }

    /// Announces to the fake agent's socket and gives what was printed, its line end taken off.
    fn says(&self, args: &[&str]) -> (String, Option<i32>) {
        let begun = Instant::now();
        let output = self.notify().arg("--socket").arg(self.socket()).args(args).output().unwrap();
        assert!(begun.elapsed() < TOO_LONG);
        assert_eq!(text(&output.stderr), "");
        let line = text(&output.stdout).strip_suffix('\n').unwrap().to_owned();
        assert!(!line.contains('\n'), "{line:?}");
        (line, output.status.code())
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn it_prints_the_answer_and_exits_with_zero_unless_strict() {
    let scene = Scene::new();
    for (play, line, strict) in [
        (Play::Taken, "taken", 0),
        (Play::Ready, "ready", 0),
        (Play::Stay, "stay held", 75),
        (Play::Close, "stay hung-up", 75),
        (Play::Refused, "refused unknown-user", 67),
    ] {
        let _agent = scene.agent(&play);
        let words = ["--source", "script", "--wait", "20s", "ann"];
        assert_eq!(scene.says(&words), (line.to_owned(), Some(0)), "{play:?}");
        assert_eq!(
            scene.says(&[&["--strict"], &words[..]].concat()),
            (line.to_owned(), Some(strict)),
            "{play:?}"
        );
    }
}

#[test]
fn an_agent_that_fails_is_no_answer_and_no_delay() {
    let scene = Scene::new();
    for (play, why) in [
        (Play::Half, "has 7 bytes"),
        (Play::Garbage, "not an answer of mailready"),
        (Play::Mute, "no answer within"),
        (Play::Hang, "no answer within"),
        (Play::Deaf, "no answer within"),
        (Play::Wait, "no answer within"),
    ] {
        let _agent = scene.agent(&play);
        let (line, code) = scene.says(&["--source", "script", "--wait", "20s", "ann"]);
        assert!(line.starts_with("none ") && line.contains(why), "{play:?}: {line}");
        assert_eq!(code, Some(0));
    }
    let (line, code) = scene.says(&["--source", "script", "--strict", "ann"]);
    assert!(line.starts_with("none ") && line.contains("no agent reached"), "{line}");
    assert_eq!(code, Some(75));
}

#[test]
fn a_stopped_agent_and_a_full_backlog_delay_nothing() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    agent.stop().unwrap();
    assert!(scene.says(&["--source", "script", "ann"]).0.contains("no answer within"));
    drop(agent);

    let program = Path::new(env!("CARGO_BIN_EXE_fake-agent"));
    let _agent = FakeAgent::start(program, &scene.socket(), 0, &Play::Deaf).unwrap();
    // A backlog of 0 holds one; what is in it stays there, however long its sender has been gone.
    assert!(scene.says(&["--source", "script", "ann"]).0.contains("no answer within"));
    assert!(scene.says(&["--source", "script", "--wait", "20s", "ann"]).0.contains("backlog is full"));
}

#[test]
fn it_tells_the_agent_what_it_was_told() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    let heard = |args: &[&str]| {
        assert_eq!(scene.says(args).0, "taken");
        agent.next_request().unwrap()
    };
    assert_eq!(
        heard(&["--source", "script", "ann"]),
        "Arrival script None user=ann service= wait=0ms lease=-"
    );
    assert_eq!(
        heard(&["--source", "ppp", "--service", "ppp", "--wait", "1500ms", "--", "--odd"]),
        "Arrival ppp None user=--odd service=ppp wait=1500ms lease=-"
    );
    assert_eq!(
        heard(&["--source", "radius", "\"o'brien\\\\x\""]),
        "Arrival radius None user=o\\'brien\\\\x service= wait=0ms lease=-"
    );
    assert_eq!(
        heard(&["--source", "script", "\"ann\""]),
        "Arrival script None user=\\\"ann\\\" service= wait=0ms lease=-"
    );
    // A name is bytes: one that is no UTF-8 arrives as it is.
    let mut command = scene.notify();
    command
        .arg("--socket")
        .arg(scene.socket())
        .args(["--source", "script"])
        .arg(OsStr::from_bytes(b"b\xfcrger"));
    assert!(command.status().unwrap().success());
    assert_eq!(
        agent.next_request().unwrap(),
        "Arrival script None user=b\\xfcrger service= wait=0ms lease=-"
    );
}

#[test]
fn a_wrong_command_line_fails_nobody_but_the_strict() {
    let scene = Scene::new();
    for args in [&["--source", "smtp", "ann"][..], &["--source", "script"], &["ann"], &["--nonsense"], &[]] {
        let output = scene.notify().args(args).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""), "{args:?}");
        assert!(!output.stderr.is_empty());
        let output = scene.notify().arg("--strict").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}");
    }
    for arg in ["--help", "--version"] {
        let output = scene.notify().args(["--strict", arg]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("mailready-notify"));
    }
}

#[test]
fn the_configuration_names_the_sockets() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    let config = scene.folder.path().join("mailready.toml");
    let announce = |strict: &[&str]| -> Output {
        scene
            .notify()
            .arg("--config")
            .arg(&config)
            .args(strict)
            .args(["--source", "script", "ann"])
            .output()
            .unwrap()
    };
    // Both lead to the agent: this test is root on some machines, and on others not.
    let other = scene.folder.path().join("self.sock");
    std::os::unix::fs::symlink(scene.socket(), &other).unwrap();
    let both = format!(
        "[agent]\nsocket = \"{}\"\nself_socket = \"{}\"\n",
        scene.socket().display(),
        other.display()
    );
    fs::write(&config, both).unwrap();
    let output = announce(&["--strict"]);
    assert_eq!((text(&output.stdout), output.status.code()), ("taken\n", Some(0)));
    agent.next_request().unwrap();

    // One that cannot be read is told of, and a hook goes on to the usual place.
    fs::write(&config, "[agent]\nsockte = \"/x\"\n").unwrap();
    let output = announce(&[]);
    assert!(text(&output.stderr).contains("mailready.toml:2"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(announce(&["--strict"]).status.code(), Some(78));
}

/// Runs the command with the socket as its descriptor 3. By way of the shell: a `Command` of Rust has no other descriptors
/// than the first three.
fn with_descriptor_3(command: &Command, descriptor: impl Into<Stdio>) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).env_clear().stdin(descriptor);
    shell
}

#[test]
fn the_session_s_socket_goes_along_for_dovecot_alone() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Ready);
    let heard = |source: &str, descriptor: Stdio| {
        let mut command = scene.notify();
        command.arg("--socket").arg(scene.socket()).args(["--source", source, "--wait", "20s", "ann"]);
        let output = with_descriptor_3(&command, descriptor).output().unwrap();
        assert_eq!(text(&output.stdout), "ready\n");
        agent.next_request().unwrap()
    };
    let socket = || {
        // The other end is dropped: what counts is who made the pair, and that is this process.
        let (session, _) = UnixStream::pair().unwrap();
        Stdio::from(std::os::fd::OwnedFd::from(session))
    };
    let pid = std::process::id();
    assert_eq!(
        heard("dovecot", socket()),
        format!("Lease dovecot None user=ann service= wait=20000ms lease={pid}")
    );
    assert_eq!(heard("script", socket()), "Arrival script None user=ann service= wait=20000ms lease=-");
    // No socket, no lease.
    let file = Stdio::from(File::open("/dev/null").unwrap());
    assert_eq!(heard("dovecot", file), "Arrival dovecot None user=ann service= wait=20000ms lease=-");
}
