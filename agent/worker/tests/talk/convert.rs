//! From mboxes to a Maildir.

use std::os::unix::fs::symlink;

use mailready_worker::RunId;
use mailready_worker::job::{Job, Layout, Purpose};
use mailready_worker::tombstone;
use mailready_worker::wire::{Block, Order, Report};

use crate::user::{Agent, User, message, told};

fn tombstone_of(user: &User) -> String {
    String::from_utf8(tombstone::text(&RunId::parse(&user.job.run).unwrap())).unwrap()
}

fn blocked(user: &User) -> Report {
    let report = match Agent::try_start(user, Purpose::Convert, Some(user.spool())) {
        Err(report) => report,
        Ok(_) => panic!("it is ready"),
    };
    assert!(!user.path("home/Maildir").exists());
    assert_eq!(user.list("home/.mailready"), [""; 0], "nothing is left behind");
    report
}

#[test]
fn inbox_and_folders_come_in_one_commit_and_their_originals_are_kept() {
    let user = User::new(&["one", "two"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/lists/debian/d-user", &(message("a") + &message("b")));
    user.write("home/mail/Entw&APw-rfe", "");
    user.write("home/mail/notes.txt", "no mail\n");
    user.write("home/mail/.subscriptions", "Sent\nlists/debian/d-user\n");
    user.convert();
    assert_eq!(user.subjects("home/Maildir"), ["one", "two"]);
    assert_eq!(user.subjects("home/Maildir/.Sent"), ["sent"]);
    assert_eq!(user.subjects("home/Maildir/.lists.debian.d-user"), ["a", "b"]);
    assert_eq!(user.subjects("home/Maildir/.Entw&APw-rfe"), [""; 0]);
    assert_eq!(user.read("home/Maildir/subscriptions"), "V\t2\n\nSent\nlists\tdebian\td-user\n");
    let marker = user.read("home/Maildir/mailready-marker");
    let sources: Vec<&str> =
        marker.lines().filter_map(|line| line.strip_prefix("source ")?.split(' ').next()).collect();
    assert_eq!(sources, ["INBOX", "Entw%C3%BCrfe", "Sent", "lists/debian/d-user"]);
    for place in ["Sent", "lists/debian/d-user", "Entw&APw-rfe"] {
        assert_eq!(user.read(&format!("home/mail/{place}")), tombstone_of(&user), "{place}");
    }
    let aside = format!("home/.mailready/aside-{}", user.job.run);
    assert_eq!(user.list(&aside), ["1.0", "2.0", "3.0"]);
    assert_eq!(user.read(&format!("{aside}/2.0")), message("sent"));
    assert_eq!(user.read("home/mail/notes.txt"), "no mail\n");
    assert_eq!(user.list("home/mail"), [".subscriptions", "Entw&APw-rfe", "Sent", "lists", "notes.txt"]);
}

#[test]
fn layout_fs_keeps_every_name_and_directories_that_hold_nothing() {
    let mut user = User::new(&[]);
    user.job = Job { layout: Layout::Fs, ..user.job };
    user.write("home/mail/sent.2001", &message("old"));
    user.write("home/mail/a/b/c.d", &message("deep"));
    user.write("home/mail/bare/inner/.keep", "");
    user.convert();
    assert_eq!(user.subjects("home/Maildir/sent.2001"), ["old"]);
    assert_eq!(user.subjects("home/Maildir/a/b/c.d"), ["deep"]);
    assert!(user.path("home/Maildir/bare/inner").is_dir() && !user.path("home/Maildir/bare/cur").exists());
}

#[test]
fn what_cannot_be_kept_blocks_before_anything_is_done() {
    let user = User::new(&["one"]);
    user.write("home/mail/a.b", &message("x"));
    assert_eq!(blocked(&user), Report::Blocked { block: Block::Names, detail: 1 });
    let user = User::new(&["one"]);
    std::fs::create_dir(user.path("home/mail/bare")).unwrap();
    assert!(matches!(blocked(&user), Report::Blocked { block: Block::Names, .. }));
    let user = User::new(&["one"]);
    user.write("home/mail/real", &message("x"));
    symlink("real", user.path("home/mail/link")).unwrap();
    assert_eq!(blocked(&user), Report::Blocked { block: Block::Link, detail: 1 });
    let mut user = User::new(&["one"]);
    user.job.maildir = user.job.folders.clone();
    assert_eq!(blocked(&user), Report::Blocked { block: Block::SameRoot, detail: 0 });
}

#[test]
fn in_a_home_only_real_mboxes_are_mail() {
    let mut user = User::new(&["one"]);
    user.job.folders = user.job.home.clone();
    user.write("home/Sent", &message("sent"));
    user.write("home/src/main.c", "int main;\n");
    user.write("home/src/empty", "");
    user.write("home/papers/a.b/From", "From here to eternity\n");
    user.write("home/.thunderbird/x/Inbox", &message("not ours"));
    user.write("home/sub/saved", &message("saved"));
    symlink("src", user.path("home/link")).unwrap();
    user.convert();
    assert_eq!(user.list("home/Maildir/.Sent/new").len(), 1);
    let folders: Vec<String> =
        user.list("home/Maildir").into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(folders, [".Sent", ".sub.saved"]);
    assert_eq!(user.read("home/src/empty"), "");
    assert_eq!(user.read("home/.thunderbird/x/Inbox"), message("not ours"));
}

#[test]
fn an_empty_file_in_a_home_is_left_alone_and_shown_as_the_mailbox_that_it_was() {
    let mut user = User::new(&[]);
    user.job.folders = user.job.home.clone();
    user.write("home/made by a client", "");
    user.write("home/never told of", "");
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    agent.ask(Order::Stage, None);
    let line = "made by a client\t0\t0\t5\t78\t9\t00112233445566778899aabbccddeeff";
    agent.ask(Order::Refresh, Some(told(&[line])));
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { .. }));
    assert_eq!(agent.ask(Order::Commit, None), Report::Committed { folders_left: 0 });
    let list = user.read("home/Maildir/.made by a client/dovecot-uidlist");
    assert_eq!(list, "3 V78 N5 G00112233445566778899aabbccddeeff\n");
    assert!(!user.path("home/Maildir/.never told of").exists());
    assert_eq!(user.read("home/made by a client"), "");
}

#[test]
fn what_changes_between_the_looks_is_followed() {
    let user = User::new(&["one"]);
    for folder in ["a", "b", "gone"] {
        user.write(&format!("home/mail/{folder}"), &message(folder));
    }
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    let Report::Staged { messages: 4, boxes: 4, .. } = agent.ask(Order::Stage, None) else { panic!() };
    user.append("home/mail/a", &message("a2"));
    user.write("home/mail/b", &(message("other") + &message("b")));
    std::fs::remove_file(user.path("home/mail/gone")).unwrap();
    user.write("home/mail/aa", &message("new"));
    user.append("spool", &message("two"));
    let Report::Staged { messages: 7, boxes: 4, .. } = agent.ask(Order::Refresh, None) else { panic!() };
    std::thread::sleep(std::time::Duration::from_millis(12));
    user.append("home/mail/aa", &message("under the lock"));
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { messages: 8, .. }));
    assert_eq!(agent.ask(Order::Commit, None), Report::Committed { folders_left: 0 });
    assert_eq!(agent.ask(Order::Release, None), Report::Done);
    assert_eq!(user.subjects("home/Maildir/.a"), ["a", "a2"]);
    assert_eq!(user.subjects("home/Maildir/.aa"), ["new", "under the lock"]);
    assert_eq!(user.subjects("home/Maildir/.b"), ["b", "other"]);
    assert!(!user.path("home/Maildir/.gone").exists());
    assert_eq!(user.list("home/mail"), ["a", "aa", "b"], "no dotlock is left");
}

#[test]
fn whoever_has_a_folder_open_or_locked_holds_the_commit_back() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    agent.ask(Order::Stage, None);
    agent.ask(Order::Refresh, None);
    let open = std::fs::File::open(user.path("home/mail/Sent")).unwrap();
    assert_eq!(agent.ask(Order::Confirm, None), Report::Changed);
    drop(open);
    user.write("home/mail/Sent.lock", "1:elsewhere");
    assert_eq!(agent.ask(Order::Confirm, None), Report::Changed);
    assert_eq!(user.read("home/mail/Sent.lock"), "1:elsewhere");
    std::fs::remove_file(user.path("home/mail/Sent.lock")).unwrap();
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { .. }));
    assert!(user.read("home/mail/Sent.lock").contains(':'), "the dotlock stands");
    agent.abort();
    assert_eq!(user.list("home/mail"), ["Sent"]);
    assert_eq!(user.list("home/.mailready"), [""; 0]);
}

#[test]
fn numbers_that_only_dovecot_knows_are_taken_and_a_difference_blocks_in_the_end() {
    let user = User::new(&[]);
    let numbered = message("one").replace("Subject", "X-IMAPbase: 77 0000000001\nX-UID: 1\nSubject");
    user.write("spool", &numbered);
    user.write("home/mail/empty", "");
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    let good = || told(&["INBOX 1 0 2 77 9 -", "empty 0 0 5 78 9 00112233445566778899aabbccddeeff"]);
    agent.ask(Order::Stage, Some(good()));
    agent.ask(Order::Refresh, None);
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { .. }));
    let bad = || told(&["INBOX 3 0 4 77 9 -", "empty 0 0 5 78 9 -"]);
    for _ in 0..3 {
        agent.ask(Order::Refresh, Some(bad()));
        assert_eq!(agent.ask(Order::Confirm, None), Report::Changed);
    }
    agent.ask(Order::Refresh, Some(good()));
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { .. }));
    assert_eq!(agent.ask(Order::Commit, None), Report::Committed { folders_left: 0 });
    let list = user.read("home/Maildir/.empty/dovecot-uidlist");
    assert_eq!(list, "3 V78 N5 G00112233445566778899aabbccddeeff\n");
    assert_eq!(user.list("home/Maildir/cur").len(), 1, "it is not \\Recent");
}

#[test]
fn the_index_goes_along() {
    let user = User::new(&["one"]);
    user.write("home/mail/a/b", &message("x"));
    for file in ["dovecot.index", "dovecot.index.log", "dovecot.index.cache"] {
        user.write(&format!("home/mail/a/.imap/b/{file}"), file);
        user.write(&format!("home/mail/.imap/INBOX/{file}"), file);
    }
    user.write("home/mail/.imap/dovecot-uidvalidity", "f0000000");
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    let Report::Staged { indexed: true, .. } = agent.ask(Order::Stage, None) else { panic!() };
    user.append("home/mail/a/.imap/b/dovecot.index.log", "+");
    let Report::Staged { index_changes: 1, .. } = agent.ask(Order::Refresh, None) else { panic!() };
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { .. }));
    assert_eq!(agent.ask(Order::Commit, None), Report::Committed { folders_left: 0 });
    assert_eq!(user.read("home/Maildir/.a.b/dovecot.index.log"), "dovecot.index.log+");
    assert_eq!(user.read("home/Maildir/dovecot.index.cache"), "dovecot.index.cache");
    assert_eq!(user.read("home/Maildir/dovecot-uidvalidity"), "f0000000");
}
