//! What users do with their mail: sessions of IMAP and POP3 clients, some of which end badly.

use crate::lab::mail::Seeded;
use crate::lab::{Differences, Imap, Item, LabError, Look, Pop3, Result, User, quoted};

use super::letters::{Letter, crlf, pick};
use super::stand::Stand;

/// The error of a past whose mbox the old server cannot read, or reads another way each time.
pub const EVER_NEW: &str = "the old server shows this mail in ever new ways";

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Logout,
    /// CLOSE first, which expunges.
    Close,
    /// The network is gone.
    Dropped,
    /// The server process is killed: what it had not written to the mbox is in its index alone.
    Killed,
}

impl End {
    /// Any of them.
    pub fn any(random: &mut Seeded) -> Self {
        [Self::Logout, Self::Logout, Self::Close, Self::Dropped, Self::Killed][pick(random, 5)]
    }
}

const FLAGS: [&str; 12] = [
    r"\Seen",
    r"\Seen",
    r"\Seen",
    r"\Answered",
    r"\Flagged",
    r"\Draft",
    r"\Deleted",
    r"\Seen \Answered",
    "$Forwarded",
    "$Label1 work",
    "NonJunk",
    r"\Flagged todo",
];

/// A session that works in one folder for a while. All names are as clients send them.
///
/// # Errors
/// If the server refuses something.
pub fn imap(
    stand: &Stand,
    user: &User,
    random: &mut Seeded,
    folder: &str,
    others: &[String],
    end: End,
) -> Result<()> {
    let mut imap = stand.imap(user)?;
    imap.ok(&format!("SELECT {}", quoted(folder.as_bytes())))?;
    for _ in 0..3 + random.below(6) {
        match act(&mut imap, random, folder, others) {
            // Dovecot gives up on an mbox now and then, with an internal error or with the connection. The client comes back.
            Err(LabError::Protocol { got, .. }) if got.starts_with("NO ") => {}
            Err(_) => return finish(stand, imap, End::Dropped),
            Ok(()) => {}
        }
    }
    match finish(stand, imap, end) {
        Err(LabError::Protocol { .. } | LabError::Io { .. }) => stand.sessions_end(),
        ended => ended,
    }
}

fn act(imap: &mut Imap, random: &mut Seeded, folder: &str, others: &[String]) -> Result<()> {
    let messages = count(imap)?;
    let other = quoted(others[pick(random, others.len())].as_bytes());
    match random.below(10) {
        0 => {
            let serial = 1_000_000 + random.below(1_000_000);
            let mut letter = Letter::next(random, serial);
            while !letter.suits_dovecot() {
                letter = Letter::next(random, serial);
            }
            // A client sends no NUL, and CRLF only.
            let sent =
                letter.bytes.iter().filter(|byte| !matches!(**byte, 0 | b'\r')).copied().collect::<Vec<_>>();
            let arguments = [
                " (\\Seen) \"03-Feb-2009 04:05:06 +0130\"",
                " (\\Draft $MDNSent) \"29-Mar-2026 02:30:00 +0100\"",
                "",
            ];
            imap.append(folder.as_bytes(), arguments[pick(random, 3)], &crlf(&sent))?;
        }
        _ if messages == 0 => {}
        1 | 2 => {
            imap.ok(&format!("COPY {} {other}", range(random, messages)))?;
        }
        3 => {
            imap.ok(&format!("MOVE {} {other}", range(random, messages)))?;
        }
        4 => {
            imap.ok(&format!("FETCH {} (UID FLAGS ENVELOPE BODYSTRUCTURE)", range(random, messages)))?;
            imap.ok(&format!("FETCH {} BODY[]", range(random, messages)))?;
        }
        5 => {
            imap.ok(&format!("STORE {} +FLAGS.SILENT (\\Deleted)", 1 + random.below(messages)))?;
            imap.ok("EXPUNGE")?;
        }
        6 => {
            let flag = FLAGS[pick(random, FLAGS.len())];
            imap.ok(&format!("STORE {} -FLAGS ({flag})", range(random, messages)))?;
        }
        _ => {
            let flag = FLAGS[pick(random, FLAGS.len())];
            imap.ok(&format!("STORE {} +FLAGS ({flag})", range(random, messages)))?;
        }
    }
    Ok(())
}

fn count(imap: &mut Imap) -> Result<u64> {
    let found = imap.ok("SEARCH RETURN (COUNT) ALL")?;
    let words: Vec<String> = found.untagged.iter().flatten().map(Item::text).collect();
    let count = words.iter().position(|word| word == "COUNT").and_then(|at| words.get(at + 1)?.parse().ok());
    count.ok_or_else(|| LabError::Protocol { asked: "SEARCH".into(), got: words.join(" ") })
}

/// One to a few messages.
fn range(random: &mut Seeded, messages: u64) -> String {
    let first = 1 + random.below(messages);
    let last = (first + random.below(4)).min(messages);
    format!("{first}:{last}")
}

/// Ends a session, and comes back when its server process is gone.
///
/// # Errors
/// If it does not end.
pub fn finish(stand: &Stand, mut imap: Imap, end: End) -> Result<()> {
    match end {
        End::Close => {
            imap.ok("CLOSE")?;
            imap.logout()?;
        }
        End::Logout => imap.logout()?,
        End::Dropped => drop(imap),
        End::Killed => {
            for pid in stand.machine.processes("imap")? {
                stand.machine.signal(pid, "KILL")?;
            }
        }
    }
    stand.sessions_end()
}

/// Thirty keywords in one folder, more than a Maildir has letters for: each message has one of its own, and all have the last.
///
/// # Errors
/// If the server refuses.
pub fn many_keywords(stand: &Stand, user: &User, folder: &str) -> Result<()> {
    let mut imap = stand.imap(user)?;
    imap.ok(&format!("SELECT {}", quoted(folder.as_bytes())))?;
    let messages = count(&mut imap)?.max(1);
    for keyword in 0..30 {
        imap.ok(&format!("STORE {} +FLAGS (key{keyword})", keyword % messages + 1))?;
    }
    imap.ok("STORE 1:* +FLAGS (key29)")?;
    // One that no message has any more: clients go on seeing its name.
    imap.ok("STORE 1:* +FLAGS (unused)")?;
    imap.ok("STORE 1:* -FLAGS (unused)")?;
    imap.logout()?;
    stand.sessions_end()
}

/// Looks at everything until two looks in a row show the same: what clients have been shown, and what they go on being shown
/// when Dovecot has mended its notes on an mbox that it found broken.
///
/// # Errors
/// If that does not come to be.
pub fn visit_all(stand: &Stand, user: &User, look: Look) -> Result<()> {
    let mut last = None;
    for _ in 0..6 {
        let dump = stand.look_closely(user, look).ok();
        if let (Some(last), Some(dump)) = (&last, &dump)
            && Differences::between(last, dump).is_empty()
        {
            return Ok(());
        }
        last = dump;
    }
    Err(LabError::Setup(format!("{EVER_NEW}:\n{}", stand.complaints().join("\n"))))
}

/// A POP3 client that takes some mail away.
///
/// # Errors
/// If the server refuses.
pub fn pop3(stand: &Stand, user: &User, random: &mut Seeded) -> Result<()> {
    let mut pop3 = Pop3::login(&stand.machine, &user.name, &user.password)?;
    let messages = String::from_utf8_lossy(&pop3.lines("UIDL")?).lines().count() as u64;
    if messages > 4 {
        let first = 1 + random.below(messages - 1);
        pop3.lines(&format!("RETR {first}"))?;
        pop3.command(&format!("DELE {first}"))?;
        pop3.lines(&format!("TOP {} 2", first + 1))?;
    }
    pop3.quit()?;
    stand.sessions_end()
}

/// The session of a user whose server dies: what clients were told is in Dovecot's index alone.
///
/// # Errors
/// If the server refuses.
pub fn killed_with_pending_flags(stand: &Stand, user: &User, folder: &str) -> Result<()> {
    let mut imap = stand.imap(user)?;
    imap.ok(&format!("SELECT {}", quoted(folder.as_bytes())))?;
    if count(&mut imap)? > 0 {
        imap.ok(r"STORE 1 -FLAGS (\Seen)")?;
        imap.ok(r"STORE * +FLAGS (\Flagged \Answered lately)")?;
    }
    // The answer came, so the change is in the index's log; an mbox is written later.
    finish(stand, imap, End::Killed)
}
