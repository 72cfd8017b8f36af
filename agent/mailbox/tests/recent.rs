//! Which messages are \Recent is known to the server's index alone, and may change while a stage stands.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use support::{FROM, Place};

/// How many files are in new/ and in cur/.
fn new_and_cur(path: &std::path::Path) -> (usize, usize) {
    let count = |folder| std::fs::read_dir(path.join(folder)).unwrap().count();
    (count("new"), count("cur"))
}

#[test]
fn a_stage_follows_the_server_and_takes_more_mail_after_that() {
    let message = |i: u32, status: &str| format!("{FROM}Subject: {i}\n{status}\nbody {i}\n\n");
    let mbox = format!(
        "{}{}{}{}",
        message(1, "Status: RO\n"),
        message(2, "Status: R\n"),
        message(3, ""),
        message(4, "")
    );
    let place = Place::new(mbox.as_bytes());
    let (mut stage, path) = place.stage().unwrap();
    assert_eq!(new_and_cur(&path), (3, 1), "by O, as long as nobody else says");
    for (not_recent, expected) in [(4, (0, 4)), (2, (2, 2)), (2, (2, 2)), (0, (4, 0)), (3, (1, 3))] {
        stage.set_not_recent(Some(not_recent)).unwrap();
        assert_eq!(new_and_cur(&path), expected, "{not_recent} are not recent");
    }
    // The last message is taken back and written again where it is now.
    place.put(format!("{mbox}{}", message(5, "")).as_bytes());
    stage.append_rest(place.mbox().as_fd(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(new_and_cur(&path), (2, 3));
    stage.set_not_recent(Some(5)).unwrap();
    assert_eq!(new_and_cur(&path), (0, 5));
    stage.seal().unwrap();
    assert_eq!(
        mailready_mailbox::verify::verify(
            stage.folder().unwrap().as_fd(),
            &mut |_| ControlFlow::Continue(())
        )
        .unwrap()
        .messages,
        5
    );
}
