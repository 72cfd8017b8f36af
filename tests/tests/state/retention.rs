//! The originals go when their time is over, and not a moment before.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use mailready_tests::lab::{Doing, Result, User, eventually};

use super::rig::{ARCHIVE, CONFIG, DATA, Rig, late, sent, stdout};

/// A converted user, and no agent.
fn converted() -> Result<Option<(Rig, User)>> {
    let Some(rig) = Rig::new()? else { return Ok(None) };
    let ann = rig.add_user("ann", 1)?;
    let agent = rig.start()?;
    rig.convert(&ann)?;
    agent.terminate()?;
    Ok(Some((rig, ann)))
}

/// The files that hold originals of the only run there is.
fn originals(rig: &Rig, user: &User) -> Result<Vec<String>> {
    let run = rig.run_of(&user.name)?;
    let mut found = rig.names(ARCHIVE)?;
    found.extend(rig.names(&format!("{}/.mailready/aside-{run}", user.home()))?);
    Ok(found)
}

/// Set forward alone, neither clock removes anything; both together remove everything but the tombstones and the record. Mail that comes later still finds its way, a verification says what it cannot do, and the way back is open.
#[test]
fn originals_go_when_both_clocks_agree_and_everything_else_goes_on() -> Result<()> {
    let Some((rig, ann)) = converted()? else { return Ok(()) };
    let run = rig.run_of("ann")?;
    let kept = vec![format!("{run}.0"), "1.0".to_owned()];
    for (wall, seen) in [(29, 29), (5000, 0), (-5000, 5000)] {
        rig.age("ann", wall, seen)?;
        rig.start_and_look()?.terminate()?;
        assert_eq!(originals(&rig, &ann)?, kept, "{wall} days by the clock, {seen} by the count");
    }
    // What is sure by now: 29 + 5000 - 5000 days by the clock, and more than enough by the count.
    rig.age("ann", 1, 0)?;
    rig.append(&ann.spool(), &late("before"))?;
    rig.append(&sent(&ann), &late("in-sent"))?;
    // Late mail holds it off for the moment that its tombstone is kept.
    let agent = rig.start_and_look()?;
    rig.wait_delivered(&agent, &ann, "", "before")?;
    let quiet = || {
        let left = originals(&rig, &ann).ok()?;
        left.iter().all(|name| name.ends_with(".0")).then_some(())
    };
    eventually("late mail is forgotten", || agent.log.tail(), quiet)?;
    agent.terminate()?;
    let agent = rig.start_and_look()?;
    assert_eq!(originals(&rig, &ann)?, [""; 0], "{}", agent.log.tail());
    rig.wait_delivered(&agent, &ann, "/.Sent", "in-sent")?;
    let record = rig.text(&rig.record_of("ann")?)?;
    assert!(record.contains("originals = \"gone\"") && record.contains("phase = \"converted\""), "{record}");
    for place in [ann.spool(), sent(&ann)] {
        assert!(rig.text(&place)?.starts_with("This mailbox has become a Maildir"), "{place}");
    }
    rig.append(&ann.spool(), &late("after"))?;
    rig.wait_delivered(&agent, &ann, "", "after")?;
    let verified = rig.mailready(&["verify", "ann"])?;
    assert_eq!(verified.status.code(), Some(DATA));
    assert!(stdout(&verified).contains("the originals were removed"), "{}", stdout(&verified));
    let page = rig.machine.run("/usr/bin/mailready", ["explain", "ann"])?;
    assert!(page.contains("after keep.original_days"), "{page}");

    // A folder's old place is still looked after: that its original is gone is no sign that it was never set aside.
    agent.terminate()?;
    rig.append(&sent(&ann), &late("in-sent-after"))?;
    let agent = rig.start()?;
    assert!(rig.arrive("ann")?.contains("ready"));
    rig.wait_delivered(&agent, &ann, "/.Sent", "in-sent-after")?;

    let back = || rig.machine.run("/usr/bin/mailready", ["rollback", "--yes", "ann"]).ok();
    eventually("the rollback goes through", || agent.log.tail(), back)?;
    let inbox = rig.text(&ann.spool())?;
    let folder = rig.text(&sent(&ann))?;
    for id in ["before", "after"] {
        assert_eq!(inbox.matches(&format!("<{id}@example.org>")).count(), 1, "{id}");
    }
    for id in ["in-sent", "in-sent-after"] {
        assert_eq!(folder.matches(&format!("<{id}@example.org>")).count(), 1, "{id}");
    }
    assert_eq!(inbox.matches("\nFrom ").count() + 1, 8);
    Ok(())
}

/// A program that has had the spool open since before the conversion may still write to it: as long as it might, the file stays, and what it writes is in the Maildir before the file goes.
#[test]
fn a_writer_that_has_the_original_open_holds_it_off_and_loses_nothing() -> Result<()> {
    let Some((rig, ann)) = converted()? else { return Ok(()) };
    let original = format!("{ARCHIVE}/{}.0", rig.run_of("ann")?);
    let owner = rig.machine.inside(|| fs::metadata(&original))?.doing(|| "look at the original")?.uid();
    assert_eq!(owner, 0, "it counts against root's quota and nobody else's");
    let writer = rig.machine.inside(|| fs::OpenOptions::new().append(true).open(&original))?;
    let mut writer = writer.doing(|| "open the original")?;
    rig.age("ann", 31, 31)?;
    rig.start_and_look()?.terminate()?;
    assert!(rig.machine.exists(&original)?, "somebody has it open");
    let agent = rig.start()?;
    // Begun is as good as done.
    let says = || {
        let said = stdout(&rig.mailready(&["verify", "ann"]).ok()?);
        said.contains("the originals were removed").then_some(())
    };
    eventually("a verification says that they are gone", || agent.log.tail(), says)?;
    agent.terminate()?;
    writer.write_all(late("slow").as_bytes()).doing(|| "write")?;
    drop(writer);
    let agent = rig.start_and_look()?;
    assert!(!rig.machine.exists(&original)?, "{}", agent.log.tail());
    assert_eq!(rig.count_in_maildir(&ann, "", "slow")?, 1);
    Ok(())
}

/// Nothing is removed from under a verification that found something wrong, and nothing where the Maildir is not.
#[test]
fn a_doubt_or_a_lost_maildir_keeps_the_originals() -> Result<()> {
    let Some((rig, ann)) = converted()? else { return Ok(()) };
    let cur = format!("{}/Maildir/cur", ann.home());
    let message = format!("{cur}/{}", rig.names(&cur)?.remove(0));
    // With its time, which is the message's date.
    rig.machine.run("cp", ["-p", &message, "/root/good"])?;
    rig.append(&message, "spoiled")?;
    let agent = rig.start()?;
    let verified = rig.mailready(&["verify", "ann"])?;
    assert_eq!(verified.status.code(), Some(DATA), "{}", stdout(&verified));
    agent.terminate()?;
    rig.age("ann", 31, 31)?;
    let agent = rig.start_and_look()?;
    assert_eq!(originals(&rig, &ann)?.len(), 2, "the verification has found something");
    rig.machine.run("cp", ["-p", "/root/good", &message])?;
    rig.machine.run("/usr/bin/mailready", ["verify", "ann"])?;
    agent.terminate()?;

    let (maildir, elsewhere) = (format!("{}/Maildir", ann.home()), format!("{}/moved", ann.home()));
    rig.machine.run("mv", [&maildir, &elsewhere])?;
    rig.start_and_look()?.terminate()?;
    assert_eq!(originals(&rig, &ann)?.len(), 2, "the Maildir is gone");
    rig.machine.run("mv", [&elsewhere, &maildir])?;
    let agent = rig.start_and_look()?;
    assert_eq!(originals(&rig, &ann)?, [""; 0], "{}", agent.log.tail());
    Ok(())
}

/// Of a user who was rolled back the originals are kept as long again; the Maildir that was taken away is the user's, and stays. No days are for ever.
#[test]
fn after_a_rollback_they_are_kept_as_long_again_and_no_days_are_for_ever() -> Result<()> {
    let Some((rig, ann)) = converted()? else { return Ok(()) };
    let run = rig.run_of("ann")?;
    rig.age("ann", 29, 29)?;
    let agent = rig.start_and_look()?;
    let back = || rig.machine.run("/usr/bin/mailready", ["rollback", "--yes", "ann"]).ok();
    eventually("the rollback goes through", || agent.log.tail(), back)?;
    agent.terminate()?;
    let mboxes = (rig.machine.read(&ann.spool())?, rig.machine.read(&sent(&ann))?);
    rig.age("ann", 29, 29)?;
    rig.start_and_look()?.terminate()?;
    assert_eq!(originals(&rig, &ann)?.len(), 2, "58 days after the conversion, 29 after the rollback");
    rig.age("ann", 2, 2)?;
    let forever = rig.machine.start_agent(&format!("{CONFIG}[keep]\noriginal_days = 0\n"))?;
    forever.log.wait("a look after the originals", |line| line.contains("looked after originals"))?;
    forever.terminate()?;
    assert_eq!(originals(&rig, &ann)?.len(), 2, "for ever");
    let agent = rig.start_and_look()?;
    assert_eq!(originals(&rig, &ann)?, [""; 0], "{}", agent.log.tail());
    assert!(rig.machine.exists(&format!("{}/.mailready/withdrawn-{run}/mailready-marker", ann.home()))?);
    assert_eq!((rig.machine.read(&ann.spool())?, rig.machine.read(&sent(&ann))?), mboxes);
    assert!(rig.text(&rig.record_of("ann")?)?.contains("phase = \"undone\""));
    Ok(())
}
