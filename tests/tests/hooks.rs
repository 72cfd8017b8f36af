//! The scripts that other programs run: pppd's, and the shape in which all of them have to be.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mailready_tests::fake_agent::{FakeAgent, Play};
use mailready_tests::lab::{Binaries, eventually};

fn hooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hooks").canonicalize().unwrap()
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// pppd's own script with another notify, run as pppd does: absolute path, hardly an environment, no input or output.
struct Ppp {
    folder: tempfile::TempDir,
}

impl Ppp {
    fn with_notify(notify: &str) -> Ppp {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        program(&path, notify);
        let script = fs::read_to_string(hooks().join("ppp/mailready")).unwrap();
        let usual = "\nnotify=/usr/bin/mailready-notify\n";
        assert_eq!(script.matches(usual).count(), 1);
        let script = script.replace(usual, &format!("\nnotify={}\n", path.display()));
        program(&folder.path().join("mailready"), &script);
        Ppp { folder }
    }

    fn up(&self, environment: &[(&str, &str)]) {
        let status = Command::new(self.folder.path().join("mailready"))
            .args(["ppp0", "/dev/ttyS0", "115200", "10.9.0.1", "10.9.0.2", ""])
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

#[test]
fn a_peer_with_a_name_is_announced_and_one_without_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let agent =
        FakeAgent::start(Path::new(env!("CARGO_BIN_EXE_fake-agent")), &socket, 64, &Play::Taken).unwrap();
    let notify = Binaries::find().unwrap().path("mailready-notify");
    let ppp = Ppp::with_notify(&format!(
        "#!/bin/sh\nexec {} --socket {} \"$@\"\n",
        notify.display(),
        socket.display()
    ));
    ppp.up(&[("IFNAME", "ppp0")]);
    ppp.up(&[("PEERNAME", "")]);
    // The name is the peer's choice, and stays one word.
    for name in ["ann", "-n", "a b; $(reboot) `reboot` \"'", "="] {
        ppp.up(&[("PEERNAME", name)]);
        let user = name.as_bytes().escape_ascii();
        assert_eq!(
            agent.next_request().unwrap(),
            format!("Arrival ppp None user={user} service=ppp wait=0ms lease=-")
        );
    }
    assert_eq!(agent.requests_so_far(), [""; 0]);
}

#[test]
fn a_dial_in_waits_for_nothing_of_ours() {
    let leash = tempfile::tempdir().unwrap();
    let fifo = leash.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Hangs until this test lets it go, and shows what environment it was given.
    let seen = leash.path().join("seen");
    let ppp = Ppp::with_notify(&format!(
        "#!/bin/sh\nread -r line <'{}'\n/usr/bin/tr '\\0' '\\n' </proc/$$/environ >'{1}.tmp'; mv '{1}.tmp' '{1}'\n",
        fifo.display(),
        seen.display()
    ));
    ppp.up(&[("PEERNAME", "ann"), ("LD_PRELOAD", ""), ("SECRET", "x")]);
    assert!(!seen.exists());
    let mut let_go = fs::File::options();
    let_go.write(true).custom_flags(nix::libc::O_NONBLOCK);
    eventually("the hook to hang", String::new, || let_go.open(&fifo).ok()).unwrap();
    eventually("the hook to write", String::new, || seen.exists().then_some(())).unwrap();
    assert_eq!(fs::read_to_string(&seen).unwrap(), "");
}

#[test]
fn a_missing_notify_fails_no_dial_in() {
    let ppp = Ppp::with_notify("");
    fs::remove_file(ppp.folder.path().join("notify")).unwrap();
    ppp.up(&[("PEERNAME", "ann")]);
}

#[test]
fn scripts_have_the_names_and_modes_that_their_callers_ask_for() {
    for script in ["ppp/mailready", "dovecot/postlogin"] {
        let path = hooks().join(script);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755, "{script}");
        // run-parts passes over every other name.
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{script}");
        let status = Command::new("/bin/sh").arg("-n").arg(&path).status().unwrap();
        assert!(status.success(), "{script}");
        assert!(fs::read_to_string(&path).unwrap().starts_with("#!/bin/sh\n"), "{script}");
    }
}
