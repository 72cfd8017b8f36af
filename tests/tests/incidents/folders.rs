//! Folders, and what lies among them. With real Dovecot: which of them are mail is its word.

use std::fs;

use mailready_tests::lab::{
    CONFIG, Daemon, Differences, Dump, Imap, Machine, Result, Site, User, eventually, mail,
};

/// A user of a site, before and after her conversion.
struct Crossing {
    machine: Machine,
    ann: User,
    before: Dump,
    after: Dump,
    _running: (Daemon, Daemon),
}

/// Converts ann, whose mail is made by `make` while there is no mailready yet.
fn crossing(make: impl Fn(&Machine, &User) -> Result<()>) -> Result<Option<Crossing>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(Site::Debian)?;
    let dovecot = machine.start_dovecot()?;
    let ann = machine.add_user("ann", "correct-horse", &mail::mbox(3, 4))?;
    make(&machine, &ann)?;
    let before = Dump::take(&machine, &ann)?;
    machine.stop_dovecot(&dovecot)?;
    machine.install_mailready(Site::Debian)?;
    let agent = machine.start_agent(CONFIG)?;
    let dovecot = machine.start_dovecot()?;
    Imap::login(&machine, &ann.name, &ann.password)?.logout()?;
    assert!(machine.exists(&format!("{}/Maildir/mailready-marker", ann.home()))?, "{}", agent.log.tail());
    let after = Dump::take(&machine, &ann)?;
    Ok(Some(Crossing { machine, ann, before, after, _running: (dovecot, agent) }))
}

/// Makes folders of as many messages each, as they are named on disk.
fn make_folders(machine: &Machine, ann: &User, folders: &[(&str, u32)]) -> Result<()> {
    for (folder, messages) in folders {
        let path = format!("{}/mail/{folder}", ann.home());
        let above = path.rsplit_once('/').unwrap().0;
        machine.run("runuser", ["-u", "ann", "--", "mkdir", "-p", above])?;
        machine.write(&path, &mail::mbox(u64::from(*messages), *messages), (ann.uid, ann.gid), 0o600)?;
    }
    Ok(())
}

#[test]
fn no_name_costs_a_folder_its_mail() -> Result<()> {
    let folders = [
        ("FINALIZACAO", 2),
        ("FINALIZA&AMcA4w-O", 3),
        ("Sent", 4),
        ("sent", 5),
        ("two words", 6),
        ("R&-D", 7),
        ("a/b/c", 8),
        ("a/b/d", 9),
        ("empty", 0),
    ];
    let Some(crossing) = crossing(|machine, ann| make_folders(machine, ann, &folders))? else {
        return Ok(());
    };
    let Crossing { before, after, .. } = &crossing;
    for (name, messages) in folders {
        let folder = after.folders.iter().find(|folder| folder.name == name.as_bytes());
        let found = folder.unwrap_or_else(|| panic!("{name} is gone")).messages.len();
        assert_eq!(found, messages as usize, "{name}");
    }
    assert_eq!(after.folders.len(), folders.len() + 1, "and the inbox");
    let found = Differences::between(before, after);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

#[test]
fn subscriptions_are_kept() -> Result<()> {
    let made = crossing(|machine, ann| {
        make_folders(machine, ann, &[("Sent", 1), ("lists/Debian user", 1), ("Drafts", 1)])?;
        let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
        imap.ok("SUBSCRIBE Sent")?;
        imap.ok("SUBSCRIBE \"lists/Debian user\"")?;
        imap.logout()
    })?;
    let Some(Crossing { before, after, .. }) = &made else { return Ok(()) };
    let names = |dump: &Dump| {
        dump.subscribed
            .iter()
            .map(|each| String::from_utf8_lossy(&each.name).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(before), ["Sent", "lists/Debian user"]);
    assert_eq!(names(after), names(before));
    Ok(())
}

/// A database, a text and a mailbox that is packed, as they lie among folders for years.
#[test]
fn a_file_that_is_no_mail_stops_nothing_and_stays() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    let ann = machine.add_user("ann", "correct-horse", &mail::mbox(3, 4))?;
    make_folders(&machine, &ann, &[("Sent", 4), ("work/reports", 2)])?;
    let strangers: [(&str, &[u8]); 4] = [
        ("folders.db", b"SQLite format 3\0\x10\0\x01\x01"),
        ("work/notes.txt", b"buy milk\n"),
        ("2009.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        ("old.bak", b"\nFrom a@b Mon Jan  5 10:00:00 2026\n\nx\n"),
    ];
    for (name, bytes) in strangers {
        machine.write(&format!("{}/mail/{name}", ann.home()), bytes, (ann.uid, ann.gid), 0o600)?;
    }
    let agent = machine.start_agent(CONFIG)?;
    let _dovecot = machine.start_dovecot()?;
    let mut imap = Imap::login(&machine, &ann.name, &ann.password)?;
    assert!(machine.exists(&format!("{}/Maildir/mailready-marker", ann.home()))?, "{}", agent.log.tail());
    for (folder, messages) in [("INBOX", 4), ("Sent", 4), ("work/reports", 2)] {
        let selected = imap.ok(&format!("EXAMINE {folder}"))?;
        let exists =
            |line: &Vec<_>| line.len() == 2 && mailready_tests::lab::Item::text(&line[1]) == "EXISTS";
        let line = selected.untagged.iter().find(|line| exists(line)).unwrap();
        assert_eq!(line[0].text(), messages.to_string(), "{folder}");
    }
    imap.logout()?;
    for (name, bytes) in strangers {
        let path = format!("{}/mail/{name}", ann.home());
        let now = machine.inside(|| fs::read(&path))?.unwrap_or_default();
        assert_eq!(now, bytes, "{name}");
    }
    Ok(())
}

/// A Maildir has letters for 26.
#[test]
fn more_keywords_than_letters_are_kept() -> Result<()> {
    let made = crossing(|machine, ann| {
        let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
        imap.ok("SELECT INBOX")?;
        for number in 1..=30 {
            imap.ok(&format!("STORE {} +FLAGS (key{number:02})", 1 + number % 4))?;
        }
        imap.logout()
    })?;
    let Some(Crossing { machine, ann, before, after, .. }) = &made else { return Ok(()) };
    let keywords = |dump: &Dump| -> Result<Vec<Vec<String>>> {
        let messages = &dump.inbox()?.messages;
        let of = |flags: Vec<String>| flags.into_iter().filter(|flag| flag.starts_with("key")).collect();
        Ok(messages.iter().map(|message| of(message.flags.iter().cloned().collect())).collect())
    };
    assert_eq!(keywords(before)?.iter().map(Vec::len).sum::<usize>(), 30);
    assert_eq!(keywords(after)?, keywords(before)?);
    // And they are there for good, not for the first session alone.
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1:* +FLAGS (\Flagged)")?;
    imap.logout()?;
    assert_eq!(keywords(&Dump::take(machine, ann)?)?, keywords(before)?);
    Ok(())
}

/// What has happened to folders since counts, whoever looks for late mail at their old places, and on the way back.
#[test]
fn folders_that_were_deleted_and_renamed_do_not_come_back() -> Result<()> {
    let made = crossing(|machine, ann| {
        make_folders(machine, ann, &[("Sent", 3), ("lists/Debian user", 2), ("lists/rust", 4), ("Trash", 1)])
    })?;
    let Some(Crossing { machine, ann, _running, .. }) = &made else { return Ok(()) };
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    imap.ok("DELETE Trash")?;
    imap.ok("RENAME \"lists/Debian user\" \"old lists/Debian user\"")?;
    imap.ok("CREATE lists/new")?;
    imap.logout()?;
    // Some program still writes to an old place. Once that mail has been carried over, all the places have been looked at.
    let late = "cat >> ~ann/mail/Sent";
    machine.output("runuser", ["-u", "ann", "--", "sh", "-c", late], &mail::unread(5, 1))?;
    eventually(
        "late mail is in its folder",
        || _running.1.log.tail(),
        || (messages_in(machine, ann, "Sent").ok()? == 4).then_some(()),
    )?;
    let names = |dump: &Dump| -> Vec<String> {
        dump.folders.iter().map(|folder| String::from_utf8_lossy(&folder.name).into_owned()).collect()
    };
    let expected = ["INBOX", "Sent", "lists/new", "lists/rust", "old lists/Debian user"];
    let before = Dump::take(machine, ann)?;
    assert_eq!(names(&before), expected);

    machine.run("mailready", ["rollback", "--yes", &ann.name])?;
    let after = Dump::take(machine, ann)?;
    assert_eq!(names(&after), expected);
    let found = Differences::between(&before, &after);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// A client that has seen the first of that name must not take the second for it.
#[test]
fn a_folder_that_is_made_again_is_another_one_on_both_sides() -> Result<()> {
    let Some(made) = crossing(|machine, ann| make_folders(machine, ann, &[("Drafts", 3)]))? else {
        return Ok(());
    };
    let Crossing { machine, ann, before, .. } = &made;
    let validity = |dump: &Dump| {
        let drafts = dump.folders.iter().find(|folder| folder.name == b"Drafts");
        drafts.map(|folder| (folder.uidvalidity, folder.messages.len())).unwrap()
    };
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    imap.ok("DELETE Drafts")?;
    imap.ok("CREATE Drafts")?;
    imap.append(b"Drafts", r" (\Draft \Seen)", b"Subject: another\r\n\r\nx\r\n")?;
    imap.logout()?;
    let since = Dump::take(machine, ann)?;
    assert_eq!((validity(before).1, validity(&since).1), (3, 1));
    assert!(validity(&since).0 > validity(before).0, "{:?} after {:?}", validity(&since), validity(before));
    machine.run("mailready", ["rollback", "--yes", &ann.name])?;
    let found = Differences::between(&since, &Dump::take(machine, ann)?);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// An mbox is a file, and nothing can be below it.
#[test]
fn a_folder_with_mail_and_folders_stops_the_way_back_with_its_name() -> Result<()> {
    let Some(made) = crossing(|machine, ann| make_folders(machine, ann, &[("Sent", 2)]))? else {
        return Ok(());
    };
    let Crossing { machine, ann, .. } = &made;
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    imap.ok("CREATE Sent/2009")?;
    imap.append(b"Sent/2009", r" (\Seen)", b"Subject: below\r\n\r\nx\r\n")?;
    imap.logout()?;
    let before = Dump::take(machine, ann)?;
    let output = machine.output("mailready", ["rollback", "--yes", &ann.name], b"")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("Sent"), "{said}");
    assert!(machine.exists(&format!("{}/Maildir/mailready-marker", ann.home()))?, "{said}");
    let found = Differences::between(&before, &Dump::take(machine, ann)?);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

fn messages_in(machine: &Machine, ann: &User, folder: &str) -> Result<u64> {
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    let status = imap.ok(&format!("STATUS \"{folder}\" (MESSAGES)"))?;
    imap.logout()?;
    let line = status.untagged.iter().find(|line| line[0].text() == "STATUS");
    Ok(line.and_then(|line| line.last()).unwrap().items()[1].text().parse().unwrap())
}
