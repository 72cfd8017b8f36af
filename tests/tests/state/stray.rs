//! A deliverer that had looked for the marker just before a rollback delivers into the Maildir just after it, which it makes anew.

use mailready_tests::lab::{Result, eventually};

use super::rig::{Rig, late};

const MESSAGE: &str = "Return-Path: <eve@example.org>\nMessage-ID: <stray@example.org>\n\nFrom the heart\n";

#[test]
fn mail_that_comes_to_the_maildir_after_a_rollback_is_in_the_mbox_once() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let ann = rig.add_user("ann", 1)?;
    let agent = rig.start()?;
    rig.convert(&ann)?;
    let back = || rig.machine.run("/usr/bin/mailready", ["rollback", "--yes", "ann"]).ok();
    eventually("the rollback goes through", || agent.log.tail(), back)?;
    let before = rig.text(&ann.spool())?;
    let maildir = format!("{}/Maildir", ann.home());
    let deliver = |name: &str| {
        let make = "install -d -m 700 -o $1 -g $2 $3 $3/new $3/cur $3/tmp";
        let (uid, gid) = (ann.uid.to_string(), ann.gid.to_string());
        rig.machine.run("sh", ["-c", make, "sh", &uid, &gid, &maildir])?;
        let file = format!("{maildir}/new/{name}");
        rig.machine.write(&file, MESSAGE.as_bytes(), (ann.uid, ann.gid), 0o600)
    };
    deliver("1.stray.lab")?;
    // Nobody watches a home; the user's arrival is a sign to look.
    let taken = || {
        rig.arrive("ann").ok()?;
        (!rig.machine.exists(&maildir).ok()?).then_some(())
    };
    eventually("the stray mail is in the mbox", || agent.log.tail(), taken)?;
    let text = rig.text(&ann.spool())?;
    assert!(text.starts_with(&before), "everything else is as it was");
    assert_eq!(text.matches("<stray@example.org>").count(), 1, "{text}");
    assert!(text.contains("\n\nFrom eve@example.org ") && text.contains("\n>From the heart\n\n"), "{text}");

    // As a death between the append and the removal leaves it.
    agent.terminate()?;
    deliver("1.stray.lab")?;
    let aged = "touch -d @$(stat -c %Y $2) $1";
    rig.machine.run("sh", ["-c", aged, "sh", &format!("{maildir}/new/1.stray.lab"), &ann.spool()])?;
    rig.append(&ann.spool(), &late("other"))?;
    let agent = rig.start_and_look()?;
    eventually("the stray Maildir is gone", || agent.log.tail(), taken)?;
    assert_eq!(rig.text(&ann.spool())?.matches("<other@example.org>").count(), 1);

    // One that somebody reads is nobody's stray.
    deliver("2.mine.lab")?;
    rig.machine.write(&format!("{maildir}/dovecot-uidlist"), b"3 V1 N1 Gx\n", (ann.uid, ann.gid), 0o600)?;
    rig.arrive("ann")?;
    agent.log.wait("it is left alone", |line| line.contains("it is left alone"))?;
    assert!(rig.machine.exists(&format!("{maildir}/new/2.mine.lab"))?);
    Ok(())
}
