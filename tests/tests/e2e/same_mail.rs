//! What IMAP and POP3 show before and after is the same: counted first, then byte by byte.

use mailready_tests::lab::{Differences, Dump, Imap, Machine, Result, Site, User, mail};

/// A user with years of mail, some of it awkward, with flags and keywords set by a mail client; Dovecot running, no mailready.
fn user_with_a_past(machine: &Machine) -> Result<User> {
    let mut mbox = mail::mbox(2, 60);
    mbox.extend_from_slice(&mail::awkward());
    let ann = machine.add_user("ann", "correct horse".replace(' ', "-").as_str(), &mbox)?;
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1:10 +FLAGS (\Seen $Forwarded work)")?;
    imap.ok(r"STORE 3,5 +FLAGS (\Answered \Flagged \Deleted)")?;
    imap.ok(r"STORE 12 +FLAGS (\Draft private)")?;
    imap.logout()?;
    Ok(ann)
}

/// The clients themselves leave no trace: without this, no comparison would prove anything.
#[test]
fn looking_changes_nothing() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    for site in [Site::Debian, Site::Small] {
        machine.install_site(site)?;
        let _dovecot = machine.start_dovecot()?;
        if site == Site::Debian {
            user_with_a_past(&machine)?;
        }
        let ann = User { name: "ann".into(), password: "correct-horse".into(), uid: 1000, gid: 1000 };
        let first = Dump::take(&machine, &ann)?;
        assert!(first.inbox()?.exists > 70, "{} messages", first.inbox()?.exists);
        assert_eq!(first.pop3.messages.len() as u64, first.inbox()?.exists);
        let second = Dump::take(&machine, &ann)?;
        assert!(
            Differences::between(&first, &second).is_empty(),
            "{}",
            Differences::between(&first, &second)
        );
    }
    Ok(())
}
