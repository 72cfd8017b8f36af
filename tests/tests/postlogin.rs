//! Dovecot's post-login script: whatever happens, the session opens, and it opens the mailbox that the disk says.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mailready_tests::fake_agent::{FakeAgent, Play};
use mailready_tests::lab::{Binaries, eventually};

const SCRIPT: &str = include_str!("../../hooks/dovecot/postlogin");

/// What Dovecot would run next. It writes down what it was given, speaks to the client, and lets the waiting imap process
/// go on.
const NEXT: &str = r#"#!/bin/sh
{
    echo "mail=${MAIL-unset} keys=$USERDB_KEYS user=$USER"
    printf 'arg=%s\n' "$@"
    test -S /proc/self/fd/3 && echo "descriptor 3 is there"
} >"$HOME/next"
echo "* OK"
echo done >&3
"#;

/// A home, a script with its variables set for the test, and somebody's session.
struct Scene {
    folder: tempfile::TempDir,
    shell: &'static [&'static str],
}

/// What the session's next program saw, and what the client.
struct Seen {
    next: String,
    client: String,
    took: Duration,
    /// The imap process's end of descriptor 3.
    imap: UnixStream,
}

impl Scene {
    fn new() -> Scene {
        Self::under(&["/bin/sh"])
    }

    fn under(shell: &'static [&'static str]) -> Scene {
        let scene = Scene { folder: tempfile::tempdir().unwrap(), shell };
        fs::create_dir(scene.home()).unwrap();
        let notify = Binaries::find().unwrap().path("mailready-notify");
        let wrapper =
            format!("#!/bin/sh\nexec {} --socket {} \"$@\"\n", notify.display(), scene.socket().display());
        scene.program("notify", &wrapper);
        scene.program("next", NEXT);
        scene.script(&[("notify", &scene.path("notify").display().to_string())]);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        // Replaced, not written to: another test's child may still hold the old one open for writing.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs the script with other values for some of the variables at its top.
    fn script(&self, variables: &[(&str, &str)]) {
        let mut lines: Vec<String> = SCRIPT.lines().map(str::to_owned).collect();
        for (name, value) in variables {
            let mut hits = lines.iter_mut().filter(|line| line.starts_with(&format!("{name}=")));
            let line = hits.next().unwrap();
            *line = format!("{name}='{value}'");
            assert!(hits.next().is_none(), "{name} is set twice");
        }
        self.program("postlogin", &(lines.join("\n") + "\n"));
    }

    fn mark(&self) {
        fs::create_dir_all(self.home().join("Maildir")).unwrap();
        fs::write(self.home().join("Maildir/mailready-marker"), "").unwrap();
    }

    fn roll_back(&self) {
        fs::create_dir_all(self.home().join(".mailready")).unwrap();
        fs::write(self.home().join(".mailready/rolling-back"), "").unwrap();
    }

    fn agent(&self, play: &Play) -> FakeAgent {
        let program = Path::new(env!("CARGO_BIN_EXE_fake-agent"));
        FakeAgent::start(program, &self.socket(), 64, play).unwrap()
    }

    /// The agent of a commit while the login waits.
    fn committing(&self) -> FakeAgent {
        fs::create_dir_all(self.home().join("Maildir")).unwrap();
        self.agent(&Play::Commit(self.home().join("Maildir/mailready-marker")))
    }

    /// One session, as `script-login -d` begins it: the client's connection as standard input and output, the waiting
    /// imap process at the other end of descriptor 3, hardly an environment.
    fn session(&self) -> Seen {
        let (client, ours) = UnixStream::pair().unwrap();
        let (imap, comm) = UnixStream::pair().unwrap();
        for ends in [&client, &imap] {
            // A script that goes wrong fails the test, and does not hang it.
            ends.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        }
        // Handed over as standard error, and moved to 3 by a shell: a `Command` of Rust has only the first three.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec 3>&2 2>/dev/null; exec \"$@\"", "sh"])
            .args(self.shell)
            .arg(self.path("postlogin"))
            .arg(self.path("next"))
            .args(["an argument", ""])
            .env_clear()
            .env("HOME", self.home())
            .env("USER", "ann")
            .env("USERDB_KEYS", "home uid")
            .stdin(OwnedFd::from(ours.try_clone().unwrap()))
            .stdout(OwnedFd::from(ours))
            .stderr(OwnedFd::from(comm));
        let begun = Instant::now();
        let mut script = command.spawn().unwrap();
        // So that our copies of the sockets are gone.
        drop(command);
        let mut line = [0; 5];
        (&imap).read_exact(&mut line).unwrap();
        assert_eq!(&line, b"done\n");
        let took = begun.elapsed();
        assert!(script.wait().unwrap().success());
        let mut said = String::new();
        (&client).read_to_string(&mut said).unwrap();
        let next = fs::read_to_string(self.home().join("next")).unwrap();
        fs::remove_file(self.home().join("next")).unwrap();
        Seen { next, client: said, took, imap }
    }

    fn maildir(&self) -> String {
        self.expected(&format!("maildir:{}", self.home().join("Maildir").display()), "home uid mail")
    }

    fn mbox(&self) -> String {
        self.expected("unset", "home uid")
    }

    fn expected(&self, mail: &str, keys: &str) -> String {
        format!("mail={mail} keys={keys} user=ann\narg=an argument\narg=\ndescriptor 3 is there\n")
    }

    /// The session opens the mailbox expected, soon, and the client has seen nothing but its next program.
    #[track_caller]
    fn opens(&self, expected: &str) {
        let seen = self.session();
        assert_eq!(seen.next, expected);
        assert_eq!(seen.client, "* OK\n");
        assert!(seen.took < Duration::from_secs(10), "{:?}", seen.took);
    }
}

#[test]
fn a_maildir_is_opened_at_once_and_the_agent_told_besides() {
    let scene = Scene::new();
    scene.mark();
    let agent = scene.agent(&Play::Taken);
    scene.opens(&scene.maildir());
    assert_eq!(agent.next_request().unwrap(), "Arrival dovecot None user=ann service= wait=0ms lease=-");
}

#[test]
fn a_maildir_is_opened_without_an_answer_from_anyone() {
    let scene = Scene::new();
    scene.mark();
    scene.opens(&scene.maildir());
    // A notify that hangs is left behind. It holds neither the client's connection (else that would not end here, and with a
    // real client neither after its logout) nor descriptor 3. It ends with this file.
    let leash = scene.path("leash");
    nix::unistd::mkfifo(&leash, nix::sys::stat::Mode::S_IRWXU).unwrap();
    scene.program("notify", &format!("#!/bin/sh\nread -r line <'{}'\n", leash.display()));
    let seen = scene.session();
    assert_eq!((seen.next, seen.client.as_str()), (scene.maildir(), "* OK\n"));
    assert_eq!((&seen.imap).read_to_end(&mut Vec::new()).unwrap(), 0);
    let mut let_go = fs::File::options();
    let_go.write(true).custom_flags(nix::libc::O_NONBLOCK);
    eventually("notify to hang", String::new, || let_go.open(&leash).ok()).unwrap();
}

#[test]
fn a_commit_while_the_login_waits_is_seen() {
    let scene = Scene::new();
    let agent = scene.committing();
    scene.opens(&scene.maildir());
    let request = agent.next_request().unwrap();
    let pid = std::process::id();
    assert_eq!(request, format!("Lease dovecot None user=ann service= wait=20000ms lease={pid}"));
}

#[test]
fn the_mbox_stays_when_the_agent_says_so() {
    let scene = Scene::new();
    let _agent = scene.agent(&Play::Stay);
    scene.opens(&scene.mbox());
}

#[test]
fn an_answer_that_the_disk_does_not_bear_out_counts_for_nothing() {
    let scene = Scene::new();
    let _agent = scene.agent(&Play::Ready);
    scene.opens(&scene.mbox());
    // A folder of that name is no marker.
    fs::create_dir_all(scene.home().join("Maildir/mailready-marker")).unwrap();
    scene.opens(&scene.mbox());
}

#[test]
fn a_rollback_under_way_is_asked_about() {
    let scene = Scene::new();
    scene.mark();
    scene.roll_back();
    let agent = scene.agent(&Play::Stay);
    scene.opens(&scene.mbox());
    assert!(agent.next_request().unwrap().starts_with("Lease "));
}

#[test]
fn a_commit_that_the_agent_did_not_live_to_tell_of_is_seen() {
    let scene = Scene::new();
    let marker = scene.home().join("Maildir/mailready-marker");
    scene.program(
        "notify",
        &format!("#!/bin/sh\nmkdir -p '{0}'; rmdir '{0}'; : >'{0}'\nkill -9 $$\n", marker.display()),
    );
    scene.opens(&scene.maildir());
}

#[test]
fn no_agent_and_every_kind_of_bad_agent_leaves_the_mbox() {
    let scene = Scene::new();
    scene.opens(&scene.mbox());
    for play in [
        Play::Taken,
        Play::Refused,
        Play::Half,
        Play::Garbage,
        Play::Close,
        Play::Mute,
        Play::Hang,
        Play::Wait,
    ] {
        let _agent = scene.agent(&play);
        scene.opens(&scene.mbox());
    }
    let agent = scene.agent(&Play::Ready);
    agent.stop().unwrap();
    scene.opens(&scene.mbox());
    drop(agent);
    let program = Path::new(env!("CARGO_BIN_EXE_fake-agent"));
    let _agent = FakeAgent::start(program, &scene.socket(), 0, &Play::Deaf).unwrap();
    // The first takes the backlog's only place, the second finds it full.
    scene.opens(&scene.mbox());
    scene.opens(&scene.mbox());
}

#[test]
fn every_kind_of_bad_notify_leaves_the_mbox() {
    let scene = Scene::new();
    let flood = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; echo ready; exit 99";
    for body in
        ["kill -9 $$", "kill -9 $PPID $$", "exit 1", "echo '$(touch x)`\"'; echo ready", flood, "cat <&0 >&1"]
    {
        scene.program("notify", &format!("#!/bin/sh\n{body}\n"));
        scene.opens(&scene.mbox());
    }
    for (name, value) in
        [("notify", "/nonexistent"), ("notify", "/dev/null"), ("timeout", "/nonexistent"), ("wait", "soon")]
    {
        scene.script(&[(name, value)]);
        scene.opens(&scene.mbox());
    }
}

#[test]
fn a_notify_that_hangs_past_its_deadline_is_ended() {
    let scene = Scene::new();
    // Deaf to everything but the last resort, and stopped besides.
    scene.program("notify", "#!/bin/sh\ntrap '' TERM INT HUP\nwhile :; do kill -STOP $$; done\n");
    scene.script(&[("notify", &scene.path("notify").display().to_string()), ("deadline", "1")]);
    let seen = scene.session();
    assert_eq!(seen.next, scene.mbox());
    assert!(seen.took >= Duration::from_secs(1) && seen.took < Duration::from_secs(15), "{:?}", seen.took);
}

#[test]
fn every_shell_reads_it_alike() {
    let mut found = 0;
    for shell in [&["/bin/dash"][..], &["/bin/bash", "--posix"], &["/bin/busybox", "sh"], &["/bin/ksh"]] {
        if !Path::new(shell[0]).exists() {
            continue;
        }
        found += 1;
        let scene = Scene::under(shell);
        scene.opens(&scene.mbox());
        let agent = scene.committing();
        scene.opens(&scene.maildir());
        drop(agent);
        scene.opens(&scene.maildir());
    }
    assert!(found > 0, "no shell but /bin/sh");
}

#[test]
fn a_session_without_a_home_opens_what_the_server_says() {
    let scene = Scene::new();
    // Nowhere to look for a marker, and "/Maildir" is nobody's.
    let (mut client, ours) = UnixStream::pair().unwrap();
    let status = Command::new("/bin/sh")
        .arg(scene.path("postlogin"))
        .args(["/bin/sh", "-c", "echo \"mail=${MAIL-unset}\""])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(ours))
        .status()
        .unwrap();
    assert!(status.success());
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "mail=unset\n");
}
