//! The same mailboxes, asked of Dovecot: what the tests say of them is what it shows, and it shows the same after a conversion.

use mailready_tests::lab::{CONFIG, Differences, Dump, Imap, Machine, Result, Site, User};

use super::cases;
use super::converted::Converted;

#[test]
fn dovecot_shows_all_of_them_as_before() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    let dovecot = machine.start_dovecot()?;
    let mut users: Vec<(User, Dump)> = Vec::new();
    for (name, mbox) in cases::ALL {
        let user = machine.add_user(name, "correct-horse", &mbox())?;
        let before = Dump::take(&machine, &user)?;
        let alone = Converted::of(&mbox())?;
        let shown = &before.inbox()?.messages;
        assert_eq!(shown.len(), alone.mail.len(), "{name}: messages");
        for (message, mail) in shown.iter().zip(&alone.mail) {
            let (is, must) = (String::from_utf8_lossy(&mail.wire()).into_owned(), &message.body);
            // A literal cannot hold a null byte: Dovecot sends 0x80 for it.
            let nulls: Vec<u8> =
                mail.wire().iter().map(|&byte| if byte == 0 { 0x80 } else { byte }).collect();
            assert_eq!((u64::from(mail.uid), &nulls), (message.uid, must), "{name}: {is}");
        }
        users.push((user, before));
    }
    machine.stop_dovecot(&dovecot)?;

    machine.install_mailready(Site::Debian)?;
    let agent = machine.start_agent(CONFIG)?;
    let _dovecot = machine.start_dovecot()?;
    for (user, before) in &users {
        Imap::login(&machine, &user.name, &user.password)?.logout()?;
        let marker = format!("{}/Maildir/mailready-marker", user.home());
        assert!(machine.exists(&marker)?, "{}: {}", user.name, agent.log.tail());
        let found = Differences::between(before, &Dump::take(&machine, user)?);
        assert!(found.is_empty(), "{}: {found}", user.name);
    }
    Ok(())
}
