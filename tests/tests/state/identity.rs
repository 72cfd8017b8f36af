//! People who come after others: with the same name, the same number, or both.

use mailready_tests::lab::{Result, User, mail};

use super::rig::{DATA, Rig, stdout};

const MAP: &str = "/var/lib/mailready/userdb";
/// The map's first line, which leads nobody's mail anywhere.
const PROBE: &str = "mailready-probe:::::::userdb_mail=maildir:/nonexistent\n";

/// A converted user who has left, home and spool with him, and no agent.
fn left() -> Result<Option<(Rig, User)>> {
    let Some(rig) = Rig::new()? else { return Ok(None) };
    let ann = rig.add_user("ann", 1)?;
    let agent = rig.start()?;
    rig.convert(&ann)?;
    agent.terminate()?;
    rig.machine.run("userdel", ["-r", "ann"]).or_else(|_| rig.machine.run("id", ["root"]))?;
    rig.machine.run("rm", ["-rf", &ann.home(), &ann.spool()])?;
    Ok(Some((rig, ann)))
}

/// A new account, with new mail in its spool.
fn joins(rig: &Rig, name: &str, uid: u32) -> Result<Vec<u8>> {
    let number = uid.to_string();
    rig.machine.run("useradd", ["-m", "-u", &number, "-U", "-s", "/bin/sh", name])?;
    let mbox = mail::mbox(77, 5);
    let gid = rig.machine.run("id", ["-g", name])?.trim().parse().unwrap_or(uid);
    rig.machine.write(&format!("/var/mail/{name}"), &mbox, (uid, gid), 0o600)?;
    Ok(mbox)
}

/// The same name and the same number: only the Maildir that is not there tells that this is another person. Nothing is taken out of that person's spool.
#[test]
fn a_name_and_number_used_again_get_nothing_taken() -> Result<()> {
    let Some((rig, ann)) = left()? else { return Ok(()) };
    let mbox = joins(&rig, "ann", ann.uid)?;
    let agent = rig.start_and_look()?;
    agent.log.wait("the place is left alone", |line| line.contains("is left alone"))?;
    assert_eq!(rig.machine.read(&ann.spool())?, mbox);
    let run = rig.run_of("ann")?;
    assert_eq!(rig.names("/var/mail/.mailready")?, [format!("{run}.0")], "nothing else was set aside");
    assert!(!rig.machine.exists(&format!("{}/Maildir", ann.home()))?);
    // As the journal says.
    agent.terminate()?;
    rig.machine.run("mv", [&format!("/var/lib/mailready/runs/{run}"), "/root/"])?;
    let _agent = rig.start()?;
    rig.machine.run("/usr/bin/mailready", ["convert", "ann"])?;
    Ok(())
}

/// The same name with another number: a mailbox of its own from the first moment, and the map does not lead its mail to where the other's was.
#[test]
fn a_name_used_again_with_another_number_is_another_mailbox() -> Result<()> {
    let Some((rig, ann)) = left()? else { return Ok(()) };
    let mbox = joins(&rig, "ann", ann.uid + 700)?;
    let agent = rig.start_and_look()?;
    assert_eq!(rig.text(MAP)?, PROBE, "{}", agent.log.tail());
    assert_eq!(rig.machine.read(&ann.spool())?, mbox);
    let status = stdout(&rig.mailready(&["status", "ann"])?);
    assert!(status.contains("mbox"), "{status}");
    assert!(rig.arrive("ann")?.contains("ready"), "{}", agent.log.tail());
    assert_eq!(rig.text(MAP)?, format!("{PROBE}ann:::::::userdb_mail=maildir:{}/Maildir\n", ann.home()));
    let mine = rig.names(&format!("{}/Maildir/cur", ann.home()))?.len()
        + rig.names(&format!("{}/Maildir/new", ann.home()))?.len();
    assert_eq!(mine, 5);
    Ok(())
}

/// The same number with another name: the record of the one who left puts nothing in the way of the other.
#[test]
fn a_number_used_again_with_another_name_is_another_mailbox() -> Result<()> {
    let Some((rig, ann)) = left()? else { return Ok(()) };
    let mbox = joins(&rig, "bob", ann.uid)?;
    let agent = rig.start_and_look()?;
    // The spool of the one who left is looked after and is not there: nothing is made in its place, or the next one of that name would find it.
    agent.log.wait("the place is left alone", |line| line.contains("is left alone"))?;
    assert!(!rig.machine.exists(&ann.spool())?);
    assert_eq!(rig.machine.read("/var/mail/bob")?, mbox);
    assert!(rig.arrive("bob")?.contains("ready"), "{}", agent.log.tail());
    Ok(())
}

/// Renamed, spool and home with the name: the tombstone says that this mailbox was converted under another name. It is left alone, with the reason.
#[test]
fn who_is_renamed_is_known_by_the_tombstone() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let ann = rig.add_user("ann", 1)?;
    let agent = rig.start()?;
    rig.convert(&ann)?;
    agent.terminate()?;
    rig.machine.run("usermod", ["-l", "anna", "-d", "/home/anna", "-m", "ann"])?;
    if rig.machine.exists("/var/mail/ann")? {
        rig.machine.run("mv", ["/var/mail/ann", "/var/mail/anna"])?;
    }
    let before = rig.machine.read("/var/mail/anna")?;
    let agent = rig.start_and_look()?;
    let output = rig.mailready(&["convert", "anna"])?;
    assert_eq!(output.status.code(), Some(DATA), "{}", agent.log.tail());
    assert!(rig.machine.exists("/home/anna/Maildir/mailready-marker")?, "the mail is where it was");
    assert_eq!(rig.machine.read("/var/mail/anna")?, before);
    assert!(!rig.machine.exists("/var/mail/ann")?, "no tombstone for nobody");
    Ok(())
}
