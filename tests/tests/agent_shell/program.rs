//! The program itself: its command line, its start-up errors, its signals.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use mailready_protocol::{Answer, Reason};
use mailready_tests::lab::{Binaries, PATIENCE, eventually, skip};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::Pid;

use crate::site::{announce_at, arrival};

struct Scene {
    folder: tempfile::TempDir,
    program: PathBuf,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene { folder, program: Binaries::find().unwrap().path("mailready-agent") };
        scene.configure("");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, more: &str) {
        let path = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "[agent]\nsocket = {:?}\nself_socket = {:?}\ncontrol = {:?}\nstate = {:?}\nbus = \"none\"\n\
             [site]\nreaders = []\n[mail]\narchive = {:?}\n{more}",
            path("arrival.sock"),
            path("self.sock"),
            path("control.sock"),
            path("state"),
            path("archive"),
        );
        fs::write(self.path("mailready.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir("/").stdin(Stdio::null());
        command.arg("--config").arg(self.path("mailready.toml"));
        command
    }

    /// One that is expected to end by itself.
    fn fails(&self) -> (Option<i32>, String) {
        let output = self.command().output().unwrap();
        (output.status.code(), text(&output.stderr))
    }

    fn start(&self, environment: &[(&str, &str)]) -> Running {
        let mut command = self.command();
        command.envs(environment.iter().copied());
        Running::of(command)
    }
}

impl Running {
    fn of(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, what: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(error) => panic!("no {what:?} ({error}) in {:#?}", self.seen),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        let mut code = None;
        let log = format!("{:#?}", self.seen);
        eventually(
            "the agent ends",
            || log,
            || {
                let ended = self.child.try_wait().unwrap()?;
                code = ended.code();
                Some(())
            },
        )
        .unwrap();
        code
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("the agent runs as root only");
    }
    root
}

#[test]
fn its_command_line_is_three_options() {
    let program = Scene::new().program;
    let run = |args: &[&str]| -> Output { Command::new(&program).args(args).output().unwrap() };
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--config FILE"));
    let version = run(&["--version"]);
    assert_eq!(text(&version.stdout), format!("mailready-agent {}\n", env!("CARGO_PKG_VERSION")));
    let wrong = run(&["--daemonize"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(text(&wrong.stderr).contains("--daemonize"));
}

#[test]
fn a_wrong_configuration_is_told_with_file_and_line() {
    let scene = Scene::new();
    scene.configure("maildri = \"%h/Maildir\"\n");
    let (code, said) = scene.fails();
    assert_eq!(code, Some(78));
    assert!(said.contains("mailready.toml:11: ") && said.contains("mail.maildir"), "{said}");
    let allow = scene.path("allow");
    fs::write(&allow, "ann\nbob and cid\n").unwrap();
    scene.configure(&format!("[users]\nallow = {allow:?}\n"));
    let (code, said) = scene.fails();
    assert_eq!(code, Some(78));
    assert!(said.contains("allow:2: "), "{said}");
}

#[test]
fn a_state_folder_that_cannot_be_used_is_told() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let state = scene.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let (code, said) = scene.fails();
    assert_eq!(code, Some(73));
    assert!(said.contains("others may write"), "{said}");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&state, Some(41_000), None).unwrap();
    let (code, said) = scene.fails();
    assert_eq!(code, Some(73));
    assert!(said.contains("belongs to uid 41000"), "{said}");
    fs::remove_dir(&state).unwrap();
    fs::write(scene.path("self.sock"), "").unwrap();
    let (code, said) = scene.fails();
    assert_eq!(code, Some(73));
    assert!(said.contains("self.sock") && said.contains("no socket"), "{said}");
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let mut first = scene.start(&[]);
    first.wait_for("ready");
    let (code, said) = scene.fails();
    assert_eq!(code, Some(75));
    assert!(said.contains("another agent"), "{said}");
    assert!(scene.path("arrival.sock").exists());
    // The same sockets with another state folder are refused by the sockets.
    let other = scene.path("other.toml");
    let config = fs::read_to_string(scene.path("mailready.toml")).unwrap().replace("/state\"", "/state2\"");
    fs::write(&other, config).unwrap();
    let second = Command::new(&scene.program).arg("--config").arg(&other).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    assert!(text(&second.stderr).contains("listening on this socket"), "{}", text(&second.stderr));
    assert_eq!(announce(&scene.path("arrival.sock"), "root"), Answer::Stay(Reason::NotSelected));
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ends(), Some(0));
    assert!(!scene.path("arrival.sock").exists());
}

#[test]
fn after_a_kill_the_next_agent_starts_in_its_place() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let mut first = scene.start(&[]);
    first.wait_for("ready");
    first.signal(Signal::SIGKILL);
    assert_eq!(first.ends(), None);
    assert!(scene.path("arrival.sock").exists(), "a killed agent leaves its sockets");
    let mut second = scene.start(&[]);
    second.wait_for("ready");
    assert_eq!(announce(&scene.path("arrival.sock"), "nosuchuser"), Answer::Refused(Reason::UnknownUser));
    second.signal(Signal::SIGINT);
    assert_eq!(second.ends(), Some(0));
}

#[test]
fn a_hangup_reads_the_configuration_again_and_a_broken_one_is_refused() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let mut agent = scene.start(&[("MAILREADY_LOG", "json")]);
    agent.wait_for("ready");
    scene.configure("nonsense = 1\n");
    agent.signal(Signal::SIGHUP);
    let refused = agent.wait_for("refused");
    assert!(refused.contains("mailready.toml:11"), "{refused}");
    assert!(refused.starts_with('{') && refused.ends_with('}'), "a line is a JSON object: {refused}");
    scene.configure("");
    agent.signal(Signal::SIGHUP);
    agent.wait_for("configuration read again");
    assert_eq!(announce(&scene.path("arrival.sock"), "nosuchuser"), Answer::Refused(Reason::UnknownUser));
    agent.signal(Signal::SIGTERM);
    agent.wait_for("stopped");
    assert_eq!(agent.ends(), Some(0));
}

#[test]
fn it_tells_the_service_manager_and_takes_its_sockets() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let manager = std::os::unix::net::UnixDatagram::bind(scene.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |wanted: &str| {
        let mut packet = [0; 4096];
        loop {
            let len = manager.recv(&mut packet).unwrap();
            let said = text(&packet[..len]);
            if said.contains(wanted) {
                return said;
            }
        }
    };
    let notify = scene.path("notify").display().to_string();
    let mut agent = scene.start(&[("NOTIFY_SOCKET", &notify), ("WATCHDOG_USEC", "200000")]);
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("STATUS=");
    agent.wait_for("ready");
    agent.signal(Signal::SIGHUP);
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    agent.signal(Signal::SIGTERM);
    hear("STOPPING=1");
    assert_eq!(agent.ends(), Some(0));
}

#[test]
fn a_socket_that_systemd_made_is_used_and_left_alone() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let path = scene.path("self.sock");
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&socket, Backlog::new(8).unwrap()).unwrap();
    // As systemd does: descriptor 3, and the process number of whom it is for.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --config \"$1\" 3<&0 </dev/null"]);
    command.arg(&scene.program).arg(scene.path("mailready.toml")).stdin(socket);
    let mut agent = Running::of(command);
    agent.wait_for("ready");
    // Root is nobody's self; but somebody answers.
    assert_eq!(announce(&path, "root"), Answer::Refused(Reason::NotAllowed));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.ends(), Some(0));
    assert!(path.exists(), "it is systemd's");
    assert!(!scene.path("arrival.sock").exists());
}

fn announce(socket: &Path, user: &str) -> Answer {
    // Long enough to be told more than "taken".
    announce_at(socket, &arrival(user, Duration::from_millis(1)), None).unwrap()
}
