//! HIGHESTMODSEQ stays what it is: a client that remembers it misses no flag set later, and fetches none again (RFC 7162).

use mailready_tests::lab::{
    Answer, CONFIG, Daemon, Imap, Item, Line, Machine, Result, Site, User, eventually, mail,
};

const MESSAGES: usize = 12;

/// A user who has done much with few messages, so that the number is far above what an index that begins anew would reach;
/// mailready ready, nobody logged in yet.
struct Ready {
    machine: Machine,
    ann: User,
    /// HIGHESTMODSEQ that clients were shown.
    seen: u64,
    agent: Daemon,
    dovecot: Daemon,
}

fn a_busy_user() -> Result<Option<Ready>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(Site::Debian)?;
    let dovecot = machine.start_dovecot()?;
    let ann = machine.add_user("ann", "correct-horse", &mail::mbox(2, MESSAGES as u32))?;
    let mut imap = Imap::login(&machine, &ann.name, &ann.password)?;
    imap.ok("ENABLE CONDSTORE")?;
    imap.ok("SELECT INBOX")?;
    for round in 0..40 {
        let sign = if round % 2 == 0 { '+' } else { '-' };
        imap.ok(&format!(r"STORE 1:* {sign}FLAGS (\Flagged)"))?;
    }
    let seen = highest(&imap.ok("SELECT INBOX")?);
    assert!(seen > 40, "HIGHESTMODSEQ {seen}");
    imap.logout()?;
    machine.stop_dovecot(&dovecot)?;
    machine.install_mailready(Site::Debian)?;
    let agent = machine.start_agent(CONFIG)?;
    let dovecot = machine.start_dovecot()?;
    Ok(Some(Ready { machine, ann, seen, agent, dovecot }))
}

/// The number in `* OK [HIGHESTMODSEQ 7] Highest`.
fn highest(select: &Answer) -> u64 {
    let lines: Vec<String> = select.untagged.iter().map(|response| text(response)).collect();
    let number = lines.iter().find_map(|line| line.split_once("HIGHESTMODSEQ ")?.1.split(']').next());
    number.unwrap_or_else(|| panic!("no HIGHESTMODSEQ in {lines:?}")).parse().unwrap()
}

fn text(response: &[Item]) -> String {
    response.iter().map(Item::text).collect::<Vec<_>>().join(" ")
}

/// UID and MODSEQ of each FETCH response.
fn fetched(answer: &Answer) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for response in
        answer.untagged.iter().filter(|response| response.get(1).is_some_and(|w| w.text() == "FETCH"))
    {
        let items = response[2].items();
        let after = |name: &str| &items[items.iter().position(|item| item.text() == name).unwrap() + 1];
        found
            .push((after("UID").text().parse().unwrap(), after("MODSEQ").items()[0].text().parse().unwrap()));
    }
    found
}

fn is_converted(ready: &Ready) -> Result<()> {
    let marker = format!("{}/Maildir/mailready-marker", ready.ann.home());
    assert!(ready.machine.exists(&marker)?, "{}", ready.agent.log.tail());
    Ok(())
}

/// Dovecot has had no complaint about the index that it found, to the end of all sessions.
fn dovecot_is_content(ready: &Ready, sessions: usize) -> Result<()> {
    let log = &ready.dovecot.log;
    let lines = eventually(
        "Dovecot logs the end of each session",
        || log.tail(),
        || {
            let lines = log.lines();
            (lines.iter().filter(|line| line.text.contains("Logged out")).count() >= sessions)
                .then_some(lines)
        },
    )?;
    let complaint =
        |line: &&Line| ["Warning: ", "Error: ", "Panic: ", "Fatal: "].iter().any(|w| line.text.contains(w));
    assert!(lines.iter().find(complaint).is_none(), "{}", log.tail());
    Ok(())
}

#[test]
fn a_client_that_remembers_it_learns_of_every_flag() -> Result<()> {
    let Some(ready) = a_busy_user()? else { return Ok(()) };
    let Ready { machine, ann, seen, .. } = &ready;
    let mut one = Imap::login(machine, &ann.name, &ann.password)?;
    is_converted(&ready)?;
    one.ok("ENABLE CONDSTORE")?;
    assert_eq!(highest(&one.ok("SELECT INBOX")?), *seen, "it is what it was");
    assert_eq!(fetched(&one.ok("FETCH 1:* (UID MODSEQ)")?).len(), MESSAGES);
    let nothing = fetched(&one.ok(&format!("FETCH 1:* (UID FLAGS) (CHANGEDSINCE {seen})"))?);
    assert_eq!(nothing, [], "nothing has changed");

    // One client sets a flag; another asks for what is new since before the conversion.
    one.ok(r"STORE 5 +FLAGS (\Answered)")?;
    let mut two = Imap::login(machine, &ann.name, &ann.password)?;
    two.ok("SELECT INBOX (CONDSTORE)")?;
    let changed = two.ok(&format!("FETCH 1:* (UID FLAGS) (CHANGEDSINCE {seen})"))?;
    assert_eq!(fetched(&changed).len(), 1, "{:?}", changed.untagged);
    let answered = changed.untagged.iter().find(|each| text(each).contains(r"\Answered"));
    assert!(answered.is_some(), "{:?}", changed.untagged);
    one.logout()?;
    two.logout()?;
    dovecot_is_content(&ready, 2)
}

/// A client that resynchronises is told of no message as gone that is there.
#[test]
fn a_resynchronising_client_loses_nothing() -> Result<()> {
    let Some(ready) = a_busy_user()? else { return Ok(()) };
    let Ready { machine, ann, seen, .. } = &ready;
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    is_converted(&ready)?;
    imap.ok("ENABLE QRESYNC")?;
    let selected = imap.ok("SELECT INBOX")?;
    let validity = selected
        .untagged
        .iter()
        .map(|each| text(each))
        .find_map(|line| Some(line.split_once("UIDVALIDITY ")?.1.split(']').next()?.to_owned()));
    let all = fetched(&imap.ok("FETCH 1:* (UID MODSEQ)")?);
    let uids: Vec<String> = all.iter().map(|(uid, _)| uid.to_string()).collect();
    imap.ok("UNSELECT")?;
    let known = format!("{} {seen} {}", validity.unwrap(), uids.join(","));
    let resync = imap.ok(&format!("SELECT INBOX (QRESYNC ({known}))"))?;
    assert_eq!(fetched(&resync), [], "nothing to be told");
    let vanished = resync.untagged.iter().find(|each| text(each).starts_with("VANISHED"));
    assert!(vanished.is_none(), "{vanished:?}");
    imap.logout()?;
    dovecot_is_content(&ready, 1)
}

/// What clients never see and Dovecot's own tools go by: the mailbox's GUID.
#[test]
fn the_guid_of_the_mailbox_is_the_same() -> Result<()> {
    let Some(ready) = a_busy_user()? else { return Ok(()) };
    let Ready { machine, ann, .. } = &ready;
    let guid = |location: &str| {
        let location = format!("mail_location={location}");
        let args = ["-o", &location, "-f", "flow", "mailbox", "status", "-u", &ann.name, "guid", "INBOX"];
        machine.run("doveadm", args)
    };
    let before = guid("mbox:~/mail:INBOX=/var/mail/%u")?;
    assert!(before.contains("guid="), "{before}");
    Imap::login(machine, &ann.name, &ann.password)?.logout()?;
    is_converted(&ready)?;
    assert_eq!(guid("maildir:~/Maildir")?, before);
    Ok(())
}

/// Where Dovecot has no index it would begin anew with the mbox, too; there is nothing to carry over.
#[test]
fn without_an_index_it_begins_anew() -> Result<()> {
    let Some(ready) = a_busy_user()? else { return Ok(()) };
    let Ready { machine, ann, seen, .. } = &ready;
    machine.run("rm", ["-r", &format!("{}/mail/.imap/INBOX", ann.home())])?;
    let mut imap = Imap::login(machine, &ann.name, &ann.password)?;
    is_converted(&ready)?;
    imap.ok("ENABLE CONDSTORE")?;
    let now = highest(&imap.ok("SELECT INBOX")?);
    assert!(now < *seen, "HIGHESTMODSEQ {now} of nowhere");
    assert_eq!(fetched(&imap.ok("FETCH 1:* (UID FLAGS MODSEQ)")?).len(), MESSAGES);
    imap.logout()?;
    dovecot_is_content(&ready, 1)
}
