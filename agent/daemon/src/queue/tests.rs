#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::account::Account;
use crate::outcome::Reason;

fn account(n: u32) -> SharedAccount {
    let name = format!("u{n}");
    let home = format!("/home/{name}");
    Arc::new(Account {
        uid: 1000 + n,
        gid: 1000 + n,
        inbox: format!("/var/mail/{name}").into(),
        folders: None,
        maildir: format!("{home}/Maildir").into(),
        work: format!("{home}/.mailready").into(),
        archive: "/var/mail/.mailready".into(),
        home: home.into(),
        name,
    })
}

fn limits(workers: usize) -> Limits {
    Limits { workers, length: 8, wait_limit: Duration::from_secs(60) }
}

fn queue(workers: usize) -> (Queue<u32>, Instant) {
    (Queue::new(limits(workers)), Instant::now())
}

fn add(queue: &mut Queue<u32>, now: Instant, n: u32, why: Why, size: u64) -> Submitted<u32> {
    queue.submit(now, &account(n), why, Some(size), || n)
}

fn start(queue: &mut Queue<u32>, now: Instant) -> Option<u32> {
    queue.next(now).map(|start| start.handle)
}

fn end(queue: &mut Queue<u32>, now: Instant, n: u32, outcome: &Outcome) -> Option<Instant> {
    queue.finished(now, &account(n).key(), outcome, || n + 1000)
}

fn converted() -> Outcome {
    Outcome::Converted { run: "r".into(), messages: 1 }
}

fn busy() -> Outcome {
    Outcome::Busy(Reason::new("busy", "a POP3 session is open", ""))
}

fn blocked() -> Outcome {
    Outcome::Blocked(Reason::new("maildir-exists", "there is a Maildir", "move it away"))
}

const LARGE: u64 = LARGE_BYTES + 1;

#[test]
fn one_mailbox_has_one_job_and_an_arrival_raises_it_in_place() {
    let (mut queue, now) = queue(3);
    add(&mut queue, now, 1, Why::Background, 1);
    add(&mut queue, now, 2, Why::Background, 1);
    assert_eq!(add(&mut queue, now, 2, Why::Arrival, 1), Submitted::Joined(2));
    assert_eq!((queue.ahead(&account(1).key()), queue.ahead(&account(2).key())), (Some(1), Some(0)));
    assert_eq!(start(&mut queue, now), Some(2), "promoted before the older one");
    assert_eq!(add(&mut queue, now, 2, Why::Arrival, 1), Submitted::Joined(2), "also while it runs");
    assert_eq!(start(&mut queue, now), Some(1));
    assert_eq!(start(&mut queue, now), None);
}

#[test]
fn lesser_work_leaves_a_slot_and_large_mailboxes_leave_one_too() {
    let (mut queue, now) = queue(2);
    add(&mut queue, now, 1, Why::Background, 1);
    add(&mut queue, now, 2, Why::Operator, 1);
    assert_eq!(start(&mut queue, now), Some(2), "an operator before background");
    assert_eq!(start(&mut queue, now), None, "the last slot is not for background");
    add(&mut queue, now, 3, Why::Arrival, LARGE);
    add(&mut queue, now, 4, Why::Arrival, LARGE);
    assert_eq!(start(&mut queue, now), Some(3));
    end(&mut queue, now, 2, &converted());
    assert_eq!(start(&mut queue, now), None, "one large mailbox runs, and it must not be all of them");
    add(&mut queue, now, 5, Why::Arrival, 1);
    assert_eq!(start(&mut queue, now), Some(5), "the large one that waits does not block the small one");
}

#[test]
fn with_one_worker_a_small_arrival_runs_beside_what_is_long() {
    let (mut queue, now) = queue(1);
    add(&mut queue, now, 1, Why::Arrival, LARGE);
    assert_eq!(start(&mut queue, now), Some(1));
    add(&mut queue, now, 2, Why::Operator, 1);
    assert_eq!(start(&mut queue, now), None);
    add(&mut queue, now, 3, Why::Arrival, 1);
    add(&mut queue, now, 4, Why::Arrival, 1);
    assert_eq!(start(&mut queue, now), Some(3));
    assert_eq!(start(&mut queue, now), None, "two at most");
}

#[test]
fn a_full_queue_says_so_and_keeps_room_for_arrivals() {
    let (mut queue, now) = queue(1);
    for n in 0..4 {
        assert_eq!(add(&mut queue, now, n, Why::Background, 1), Submitted::Queued(n));
    }
    assert_eq!(add(&mut queue, now, 4, Why::Background, 1), Submitted::Full);
    for n in 4..8 {
        assert_eq!(add(&mut queue, now, n, Why::Arrival, 1), Submitted::Queued(n));
    }
    assert_eq!(add(&mut queue, now, 8, Why::Arrival, 1), Submitted::Full);
    assert_eq!(add(&mut queue, now, 3, Why::Arrival, 1), Submitted::Joined(3), "joining needs no room");
}

#[test]
fn a_blocked_mailbox_rests_until_its_time_or_an_operators_word() {
    let (mut queue, now) = queue(2);
    add(&mut queue, now, 1, Why::Arrival, 1);
    start(&mut queue, now);
    assert_eq!(end(&mut queue, now, 1, &blocked()), None, "not tried again by itself");
    assert_eq!(add(&mut queue, now, 1, Why::Arrival, 1), Submitted::Resting(blocked()));
    assert_eq!(add(&mut queue, now, 1, Why::Operator, 1), Submitted::Queued(1));
    start(&mut queue, now);
    end(&mut queue, now, 1, &blocked());
    let later = now + Duration::from_secs(59);
    assert_eq!(add(&mut queue, later, 1, Why::Arrival, 1), Submitted::Resting(blocked()), "twice as long");
    let later = now + Duration::from_secs(60);
    assert_eq!(queue.last_outcome(&account(1).key()), Some((&blocked(), later)));
    assert_eq!(add(&mut queue, later, 1, Why::Arrival, 1), Submitted::Queued(1));
    start(&mut queue, later);
    end(&mut queue, later, 1, &converted());
    assert_eq!(queue.last_outcome(&account(1).key()), None);
}

#[test]
fn a_failed_mailbox_rests_ever_longer_and_begins_anew_after_another_outcome() {
    let failed = || Outcome::Failed(Reason::new("worker", "the worker died", ""));
    let (mut queue, mut now) = queue(2);
    let mut attempt = |outcome: &Outcome| {
        add(&mut queue, now, 1, Why::Arrival, 1);
        assert_eq!(start(&mut queue, now), Some(1), "its rest is over");
        assert_eq!(end(&mut queue, now, 1, outcome), None, "nobody but an arrival tries it again");
        let (_, until) = queue.last_outcome(&account(1).key()).unwrap();
        let rest = until.duration_since(now);
        assert!(matches!(
            add(&mut queue, until - Duration::from_millis(1), 1, Why::Arrival, 1),
            Submitted::Resting(Outcome::Failed(_) | Outcome::Blocked(_))
        ));
        now = until;
        rest.as_secs()
    };
    assert_eq!([(); 8].map(|()| attempt(&failed())), [10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!([(); 3].map(|()| attempt(&blocked())), [30, 60, 120]);
    assert_eq!(attempt(&failed()), 10);
}

#[test]
fn those_who_are_given_up_are_chosen_by_their_handle() {
    let (mut queue, now) = queue(1);
    for n in 1..=4 {
        add(&mut queue, now, n, Why::Arrival, 1);
    }
    assert_eq!(start(&mut queue, now), Some(1));
    let mut gone = queue.withdraw_jobs(|handle| *handle != 3);
    gone.sort_unstable();
    assert_eq!(gone, [2, 4], "the one that runs stays, and the one that is not chosen");
    end(&mut queue, now, 1, &converted());
    assert_eq!(start(&mut queue, now), Some(3));
}

#[test]
fn a_busy_mailbox_is_tried_again_by_itself_until_the_wait_limit() {
    let (mut queue, mut now) = queue(2);
    add(&mut queue, now, 1, Why::Arrival, 1);
    start(&mut queue, now);
    let mut attempts = 1;
    while let Some(again) = end(&mut queue, now, 1, &busy()) {
        assert_eq!(queue.due(), Some(again));
        assert_eq!(queue.job(&account(1).key()), None, "nobody waits for a job that waits for its time");
        assert_eq!(queue.next_attempt(&account(1).key()), Some(&1001));
        assert_eq!(start(&mut queue, again - Duration::from_millis(1)), None);
        assert_eq!(start(&mut queue, again), Some(1001), "a job with a handle of its own");
        now = again;
        attempts += 1;
    }
    assert_eq!(attempts, 5, "after 5, 15, 35 and 75 seconds");
    let Submitted::Resting(Outcome::Blocked(reason)) = add(&mut queue, now, 1, Why::Arrival, 1) else {
        panic!("past the limit it is blocked");
    };
    assert_eq!(reason.code, "busy");
    assert_eq!(queue.due(), None);
}

#[test]
fn what_has_not_started_can_be_withdrawn() {
    let (mut queue, now) = queue(2);
    for n in 1..=3 {
        add(&mut queue, now, n, Why::Arrival, 1);
    }
    start(&mut queue, now);
    end(&mut queue, now, 1, &busy());
    assert_eq!(start(&mut queue, now), Some(2));
    assert_eq!(queue.withdraw(|key| key.uid == 1002), Vec::<u32>::new(), "running jobs are not withdrawn");
    let mut gone = queue.withdraw(|_| true);
    gone.sort_unstable();
    assert_eq!(gone, [3, 1001]);
    assert_eq!(queue.load(), Load { running: 1, waiting: 0, later: 0 });
    assert_eq!((queue.due(), start(&mut queue, now)), (None, None));
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u32, Why, bool),
    Next,
    Finish(usize, u8),
    Wait(u64),
    Withdraw(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let why = prop_oneof![Just(Why::Background), Just(Why::Operator), Just(Why::Arrival)];
    let step = prop_oneof![
        4 => (0u32..12, why, any::<bool>()).prop_map(|(n, why, large)| Step::Submit(n, why, large)),
        4 => Just(Step::Next),
        3 => (any::<usize>(), 0u8..4).prop_map(|(n, outcome)| Step::Finish(n, outcome)),
        1 => (0u64..40).prop_map(Step::Wait),
        1 => (0u32..12).prop_map(Step::Withdraw),
    ];
    proptest::collection::vec(step, 0..120)
}

/// What a handle has seen; every handle that was given out must see exactly one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Waiting,
    Running,
    Ended,
}

proptest! {
    #[test]
    fn the_rules_hold_whatever_happens(workers in 1usize..4, steps in steps()) {
        let mut queue: Queue<u32> = Queue::new(limits(workers));
        let mut now = Instant::now();
        let mut lives: HashMap<u32, (u32, Life)> = HashMap::new();
        let mut rank: HashMap<u32, (Why, bool)> = HashMap::new();
        let mut handles = 0..;
        for step in steps {
            match step {
                Step::Submit(n, why, large) => {
                    let made = handles.next().unwrap();
                    match queue.submit(now, &account(n), why, Some(if large { LARGE } else { 1 }), || made) {
                        Submitted::Queued(handle) => {
                            prop_assert_eq!(handle, made);
                            prop_assert!(!lives.values().any(|(of, life)| *of == n && *life != Life::Ended), "a second job");
                            lives.insert(handle, (n, Life::Waiting));
                            rank.insert(n, (why, large));
                        }
                        Submitted::Joined(handle) => {
                            let (of, life) = lives[&handle];
                            prop_assert_eq!(of, n);
                            prop_assert_ne!(life, Life::Ended, "joined what is over");
                            let entry = rank.get_mut(&n).unwrap();
                            entry.0 = entry.0.max(why);
                        }
                        Submitted::Resting(_) => prop_assert_ne!(why, Why::Operator),
                        Submitted::Full => prop_assert!(queue.load().waiting * 2 >= limits(1).length),
                    }
                }
                Step::Next => {
                    let ready: Vec<u32> = lives.iter().filter(|(_, (n, life))| *life == Life::Waiting
                        && queue.job(&account(*n).key()).is_some()).map(|(_, (n, _))| *n).collect();
                    if let Some(started) = queue.next(now) {
                        let entry = lives.get_mut(&started.handle).unwrap();
                        prop_assert_eq!(entry.1, Life::Waiting);
                        entry.1 = Life::Running;
                        let (why, _) = rank[&entry.0];
                        prop_assert_eq!(why, started.why);
                        // Whoever is passed over outranks the one that started only if it is large.
                        for n in ready.into_iter().filter(|n| *n != entry.0) {
                            prop_assert!(rank[&n].0 <= why || rank[&n].1, "{n} was passed over");
                        }
                    } else {
                        // A small arrival waits only while every slot is taken.
                        let pressing = ready.iter().any(|n| rank[n] == (Why::Arrival, false));
                        prop_assert!(!pressing || queue.load().running >= workers);
                    }
                }
                Step::Finish(nth, outcome) => {
                    let mut running: Vec<u32> =
                        lives.iter().filter(|(_, (_, life))| *life == Life::Running).map(|(h, _)| *h).collect();
                    running.sort_unstable();
                    if running.is_empty() { continue; }
                    let handle = running[nth % running.len()];
                    let n = lives[&handle].0;
                    let outcome = [converted(), busy(), blocked(), Outcome::Stopped][usize::from(outcome)].clone();
                    let made = handles.next().unwrap();
                    lives.get_mut(&handle).unwrap().1 = Life::Ended;
                    if let Some(again) = queue.finished(now, &account(n).key(), &outcome, || made) {
                        prop_assert!(matches!(outcome, Outcome::Busy(_)) && again > now);
                        lives.insert(made, (n, Life::Waiting));
                    }
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Withdraw(n) => {
                    for handle in queue.withdraw(|key| key.uid == 1000 + n) {
                        let entry = lives.get_mut(&handle).unwrap();
                        prop_assert_eq!(*entry, (n, Life::Waiting));
                        entry.1 = Life::Ended;
                    }
                }
            }
            let running: Vec<u32> =
                lives.values().filter(|(_, life)| *life == Life::Running).map(|(n, _)| *n).collect();
            let load = queue.load();
            prop_assert_eq!(running.len(), load.running);
            prop_assert!(load.running <= workers.max(2));
            prop_assert!(running.iter().filter(|n| rank[n].1).count() <= (workers - 1).max(1), "large ones have all slots");
            let waiting = lives.values().filter(|(_, life)| *life == Life::Waiting).count();
            prop_assert_eq!(waiting, load.waiting + load.later, "a job was lost or doubled");
        }
    }
}
