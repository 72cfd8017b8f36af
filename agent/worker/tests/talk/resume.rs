//! What a conversion leaves for the next one of the same mailbox.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use mailready_worker::RunId;
use mailready_worker::job::Purpose;
use mailready_worker::wire::{Order, Report};

use crate::user::{Agent, User, message};

fn user() -> User {
    let user = User::new(&["one", "two", "three"]);
    user.write("home/mail/lists/dev", &(message("a") + &message("b")));
    user
}

/// A worker that has staged.
fn staged(user: &User) -> Agent {
    let mut agent = Agent::start(user, Purpose::Convert, Some(user.spool()));
    assert!(matches!(agent.ask(Order::Stage, None), Report::Staged { messages: 5, .. }));
    agent
}

/// The numbers of the files of both mailboxes below a folder of the work folder.
fn inodes(user: &User, stage: &str) -> BTreeSet<u64> {
    let folders = ["cur", "new", ".lists.dev/cur", ".lists.dev/new"];
    let files = folders.iter().flat_map(|folder| {
        let path = format!("home/.mailready/{stage}/{folder}");
        user.list(&path).into_iter().map(move |name| user.path(&path).join(name))
    });
    files.map(|path| std::fs::metadata(path).unwrap().ino()).collect()
}

/// What is in the work folder.
fn work(user: &User) -> Vec<String> {
    user.list("home/.mailready")
}

#[test]
fn an_agent_that_goes_away_and_one_that_says_so_leave_the_stage_to_the_next_run() {
    for polite in [true, false] {
        let mut user = user();
        let agent = staged(&user);
        let before = inodes(&user, &format!("stage-{}", user.job.run));
        assert_eq!(before.len(), 5);
        if polite {
            agent.leave()
        } else {
            agent.hang_up()
        }
        let kept = format!("kept-{}", user.job.run);
        assert_eq!(work(&user), [kept.as_str()]);
        user.job.run = RunId::generate().unwrap().to_string();
        let agent = staged(&user);
        assert_eq!(inodes(&user, &format!("stage-{}", user.job.run)), before, "each is the very same file");
        assert!(!user.path("home/.mailready").join(kept).exists(), "used up");
        agent.abort();
        assert_eq!(work(&user), [""; 0]);
        user.convert();
        assert_eq!(user.subjects("home/Maildir"), ["one", "three", "two"]);
        assert_eq!(user.subjects("home/Maildir/.lists.dev"), ["a", "b"]);
    }
}

#[test]
fn the_stage_of_a_killed_run_is_kept_when_it_is_settled() {
    let mut user = user();
    let agent = staged(&user);
    let before = inodes(&user, &format!("stage-{}", user.job.run));
    agent.kill();
    let mut settling = Agent::start(&user, Purpose::Drain, None);
    assert!(matches!(settling.ask(Order::Probe, None), Report::Probed { committed: false, .. }));
    assert_eq!(settling.ask(Order::Release, None), Report::Done);
    // A second run dies as well, before it has come to the second mailbox: what it took over is in its stage, the rest where it was.
    let first = format!("kept-{}", user.job.run);
    user.job.run = RunId::generate().unwrap().to_string();
    let second = format!("kept-{}", user.job.run);
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(user.path("home/.mailready").join(&second).join(sub)).unwrap();
        let from = user.path("home/.mailready").join(&first).join(sub);
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            let to = user.path("home/.mailready").join(&second).join(sub).join(file.file_name());
            std::fs::rename(file.path(), to).unwrap();
        }
    }
    user.job.run = RunId::generate().unwrap().to_string();
    user.own_all();
    let agent = staged(&user);
    assert_eq!(inodes(&user, &format!("stage-{}", user.job.run)), before);
    agent.abort();
    assert_eq!(work(&user), [""; 0]);
}

#[test]
fn what_nobody_came_for_is_removed_when_that_is_asked_for() {
    let user = user();
    staged(&user).leave();
    let mut sweeping = Agent::start(&user, Purpose::Drain, None);
    sweeping.order(Order::Discard, None);
    assert_eq!(sweeping.ask(Order::Release, None), Report::Done);
    assert_eq!(work(&user), [""; 0]);
}

#[test]
fn a_run_that_fails_for_a_reason_keeps_nothing_not_even_of_others() {
    let mut user = user();
    staged(&user).leave();
    user.job.run = RunId::generate().unwrap().to_string();
    // The agent has its reasons, and the room is wanted.
    Agent::start(&user, Purpose::Convert, Some(user.spool())).abort();
    assert_eq!(work(&user), [""; 0]);
}
