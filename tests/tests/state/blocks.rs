//! What cannot be converted is not touched, says why and what to do, and is tried again when that may have changed.

use mailready_tests::lab::{Machine, Result, User};

use super::rig::{Rig, stdout};

fn everything(machine: &Machine, user: &User) -> Result<String> {
    let script = "find \"$1\" \"$2\" -type f -exec sha256sum {} + | sort; find \"$1\" \"$2\" -printf '%p %y %U %m %s\\n' | sort";
    machine.run("sh", ["-c", script, "sh", &user.home(), &user.spool()])
}

/// In the way, each in its own fashion; how it is mended; the reason's code.
const CASES: [(&str, &str, &str, &str); 3] = [
    ("maildir-exists", "mkdir HOME/Maildir", "rmdir HOME/Maildir", "move"),
    ("not-mbox", "sed -i '1i no mail' SPOOL", "sed -i 1d SPOOL", "line"),
    ("link", "ln -s Sent HOME/mail/Other", "rm HOME/mail/Other", "files"),
];

#[test]
fn a_blocked_mailbox_is_as_it_was_and_is_converted_once_it_is_mended() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let agent = rig.start()?;
    for (number, (code, break_it, mend_it, word)) in CASES.iter().enumerate() {
        let user = rig.add_user(&format!("user{number}"), number as u64)?;
        // As a conversion would leave it that came to nothing.
        rig.machine.run(
            "install",
            [
                "-d",
                "-m",
                "700",
                "-o",
                &user.uid.to_string(),
                "-g",
                &user.gid.to_string(),
                &format!("{}/.mailready", user.home()),
            ],
        )?;
        let sh = |script: &str| {
            let script = script.replace("HOME", &user.home()).replace("SPOOL", &user.spool());
            rig.machine.run("sh", ["-c", &script]).map(drop)
        };
        sh(break_it)?;
        rig.machine.run("chown", [&format!("{}:{}", user.uid, user.gid), &user.spool()])?;
        let before = everything(&rig.machine, &user)?;
        let said = rig.arrive(&user.name)?;
        assert!(said.contains("blocked"), "{code}: {said}\n{}", agent.log.tail());
        assert_eq!(everything(&rig.machine, &user)?, before, "{code}");
        assert!(rig.names("/var/mail/.mailready")?.iter().all(|name| !name.contains(".lock")));
        let page = stdout(&rig.mailready(&["explain", &user.name])?);
        assert!(page.contains(&format!("reason   {code}")), "{page}");
        let next = page.lines().find(|line| line.trim_start().starts_with("next")).unwrap_or_default();
        assert!(next.contains(&format!("mailready convert {}", user.name)) && next.contains(word), "{next}");
        // It rests: an arrival gets the old answer at once, mended or not.
        sh(mend_it)?;
        let tried = || agent.log.lines().iter().filter(|line| line.text.contains("\"queued\"")).count();
        let times = tried();
        assert!(rig.arrive(&user.name)?.contains("blocked"));
        assert_eq!(tried(), times, "nothing was begun");
        // An operator's word ends the rest.
        rig.convert(&user)?;
    }
    Ok(())
}

/// A release, a reload, a changed list end every rest: the cause may be mended.
#[test]
fn a_reload_ends_the_rest_of_a_blocked_mailbox() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let user = rig.add_user("ann", 1)?;
    let agent = rig.start()?;
    let maildir = format!("{}/Maildir", user.home());
    rig.machine.run("mkdir", [&maildir])?;
    assert!(rig.arrive("ann")?.contains("blocked"));
    rig.machine.run("rmdir", [&maildir])?;
    assert!(rig.arrive("ann")?.contains("blocked"));
    agent.signal(nix::sys::signal::Signal::SIGHUP)?;
    agent.log.wait("a reload", |line| line.contains("configuration read again"))?;
    assert!(rig.arrive("ann")?.contains("ready"), "{}", agent.log.tail());
    assert_eq!(rig.mailready(&["convert", "ann"])?.status.code(), Some(0));
    Ok(())
}
