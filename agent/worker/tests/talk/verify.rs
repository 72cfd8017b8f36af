//! The proof, with what Dovecot's tool would print written by hand.

use std::io::Write;
use std::os::fd::OwnedFd;

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use crate::user::{Agent, User, message};

/// As Dovecot's tool prints these messages: mailbox, UID, subject.
fn shown(messages: &[(&str, u32, &str)]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    for (number, (mailbox, uid, subject)) in messages.iter().enumerate() {
        let text = message(subject);
        // Without its From_ line and the last line end, which are the mbox's.
        let text = text.split_once('\n').unwrap().1.strip_suffix('\n').unwrap();
        let head = format!("mailbox: {mailbox}\nuid: {uid}\ndate.received.unixtime: 1767261600\n");
        let between = if number > 0 { "\x0c\n" } else { "" };
        write!(file, "{between}{head}text:\n{text}").unwrap();
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

/// Runs Dovecot's tool as the agent does; `None`: there is none here.
fn doveadm(user: &User, check: &str) -> Option<OwnedFd> {
    use std::os::unix::process::CommandExt;
    let shown = tempfile::tempfile().unwrap();
    let status = std::process::Command::new("doveadm")
        .arg("-c")
        .arg(user.path(check).join("dovecot.conf"))
        .args(mailready_worker::CHECK_ARGUMENTS)
        .uid(user.job.uid)
        .gid(user.job.gid)
        .env("HOME", &user.job.home)
        .env("USER", "ann")
        .current_dir("/")
        .stdout(shown.try_clone().unwrap())
        .status()
        .ok()?;
    assert!(status.success(), "{status}");
    let mut shown = shown;
    std::io::Seek::rewind(&mut shown).unwrap();
    Some(shown.into())
}

#[test]
fn dovecot_itself_reads_the_originals_as_we_did() {
    let user = User::new(&["one", "two"]);
    user.append("spool", "From x@y Thu Jan  1 10:00:00 2026 +0530\nSubject: odd\r\nStatus: RO\n\nFrom\n>From \0 \x0c\nuid: 1\n\x0c\n");
    user.write("home/mail/lists/d&AOQ-b x", &(message("a") + &message("b")));
    user.write("home/mail/empty", "");
    user.convert();
    let mut agent = Agent::start(&user, Purpose::Verify, Some(user.spool()));
    assert_eq!(
        agent.ask(Order::CheckPrepare, None),
        Report::CheckPrepared { messages: 5, boxes: 3, missing: 0 }
    );
    let Some(shown) = doveadm(&user, &format!("home/.mailready/check-{}", user.job.run)) else {
        eprintln!("SKIPPED: there is no doveadm here");
        return;
    };
    let checked = agent.ask(Order::CheckCompare, Some(shown));
    assert_eq!(checked, Report::Checked { same: 5, gone: 0, lost: 0, damaged: 0, unknown: 0, unseen: 0 });
}
