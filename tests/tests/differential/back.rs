//! Back again: what clients see of a used Maildir is what they see of the mboxes after a rollback; there and back three times.

use mailready_tests::differential::{Stand, Variation, deliverers::append, example};
use mailready_tests::lab::{Differences, Dump, Imap, Item, LabError, Look, Result, User, eventually};

/// A user, converted for the first time.
fn converted(variation: Variation) -> Result<Option<(Stand, User)>> {
    let Some(mut stand) = Stand::before(variation)? else { return Ok(None) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, true)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    Ok(Some((stand, ann)))
}

/// A message as clients save it, with lines that an mbox has to take care of.
const SAVED: &[u8] = b"From: ann@example.org\r\nSubject: saved\r\nMessage-ID: <saved@example.org>\r\n\r\n\
    From here on\r\nFrom bob@example.org Mon Jan  5 10:00:00 2026\r\n>From there\r\n\r\n";

/// Messages that are expunged, copied and moved, a round a line.
const USED: [[&str; 3]; 3] = [
    ["quoted From", "blank lines at the end", "first"],
    ["no blank line", "a null byte", "second"],
    ["a false length", "folded metadata", "carriage returns"],
];

/// The UID of a message.
fn with_subject(imap: &mut Imap, subject: &str) -> Result<String> {
    let found = imap.ok(&format!("UID SEARCH SUBJECT \"{subject}\""))?;
    let uid = found.untagged.iter().find(|response| response[0].text() == "SEARCH");
    let uid = uid.and_then(|response| response.get(1)).map(Item::text);
    uid.ok_or_else(|| LabError::Protocol { asked: "SEARCH".into(), got: format!("no message {subject:?}") })
}

/// A round of use of the Maildir: everything that changes what clients see.
fn use_it(stand: &Stand, user: &User, round: u32) -> Result<()> {
    let name = |name: &str| format!("\"{}\"", stand.variation.client_name(name));
    let mut imap = stand.imap(user)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(&format!(r"STORE 1:3 +FLAGS (\Answered round{round})"))?;
    imap.ok(r"STORE 2 -FLAGS (\Seen work)")?;
    let [expunged, copied, moved] = USED[round as usize - 1];
    let expunged = with_subject(&mut imap, expunged)?;
    let copied = with_subject(&mut imap, copied)?;
    let moved = with_subject(&mut imap, moved)?;
    imap.ok(&format!(r"UID STORE {expunged} +FLAGS.SILENT (\Deleted)"))?;
    imap.ok("EXPUNGE")?;
    imap.ok(&format!("UID COPY {copied} {}", name("Sent")))?;
    imap.ok(&format!("UID MOVE {moved} {}", name("lists/debian")))?;
    imap.append(b"INBOX", " (\\Seen $MDNSent) \"29-Mar-2026 02:30:00 +0130\"", SAVED)?;
    imap.append(stand.variation.client_name("Sent").as_bytes(), " (\\Draft)", SAVED)?;
    let made = name(&format!("made/round {round}"));
    imap.ok(&format!("CREATE {made}"))?;
    imap.ok(&format!("SUBSCRIBE {made}"))?;
    imap.ok(&format!("COPY 1 {made}"))?;
    imap.ok(&format!("UNSUBSCRIBE {}", name("sent")))?;
    if round > 1 {
        imap.ok(&format!("DELETE {}", name(&format!("made/round {}", round - 1))))?;
    }
    // UIDs that are used up at the end of a folder, and a folder that is empty from now on.
    imap.ok(&format!("SELECT {}", name("sent")))?;
    imap.ok(r"STORE * +FLAGS.SILENT (\Deleted)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    stand.sessions_end()?;
    deliver_to_the_old_place(stand, user, round)
}

/// A deliverer that knows nothing of the conversion, and the drain.
fn deliver_to_the_old_place(stand: &Stand, user: &User, round: u32) -> Result<()> {
    let messages = |stand: &Stand| -> Result<String> {
        let mut imap = stand.imap(user)?;
        let count = imap.ok("STATUS INBOX (MESSAGES)")?;
        imap.logout()?;
        Ok(count.untagged.iter().flatten().map(Item::text).collect::<Vec<_>>().join(" "))
    };
    let before = messages(stand)?;
    let mail = format!("From eve@example.org  Tue Feb  3 04:05:06 2009\nSubject: late {round}\n\nlate\n\n");
    append(&stand.machine, user, &user.spool(), mail.as_bytes())?;
    eventually(
        "mail that came to the old place is carried over",
        || stand.agent_log(),
        || messages(stand).ok().filter(|now| *now != before).map(|_| ()),
    )?;
    stand.sessions_end()
}

/// Three rounds; `excused` are differences that the way back has by its nature.
fn there_and_back(variation: Variation, excused: fn(&str) -> bool) -> Result<()> {
    let Some((stand, ann)) = converted(variation)? else { return Ok(()) };
    let name = stand.variation.name;
    let same = |round: u32, what: &str, before: &Dump, after: &Dump| {
        let mut found = Differences::between(before, after).all().to_vec();
        found.retain(|difference| !excused(difference));
        assert!(found.is_empty(), "{name}, round {round}, {what}:\n{}", found.join("\n"));
    };
    for round in 1..=3 {
        use_it(&stand, &ann, round)?;
        let maildir = stand.look(&ann)?;
        stand.roll_back(&ann)?;
        let mbox = stand.look(&ann)?;
        same(round, "back", &maildir, &mbox);
        same(round, "a second look", &mbox, &stand.look(&ann)?);
        stand.convert(&ann)?;
        same(round, "there again", &mbox, &stand.look(&ann)?);
    }
    Ok(())
}

fn nothing(_: &str) -> bool {
    false
}

#[test]
fn three_times() -> Result<()> {
    there_and_back(Variation::debian(), nothing)
}

#[test]
fn three_times_with_folders_as_folders() -> Result<()> {
    there_and_back(Variation::fs(), nothing)
}

#[test]
fn three_times_in_summer_time() -> Result<()> {
    there_and_back(Variation::summer_time(), nothing)
}

/// Dovecot lists the prefix itself as a mailbox, and opens it only if it is a Maildir.
#[test]
fn three_times_behind_a_prefix() -> Result<()> {
    there_and_back(Variation::prefix(), |difference| {
        difference.starts_with("mail: cannot be opened") || difference.starts_with("messages in each folder")
    })
}

/// Where POP3 identifiers are hashes, mail that came to the Maildir goes by its file name there, and an mbox has no place for that.
#[test]
fn three_times_with_hashed_identifiers() -> Result<()> {
    let hashed = Variation::with_dovecot("hashed UIDLs", "pop3_uidl_format = %g\n");
    there_and_back(hashed, |difference| {
        let file_name = difference.split("became").next().is_some_and(|before| before.contains(".mail"));
        difference.starts_with("POP3 UIDL: ") && file_name
    })
}

/// Nothing has happened since: not even Dovecot's identities of the messages change.
#[test]
fn at_once() -> Result<()> {
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, true)?;
    let before = stand.look_closely(&ann, Look::WithGuids)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    stand.roll_back(&ann)?;
    let found = Differences::between(&before, &stand.look_closely(&ann, Look::WithGuids)?);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// Rolled back, and not converted by the next login: that is for the operator to say.
#[test]
fn it_stays_back() -> Result<()> {
    let Some((stand, ann)) = converted(Variation::debian())? else { return Ok(()) };
    stand.roll_back(&ann)?;
    for _ in 0..2 {
        stand.imap(&ann).and_then(Imap::logout)?;
    }
    assert!(!stand.is_converted(&ann)?, "{}", stand.agent_log());
    stand.convert(&ann)
}

/// An mbox would hide a header that is called as its own metadata are. Then the Maildir stays, and works.
#[test]
fn what_an_mbox_cannot_hold() -> Result<()> {
    let Some((stand, ann)) = converted(Variation::debian())? else { return Ok(()) };
    let mut imap = stand.imap(&ann)?;
    imap.append(b"INBOX", "", b"Subject: of a server of old\r\nStatus: RO\r\n\r\nx\r\n")?;
    imap.logout()?;
    let before = stand.look(&ann)?;
    let refused = stand.roll_back(&ann);
    assert!(refused.is_err(), "rolled back");
    assert!(stand.is_converted(&ann)?, "{}", stand.agent_log());
    let found = Differences::between(&before, &stand.look(&ann)?);
    assert!(found.is_empty(), "{found}");
    Ok(())
}
