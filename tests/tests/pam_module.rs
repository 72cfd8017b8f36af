//! `pam_mailready.so` in a stranger's process, through the real libpam.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mailready_tests::fake_agent::{FakeAgent, Play};
use mailready_tests::lab::Binaries;
use mailready_tests::pam_host::PamHost;

/// All phases, each let through by `pam_permit`.
const THROUGH: &str = "auth 0\naccount 0\ncred 0\nopen 0\nclose 0\npassword 0\n";

struct Scene {
    folder: tempfile::TempDir,
    host: PamHost,
    module: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let module = Binaries::find().unwrap().path("libpam_mailready.so");
        let folder = tempfile::tempdir().unwrap();
        let host = PamHost::compile(folder.path()).unwrap();
        Scene { folder, host, module: module.canonicalize().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn agent(&self, play: &Play) -> FakeAgent {
        let program = Path::new(env!("CARGO_BIN_EXE_fake-agent"));
        FakeAgent::start(program, &self.socket(), 64, play).unwrap()
    }

    /// The module in all kinds of the stack, told where the agent is, with these options besides.
    fn stack(&self, control: &str, options: &str) {
        let (module, socket) = (self.module.display(), self.socket());
        let lines = ["auth", "account", "session", "password"]
            .map(|kind| format!("{kind} {control} {module} socket={} {options}\n", socket.display()));
        self.host.stack("mail", &lines.concat()).unwrap();
    }

    /// Goes through all phases; gives what the host printed, and how long it took.
    fn login(&self, user: &str) -> (String, Duration) {
        let begun = Instant::now();
        let output = self.host.run("mail", user, &["phases"]).unwrap();
        // A module that writes to the host's standard error, or kills it, is found out here.
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert!(output.status.success(), "{}", output.status);
        (String::from_utf8(output.stdout).unwrap(), begun.elapsed())
    }

    /// Goes through all phases as if the module were not there; gives what the user was shown.
    #[track_caller]
    fn goes_through(&self, user: &str) -> Vec<String> {
        let (printed, took) = self.login(user);
        let (shown, phases): (Vec<&str>, Vec<&str>) =
            printed.lines().partition(|line| line.starts_with("shown: "));
        assert_eq!(phases.join("\n") + "\n", THROUGH);
        assert!(took < Duration::from_secs(10), "{took:?}");
        shown.iter().map(|line| line["shown: ".len()..].to_owned()).collect()
    }
}

#[test]
fn it_exports_the_functions_of_a_module_and_nothing_else() {
    let module = Binaries::find().unwrap().path("libpam_mailready.so");
    let output = Command::new("nm").args(["-D", "--defined-only", "-P"]).arg(module).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    names.sort_unstable();
    let module_functions = [
        "pam_sm_acct_mgmt",
        "pam_sm_authenticate",
        "pam_sm_chauthtok",
        "pam_sm_close_session",
        "pam_sm_open_session",
        "pam_sm_setcred",
    ];
    assert_eq!(names, module_functions);
}

#[test]
fn it_brings_no_library_along_that_a_login_does_not_have() {
    let module = Binaries::find().unwrap().path("libpam_mailready.so");
    let output = Command::new("readelf").args(["--dynamic", "--wide"]).arg(module).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let needed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).unwrap())
        .collect();
    assert!(needed.contains(&"libpam.so.0"), "{needed:?}");
    for library in needed {
        let known = ["libpam.so.", "libc.so.", "libgcc_s.so.", "ld-linux"];
        assert!(known.iter().any(|name| library.starts_with(name)), "{library}");
    }
}

#[test]
fn account_and_session_are_told_and_nothing_else_is() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    scene.stack("optional", "");
    scene.goes_through("ann");
    scene.goes_through("b\u{fc}rger o'x");
    let told = [(); 4].map(|()| agent.next_request().unwrap());
    // Each comes in a connection of its own, and the agent takes these side by side.
    let mut told = told.to_vec();
    told.sort();
    assert_eq!(
        told,
        [
            "Arrival pam Account user=ann service=mail wait=0ms lease=-",
            "Arrival pam Account user=b\\xc3\\xbcrger o\\'x service=mail wait=0ms lease=-",
            "Arrival pam Session user=ann service=mail wait=0ms lease=-",
            "Arrival pam Session user=b\\xc3\\xbcrger o\\'x service=mail wait=0ms lease=-",
        ]
    );
    assert_eq!(agent.requests_so_far(), [""; 0]);
}

#[test]
fn a_login_without_a_name_is_asked_no_question() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    // Only `account`: in `auth`, pam_permit itself asks for a name.
    scene.stack("optional", "");
    let output = scene.host.run("mail", "-", &["times", "1"]).unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8(output.stdout).unwrap().contains("question"));
    assert_eq!(agent.requests_so_far(), [""; 0]);
}

#[test]
fn a_name_that_cannot_travel_changes_nothing() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    scene.stack("optional", "debug");
    scene.goes_through(&"x".repeat(256));
    scene.goes_through(&"x".repeat(500));
    assert_eq!(agent.requests_so_far(), [""; 0]);
    scene.goes_through(&"x".repeat(255));
    assert!(agent.next_request().unwrap().contains("xxx"));
}

#[test]
fn the_stack_s_outcome_is_that_of_the_others() {
    let scene = Scene::new();
    let _agent = scene.agent(&Play::Ready);
    let module = scene.module.display();
    for control in ["required", "requisite", "optional", "sufficient", "[success=done default=ignore]"] {
        scene.stack(control, "");
        scene.goes_through("ann");
        let deny = format!("account {control} {module}\naccount required pam_deny.so\n");
        scene.host.stack("mail", &deny).unwrap();
        let (phases, _) = scene.login("ann");
        assert!(phases.contains("account 7\n"), "{control}: {phases}");
    }
}

#[test]
fn whatever_the_agent_does_the_login_goes_on() {
    let scene = Scene::new();
    for options in ["", "debug", "timeout=20ms", "wait=300ms", "wait=300ms timeout=20ms debug"] {
        scene.stack("optional", options);
        scene.goes_through("ann");
        for play in [
            Play::Taken,
            Play::Ready,
            Play::Stay,
            Play::Refused,
            Play::Wait,
            Play::Half,
            Play::Garbage,
            Play::Close,
            Play::Mute,
            Play::Hang,
            Play::Deaf,
        ] {
            let _agent = scene.agent(&play);
            scene.goes_through("ann");
        }
        let agent = scene.agent(&Play::Taken);
        agent.stop().unwrap();
        scene.goes_through("ann");
        drop(agent);
        let program = Path::new(env!("CARGO_BIN_EXE_fake-agent"));
        let _agent = FakeAgent::start(program, &scene.socket(), 0, &Play::Deaf).unwrap();
        // Two phases each: the backlog of one is full from the second on.
        scene.goes_through("ann");
        scene.goes_through("ann");
    }
}

#[test]
fn words_that_mean_nothing_change_nothing() {
    let scene = Scene::new();
    let agent = scene.agent(&Play::Taken);
    scene.stack("optional", "socket wait=soon timeout=-1ms nonsense use_first_pass =");
    scene.goes_through("ann");
    assert!(agent.next_request().unwrap().ends_with("user=ann service=mail wait=0ms lease=-"));
    // The last of two is meant.
    scene.stack("optional", "socket=/nonexistent/agent.sock");
    scene.goes_through("ann");
}

#[test]
fn a_wait_holds_the_login_until_the_mail_is_ready() {
    let scene = Scene::new();
    // A machine that stalls gets its time for the first answer.
    scene.stack("optional", "wait=20s timeout=1s");
    let marker = scene.folder.path().join("marker");
    let agent = scene.agent(&Play::Commit(marker.clone()));
    let shown = scene.goes_through("ann");
    // Once for each of the two phases that announce.
    let once = ["Preparing your mail ...", "Your mail is ready: 1 message."];
    assert_eq!(shown, [once, once].concat());
    assert!(agent.next_request().unwrap().contains("Account user=ann service=mail wait=20000ms"));
    assert!(marker.exists());
}

/// Each cycle loads the module, calls it, and unloads it: in a server that runs for months, what a login leaves behind adds up.
#[test]
fn twenty_thousand_logins_leave_nothing_behind() {
    const CYCLES: usize = 20_000;
    let scene = Scene::new();
    let _agent = scene.agent(&Play::Taken);
    // With an answer waited for, and options that do not parse: all of the module's code has run.
    scene.stack("optional", "timeout=50ms");
    let module = scene.module.to_str().unwrap();
    let output = scene.host.run("mail", "ann", &["cycles", &CYCLES.to_string(), module]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let samples: Vec<Vec<i64>> =
        text.lines().map(|line| line.split(' ').map(|field| field.parse().unwrap()).collect()).collect();
    assert_eq!(samples.len(), 10, "{text}");
    // From where the host itself has settled: 14,000 cycles, in which ten bytes left behind by each would show.
    let (first, last) = (&samples[2], &samples[9]);
    assert_eq!(last[0], CYCLES as i64);
    assert!(last[1] - first[1] <= 128, "resident memory grows: {text}");
    assert_eq!(last[2], first[2], "descriptors: {text}");
    // `.`, `..` and the only thread.
    assert_eq!(last[3], 3, "threads: {text}");
    assert_eq!(last[4], 0, "it stays loaded after pam_end: {text}");
}
