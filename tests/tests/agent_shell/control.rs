//! The operator's interface: peer to peer, and on a bus.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use mailready_agent::lifecycle::Command;
use mailready_agent::outcome::Why;
use mailready_bus::{
    AgentProxy, Answer, ConvertOptions, Error, MailboxChangedStream, NAME, State, connect_p2p,
};
use mailready_protocol::{Answer as Lease, Reason};
use mailready_tests::lab::{eventually, skip};
use zbus::Connection;
use zbus::connection::Builder;

use crate::site::{ANN, Setup, Site, as_uid, can_be_others};
use crate::twin::{Heard, blocked, busy, converted, failed};

const LONG: Duration = Duration::from_secs(19);

impl Site {
    /// The control socket, as root (or whoever runs this test).
    fn control(&self) -> AgentProxy<'static> {
        self.runtime.block_on(async {
            let connection = connect_p2p(&self.path("control.sock")).await.unwrap();
            AgentProxy::new(&connection).await.unwrap()
        })
    }

    /// The control socket, as somebody else: the kernel notes who connects.
    fn control_as(&self, uid: u32) -> AgentProxy<'static> {
        let path = self.path("control.sock");
        let stream = as_uid(uid, move || UnixStream::connect(path).unwrap()).join().unwrap();
        self.runtime.block_on(async {
            let connection = Builder::unix_stream(stream).user_id(uid).p2p().build().await.unwrap();
            AgentProxy::new(&connection).await.unwrap()
        })
    }

    fn convert(&self, agent: &AgentProxy<'_>, users: &[&str]) -> Vec<(String, Answer)> {
        let answers = self.runtime.block_on(agent.convert(users, ConvertOptions::default())).unwrap();
        answers.iter().map(|answer| (answer.user.clone(), answer.known_answer().unwrap())).collect()
    }

    fn state(&self, agent: &AgentProxy<'_>, user: &str) -> (State, Option<String>) {
        let found = self.runtime.block_on(agent.status(&[user], HashMap::new())).unwrap();
        assert_eq!(found.len(), 1);
        (found[0].known_state().unwrap(), found[0].details.code.clone())
    }
}

async fn next(changes: &mut MailboxChangedStream) -> (String, String) {
    let change = poll_fn(|cx| {
        use futures_core::Stream;
        Pin::new(&mut *changes).poll_next(cx)
    });
    let change = tokio::time::timeout(LONG, change).await.unwrap().unwrap();
    let args = change.args().unwrap();
    (args.user.clone(), args.state.clone())
}

#[test]
fn an_operator_converts_whom_the_configuration_does_not_name_and_sees_it_happen() {
    let site = Site::with("[users]\nconvert = \"none\"\n");
    let agent = site.control();
    let mut changes = site.runtime.block_on(agent.receive_mailbox_changed()).unwrap();
    site.twin.end("ann", converted());
    site.twin.end("bob", blocked());
    site.twin.end("cid", busy());
    let answers = site.convert(&agent, &["ann", "zed", "bob", "../x", "cid"]);
    let wanted = [
        ("ann", Answer::Converted),
        ("zed", Answer::Refused),
        ("bob", Answer::Blocked),
        ("../x", Answer::Refused),
        ("cid", Answer::Waiting),
    ];
    assert_eq!(answers, wanted.map(|(user, answer)| (user.to_owned(), answer)), "in the order asked");
    assert!(site.twin.conversions().iter().all(|(_, why)| *why == Why::Operator));
    let seen: Vec<_> = site.runtime.block_on(async {
        let mut seen = Vec::new();
        while !seen.contains(&("ann".to_owned(), "maildir".to_owned())) {
            seen.push(next(&mut changes).await);
        }
        seen.into_iter().filter(|(user, _)| user == "ann").map(|(_, state)| state).collect()
    });
    assert_eq!(seen, ["waiting", "staging", "maildir"]);
    assert_eq!(site.convert(&agent, &["ann"]), [("ann".to_owned(), Answer::Already)]);
    assert_eq!(site.state(&agent, "ann").0, State::Maildir);
    assert_eq!(site.state(&agent, "bob"), (State::Blocked, Some("maildir-exists".into())));
    assert_eq!(site.state(&agent, "dan"), (State::Mbox, Some("convert-none".into())));
}

#[test]
fn all_means_those_whom_the_configuration_selects() {
    let site = Site::new();
    std::fs::create_dir(site.path("spool")).unwrap();
    for name in ["ann", "bob", "stray", "cid.lock"] {
        std::fs::write(site.path("spool").join(name), "From x\n").unwrap();
    }
    for user in ["ann", "bob"] {
        site.twin.end(user, converted());
    }
    let agent = site.control();
    let all = ConvertOptions { all: Some(true), ..ConvertOptions::default() };
    let answers = site.runtime.block_on(agent.convert(&[], all.clone())).unwrap();
    let words: Vec<_> = answers.iter().map(|a| (a.user.as_str(), a.answer.as_str())).collect();
    assert_eq!(words, [("ann", "converted"), ("bob", "converted"), ("stray", "refused")]);
    let both = site.runtime.block_on(agent.convert(&["ann"], all));
    assert!(matches!(both, Err(Error::InvalidArgs(_))));
    let none = site.runtime.block_on(agent.convert(&[], ConvertOptions::default()));
    assert!(matches!(none, Err(Error::InvalidArgs(_))));
}

#[test]
fn a_dry_run_changes_nothing() {
    let site = Site::new();
    let agent = site.control();
    let dry = ConvertOptions { dry_run: Some(true), ..ConvertOptions::default() };
    let answers = site.runtime.block_on(agent.convert(&["ann"], dry)).unwrap();
    assert_eq!(answers[0].known_answer(), Some(Answer::WouldConvert));
    assert_eq!(site.twin.heard(), []);
}

#[test]
fn an_operator_who_waits_sees_a_busy_mailbox_through() {
    let site = Site::new();
    let agent = site.control();
    site.twin.end("ann", busy());
    let wait = ConvertOptions { wait: Some(true), ..ConvertOptions::default() };
    let asking = site.runtime.spawn(async move { agent.convert(&["ann"], wait).await });
    site.twin.wait_for("the first attempt has ended", |heard| heard.contains(&Heard::Ended("ann".into())));
    let observer = site.control();
    site.eventually("status says so", || {
        site.state(&observer, "ann") == (State::Waiting, Some("busy".into()))
    });
    site.twin.end("ann", converted());
    let answers = site.runtime.block_on(asking).unwrap().unwrap();
    assert_eq!(answers[0].known_answer(), Some(Answer::Converted));
    assert_eq!(site.twin.conversions().len(), 2, "the queue tried again by itself");
}

#[test]
fn a_hold_stops_what_has_not_committed_and_a_release_lets_it_go_on() {
    let site = Site::new();
    let agent = site.control();
    let waiting = site.waiting("ann", LONG);
    site.twin.wait_for_conversion("ann");
    site.runtime.block_on(agent.hold("ann", 0, "exams")).unwrap();
    assert_eq!(waiting.join().unwrap(), Lease::Stay(Reason::Held));
    assert_eq!(site.announce_and_wait("ann", LONG), Lease::Stay(Reason::Held));
    assert_eq!(
        site.convert(&agent, &["ann"]),
        [("ann".to_owned(), Answer::Held)],
        "nothing overrides a hold"
    );
    assert_eq!(site.state(&agent, "ann").0, State::Held);
    let all = site.runtime.block_on(agent.status(&[], HashMap::new())).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].details.reason.as_deref(), Some("exams"));
    assert!(site.path("state/holds/ann").exists());
    site.runtime.block_on(agent.release("ann")).unwrap();
    site.twin.end("ann", converted());
    assert_eq!(site.announce_and_wait("ann", LONG), Lease::Ready);
    for bad in [("ann", 1, "x"), ("ann", 0, "a\nb"), ("../x", 0, "")] {
        let result = site.runtime.block_on(agent.hold(bad.0, bad.1, bad.2));
        assert!(matches!(result, Err(Error::InvalidArgs(_))), "{bad:?}: {result:?}");
    }
}

#[test]
fn users_see_and_change_themselves_only() {
    if !can_be_others() {
        return;
    }
    let site = Site::with("[users]\nconvert = \"none\"\n");
    let (ann, root) = (site.control_as(ANN), site.control());
    let mut heard_by_ann = site.runtime.block_on(ann.receive_mailbox_changed()).unwrap();
    let status =
        |agent: &AgentProxy<'_>, user: &str| site.runtime.block_on(agent.status(&[user], HashMap::new()));
    assert_eq!(status(&ann, "ann").unwrap()[0].user, "ann");
    assert!(matches!(status(&ann, "bob"), Err(Error::AccessDenied(_))));
    assert!(matches!(status(&ann, "zed"), Err(Error::AccessDenied(_))), "who exists is not told");
    assert!(matches!(status(&root, "zed"), Err(Error::NoSuchUser(_))));
    let answers = site.convert(&ann, &["ann", "bob"]);
    assert_eq!(answers[0].1, Answer::Refused, "users.convert binds users");
    assert_eq!(answers[1].1, Answer::Refused);
    assert_eq!(site.twin.heard(), []);
    let hold = |agent: &AgentProxy<'_>, user: &str| site.runtime.block_on(agent.hold(user, 0, ""));
    let release = |agent: &AgentProxy<'_>, user: &str| site.runtime.block_on(agent.release(user));
    assert!(matches!(hold(&ann, "bob"), Err(Error::AccessDenied(_))));
    hold(&ann, "ann").unwrap();
    release(&ann, "ann").unwrap();
    hold(&root, "ann").unwrap();
    assert!(matches!(release(&ann, "ann"), Err(Error::AccessDenied(_))), "what root holds, root releases");
    assert!(matches!(hold(&ann, "ann"), Err(Error::AccessDenied(_))));
    release(&root, "ann").unwrap();
    // What happens to others is not told: the first thing that ann hears is about ann.
    for user in ["bob", "ann"] {
        site.twin.end(user, converted());
        assert_eq!(site.convert(&root, &[user])[0].1, Answer::Converted);
    }
    let (user, _) = site.runtime.block_on(next(&mut heard_by_ann));
    assert_eq!(user, "ann");
    let all = ConvertOptions { all: Some(true), ..ConvertOptions::default() };
    assert!(matches!(site.runtime.block_on(ann.convert(&[], all)), Err(Error::AccessDenied(_))));
}

/// Root and users hear of it alike: it names nobody.
#[test]
fn too_many_failures_are_told_to_everybody_and_root_lets_it_go_on() {
    let site = Site::new();
    let root = site.control();
    let mut heard = site.runtime.block_on(root.receive_stopped()).unwrap();
    for user in ["ann", "bob", "cid"] {
        site.twin.end(user, failed());
        assert_eq!(site.convert(&root, &[user])[0].1, Answer::Failed);
    }
    let told = site.runtime.block_on(poll_fn(|cx| {
        use futures_core::Stream;
        Pin::new(&mut heard).poll_next(cx)
    }));
    let told = told.unwrap();
    let told = told.args().unwrap();
    assert_eq!(told.code, "stopped");
    assert!(!told.text.contains("ann"), "{}", told.text);
    assert!(site.runtime.block_on(root.stopped_because()).unwrap().starts_with("3 conversions"));
    site.runtime.block_on(root.background("start")).unwrap();
    assert_eq!(site.runtime.block_on(root.stopped_because()).unwrap(), "");
}

#[test]
fn what_comes_later_says_so() {
    let site = Site::new();
    let agent = site.control();
    let later = site.runtime.block_on(agent.background("start"));
    assert!(matches!(later, Err(Error::NotSupported(_))), "{later:?}");
    assert_eq!(site.runtime.block_on(agent.version()).unwrap(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn who_is_on_maildir_can_be_verified_and_rolled_back_and_nobody_else() {
    let site = Site::new();
    let agent = site.control();
    let rollback = |user| site.runtime.block_on(agent.rollback(user)).unwrap();
    let verify = |user| site.runtime.block_on(agent.verify(user)).unwrap();
    assert_eq!(rollback("ann").known_answer(), Some(Answer::OnMbox));
    assert_eq!(verify("ann").known_answer(), Some(Answer::OnMbox));
    assert!(!site.twin.heard().contains(&Heard::Rollback("ann".into())), "there was nothing to do");

    site.twin.end("ann", converted());
    assert_eq!(site.convert(&agent, &["ann"])[0].1, Answer::Converted);
    let verified = verify("ann");
    assert_eq!((verified.known_answer(), verified.checked.same), (Some(Answer::Verified), Some(3)));

    let mut heard = site.runtime.block_on(agent.receive_mailbox_changed()).unwrap();
    let back = rollback("ann");
    assert_eq!((back.known_answer(), back.text.as_str()), (Some(Answer::RolledBack), "3 messages"));
    assert_eq!(site.runtime.block_on(next(&mut heard)), ("ann".to_owned(), "rolledback".to_owned()));
    assert_eq!(rollback("ann").known_answer(), Some(Answer::OnMbox));
    assert!(matches!(site.runtime.block_on(agent.rollback("nobody-here")), Err(Error::NoSuchUser(_))));
}

#[test]
fn users_verify_and_roll_back_themselves_alone() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let (root, ann) = (site.control(), site.control_as(ANN));
    for user in ["ann", "bob"] {
        site.twin.end(user, converted());
        assert_eq!(site.convert(&root, &[user])[0].1, Answer::Converted);
    }
    let denied =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::AccessDenied(_))), "{result:?}");
    denied(site.runtime.block_on(ann.rollback("bob")).map(drop));
    denied(site.runtime.block_on(ann.verify("bob")).map(drop));
    assert_eq!(site.runtime.block_on(ann.verify("ann")).unwrap().known_answer(), Some(Answer::Verified));
    assert_eq!(site.runtime.block_on(ann.rollback("ann")).unwrap().known_answer(), Some(Answer::RolledBack));
}

#[test]
fn a_promise_of_a_long_message_is_not_believed() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let path = site.path("control.sock");
    let talk = as_uid(ANN, move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let uid: String = ANN.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
        let mut line = [0; 256];
        let len = stream.read(&mut line).unwrap();
        assert!(line[..len].starts_with(b"OK "), "{:?}", String::from_utf8_lossy(&line[..len]));
        stream.write_all(b"BEGIN\r\n").unwrap();
        // A call whose body is said to have 100 MiB.
        let mut header = vec![b'l', 1, 0, 1];
        header.extend((100u32 << 20).to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.extend(0u32.to_le_bytes());
        stream.write_all(&header).unwrap();
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest).map_err(|error| error.kind());
        (end, rest.len())
    });
    let (end, said) = talk.join().unwrap();
    // It may say goodbye by a reset, but must not wait for the rest.
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    assert_eq!(said, 0);
    assert_eq!(site.state(&site.control(), "ann").0, State::Mbox);
}

#[test]
fn those_who_only_connect_fill_one_users_share() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let path = site.path("control.sock");
    let idle = as_uid(ANN, move || (0..50).map(|_| UnixStream::connect(&path).unwrap()).collect::<Vec<_>>());
    let idle = idle.join().unwrap();
    assert_eq!(site.state(&site.control(), "ann").0, State::Mbox);
    assert_eq!(site.state(&site.control_as(ANN + 1), "bob").0, State::Mbox);
    drop(idle);
}

#[test]
fn the_end_answers_an_operator_who_waits() {
    let site = Site::new();
    let agent = site.control();
    let asking = site.runtime.spawn(async move { agent.convert(&["ann"], ConvertOptions::default()).await });
    site.twin.wait_for_conversion("ann");
    site.tell(Command::Stop);
    let answers = site.runtime.block_on(asking).unwrap().unwrap();
    assert_eq!(answers[0].known_answer(), Some(Answer::Stopped));
    assert_eq!(site.ended(), Ok(()));
    assert!(site.twin.heard().contains(&Heard::Ended("ann".into())));
}

/// A bus of our own; killed when dropped.
struct Bus {
    daemon: std::process::Child,
    _folder: tempfile::TempDir,
}

impl Bus {
    fn start(folder: tempfile::TempDir) -> Option<Bus> {
        let config = folder.path().join("bus.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>{}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow own=\"*\"/><allow receive_sender=\"*\"/><allow user=\"*\"/>\
             </policy></busconfig>",
            Bus::address(&folder)
        );
        std::fs::write(&config, text).unwrap();
        let started = Process::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(daemon) => Some(Bus { daemon, _folder: folder }),
            Err(error) => {
                skip(&format!("dbus-daemon cannot be started: {error}"));
                None
            }
        }
    }

    fn address(folder: &tempfile::TempDir) -> String {
        format!("unix:path={}", folder.path().join("bus").display())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn the_bus_may_come_late_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let address = Bus::address(&folder);
    let config = "[users]\nconvert = \"all\"\n".to_owned();
    let site = Site::set_up(Setup { config, bus: address.clone(), slow: None });
    assert_eq!(site.announce("ann"), Lease::Taken, "without any bus");
    site.twin.wait_for_conversion("ann");
    site.twin.end("ann", converted());
    let Some(bus) = Bus::start(folder) else { return };
    site.runtime.block_on(async {
        let connection = eventually_connected(&address).await;
        let agent = AgentProxy::new(&connection).await.unwrap();
        let dbus = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
        let owned = async {
            while !dbus.name_has_owner(NAME.try_into().unwrap()).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, owned).await.unwrap();
        let mut changes = agent.receive_mailbox_changed().await.unwrap();
        site.twin.end("bob", converted());
        let answers = agent.convert(&["bob"], ConvertOptions::default()).await.unwrap();
        assert_eq!(answers[0].known_answer(), Some(Answer::Converted));
        assert_eq!(next(&mut changes).await.0, "bob");
    });
    drop(bus);
    assert_eq!(site.announce("cid"), Lease::Taken, "and after it is gone");
}

async fn eventually_connected(address: &str) -> Connection {
    let socket = address.trim_start_matches("unix:path=").to_owned();
    tokio::task::spawn_blocking(move || {
        let there = || UnixStream::connect(&socket).ok();
        eventually("the bus listens", String::new, there).unwrap();
    })
    .await
    .unwrap();
    Builder::address(address).build().await.unwrap()
}
