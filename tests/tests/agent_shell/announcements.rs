//! Announcements by trusted programs.

use std::time::{Duration, Instant};

use mailready_agent::flow::Standing;
use mailready_agent::outcome::Why;
use mailready_protocol::{Answer, ClientError, Deadlines, Reason, Request, Service, Source, announce};

use crate::site::{Setup, Site, announce_at, announce_watching, arrival};
use crate::twin::{blocked, busy, converted};

const LONG: Duration = Duration::from_secs(19);

#[test]
fn an_arrival_is_taken_and_converts_its_user_once() {
    let site = Site::new();
    for _ in 0..5 {
        assert_eq!(site.announce("ann"), Answer::Taken);
    }
    site.twin.wait_for_conversion("ann");
    assert_eq!(site.announce("ann@example.org"), Answer::Taken);
    site.twin.end("ann", converted());
    assert_eq!(site.announce_and_wait("ann", LONG), Answer::Ready);
    assert_eq!(site.announce("ann"), Answer::Taken, "who does not wait is told no more");
    assert_eq!(site.twin.conversions(), [("ann".to_owned(), Why::Arrival)]);
    assert_eq!(*site.looked_up.lock().unwrap(), ["ann"], "one login asks the name service once");
}

#[test]
fn who_waits_hears_beats_and_then_the_outcome() {
    let site = Site::new();
    let (path, request) = (site.arrival_socket(), arrival("ann", LONG));
    let (tell, beats) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        announce_watching(&path, &request, None, &mut |progress| tell.send(progress).unwrap()).unwrap()
    });
    beats.recv_timeout(LONG).unwrap();
    let progress = beats.iter().find(|progress| progress.done > 0).unwrap();
    assert_eq!((progress.done, progress.total), (7, 0), "messages, and nobody knows of how many");
    site.twin.end("ann", converted());
    assert_eq!(waiting.join().unwrap(), Answer::Ready);
}

#[test]
fn outcomes_become_answers_and_a_mailbox_in_trouble_rests() {
    let site = Site::new();
    site.twin.end("ann", blocked());
    site.twin.end("bob", busy());
    assert_eq!(site.announce_and_wait("ann", LONG), Answer::Stay(Reason::Blocked));
    assert_eq!(site.announce_and_wait("ann", LONG), Answer::Stay(Reason::Blocked));
    assert_eq!(site.announce_and_wait("bob", LONG), Answer::Stay(Reason::Busy));
    assert_eq!(site.announce_and_wait("bob", LONG), Answer::Stay(Reason::Busy));
    assert_eq!(site.twin.conversions().len(), 2, "the second answers cost nothing");
}

#[test]
fn whoever_is_on_maildir_is_ready_whatever_the_configuration_says_now() {
    let site = Site::with("[users]\nconvert = \"none\"\n");
    site.twin.stands(&site.account("ann"), Standing::Maildir { run: "r".into() });
    site.twin.stands(&site.account("cid"), Standing::Unknown);
    assert_eq!(site.announce_and_wait("ann", LONG), Answer::Ready);
    assert_eq!(site.announce_and_wait("bob", LONG), Answer::Stay(Reason::NotSelected));
    assert_eq!(site.announce_and_wait("cid", LONG), Answer::Stay(Reason::Unsettled));
    assert_eq!(site.announce("bob"), Answer::Taken);
    assert_eq!(
        site.announce("cid"),
        Answer::Stay(Reason::Unsettled),
        "an arrival that is not taken is not said to be"
    );
    assert_eq!(site.twin.heard(), []);
}

#[test]
fn sources_and_pam_services_that_do_not_count_convert_nobody() {
    let site = Site::with("[users]\nconvert = \"all\"\n[arrival]\nsources = [\"pam\", \"ppp\"]\n");
    let say = |source, service: &str| {
        let service = Service::new(service.as_bytes()).unwrap();
        let request = Request { source, service, ..arrival("ann", Duration::ZERO) };
        announce_at(&site.arrival_socket(), &request, None).unwrap()
    };
    assert_eq!(say(Source::Pam, "cron"), Answer::Refused(Reason::NotCounted));
    assert_eq!(say(Source::Radius, "imap"), Answer::Refused(Reason::NotCounted));
    assert_eq!(site.twin.heard(), []);
    assert_eq!(say(Source::Ppp, ""), Answer::Taken, "services are PAM's");
    site.twin.wait_for_conversion("ann");
}

#[test]
fn names_that_cannot_be_users_are_refused_before_any_look_up() {
    let site = Site::new();
    for name in ["../ann", "ann/", "/", ".", "..", ".ann", "ann\n", "\u{1b}[2J", "@example.org", "a:b"] {
        assert_eq!(site.announce_and_wait(name, LONG), Answer::Refused(Reason::Malformed), "{name:?}");
    }
    assert!(site.looked_up.lock().unwrap().is_empty());
    assert_eq!(site.announce_and_wait("zed", LONG), Answer::Refused(Reason::UnknownUser));
    assert_eq!(site.announce("zed"), Answer::Refused(Reason::UnknownUser));
    assert_eq!(*site.looked_up.lock().unwrap(), ["zed"], "and an unknown one is looked up once");
    assert_eq!(site.twin.heard(), []);
}

#[test]
fn a_name_service_that_hangs_delays_no_first_answer() {
    let (release, slow) = std::sync::mpsc::channel();
    let config = "[users]\nconvert = \"all\"\n".to_owned();
    let site = Site::set_up(Setup { config, bus: "none".to_owned(), slow: Some(slow) });
    let begun = Instant::now();
    assert_eq!(site.announce("slow-ann"), Answer::Taken);
    // 100 ms is promised; a loaded machine gets some more, a name service none.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Whoever repeats what is not answered is not told that it was taken before it is.
    let by_radius = Request { source: Source::Radius, ..arrival("slow-dan", Duration::ZERO) };
    let heard = announce(&site.arrival_socket(), &by_radius, None, Deadlines::announcing(), &mut |_| {});
    assert!(matches!(heard, Err(ClientError::Silent { .. })), "{heard:?}");
    let deadlines = Deadlines { first: Duration::from_secs(2), ..Deadlines::waiting(LONG) };
    let (path, request) = (site.arrival_socket(), arrival("slow-bob", LONG));
    let (tell, beats) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        announce(&path, &request, None, deadlines, &mut |progress| tell.send(progress).unwrap())
    });
    beats.recv_timeout(LONG).unwrap();
    site.eventually("all are looked up", || site.looked_up.lock().unwrap().len() == 3);
    assert_eq!(site.announce("cid"), Answer::Taken, "others are not held up");
    site.twin.wait_for_conversion("cid");
    for user in ["ann", "bob", "cid", "dan"] {
        site.twin.end(user, converted());
    }
    drop(release);
    site.twin.wait_for_conversion("ann");
    assert_eq!(waiting.join().unwrap(), Ok(Answer::Ready));
}

#[test]
fn who_waits_longer_than_allowed_hears_that_it_is_late() {
    let site = Site::with("[users]\nconvert = \"all\"\n[sessions]\nbudget = \"1s\"\n");
    let begun = Instant::now();
    assert_eq!(site.announce_and_wait("ann", LONG), Answer::Stay(Reason::Late));
    assert!(begun.elapsed() < LONG, "the budget ends the wait, and not the client");
    assert_eq!(site.announce_and_wait("bob", Duration::from_millis(50)), Answer::Stay(Reason::Late));
    site.twin.end("ann", converted());
    site.eventually("the conversion goes on all the same", || {
        site.announce_and_wait("ann", Duration::from_millis(1)) == Answer::Ready
    });
}

#[test]
fn more_waiters_than_allowed_are_sent_on_at_once() {
    let site = Site::with("[users]\nconvert = \"all\"\n[sessions]\nmax_waiting = 2\n");
    let waiting: Vec<_> = (0..2).map(|_| site.waiting("ann", LONG)).collect();
    site.twin.wait_for_conversion("ann");
    site.eventually("a third is one too many", || {
        site.announce_and_wait("bob", Duration::from_millis(1)) == Answer::Stay(Reason::Crowded)
    });
    site.twin.end("ann", converted());
    for waiter in waiting {
        assert_eq!(waiter.join().unwrap(), Answer::Ready);
    }
    site.twin.end("bob", converted());
    assert_eq!(site.announce_and_wait("bob", LONG), Answer::Ready, "their places are free again");
}
