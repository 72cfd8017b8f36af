//! radclient speaks to `mailready-radius`.

use std::time::Instant;

use mailready_tests::lab::Result;

use crate::rig::{Rig, SECRET, count, start};

#[test]
fn a_start_converts_its_user_and_is_answered_when_the_agent_has_taken_it() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let listener = rig.start_listener()?;
    let sent = Instant::now();
    assert!(rig.send("127.0.0.1:1813", SECRET, 3, &start("ann", "s1"))?);
    rig.wait_queued("ann")?;
    let queued = rig.agent.log.wait("queued", |line| line.contains("\"queued\""))?.at;
    println!("radclient's start to the agent's queue: {} ms", queued.duration_since(sent).as_millis());
    rig.wait_converted()?;
    // Over IPv6, with another secret; the realm is the agent's to take off, and the user is done already.
    assert!(rig.send("[::1]:1813", "another", 3, &start("ann@example.org", "s2"))?);
    let counts = rig.counts(&listener)?;
    assert_eq!((count(&counts, "announced"), count(&counts, "answered")), (2, 2), "{counts}");
    Ok(())
}

#[test]
fn what_is_no_arrival_is_answered_and_what_is_forged_is_not() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let listener = rig.start_listener()?;
    for status in ["Stop", "Accounting-On", "Accounting-Off"] {
        let attributes =
            format!("User-Name = \"ann\"\nAcct-Status-Type = {status}\nNAS-IP-Address = 127.0.0.1\n");
        assert!(rig.send("127.0.0.1:1813", SECRET, 3, &attributes)?, "{status}");
    }
    assert!(!rig.send("127.0.0.1:1813", "guessed", 1, &start("ann", "s1"))?, "another secret");
    // An address that no line names.
    rig.machine.write("/etc/mailready/radius-clients", b"192.0.2.1 x\n", (0, 0), 0o640)?;
    rig.machine.run("chgrp", ["mailready-radius", "/etc/mailready/radius-clients"])?;
    let from = listener.log.len();
    listener.signal(nix::sys::signal::Signal::SIGHUP)?;
    listener.log.wait_from(from, "the clients are read again", |line| line.contains("1 clients"))?;
    assert!(!rig.send("127.0.0.1:1813", SECRET, 1, &start("ann", "s1"))?);
    assert_eq!(rig.heard("ann"), 0, "{}", rig.agent.log.tail());
    let counts = rig.counts(&listener)?;
    assert_eq!((count(&counts, "others"), count(&counts, "forged")), (3, 1), "{counts}");
    assert_eq!(count(&counts, "strangers"), 1, "{counts}");
    Ok(())
}

#[test]
fn a_sealed_packet_is_checked_and_a_nameless_or_unknown_user_is_answered() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let listener = rig.start_listener()?;
    let sealed = format!("{}Message-Authenticator = 0x00\n", start("ann", "s1"));
    assert!(rig.send("127.0.0.1:1813", SECRET, 3, &sealed)?, "{}", listener.log.tail());
    rig.wait_queued("ann")?;
    assert!(rig.send("127.0.0.1:1813", SECRET, 3, &start("nobody-here", "s2"))?);
    let nameless = "Acct-Status-Type = Start\nAcct-Session-Id = \"s3\"\nNAS-IP-Address = 127.0.0.1\n";
    assert!(rig.send("127.0.0.1:1813", SECRET, 3, nameless)?);
    let strange = start("a\\nb\\033[31m", "s4");
    assert!(rig.send("127.0.0.1:1813", SECRET, 3, &strange)?);
    let counts = rig.counts(&listener)?;
    assert_eq!((count(&counts, "announced"), count(&counts, "nameless")), (1, 1), "{counts}");
    assert_eq!(count(&counts, "refused"), 2, "{counts}");
    let raw = |log: &mailready_tests::lab::Log| log.lines().iter().any(|line| line.text.contains('\x1b'));
    assert!(!raw(&listener.log) && !raw(&rig.agent.log), "nothing of a name reaches a terminal raw");
    Ok(())
}

#[test]
fn without_an_agent_nothing_is_answered_and_the_next_try_gets_through() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let listener = rig.start_listener()?;
    rig.agent.freeze()?;
    assert!(
        !rig.send("127.0.0.1:1813", SECRET, 1, &start("ann", "s1"))?,
        "an agent that hangs has taken nothing"
    );
    rig.agent.thaw()?;
    assert!(rig.send("127.0.0.1:1813", SECRET, 10, &start("ann", "s1"))?);
    rig.wait_queued("ann")?;
    rig.wait_converted()?;
    rig.agent.terminate()?;
    assert!(!rig.send("127.0.0.1:1813", SECRET, 1, &start("bob", "s2"))?, "no agent");
    let counts = rig.counts(&listener)?;
    assert!(count(&counts, "not_taken") >= 2, "{counts}");
    Ok(())
}
