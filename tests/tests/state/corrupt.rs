//! State that is broken: nobody else notices, and whom it is about is left alone.

use mailready_tests::lab::{Daemon, Result, User};

use super::rig::{DATA, RUNS, Rig, late, stdout};

/// Two converted users, and no agent.
fn two() -> Result<Option<(Rig, User, User)>> {
    let Some(rig) = Rig::new()? else { return Ok(None) };
    let (ann, bob) = (rig.add_user("ann", 1)?, rig.add_user("bob", 2)?);
    let agent = rig.start()?;
    rig.convert(&ann)?;
    rig.convert(&bob)?;
    agent.terminate()?;
    Ok(Some((rig, ann, bob)))
}

/// Bob is served and gets his mail, whatever is wrong about Ann.
fn check_bob(rig: &Rig, bob: &User, agent: &Daemon, id: &str) -> Result<()> {
    assert!(rig.arrive("bob")?.contains("ready"), "{id}: {}", agent.log.tail());
    rig.append(&bob.spool(), &late(id))?;
    rig.wait_delivered(agent, bob, "", id)
}

/// Everything of a user's that a mistake could change, but for access times.
fn all_of(rig: &Rig, user: &User) -> Result<String> {
    let script =
        "find \"$1\" \"$2\" -type f -exec sha256sum {} + | sort; find \"$1\" -printf '%p %y %U\\n' | sort";
    rig.machine.run("sh", ["-c", script, "sh", &user.home(), &user.spool()])
}

/// Whatever has become of the file of a record: its user is refused by name, by number, or by the tombstone that still stands, with a reason that names the file; and nothing of that user's is touched.
#[test]
fn a_record_that_is_broken_in_any_way_concerns_its_user_alone() -> Result<()> {
    let Some((rig, ann, bob)) = two()? else { return Ok(()) };
    let file = rig.record_of("ann")?;
    let whole = rig.text(&file)?;
    let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
    // In the middle of each of the first lines, and of one that is far behind the name.
    for key in ["version = ", "run = ", "user = ", "uid = ", "gid = ", "phase = ", "[[source]]"] {
        let at = whole.find(key).unwrap_or_else(|| panic!("no {key} in {whole}")) + key.len();
        broken.push((format!("cut behind {key:?}"), whole.as_bytes()[..at].to_vec()));
    }
    broken.push(("empty".into(), Vec::new()));
    broken.push(("junk".into(), vec![0, 255, 254, 10, 7, 91, 91]));
    broken.push((
        "newer".into(),
        whole.replacen("version = 3", "version = 4\ncolour = \"blue\"", 1).into_bytes(),
    ));
    rig.append(&ann.spool(), &late("waits"))?;
    let before = all_of(&rig, &ann)?;
    for (number, (what, content)) in broken.iter().enumerate() {
        rig.machine.write(&file, content, (0, 0), 0o600)?;
        let agent = rig.start()?;
        check_bob(&rig, &bob, &agent, &format!("bob{number}"))?;
        let said = rig.arrive("ann")?;
        assert!(said.contains("blocked"), "{what}: {said}");
        let output = rig.mailready(&["convert", "ann"])?;
        let (code, said) = (output.status.code(), stdout(&output));
        let run = file.rsplit('/').next().unwrap_or_default();
        assert!(code == Some(DATA) && said.contains(run), "{what}: {code:?} {said}");
        agent.terminate()?;
        assert_eq!(all_of(&rig, &ann)?, before, "{what}");
        assert_eq!(rig.machine.read(&file)?, *content, "{what}: the file stays for whoever mends it");
    }
    rig.machine.write(&file, whole.as_bytes(), (0, 0), 0o600)?;
    let agent = rig.start()?;
    rig.wait_delivered(&agent, &ann, "", "waits")?;
    Ok(())
}

/// A folder of records that cannot be read is no folder of nobody: the agent does not start, and says why.
#[test]
fn without_its_records_the_agent_does_not_start() -> Result<()> {
    let Some((rig, ann, _)) = two()? else { return Ok(()) };
    let before = all_of(&rig, &ann)?;
    rig.machine.run("mv", [RUNS, "/root/runs"])?;
    rig.machine.write(RUNS, b"", (0, 0), 0o600)?;
    let agent = rig.machine.daemon("/usr/sbin/mailready-agent", [] as [&str; 0])?;
    let status = agent.wait_end()?;
    assert!(!status.success(), "{status}");
    agent.log.wait("why it does not start", |line| line.contains(RUNS))?;
    assert_eq!(all_of(&rig, &ann)?, before);
    rig.machine.run("rm", [RUNS])?;
    rig.machine.run("mv", ["/root/runs", RUNS])?;
    let agent = rig.start()?;
    assert!(rig.arrive("ann")?.contains("ready"), "{}", agent.log.tail());
    Ok(())
}

/// A hold that cannot be read holds; what a crash left half written is nobody's; a map that is gone, or is no file, is there again.
#[test]
fn holds_leftovers_and_the_map() -> Result<()> {
    let Some((rig, ann, bob)) = two()? else { return Ok(()) };
    let cid = rig.add_user("cid", 3)?;
    let state = "/var/lib/mailready";
    for junk in [&b""[..], b"by = ", b"\0\xff"] {
        rig.machine.write(&format!("{state}/holds/cid"), junk, (0, 0), 0o600)?;
        for folder in ["runs", "holds"] {
            rig.machine.write(&format!("{state}/{folder}/.tmp-7"), b"half a", (0, 0), 0o600)?;
        }
        rig.machine.run("rm", ["-f", &format!("{state}/userdb")])?;
        let before = rig.machine.read(&cid.spool())?;
        let agent = rig.start_and_look()?;
        assert!(rig.arrive("cid")?.contains("held"), "{junk:?}: {}", agent.log.tail());
        assert_eq!(rig.mailready(&["convert", "cid"])?.status.code(), Some(DATA));
        assert_eq!(rig.machine.read(&cid.spool())?, before);
        for folder in ["runs", "holds"] {
            assert!(!rig.names(&format!("{state}/{folder}"))?.iter().any(|name| name.starts_with('.')));
        }
        let map = rig.text(&format!("{state}/userdb"))?;
        assert_eq!(map.lines().count(), 3, "the probe, ann and bob: {map}");
        assert!(map.contains(&format!("ann:::::::userdb_mail=maildir:{}/Maildir", ann.home())));
        agent.terminate()?;
    }
    let agent = rig.start()?;
    check_bob(&rig, &bob, &agent, "bob")?;
    rig.machine.run("/usr/bin/mailready", ["release", "cid"])?;
    rig.convert(&cid)?;
    Ok(())
}
