//! The proof, with what Dovecot's tool would print written by hand.

use std::io::Write;
use std::os::fd::OwnedFd;

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use crate::user::{Agent, User, message};

/// As Dovecot's tool prints these messages: mailbox, UID, subject.
fn shown(messages: &[(&str, u32, &str)]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    for (mailbox, uid, subject) in messages {
        let text = message(subject);
        // Without its From_ line and the last line end, which are the mbox's.
        let text = text.split_once('\n').unwrap().1.strip_suffix('\n').unwrap();
        let head = format!("mailbox: {mailbox}\nuid: {uid}\ndate.received.unixtime: 1767261600\n");
        write!(file, "{head}size.physical: {}\ntext:\n{text}\x0c\n", text.len()).unwrap();
    }
    std::io::Seek::rewind(&mut file).unwrap();
    file.into()
}

#[test]
fn what_dovecot_reads_is_compared_with_receipt_and_maildir() {
    let user = User::new(&["same", "expunged", "lost", "damaged", "other", "unseen"]);
    user.write("home/mail/Sent", &message("sent"));
    user.convert();
    let file_of = |subject: &str| {
        let name = user.list("home/Maildir/new").into_iter().find(|name| {
            user.read(&format!("home/Maildir/new/{name}")).contains(&format!("Subject: {subject}\n"))
        });
        name.unwrap()
    };
    for subject in ["expunged", "lost"] {
        let name = file_of(subject);
        std::fs::remove_file(user.path(&format!("home/Maildir/new/{name}"))).unwrap();
        if subject == "expunged" {
            let list = user.read("home/Maildir/dovecot-uidlist");
            let kept: String =
                list.lines().filter(|line| !line.contains(&name)).map(|line| format!("{line}\n")).collect();
            user.write("home/Maildir/dovecot-uidlist", &kept);
        }
    }
    user.append(&format!("home/Maildir/new/{}", file_of("damaged")), "x");
    // Flags and folder are the user's.
    let same = file_of("same");
    std::fs::rename(
        user.path(&format!("home/Maildir/new/{same}")),
        user.path(&format!("home/Maildir/cur/{same}:2,FS")),
    )
    .unwrap();

    let mut agent = Agent::start(&user, Purpose::Verify, Some(user.spool()));
    let prepared = agent.ask(Order::CheckPrepare, None);
    assert_eq!(prepared, Report::CheckPrepared { messages: 7, boxes: 2, missing: 0 });
    let check = format!("home/.mailready/check-{}", user.job.run);
    assert_eq!(user.list(&check), ["dovecot.conf", "inbox", "root"]);
    assert_eq!(user.read(&format!("{check}/root/Sent")), message("sent"));
    let printed = shown(&[
        ("Sent", 1, "sent"),
        ("INBOX", 1, "same"),
        ("INBOX", 2, "expunged"),
        ("INBOX", 3, "lost"),
        ("INBOX", 4, "damaged"),
        ("INBOX", 5, "read otherwise"),
    ]);
    let checked = agent.ask(Order::CheckCompare, Some(printed));
    assert_eq!(checked, Report::Checked { same: 2, gone: 1, lost: 1, damaged: 1, unknown: 1, unseen: 1 });
    assert_eq!(agent.ask(Order::Release, None), Report::Done);
    assert!(!user.path(&check).exists());
}
