//! From the Maildir back to mboxes.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Block, Order, Report};

use crate::user::{Agent, User, message, told};

/// The file that the agent makes for the inbox.
fn back_file(user: &User) -> OwnedFd {
    user.write("back", "");
    File::options().read(true).write(true).open(user.path("back")).unwrap().into()
}

/// What the agent has put in the archive at the conversion, and does at the end of a rollback.
fn take_spool_away(user: &User) {
    fs::rename(user.path("spool"), user.path("original")).unwrap();
    let tombstone =
        mailready_worker::tombstone::text(&mailready_worker::RunId::parse(&user.job.run).unwrap());
    user.write("spool", std::str::from_utf8(&tombstone).unwrap());
}

fn open(user: &User, below: &str) -> OwnedFd {
    File::options().read(true).write(true).open(user.path(below)).unwrap().into()
}

fn subjects(user: &User, below: &str) -> Vec<String> {
    user.read(below).lines().filter_map(|line| line.strip_prefix("Subject: ").map(str::to_owned)).collect()
}

/// All up to the commit of the rollback.
fn withdraw(user: &User, agent: &mut Agent) {
    agent.order(Order::Spool, Some(open(user, "original")));
    assert!(matches!(agent.ask(Order::BackStage, None), Report::BackStaged { .. }));
    assert_eq!(agent.ask(Order::BackMark, None), Report::Obeyed);
    assert!(user.path("home/.mailready/rolling-back").exists());
    assert!(matches!(agent.ask(Order::BackStage, None), Report::BackStaged { .. }));
    let confirmed = agent.ask(Order::BackConfirm, None);
    assert!(matches!(confirmed, Report::BackConfirmed { .. }), "{confirmed:?}");
    assert_eq!(agent.ask(Order::Withdraw, None), Report::Withdrawn);
    assert!(user.path("home/Maildir").is_file());
}

/// All after it.
fn finish(user: &User, agent: &mut Agent) -> u64 {
    let Report::BackPlaced { messages: in_folders, folders_left: 0, .. } =
        agent.ask(Order::BackFolders, None)
    else {
        panic!()
    };
    let Report::BackPlaced { messages, .. } = agent.ask(Order::BackRest, Some(open(user, "spool"))) else {
        panic!()
    };
    fs::rename(user.path("back"), user.path("spool")).unwrap();
    assert_eq!(agent.ask(Order::BackDone, None), Report::Done);
    assert!(!user.path("home/Maildir").exists());
    let mut left = user.list("home/.mailready");
    left.retain(|name| !name.starts_with("aside-") && !name.starts_with("withdrawn-"));
    assert_eq!(left, [""; 0]);
    in_folders + messages
}

#[test]
fn everything_comes_back_with_what_has_happened_since() {
    let user = User::new(&["one", "two"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/lists/x", &message("x"));
    user.write("home/mail/lists/gone", &message("gone"));
    user.write("home/mail/.subscriptions", "Sent\n");
    user.convert();
    take_spool_away(&user);
    // A folder deleted, one made, mail delivered.
    fs::remove_dir_all(user.path("home/Maildir/.lists.gone")).unwrap();
    for sub in ["cur", "new", "tmp"] {
        user.write(&format!("home/Maildir/.Entw&APw-rfe.neu/{sub}/.keep"), "");
        fs::remove_file(user.path(&format!("home/Maildir/.Entw&APw-rfe.neu/{sub}/.keep"))).unwrap();
    }
    user.write("home/Maildir/.Entw&APw-rfe.neu/cur/1.a.b:2,S", "Subject: draft\n\nx\n");
    user.write("home/Maildir/new/2.a.b", "Subject: three\n\nx\n");
    user.write("home/Maildir/.Sent/dovecot.index.log", "the index");
    let mut agent = Agent::start(&user, Purpose::Rollback, Some(back_file(&user)));
    withdraw(&user, &mut agent);
    user.write(&format!("home/.mailready/withdrawn-{}/new/3.a.b", user.job.run), "Subject: late\n\nx\n");
    user.append("home/mail/Sent", &message("behind the tombstone"));
    user.append("spool", &message("behind the spool's"));
    assert_eq!(finish(&user, &mut agent), 3);
    assert_eq!(subjects(&user, "spool"), ["one", "two", "three", "late", "behind the spool's"]);
    assert!(user.read("spool").starts_with("From a@b.example Thu Jan  1 10:00:00 2026\n"));
    assert_eq!(subjects(&user, "home/mail/Sent"), ["sent", "behind the tombstone"]);
    assert_eq!(subjects(&user, "home/mail/lists/x"), ["x"]);
    assert_eq!(subjects(&user, "home/mail/Entw&APw-rfe/neu"), ["draft"]);
    assert!(!user.path("home/mail/lists/gone").exists());
    assert_eq!(user.read("home/mail/.imap/Sent/dovecot.index.log"), "the index");
    assert_eq!(user.read("home/mail/.subscriptions"), "V\t2\n\nSent\n");
}

#[test]
fn there_and_back_three_times_changes_nothing_after_the_first() {
    let mut user = User::new(&["one", "two"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/a/empty", "");
    let state =
        |user: &User| [user.read("spool"), user.read("home/mail/Sent"), user.read("home/mail/a/empty")];
    let mut before = None;
    for _ in 0..3 {
        user.job.run = mailready_worker::RunId::generate().unwrap().to_string();
        let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
        agent.ask(Order::Stage, Some(told(&["a/empty 0 0 1 78 9 -"])));
        agent.ask(Order::Refresh, None);
        std::thread::sleep(std::time::Duration::from_millis(12));
        assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { messages: 3, .. }));
        assert_eq!(agent.ask(Order::Commit, None), Report::Committed { folders_left: 0 });
        assert_eq!(agent.ask(Order::Release, None), Report::Done);
        drop(agent);
        take_spool_away(&user);
        let mut agent = Agent::start(&user, Purpose::Rollback, Some(back_file(&user)));
        withdraw(&user, &mut agent);
        assert_eq!(finish(&user, &mut agent), 0);
        let now = state(&user);
        assert!(before.is_none_or(|before| before == now));
        before = Some(now);
    }
}

#[test]
fn a_rollback_that_is_given_up_leaves_nothing() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    user.convert();
    take_spool_away(&user);
    let mut agent = Agent::start(&user, Purpose::Rollback, Some(back_file(&user)));
    agent.ask(Order::BackStage, None);
    agent.ask(Order::BackMark, None);
    user.write("home/Maildir/.Sent/new/2.a.b", "Subject: new\n\nx\n");
    assert_eq!(agent.ask(Order::BackConfirm, None), Report::Changed);
    let Report::BackStaged { messages: 3, .. } = agent.ask(Order::BackStage, None) else { panic!() };
    assert!(matches!(agent.ask(Order::BackConfirm, None), Report::BackConfirmed { messages: 3, .. }));
    assert!(user.path("home/Maildir/.Sent/dovecot-uidlist.lock").exists());
    agent.kill();
    let mut agent = Agent::start(&user, Purpose::Drain, None);
    let probed = agent.ask(Order::Probe, None);
    let Report::Probed { committed: true, withdrawn: false, rolling_back: true, .. } = probed else {
        panic!("{probed:?}")
    };
    assert_eq!(agent.ask(Order::Release, None), Report::Done);
    Agent::start(&user, Purpose::Rollback, Some(back_file(&user))).abort();
    assert_eq!(user.list("home/.mailready"), [format!("aside-{}", user.job.run)]);
    assert!(!user.path("home/Maildir/.Sent/dovecot-uidlist.lock").exists());
}

#[test]
fn a_death_after_the_commit_is_rolled_forward() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/x", &message("x"));
    user.convert();
    take_spool_away(&user);
    let mut agent = Agent::start(&user, Purpose::Rollback, Some(back_file(&user)));
    withdraw(&user, &mut agent);
    // One of two folders is in its place, the other is held by somebody.
    let open_elsewhere = open(&user, "home/mail/x");
    let Report::BackPlaced { folders_left: 1, .. } = agent.ask(Order::BackFolders, None) else { panic!() };
    agent.kill();
    drop(open_elsewhere);
    user.append("home/mail/Sent", &message("after"));
    let mut agent = Agent::start(&user, Purpose::Rollback, Some(back_file(&user)));
    let Report::Probed { committed: false, withdrawn: true, .. } = agent.ask(Order::Probe, None) else {
        panic!()
    };
    agent.order(Order::Spool, Some(open(&user, "original")));
    finish(&user, &mut agent);
    assert_eq!(subjects(&user, "home/mail/Sent"), ["sent", "after"]);
    assert_eq!(subjects(&user, "home/mail/x"), ["x"]);
    assert_eq!(subjects(&user, "spool"), ["one"]);
}

#[test]
fn what_an_mbox_tree_cannot_hold_blocks_before_anything_is_done() {
    let blocked = |change: &dyn Fn(&User)| {
        let user = User::new(&["one"]);
        user.write("home/mail/a", &message("a"));
        user.convert();
        take_spool_away(&user);
        change(&user);
        let mut agent = Agent::start(&user, Purpose::Rollback, Some(back_file(&user)));
        let report = agent.ask(Order::BackStage, None);
        assert_eq!(agent.report(), None);
        assert_eq!(user.list("home/.mailready"), [format!("aside-{}", user.job.run)]);
        report
    };
    let folder = |user: &User, name: &str| {
        for sub in ["cur", "new", "tmp"] {
            user.write(&format!("home/Maildir/{name}/{sub}/.keep"), "");
        }
    };
    let child = blocked(&|user| folder(user, ".a.b"));
    assert_eq!(child, Report::Blocked { block: Block::MailWithChildren, detail: 1 });
    let taken = blocked(&|user| {
        folder(user, ".new");
        user.write("home/mail/new", &message("a stranger's"));
    });
    assert_eq!(taken, Report::Blocked { block: Block::PlaceTaken, detail: 2 });
    let hidden = blocked(&|user| {
        let name = &user.list("home/Maildir/.a/new")[0];
        user.write(&format!("home/Maildir/.a/new/{name}"), "Status: RO\nSubject: x\n\nx\n");
    });
    assert_eq!(hidden, Report::Blocked { block: Block::NotRepresentable, detail: 1 });
}
