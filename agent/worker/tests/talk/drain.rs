//! Mail that still comes to the folders' old places, and what a death leaves.

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use crate::user::{Agent, User, message};

fn drain(user: &User) -> Report {
    let mut agent = Agent::start(user, Purpose::Drain, None);
    let report = agent.ask(Order::DrainFolders { let_go: false }, None);
    assert_eq!(agent.ask(Order::Release, None), Report::Done);
    report
}

#[test]
fn mail_behind_a_tombstone_and_in_a_file_that_reappeared_is_carried_over_once() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/lists/x", &message("x"));
    user.convert();
    assert_eq!(drain(&user), Report::Drained { messages: 0, left: 0, strangers: 0 });
    user.append("home/mail/Sent", &message("late"));
    std::fs::remove_file(user.path("home/mail/lists/x")).unwrap();
    user.write("home/mail/lists/x", &(message("x") + &message("x2")));
    user.write("home/mail/stranger", &message("s"));
    let Report::Drained { messages: 2, strangers: 1, .. } = drain(&user) else { panic!() };
    assert_eq!(user.subjects("home/Maildir/.Sent"), ["late", "sent"]);
    assert_eq!(user.subjects("home/Maildir/.lists.x"), ["x", "x2"]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(drain(&user), Report::Drained { messages: 0, left: 0, strangers: 1 });
    let aside = user.list(&format!("home/.mailready/aside-{}", user.job.run));
    assert_eq!(aside.len(), 3, "the tombstone is forgotten, the mbox that reappeared is kept: {aside:?}");
    assert_eq!(user.read("home/mail/stranger"), message("s"));
}

#[test]
fn mail_that_a_slow_deliverer_adds_to_an_original_and_mail_for_a_deleted_folder_are_not_lost() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    user.convert();
    user.append(&format!("home/.mailready/aside-{}/1.0", user.job.run), &message("slow"));
    let Report::Drained { messages: 1, .. } = drain(&user) else { panic!() };
    assert_eq!(user.subjects("home/Maildir/.Sent"), ["sent", "slow"]);
    std::fs::remove_dir_all(user.path("home/Maildir/.Sent")).unwrap();
    assert_eq!(drain(&user), Report::Drained { messages: 0, left: 0, strangers: 0 });
    assert!(!user.path("home/Maildir/.Sent").exists(), "a folder is made again for mail, and never for none");
    user.append("home/mail/Sent", &message("late"));
    let Report::Drained { messages: 1, .. } = drain(&user) else { panic!() };
    assert_eq!(user.subjects("home/Maildir/.Sent"), ["late"]);
    assert!(user.path("home/Maildir/.Sent/maildirfolder").exists());
}

#[test]
fn a_death_between_commit_and_set_aside_is_made_good() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/lists/x", &message("x"));
    user.convert();
    // As if it had died after the first of two exchanges.
    let aside = format!("home/.mailready/aside-{}", user.job.run);
    let (place, original) = (user.path("home/mail/lists/x"), user.path(&format!("{aside}/2.0")));
    let between = user.path("home/between");
    for (from, to) in [(&place, &between), (&original, &place), (&between, &original)] {
        std::fs::rename(from, to).unwrap();
    }
    let mut agent = Agent::start(&user, Purpose::Drain, None);
    let probed = agent.ask(Order::Probe, None);
    assert!(
        matches!(probed, Report::Probed { committed: true, folders: 2, folders_left: 1, .. }),
        "{probed:?}"
    );
    assert!(matches!(agent.ask(Order::Refresh, None), Report::Staged { boxes: 3, .. }));
    let open = std::fs::File::open(&place).unwrap();
    assert_eq!(agent.ask(Order::Confirm, None), Report::Changed);
    drop(open);
    assert_eq!(agent.ask(Order::Confirm, None), Report::Confirmed { messages: 0, length: 0 });
    assert_eq!(agent.ask(Order::SetAside, None), Report::Committed { folders_left: 0 });
    let Report::Probed { folders_left: 0, .. } = agent.ask(Order::Probe, None) else { panic!() };
    assert_eq!(agent.ask(Order::Release, None), Report::Done);
    assert_eq!(user.read(&format!("{aside}/2.0")), message("x"));
    assert_eq!(user.list("home/mail/lists"), ["x"]);
}

#[test]
fn a_worker_killed_under_its_locks_leaves_nothing_that_the_next_does_not_remove() {
    let user = User::new(&["one"]);
    user.write("home/mail/Sent", &message("sent"));
    user.write("home/mail/lists/x", &message("x"));
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    agent.ask(Order::Stage, None);
    agent.ask(Order::Refresh, None);
    assert!(matches!(agent.ask(Order::Confirm, None), Report::Confirmed { .. }));
    agent.kill();
    assert_eq!(user.list("home/mail/lists"), ["x", "x.lock"]);
    let mut agent = Agent::start(&user, Purpose::Drain, None);
    let Report::Probed { committed: false, withdrawn: false, .. } = agent.ask(Order::Probe, None) else {
        panic!()
    };
    assert_eq!(agent.ask(Order::Release, None), Report::Done);
    // For the next run, which takes it over.
    assert_eq!(user.list("home/.mailready"), [format!("kept-{}", user.job.run)]);
    assert_eq!((user.list("home/mail/lists"), user.list("home/mail").len()), (vec!["x".to_owned()], 2));
    user.convert();
}
