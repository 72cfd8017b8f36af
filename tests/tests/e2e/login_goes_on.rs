//! Whatever becomes of the agent or of the post-login script, the login goes on and shows the mail.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use mailready_protocol::{Answer, Progress, recv_request, send_answer};
use mailready_tests::lab::{
    CONFIG, Daemon, Differences, Dump, Imap, LabError, Machine, Result, Site, User, eventually, mail,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

/// Longer than any of the limits that the script and the module set themselves without an agent (100 ms each) and the password
/// check take, even on a machine under load; far shorter than the 20 s that an agent may ask for.
const SOON: Duration = Duration::from_secs(5);

const MESSAGES: usize = 5;

/// A site with mailready, no agent; what Ann's mail looks like.
fn site() -> Result<Option<(Machine, User, Daemon, Dump)>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    let dovecot = machine.start_dovecot()?;
    let ann = machine.add_user("ann", "correct-horse", &mail::mbox(3, MESSAGES as u32))?;
    let before = Dump::take(&machine, &ann)?;
    assert_eq!(before.inbox()?.messages.len(), MESSAGES);
    Ok(Some((machine, ann, dovecot, before)))
}

/// Logs in, in time, and sees the mail of before, by IMAP and by POP3.
fn login_shows_the_mail(machine: &Machine, ann: &User, before: &Dump) -> Result<()> {
    let start = Instant::now();
    let imap = Imap::login(machine, &ann.name, &ann.password)?;
    let took = start.elapsed();
    imap.logout()?;
    assert!(took < SOON, "the login took {} ms", took.as_millis());
    let after = Dump::take(machine, ann)?;
    let found = Differences::between(before, &after);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

#[test]
fn without_an_agent() -> Result<()> {
    let Some((machine, ann, _dovecot, before)) = site()? else { return Ok(()) };
    login_shows_the_mail(&machine, &ann, &before)
}

#[test]
fn after_the_agent_was_killed() -> Result<()> {
    let Some((machine, ann, _dovecot, before)) = site()? else { return Ok(()) };
    let agent = machine.start_agent(CONFIG)?;
    agent.kill()?;
    assert!(machine.exists("/run/mailready/arrival.sock")?, "its sockets are left, and refuse");
    login_shows_the_mail(&machine, &ann, &before)
}

#[test]
fn with_an_agent_that_stands_still() -> Result<()> {
    let Some((machine, ann, _dovecot, before)) = site()? else { return Ok(()) };
    let agent = machine.start_agent(CONFIG)?;
    agent.freeze()?;
    login_shows_the_mail(&machine, &ann, &before)?;
    // And once it goes on, it serves again.
    agent.thaw()?;
    let marker = format!("{}/Maildir/mailready-marker", ann.home());
    eventually(
        "a later login is converted",
        || agent.log.tail(),
        || {
            Imap::login(&machine, &ann.name, &ann.password).and_then(Imap::logout).ok()?;
            machine.exists(&marker).ok()?.then_some(())
        },
    )
}

#[test]
fn with_a_full_backlog() -> Result<()> {
    let Some((machine, ann, _dovecot, before)) = site()? else { return Ok(()) };
    let agent = machine.start_agent(CONFIG)?;
    agent.freeze()?;
    let mut connections = Vec::new();
    for path in ["/run/mailready/arrival.sock", "/run/mailready/self.sock"] {
        let full = fill(&machine, path)?;
        assert!(!full.is_empty(), "{path} has a backlog");
        connections.extend(full);
    }
    login_shows_the_mail(&machine, &ann, &before)
}

/// Connects until no more is taken.
fn fill(machine: &Machine, path: &str) -> Result<Vec<OwnedFd>> {
    machine.inside(|| {
        let address = UnixAddr::new(path).unwrap();
        let mut open = Vec::new();
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => open.push(fd),
                Err(nix::errno::Errno::EAGAIN) => return open,
                Err(other) => panic!("{path}: {other}"),
            }
        }
    })
}

/// Stands where the agent's socket for users is. (The library's listener accepts on any kind of local socket.)
fn stand_in(machine: &Machine) -> Result<UnixListener> {
    machine.inside(|| {
        std::fs::create_dir_all("/run/mailready").unwrap();
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new("/run/mailready/self.sock").unwrap()).unwrap();
        let everybody = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions("/run/mailready/self.sock", everybody).unwrap();
        listen(&fd, Backlog::new(16).unwrap()).unwrap();
        UnixListener::from(fd)
    })
}

#[test]
fn with_an_agent_that_accepts_and_never_answers() -> Result<()> {
    let Some((machine, ann, _dovecot, before)) = site()? else { return Ok(()) };
    let listener = stand_in(&machine)?;
    let (accepted, connections) = channel();
    thread::spawn(move || {
        // The connections stay open in the channel until the test has ended.
        for connection in listener.incoming() {
            let _ = accepted.send(connection);
        }
    });
    login_shows_the_mail(&machine, &ann, &before)?;
    assert!(connections.try_iter().count() >= 3, "each of three logins has asked");
    Ok(())
}

/// An agent that keeps the script waiting, beat by beat, as it does during a long conversion.
fn keep_waiting(listener: UnixListener) {
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || {
                let connection = OwnedFd::from(connection);
                let mut readable = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
                let asked = poll(&mut readable, PollTimeout::NONE).is_ok()
                    && recv_request(connection.as_fd()).is_ok_and(|got| got.lease.is_some());
                let waiting = Answer::Wait(Progress { done: 1, total: 100 });
                while asked && send_answer(connection.as_fd(), waiting).is_ok() {
                    thread::sleep(Duration::from_millis(500));
                }
            });
        }
    });
}

/// The script asks by a child; the child is killed, as the kernel does when memory runs out.
#[test]
fn when_the_question_is_killed() -> Result<()> {
    let Some((machine, ann, dovecot, before)) = site()? else { return Ok(()) };
    keep_waiting(stand_in(&machine)?);
    let mut imap = Imap::connect(&machine)?;
    let login = format!("LOGIN {} {}", ann.name, ann.password);
    let tag = imap.send(&login)?;
    let asking = eventually(
        "the script asks",
        || dovecot.log.tail(),
        || machine.processes("mailready-notif").ok()?.first().copied(),
    )?;
    machine.signal(asking, "KILL")?;
    assert_eq!(imap.finish(&tag, &login)?.status, "OK", "the same login goes on");
    let after = Dump::by_imap(&mut imap)?;
    let found = Differences::between_folders(before.inbox()?, after.inbox()?);
    assert!(found.is_empty(), "{found}");
    imap.logout()
}

/// The script itself is killed. Dovecot has nobody left to start that session with, so this connection ends; what must not be is
/// that anything stays behind: the client, who reconnects by itself, is served.
#[test]
fn when_the_script_is_killed() -> Result<()> {
    let Some((machine, ann, dovecot, before)) = site()? else { return Ok(()) };
    keep_waiting(stand_in(&machine)?);
    let mut imap = Imap::connect(&machine)?;
    let login = format!("LOGIN {} {}", ann.name, ann.password);
    let tag = imap.send(&login)?;
    let script = eventually(
        "the script runs",
        || dovecot.log.tail(),
        || {
            machine.processes("mailready-notif").ok()?.first()?;
            machine.processes("postlogin").ok()?.first().copied()
        },
    )?;
    machine.signal(script, "KILL")?;
    // An answer or the end of the connection; never silence, which would be an error of time.
    if let Err(LabError::Io { source, .. }) = imap.finish(&tag, &login) {
        assert_ne!(source.kind(), std::io::ErrorKind::WouldBlock, "the client is left hanging");
    }
    machine.run("rm", ["/run/mailready/self.sock"])?;
    login_shows_the_mail(&machine, &ann, &before)
}
