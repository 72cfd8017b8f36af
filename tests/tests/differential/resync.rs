//! Clients that keep state ask only for what changed (RFC 7162): after a conversion that is nothing, and later exactly what did.

use mailready_tests::differential::{Stand, Variation, example};
use mailready_tests::lab::{Answer, Dump, Folder, Imap, Item, Result, User, quoted};

/// A client that remembers a folder of then, and what it is told now.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// UIDs whose flags it is told.
    changed: Vec<u64>,
    /// What it is told to be gone.
    vanished: Vec<String>,
}

fn resync(stand: &Stand, user: &User, then: &Folder) -> Result<Told> {
    let mut imap = stand.imap(user)?;
    imap.ok("ENABLE QRESYNC")?;
    let uids: Vec<String> = then.messages.iter().map(|message| message.uid.to_string()).collect();
    let known = if uids.is_empty() { String::new() } else { format!(" {}", uids.join(",")) };
    let state = format!("{} {}{known}", then.uidvalidity, then.highestmodseq);
    let told = told(&imap.ok(&format!("SELECT {} (QRESYNC ({state}))", quoted(&then.name)))?);
    imap.logout()?;
    Ok(told)
}

fn told(answer: &Answer) -> Told {
    let mut told = Told { changed: Vec::new(), vanished: Vec::new() };
    for response in &answer.untagged {
        let words: Vec<String> = response.iter().map(Item::text).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [_, "FETCH", _] => {
                let facts = response[2].items();
                let uid = facts.iter().position(|fact| fact.text() == "UID").and_then(|at| facts.get(at + 1));
                told.changed.extend(uid.and_then(|uid| uid.text().parse::<u64>().ok()));
            }
            ["VANISHED", rest @ ..] => told.vanished.push(rest.join(" ")),
            _ => {}
        }
    }
    told
}

/// FLAGS and PERMANENTFLAGS of a session that may write.
fn permanent(imap: &mut Imap, folder: &Folder) -> Result<Vec<String>> {
    let selected = imap.ok(&format!("SELECT {}", quoted(&folder.name)))?;
    let lines = selected
        .untagged
        .iter()
        .map(|response| response.iter().map(Item::text).collect::<Vec<_>>().join(" "));
    Ok(lines.filter(|line| line.contains("FLAGS (") || line.contains("PERMANENTFLAGS")).collect())
}

fn converted() -> Result<Option<(Stand, User, Dump)>> {
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(None) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, true)?;
    let before = stand.look(&ann)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    Ok(Some((stand, ann, before)))
}

#[test]
fn a_client_with_state_is_told_what_changed_and_nothing_else() -> Result<()> {
    let Some((stand, ann, before)) = converted()? else { return Ok(()) };
    for folder in &before.folders {
        let told = resync(&stand, &ann, folder)?;
        assert_eq!(
            told,
            Told { changed: vec![], vanished: vec![] },
            "{}",
            String::from_utf8_lossy(&folder.name)
        );
    }
    let mut used = 0;
    for folder in before.folders.iter().filter(|folder| folder.messages.len() > 2) {
        let (first, second) = (folder.messages[0].uid, folder.messages[1].uid);
        let mut imap = stand.imap(&ann)?;
        imap.ok(&format!("SELECT {}", quoted(&folder.name)))?;
        imap.ok(&format!("UID STORE {first} +FLAGS (\\Answered $Late)"))?;
        imap.ok(&format!("UID STORE {second} +FLAGS.SILENT (\\Deleted)"))?;
        imap.ok(&format!("UID EXPUNGE {second}"))?;
        imap.logout()?;
        let told = resync(&stand, &ann, folder)?;
        let expected = Told { changed: vec![first], vanished: vec![format!("(EARLIER) {second}")] };
        assert_eq!(told, expected, "{}", String::from_utf8_lossy(&folder.name));
        used += 1;
    }
    assert!(used > 2, "{used} folders were used");
    Ok(())
}

/// What a session may store is the same, too.
#[test]
fn permanent_flags_stay() -> Result<()> {
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, true)?;
    let before = stand.look(&ann)?;
    let all = |stand: &Stand| -> Result<Vec<Vec<String>>> {
        let mut imap = stand.imap(&ann)?;
        let all = before.folders.iter().map(|folder| permanent(&mut imap, folder)).collect::<Result<_>>()?;
        imap.logout()?;
        stand.sessions_end()?;
        Ok(all)
    };
    let were = all(&stand)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    assert_eq!(all(&stand)?, were);
    Ok(())
}
