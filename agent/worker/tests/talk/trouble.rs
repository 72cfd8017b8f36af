//! What goes wrong by somebody else's doing, and is no reason to give a mailbox up, or to forget it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use mailready_worker::job::Purpose;
use mailready_worker::wire::{Block, Order, Report};

use crate::user::{Agent, User};

/// Half of a rewrite looks like no mbox. It is only called so when nobody is at work in it any more.
#[test]
fn what_does_not_read_as_an_mbox_is_busy_as_long_as_somebody_has_it_open() {
    let user = User::new(&[]);
    user.write("spool", "the middle of a message\n");
    let rewriter = File::options().append(true).open(user.path("spool")).unwrap();
    let stage = || Agent::start(&user, Purpose::Convert, Some(user.spool())).ask(Order::Stage, None);
    assert_eq!(stage(), Report::Blocked { block: Block::Rewritten, detail: 0 });
    drop(rewriter);
    assert!(matches!(stage(), Report::Blocked { block: Block::NotMbox, .. }));
}

/// The agent forgets a run when its worker has ended well: one that leaves a stage behind has not, and is not forgotten before that is gone.
#[test]
fn a_stage_that_cannot_be_removed_is_told_and_removed_later() {
    let user = User::new(&["one"]);
    let stage = format!("home/.mailready/stage-{}", user.job.run);
    let mut agent = Agent::start(&user, Purpose::Convert, Some(user.spool()));
    assert!(matches!(agent.ask(Order::Stage, None), Report::Staged { .. }));
    // Nothing that the user could look into, let alone empty.
    let theirs = user.path(&format!("{stage}/theirs"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("x"), "").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(!agent.ends_well(Order::Abort), "it left something behind");
    assert!(user.path(&stage).exists());
    // Put away for the next run, as the stage of any run without commit.
    let probe = || Agent::start(&user, Purpose::Drain, None).ask(Order::Probe, None);
    assert!(matches!(probe(), Report::Probed { committed: false, .. }));
    assert!(!user.path(&stage).exists());
    assert!(user.path(&stage.replace("stage-", "kept-")).exists());
}
