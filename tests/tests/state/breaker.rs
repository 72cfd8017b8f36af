//! Trouble stops, it does not spread.

use mailready_tests::lab::{Result, User, eventually};

use super::rig::{CONFIG, Rig, stdout};

const WORKER: &str = "/usr/sbin/mailready-worker";
const STOPPED: &str = "failed, so nobody is converted by arriving";

fn read(rig: &Rig, users: &[User]) -> Result<Vec<Vec<u8>>> {
    users.iter().map(|user| rig.machine.read(&user.spool())).collect()
}

/// Every worker dies at once, as after an upgrade that went wrong: three users arrive, and after that nobody's mailbox is touched, through a restart too, until an operator says so. That operator can try one in between.
#[test]
fn too_many_failures_stop_arrivals_until_an_operator_says_go_on() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let users = (0..5).map(|n| rig.add_user(&format!("user{n}"), n)).collect::<Result<Vec<_>>>()?;
    let before = read(&rig, &users)?;
    let agent = rig.start()?;
    rig.machine.write("/root/worker", b"#!/bin/sh\nexit 1\n", (0, 0), 0o755)?;
    rig.machine.run("mount", ["--bind", "/root/worker", WORKER])?;
    for user in &users[..3] {
        let said = rig.arrive(&user.name)?;
        assert!(said.contains("failed"), "{}: {said}\n{}", user.name, agent.log.tail());
    }
    agent.log.wait("the journal says what to do", |line| {
        line.contains(STOPPED) && line.contains("user2") && line.contains("mailready background start")
    })?;
    rig.machine.run("umount", [WORKER])?;
    let said = rig.arrive("user3")?;
    assert!(said.contains("blocked"), "at once, and with a reason: {said}");
    let status = stdout(&rig.mailready(&["status"])?);
    assert!(status.starts_with("STOPPED: 3 "), "{status}");
    assert!(stdout(&rig.mailready(&["status", "--json"])?).contains("\"stopped\":\"3 "));
    let page = stdout(&rig.mailready(&["explain", "user3"])?);
    assert!(page.contains(STOPPED) && page.contains("background start"), "{page}");
    let page = stdout(&rig.mailready(&["explain", "user0"])?);
    assert!(page.contains("worker") && page.contains("went wrong"), "{page}");
    assert_eq!(read(&rig, &users)?, before, "those that failed are as they were, and so is everybody else");

    agent.terminate()?;
    let agent = rig.start()?;
    let said = rig.arrive("user3")?;
    assert!(said.contains("blocked"), "a restart mends nothing: {said}");
    rig.convert(&users[0])?;
    assert!(rig.arrive("user0")?.contains("ready"), "who is on Maildir is served");
    assert!(rig.arrive("user3")?.contains("blocked"), "one that went well is no proof");
    rig.machine.run("/usr/bin/mailready", ["background", "start"])?;
    let said = rig.arrive("user3")?;
    assert!(said.contains("ready"), "{said}\n{}", agent.log.tail());
    assert!(stdout(&rig.mailready(&["background", "status"])?).contains("not stopped"));
    Ok(())
}

/// An agent that dies of what it does is started again by the service manager; three times, and it leaves the arrivals alone. A reload ends that.
#[test]
fn an_agent_that_dies_again_and_again_stops_converting() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let user = rig.add_user("ann", 1)?;
    let before = rig.machine.read(&user.spool())?;
    rig.start()?.terminate()?;
    // Made by a run before its record.
    rig.machine.run("install", ["-d", "-m", "0700", "/var/mail/.mailready"])?;
    for death in 0..3 {
        // As a death in the middle leaves it, each in a run of its own.
        let run = format!("2026010{death}T000000Z-0123456789abcdef");
        let record = record(&run, &user);
        rig.machine.write(&format!("{}/{run}", super::rig::RUNS), record.as_bytes(), (0, 0), 0o600)?;
        let agent = rig.start()?;
        let settled = || (!rig.machine.exists(&format!("{}/{run}", super::rig::RUNS)).ok()?).then_some(());
        eventually("the dead run is settled", || agent.log.tail(), settled)?;
        let stopped = stdout(&rig.mailready(&["background", "status"])?);
        assert_eq!(stopped.contains("STOPPED"), death == 2, "{stopped}");
        agent.kill()?;
    }
    let agent = rig.start()?;
    assert!(rig.arrive("ann")?.contains("blocked"));
    assert_eq!(rig.machine.read(&user.spool())?, before);
    agent.signal(nix::sys::signal::Signal::SIGHUP)?;
    agent.log.wait("conversions go on", |line| line.contains("conversions go on"))?;
    // The agent may be looking at the mailbox itself.
    let ready = || rig.arrive("ann").ok()?.contains("ready").then_some(());
    eventually("ann is converted", || agent.log.tail(), ready)
}

fn record(run: &str, user: &User) -> String {
    let (name, uid, gid, home) = (&user.name, user.uid, user.gid, user.home());
    format!(
        "version = 3\nrun = \"{run}\"\nuser = \"{name}\"\nuid = {uid}\ngid = {gid}\nphase = \"begun\"\n\
         maildir = \"{home}/Maildir\"\nwork = \"{home}/.mailready\"\narchive = \"/var/mail/.mailready\"\n\
         started = 1\nsequence = 1\nhome = \"{home}\"\nboxes = 1\n\n\
         [[source]]\nname = \"INBOX\"\npath = \"{}\"\ndev = 1\nino = 2\nlength = 3\n",
        user.spool()
    )
}

/// What cannot be read is taken for a stop: somebody has to look.
#[test]
fn a_breaker_file_that_cannot_be_read_is_a_stop() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let user = rig.add_user("ann", 1)?;
    rig.start()?.terminate()?;
    rig.machine.write("/var/lib/mailready/breaker", b"\0\xff junk", (0, 0), 0o600)?;
    let agent = rig.machine.start_agent(CONFIG)?;
    assert!(rig.arrive(&user.name)?.contains("blocked"));
    rig.machine.run("/usr/bin/mailready", ["background", "start"])?;
    assert!(rig.arrive(&user.name)?.contains("ready"), "{}", agent.log.tail());
    Ok(())
}
