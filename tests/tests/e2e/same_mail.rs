//! What IMAP and POP3 show before and after is the same: counted first, then byte by byte.

use mailready_tests::lab::{
    CONFIG, Daemon, Differences, Dump, Folder, Imap, Machine, Pop3, Result, Site, User, eventually, mail,
};

/// A user with years of mail, some of it awkward, with flags and keywords set by a mail client; Dovecot running, no mailready.
fn user_with_a_past(machine: &Machine) -> Result<User> {
    let mut mbox = mail::mbox(2, 60);
    mbox.extend_from_slice(&mail::awkward());
    let ann = machine.add_user("ann", "correct-horse", &mbox)?;
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1:10 +FLAGS (\Seen $Forwarded work)")?;
    imap.ok(r"STORE 3,5 +FLAGS (\Answered \Flagged \Deleted)")?;
    imap.ok(r"STORE 12 +FLAGS (\Draft private)")?;
    imap.logout()?;
    // Fresh mail that no client has seen, so that there is something \Recent.
    let mut spool = machine.read(&ann.spool())?;
    spool.push(b'\n');
    spool.extend_from_slice(&mail::unread(4, 3));
    machine.write(&ann.spool(), &spool, (ann.uid, mailready_tests::lab::MAIL_GID), 0o660)?;
    Ok(ann)
}

/// The old server has shown `before`; now mailready is there, and nobody has logged in yet.
struct Ready {
    machine: Machine,
    ann: User,
    before: Dump,
    agent: Daemon,
    _dovecot: Daemon,
}

fn before_the_first_login(site: Site) -> Result<Option<Ready>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(site)?;
    let dovecot = machine.start_dovecot()?;
    let ann = user_with_a_past(&machine)?;
    let before = Dump::take(&machine, &ann)?;
    machine.stop_dovecot(&dovecot)?;
    machine.install_mailready(site)?;
    let agent = machine.start_agent(CONFIG)?;
    let dovecot = machine.start_dovecot()?;
    Ok(Some(Ready { machine, ann, before, agent, _dovecot: dovecot }))
}

fn is_converted(machine: &Machine, user: &User) -> Result<bool> {
    machine.exists(&format!("{}/Maildir/mailready-marker", user.home()))
}

/// The clients themselves leave no trace: without this, no comparison would prove anything.
#[test]
fn looking_changes_nothing() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    let _dovecot = machine.start_dovecot()?;
    let ann = user_with_a_past(&machine)?;
    let first = Dump::take(&machine, &ann)?;
    assert_eq!(first.inbox()?.messages.len(), 79);
    assert_eq!(first.inbox()?.recent, 3);
    assert_eq!(first.pop3.messages.len(), 79);
    let second = Dump::take(&machine, &ann)?;
    assert!(Differences::between(&first, &second).is_empty(), "{}", Differences::between(&first, &second));
    Ok(())
}

fn an_imap_login_gets_the_maildir_and_sees_no_difference(site: Site) -> Result<()> {
    let Some(ready) = before_the_first_login(site)? else { return Ok(()) };
    let Ready { machine, ann, before, agent, .. } = &ready;
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    assert!(is_converted(machine, ann)?, "converted when the login is answered; {}", agent.log.tail());
    let first = Dump::by_imap(&mut imap)?;
    let found = Differences::between_folders(before.inbox()?, first.inbox()?);
    assert!(found.is_empty(), "the session that waited: {found}");

    // It is really the Maildir that this session reads, and no longer the spool.
    imap.ok("SELECT INBOX")?;
    let sessions = machine.processes("imap")?;
    assert_eq!(sessions.len(), 1, "one IMAP session");
    let open = machine.open_files(sessions[0])?;
    assert!(open.iter().any(|path| path.starts_with(&format!("{}/Maildir", ann.home()))), "{open:?}");
    assert!(!open.contains(&ann.spool()), "{open:?}");
    imap.logout()?;
    Ok(())
}

#[test]
fn an_imap_login_on_debians_configuration() -> Result<()> {
    an_imap_login_gets_the_maildir_and_sees_no_difference(Site::Debian)
}

#[test]
fn an_imap_login_on_a_site_with_its_own_configuration() -> Result<()> {
    an_imap_login_gets_the_maildir_and_sees_no_difference(Site::Small)
}

#[test]
fn imap_and_pop3_show_the_same_as_before() -> Result<()> {
    let Some(ready) = before_the_first_login(Site::Debian)? else { return Ok(()) };
    let Ready { machine, ann, before, agent, .. } = &ready;
    Imap::login(machine, &ann.name, &ann.password)?.logout()?;
    assert!(is_converted(machine, ann)?, "{}", agent.log.tail());
    let after = Dump::take(machine, ann)?;
    let found = Differences::between(before, &after);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// POP3 users have no other client that could convert them.
#[test]
fn a_pop3_login_gets_the_maildir_too() -> Result<()> {
    let Some(ready) = before_the_first_login(Site::Debian)? else { return Ok(()) };
    let Ready { machine, ann, before, agent, .. } = &ready;
    Pop3::login(machine, &ann.name, &ann.password)?.quit()?;
    assert!(is_converted(machine, ann)?, "{}", agent.log.tail());
    let after = Dump::take(machine, ann)?;
    let found = Differences::between(before, &after);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// Whoever comes by ssh first has the mail converted before any mail client asks, through the same line in the common PAM files.
#[test]
fn an_arrival_by_another_pam_service_is_an_arrival() -> Result<()> {
    let Some(ready) = before_the_first_login(Site::Debian)? else { return Ok(()) };
    let Ready { machine, ann, before, agent, .. } = &ready;
    machine.run("pamtester", ["sshd", &ann.name, "acct_mgmt"])?;
    eventually(
        "converted without any mail client",
        || agent.log.tail(),
        || is_converted(machine, ann).ok()?.then_some(()),
    )?;
    let after = Dump::take(machine, ann)?;
    let found = Differences::between(before, &after);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// A deliverer that knows nothing of mailready goes on writing to the old place.
#[test]
fn mail_that_still_comes_to_the_old_place_is_carried_over_once() -> Result<()> {
    let Some(ready) = before_the_first_login(Site::Debian)? else { return Ok(()) };
    let Ready { machine, ann, before, agent, .. } = &ready;
    Imap::login(machine, &ann.name, &ann.password)?.logout()?;
    assert!(is_converted(machine, ann)?, "{}", agent.log.tail());
    for number in 0..3 {
        let message =
            format!("From: eve@example.org\nTo: ann\nSubject: late {number}\nMessage-ID: <late@x>\n\nlate\n");
        let delivered = machine.output("/usr/bin/procmail", ["-d", "ann"], message.as_bytes())?;
        assert!(delivered.status.success(), "{}", String::from_utf8_lossy(&delivered.stderr));
    }
    let expected = before.inbox()?.messages.len() + 3;
    let look = || -> Result<Folder> {
        let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
        let folder = Folder::take(&mut imap, b"INBOX")?;
        imap.logout()?;
        Ok(folder)
    };
    let inbox = eventually(
        "three late messages are in the inbox",
        || agent.log.tail(),
        || look().ok().filter(|inbox| inbox.messages.len() >= expected),
    )?;
    assert_eq!(inbox.messages.len(), expected);
    let old = &inbox.messages[..expected - 3];
    assert_eq!(old.len(), before.inbox()?.messages.len());
    for (was, is) in before.inbox()?.messages.iter().zip(old) {
        assert_eq!((was.uid, &was.body), (is.uid, &is.body));
    }
    let late = &inbox.messages[expected - 3..];
    for (number, message) in late.iter().enumerate() {
        let subject = format!("Subject: late {number}\r\n");
        assert!(String::from_utf8_lossy(&message.body).contains(&subject), "late {number} is in its place");
    }
    Ok(())
}
