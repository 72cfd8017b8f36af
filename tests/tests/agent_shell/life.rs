//! Reload, lists, ticks and the end.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mailready_agent::lifecycle::Command;
use mailready_protocol::{Answer, Reason};

use crate::site::Site;
use crate::twin::{Heard, blocked, converted};

const LONG: Duration = Duration::from_secs(19);
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_reload_takes_what_is_right_and_refuses_what_is_wrong() {
    let site = Site::with("[users]\nconvert = \"none\"\n");
    assert_eq!(site.announce_and_wait("ann", MOMENT), Answer::Stay(Reason::NotSelected));
    site.write_config("[users]\nconvert = \"al\"\n");
    site.tell(Command::Reload);
    site.write_config("[users]\nconvert = \"all\"\nmin_uid = 41001\n");
    site.tell(Command::Reload);
    site.twin.end("bob", converted());
    site.eventually("bob may be converted", || site.announce_and_wait("bob", LONG) == Answer::Ready);
    assert_eq!(site.announce_and_wait("ann", MOMENT), Answer::Stay(Reason::NotSelected));
    site.write_config("[users]\nconvert = \"nobody\"\n");
    site.tell(Command::Reload);
    site.tell(Command::Stop);
    assert_eq!(site.ended(), Ok(()), "wrong settings do not end an agent that has right ones");
}

#[test]
fn a_reload_ends_the_rest_of_those_in_trouble() {
    let site = Site::new();
    site.twin.end("ann", blocked());
    assert_eq!(site.announce_and_wait("ann", LONG), Answer::Stay(Reason::Blocked));
    site.twin.end("ann", converted());
    site.tell(Command::Reload);
    site.eventually("ann is tried again", || site.announce_and_wait("ann", LONG) == Answer::Ready);
}

#[test]
fn what_somebody_writes_into_the_hold_file_holds() {
    let site = Site::new();
    let hold = site.path("hold");
    fs::write(&hold, "").unwrap();
    site.write_config(&format!("[users]\nconvert = \"all\"\nhold = {hold:?}\n"));
    site.tell(Command::Reload);
    site.eventually("the settings are taken", || {
        fs::write(&hold, "ann\n").unwrap();
        site.announce_and_wait("ann", MOMENT) == Answer::Stay(Reason::Held)
    });
    fs::write(&hold, "not a name\n").unwrap();
    fs::write(&hold, "# nobody\n").unwrap();
    site.twin.end("ann", converted());
    site.eventually("and what is taken out does not", || {
        site.announce_and_wait("ann", LONG) == Answer::Ready
    });
}

#[test]
fn the_mailboxes_are_asked_to_look_after_late_mail() {
    let site = Site::new();
    site.eventually("two ticks", || site.twin.ticks() >= 2);
}

#[test]
fn the_end_answers_those_who_wait_and_removes_the_sockets() {
    let site = Site::new();
    let waiting = site.waiting("ann", LONG);
    let lease = site.lease("bob", LONG);
    site.twin.wait_for_conversion("ann");
    site.twin.wait_for_conversion("bob");
    // Both slots are taken, so this one waits in the queue.
    let queued = site.waiting("cid", LONG);
    site.eventually("cid waits", || site.announce("cid") == Answer::Taken);
    site.tell(Command::Stop);
    assert_eq!(waiting.join().unwrap(), Answer::Stay(Reason::Unsettled));
    assert_eq!(lease.join().unwrap(), Answer::Stay(Reason::Unsettled));
    // On a loaded machine its thread may come to the door when nobody is behind it any more.
    if let Ok(last) = queued.join() {
        assert!(matches!(last, Answer::Stay(Reason::Unsettled | Reason::HungUp)), "{last:?}");
    }
    assert_eq!(site.ended(), Ok(()));
    for socket in ["arrival.sock", "self.sock", "control.sock"] {
        assert!(!site.path(socket).exists(), "{socket} is still there");
    }
    assert_eq!(site.twin.conversions().len(), 2, "nothing is begun at the end");
    let bound = site.twin.heard().iter().filter(|heard| matches!(heard, Heard::Bound(..))).count();
    assert_eq!(bound, 1, "the lease was bound before it was told to stay");
}

#[test]
fn a_conversion_behind_its_commit_is_waited_for() {
    let site = Site::new();
    site.twin.committed.store(true, Ordering::SeqCst);
    let waiting = site.waiting("ann", LONG);
    site.twin.wait_for_conversion("ann");
    site.tell(Command::Stop);
    site.eventually("nobody can connect any more", || !site.path("arrival.sock").exists());
    assert!(!site.twin.heard().contains(&Heard::Ended("ann".into())));
    site.twin.end("ann", converted());
    assert_eq!(waiting.join().unwrap(), Answer::Ready);
    assert_eq!(site.ended(), Ok(()));
}
