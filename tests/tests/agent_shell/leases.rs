//! Leases: bound before they are answered, whatever happens.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mailready_agent::flow::{Bind, Standing};
use mailready_protocol::{Answer, Deadlines, Kind, Reason, Request, Source, announce};

use crate::site::{ANN, Site, announce_at, arrival, as_uid, can_be_others};
use crate::twin::{Heard, blocked, converted};

const LONG: Duration = Duration::from_secs(19);

fn bindings(site: &Site) -> Vec<Bind> {
    let only = |heard| match heard {
        Heard::Bound(_, bind) => Some(bind),
        _ => None,
    };
    site.twin.heard().into_iter().filter_map(only).collect()
}

#[test]
fn a_lease_waits_for_the_maildir_and_is_bound_to_it() {
    let site = Site::new();
    let lease = site.lease("ann", LONG);
    site.twin.wait_for_conversion("ann");
    assert_eq!(site.twin.heard()[0], Heard::Lease("ann".into()), "registered before anything is done");
    assert_eq!(bindings(&site), [], "nothing is bound while it waits");
    site.twin.end("ann", converted());
    assert_eq!(lease.join().unwrap(), Answer::Ready);
    assert_eq!(bindings(&site), [Bind::Ready]);
    assert_eq!(site.lease("ann", LONG).join().unwrap(), Answer::Ready, "and from memory the next time");
    assert_eq!(site.twin.conversions().len(), 1);
}

#[test]
fn every_stay_is_bound_whatever_its_reason() {
    let site = Site::with("[users]\nconvert = \"listed\"\n[sessions]\nbudget = \"1s\"\nmax_waiting = 1\n");
    let allow = site.path("allow");
    std::fs::write(&allow, "ann\nbob\ncid\n").unwrap();
    site.write_config(&format!(
        "[users]\nconvert = \"listed\"\nallow = {allow:?}\n[sessions]\nbudget = \"1s\"\nmax_waiting = 1\n"
    ));
    site.tell(mailready_agent::lifecycle::Command::Reload);
    site.eventually("ann may be converted", || {
        site.announce_and_wait("ann", Duration::from_millis(1)) == Answer::Stay(Reason::Late)
    });
    let ask = |user: &str, wait| site.lease(user, wait).join().unwrap();
    assert_eq!(ask("dan", LONG), Answer::Stay(Reason::NotSelected));
    assert_eq!(ask("ann", LONG), Answer::Stay(Reason::Late));
    site.twin.end("bob", blocked());
    assert_eq!(ask("bob", LONG), Answer::Stay(Reason::Blocked));
    assert_eq!(ask("cid", Duration::ZERO), Answer::Stay(Reason::Late), "one that does not wait");
    site.twin.stands(&site.account("eve"), Standing::Unknown);
    assert_eq!(ask("eve", LONG), Answer::Stay(Reason::Unsettled));
    assert_eq!(bindings(&site), [Bind::Stay; 5]);
    let abandoned = site.twin.heard().iter().any(|heard| matches!(heard, Heard::Abandoned(_)));
    assert!(!abandoned, "{:?}", site.twin.heard());
}

#[test]
fn a_script_that_goes_away_has_decided_for_the_mbox() {
    let site = Site::new();
    let request = Request { kind: Kind::Lease, source: Source::Dovecot, ..arrival("ann", LONG) };
    let (session, _imap) = UnixStream::pair().unwrap();
    let deadlines = Deadlines { first: LONG, beat: Duration::from_millis(10), total: LONG };
    assert!(
        announce(&site.arrival_socket(), &request, Some(session.as_fd()), deadlines, &mut |_| {}).is_err()
    );
    site.twin
        .wait_for("the lease is abandoned", |heard| heard.iter().any(|h| matches!(h, Heard::Abandoned(_))));
    assert_eq!(bindings(&site), []);
    site.twin.wait_for_conversion("ann");
}

#[test]
fn while_a_commit_is_under_way_the_answer_is_its_outcome() {
    let site = Site::with("[users]\nconvert = \"all\"\n[sessions]\nbudget = \"1s\"\n");
    site.twin.committing.store(true, Ordering::SeqCst);
    let lease = site.lease("ann", LONG);
    site.twin.wait_for_conversion("ann");
    // Its budget ends during the commit, when nobody may be told to stay.
    site.eventually("the budget is over", || {
        site.announce_and_wait("ann", LONG) == Answer::Stay(Reason::Late)
    });
    assert_eq!(bindings(&site), []);
    site.twin.end("ann", converted());
    assert_eq!(lease.join().unwrap(), Answer::Ready);
    assert_eq!(bindings(&site), [Bind::Ready]);
}

#[test]
fn a_session_that_cannot_be_known_gets_no_lease() {
    let site = Site::new();
    site.twin.refuse_leases.store(true, Ordering::SeqCst);
    assert_eq!(site.lease("ann", LONG).join().unwrap(), Answer::Refused(Reason::NotAllowed));
    assert_eq!(site.twin.heard(), []);
}

#[test]
fn users_ask_for_their_own_leases_only() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    site.twin.stands(&site.account("ann"), Standing::Maildir { run: "r".into() });
    let ask = |uid, user: &'static str| {
        let path = site.self_socket();
        as_uid(uid, move || {
            let request = Request { kind: Kind::Lease, source: Source::Dovecot, ..arrival(user, LONG) };
            let (session, _imap) = UnixStream::pair().unwrap();
            announce_at(&path, &request, Some(session.as_fd())).unwrap()
        })
    };
    assert_eq!(ask(ANN, "ann").join().unwrap(), Answer::Ready);
    assert_eq!(ask(ANN + 1, "ann").join().unwrap(), Answer::Refused(Reason::NotAllowed));
    assert_eq!(bindings(&site), [Bind::Ready]);
}

#[test]
fn more_leases_than_may_wait_stay_at_once() {
    let site = Site::with("[users]\nconvert = \"all\"\n[sessions]\nmax_waiting = 1\n");
    let waiting = site.lease("ann", LONG);
    site.twin.wait_for_conversion("ann");
    site.eventually("a second one is too many", || {
        site.lease("bob", Duration::from_millis(1)).join().unwrap() == Answer::Stay(Reason::Crowded)
    });
    site.twin.end("ann", converted());
    assert_eq!(waiting.join().unwrap(), Answer::Ready);
}
