//! A user's mail client that must not be shown anything wrong: it logs in, selects the inbox, reads it all, and comes again
//! when it is thrown out.

use mailready_tests::lab::{
    Answer, Differences, Folder, Imap, Item, LabError, Machine, Pop3, Result, Strictness, User,
};

/// Times that it comes again.
const AGAIN: usize = 2;

/// What one client went through.
#[derive(Debug, Default)]
pub struct Seen {
    /// Why each session ended that did not come to its end, in order.
    pub thrown_out: Vec<String>,
}

/// Logs in and reads the inbox, comparing it with what it showed before; comes again when the server ends the session or says NO.
///
/// # Errors
/// What was wrong: an empty mailbox, an EXPUNGE, a difference, or no session to the end.
pub fn read_by_imap(machine: &Machine, user: &User, expected: &Folder) -> Result<Seen> {
    let mut seen = Seen::default();
    loop {
        match imap_session(machine, user, expected) {
            Ok(()) => return Ok(seen),
            Err(Trouble::Wrong(what)) => return Err(wrong(what, &seen)),
            Err(Trouble::Thrown(why)) if seen.thrown_out.len() < AGAIN => {
                seen.thrown_out.push(why.to_string())
            }
            Err(Trouble::Thrown(why)) => {
                return Err(wrong(format!("no session comes to its end: {why}"), &seen));
            }
        }
    }
}

/// As [`read_by_imap`], by POP3.
///
/// # Errors
/// As there.
pub fn read_by_pop3(machine: &Machine, user: &User, expected: &[Vec<u8>]) -> Result<Seen> {
    let mut seen = Seen::default();
    loop {
        match pop3_session(machine, user) {
            Ok(messages) if messages == expected => return Ok(seen),
            Ok(messages) => {
                let what =
                    format!("{} messages where there were {}, or others", messages.len(), expected.len());
                return Err(wrong(what, &seen));
            }
            Err(why) if seen.thrown_out.len() < AGAIN => seen.thrown_out.push(why.to_string()),
            Err(why) => return Err(wrong(format!("no session comes to its end: {why}"), &seen)),
        }
    }
}

fn wrong(what: String, seen: &Seen) -> LabError {
    LabError::Protocol {
        asked: "the mail as it was".into(),
        got: format!("{what} (before that: {:?})", seen.thrown_out),
    }
}

enum Trouble {
    /// The server ended the session or refused: the client comes again.
    Thrown(LabError),
    /// What must never be shown.
    Wrong(String),
}

impl From<LabError> for Trouble {
    fn from(error: LabError) -> Self {
        Self::Thrown(error)
    }
}

fn imap_session(machine: &Machine, user: &User, expected: &Folder) -> Result<(), Trouble> {
    let mut imap = Imap::login(machine, &user.name, &user.password)?;
    let selected = imap.command("SELECT INBOX")?;
    never_wrong(&selected, expected)?;
    if selected.status != "OK" {
        return Err(Trouble::Thrown(LabError::Protocol { asked: "SELECT INBOX".into(), got: selected.text }));
    }
    let again = imap.command("NOOP")?;
    never_wrong(&again, expected)?;
    let folder = Folder::take(&mut imap, b"INBOX")?;
    let found = Differences::judged_folders(expected, &folder, Strictness::Twins);
    if !found.is_empty() {
        return Err(Trouble::Wrong(found.to_string()));
    }
    // Another client may have been at it meanwhile; this one has seen all it wanted.
    let _ = imap.logout();
    Ok(())
}

/// No EXPUNGE and no other number of messages, in whatever answer.
fn never_wrong(answer: &Answer, expected: &Folder) -> Result<(), Trouble> {
    for response in &answer.untagged {
        let words: Vec<String> = response.iter().map(Item::text).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [_, "EXPUNGE"] | ["VANISHED", ..] => return Err(Trouble::Wrong(words.join(" "))),
            [number, "EXISTS"] if *number != expected.exists.to_string() => {
                return Err(Trouble::Wrong(words.join(" ")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn pop3_session(machine: &Machine, user: &User) -> Result<Vec<Vec<u8>>> {
    let mut pop3 = Pop3::login(machine, &user.name, &user.password)?;
    let listed = pop3.lines("LIST")?;
    let count = String::from_utf8_lossy(&listed).lines().count();
    let messages = (1..=count).map(|number| pop3.lines(&format!("RETR {number}"))).collect::<Result<_>>()?;
    pop3.quit()?;
    Ok(messages)
}
