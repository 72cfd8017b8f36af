//! One small mailbox that has something of everything that a converter can get wrong, always the same.

use crate::lab::mail;
use crate::lab::{Look, Pop3, Result, User, quoted};

use super::deliverers::append;
use super::past::PSEUDO;
use super::sessions::{self, End};
use super::stand::Stand;

/// Before the awkward messages: a server's own header that stays, metadata inside of a message that is attached, a zone with
/// minutes, two messages that Dovecot takes for the same by their headers.
const SPECIAL: &[u8] = b"From ada@engine.example Tue Feb  3 04:05:06 2009 +0530\n\
Subject: an identifier of another server\nX-UIDL: 1234.abcd\nStatus: RO\n\nx\n\n\
From ada@engine.example Tue Feb  3 04:05:06 2009\n\
Subject: attached\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\nSubject: inner\nStatus: RO\nX-UID: 7\n\ninner\n\n\
From ada@engine.example Tue Feb  3 04:05:06 2009\nSubject: first\nMessage-ID: <same@engine.example>\n\nthe first text\n\n\
From ada@engine.example Tue Feb  3 04:05:06 2009\nSubject: second\nMessage-ID: <same@engine.example>\n\nthe other text\n\n";

/// Folders of the example besides the inbox, as on the wire.
pub const FOLDERS: [&str; 5] = ["Sent", "sent", "lists/debian", "empty", "Trash"];

/// Lets a user have it.
///
/// # Errors
/// If a server refuses.
pub fn example(stand: &Stand, user: &User, folders: bool) -> Result<()> {
    let machine = &stand.machine;
    append(machine, user, &user.spool(), SPECIAL)?;
    append(machine, user, &user.spool(), &mail::awkward())?;
    if folders {
        let mut imap = stand.imap(user)?;
        for name in FOLDERS {
            let client = quoted(stand.variation.client_name(name).as_bytes());
            imap.ok(&format!("CREATE {client}"))?;
            if name != "empty" {
                imap.ok(&format!("SUBSCRIBE {client}"))?;
            }
        }
        imap.logout()?;
        stand.sessions_end()?;
        for (name, content) in [
            ("Sent", mail::mbox(5, 4)),
            ("sent", mail::mbox(6, 3)),
            ("lists/debian", mail::unread(7, 3)),
            ("Trash", PSEUDO.into()),
        ] {
            machine.write(&stand.mbox(user, name), &content, (user.uid, user.gid), 0o600)?;
        }
    }
    let mut imap = stand.imap(user)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1:4 +FLAGS (\Seen work)")?;
    imap.ok(r"STORE 5 +FLAGS (\Answered private $Forwarded)")?;
    imap.ok(r"STORE 6 +FLAGS (\Flagged)")?;
    imap.ok(r"STORE 7 +FLAGS (\Draft)")?;
    imap.ok(r"STORE 8 +FLAGS (\Deleted)")?;
    sessions::finish(stand, imap, End::Logout)?;
    // Mail that no IMAP client has seen, and UIDs that are used up.
    append(machine, user, &user.spool(), &[b"\n", mail::unread(8, 5).as_slice()].concat())?;
    let mut pop3 = Pop3::login(machine, &user.name, &user.password)?;
    let last = String::from_utf8_lossy(&pop3.lines("LIST")?).lines().count();
    pop3.command(&format!("DELE {last}"))?;
    pop3.command("DELE 9")?;
    pop3.quit()?;
    stand.sessions_end()?;
    sessions::visit_all(stand, user, Look::AsClients)
}
