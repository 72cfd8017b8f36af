//! Every window hit on purpose: agent or worker is stopped in it, every deliverer delivers, they go on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use mailready_tests::lab::{LabError, Result, User};
use mailready_tests::stops::Order;

use super::deliverer::Deliverer;
use super::lane::{Lane, PATIENCE, story};
use super::post::Told;

/// For everybody to come as far as the window lets him. Who is neither through nor seen waiting by then is not counted.
const WATCHING: Duration = Duration::from_secs(15);

/// What is under way when the deliveries come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Convert,
    /// One message behind the tombstone is carried over.
    Drain,
    Back,
}

/// A window: it begins behind the first call of agent or worker that names this (`USER` is the user), and they are stopped at the next one that
/// changes something.
struct Window {
    name: &'static str,
    work: Work,
    behind: &'static str,
}

const WINDOWS: [Window; 11] = [
    Window { name: "look to lock", work: Work::Convert, behind: ".new -> /var/mail/.mailready/" },
    Window { name: "dotlock to kernel lock", work: Work::Convert, behind: "-> /var/mail/USER.lock" },
    Window { name: "lock to commit", work: Work::Convert, behind: "/mailready-marker" },
    Window { name: "commit to set-aside", work: Work::Convert, behind: "-> /home/USER/Maildir" },
    Window { name: "set-aside to unlock", work: Work::Convert, behind: ".0 -> /var/mail/USER" },
    Window { name: "drain, rotated", work: Work::Drain, behind: "/home/USER/.mailready" },
    Window { name: "drain, extracted", work: Work::Drain, behind: ".tmp -> /home/USER/.mailready/drain-" },
    Window { name: "rollback, marked", work: Work::Back, behind: "/rolling-back" },
    Window { name: "rollback, withdrawn", work: Work::Back, behind: "-> /home/USER/Maildir" },
    Window { name: "rollback, locked", work: Work::Back, behind: "-> /var/mail/USER.lock" },
    Window { name: "rollback, spool in its place", work: Work::Back, behind: ".back -> /var/mail/USER" },
];

/// Machines for each of told and untold.
const LANES: usize = 2;

#[test]
fn a_delivery_by_every_deliverer_in_every_window() -> Result<()> {
    let lanes = [Told::Yes, Told::No].map(|told| (told, AtomicUsize::new(0)));
    let hits = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter()
            .flat_map(|(told, next)| (0..LANES).map(move |_| (*told, next)))
            .map(|(told, next)| (told, next, &hits))
            .map(|(told, next, hits)| scope.spawn(move || lane(told, next, hits)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let hits = hits.into_inner().unwrap_or_else(PoisonError::into_inner);
    if hits.is_empty() {
        return Ok(());
    }
    let mut text = String::from("deliveries made in each window (went through / waited for a lock):\n");
    for (number, window) in WINDOWS.iter().enumerate() {
        let only = std::env::var("MAILREADY_WINDOW").unwrap_or_default();
        if !window.name.contains(&only) {
            continue;
        }
        let mut all = Hit::default();
        let _ = write!(text, "  {:30}", window.name);
        for told in [Told::Yes, Told::No] {
            let Some((hit, place)) = hits.get(&(number, told == Told::Yes)) else { continue };
            let name = if told == Told::Yes { "told" } else { "untold" };
            let _ = write!(text, "{name} {}/{}  ", hit.through.len(), hit.waited.len());
            all.through.extend(&hit.through);
            all.waited.extend(&hit.waited);
            let _ = write!(text, "[{place}]  ");
        }
        let _ = writeln!(text);
        assert!(!all.through.is_empty() || !all.waited.is_empty(), "nobody hit {}:\n{text}", window.name);
    }
    // Past the capture of the harness; if stderr is closed nobody is listening.
    let _ = std::io::stderr().write_all(text.as_bytes());
    let waited: usize = hits.values().map(|(hit, _)| hit.waited.len()).sum();
    assert!(waited > 0, "nobody waited for a lock:\n{text}");
    Ok(())
}

/// By window, and whether told.
type Hits = Mutex<BTreeMap<(usize, bool), (Hit, String)>>;

fn lane(told: Told, next: &AtomicUsize, hits: &Hits) -> Result<()> {
    let Some(lane) = Lane::start(told)? else { return Ok(()) };
    while let Some((number, window)) = take(next) {
        let hit = lane.hit(window).map_err(|error| LabError::Protocol {
            asked: format!("deliveries in the window {:?}, {told:?}", window.name),
            got: error.to_string(),
        })?;
        hits.lock().unwrap_or_else(PoisonError::into_inner).insert((number, told == Told::Yes), hit);
    }
    lane.post.nothing_bounced()
}

fn take(next: &AtomicUsize) -> Option<(usize, &'static Window)> {
    let only = std::env::var("MAILREADY_WINDOW").unwrap_or_default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let window = WINDOWS.get(number)?;
        if window.name.contains(&only) {
            return Some((number, window));
        }
    }
}

/// Who delivered while the window stood open.
#[derive(Default, Debug)]
struct Hit {
    /// His message was taken and done with, one way or the other.
    through: Vec<Deliverer>,
    /// He waited.
    waited: Vec<Deliverer>,
}

impl Lane {
    /// Stops the work in the window, has everybody deliver, lets it go on, and looks what has become of the messages.
    fn hit(&self, window: &Window) -> Result<(Hit, String)> {
        let user = self.add(&format!("w{}", self.ledger.entries().len()))?;
        if window.work != Work::Convert {
            let agent = self.plain()?;
            self.convert(&user)?;
            agent.terminate()?;
        }
        if window.work == Work::Drain {
            self.deliver_until_taken(Deliverer::Postfix, &user, "early")?;
            self.post.flush(PATIENCE)?;
        }
        let agent = self.traced(&window.behind.replace("USER", &user.name), &Order::Stop(1))?;
        let control = self.control()?;
        let found = thread::scope(|scope| {
            let work = scope.spawn(|| match window.work {
                Work::Convert => self.convert(&user),
                Work::Back => self.roll_back(&user),
                Work::Drain => Ok(String::new()),
            });
            let reached = control.wait_reached(|| window.work != Work::Drain && work.is_finished());
            let senders: Vec<_> = Deliverer::ALL
                .into_iter()
                .map(|deliverer| {
                    let user = &user;
                    (deliverer, scope.spawn(move || self.deliver_until_taken(deliverer, user, "window")))
                })
                .collect();
            let hit = self.watch(&user, &senders);
            // In any case, or nobody would ever end.
            control.go()?;
            for (_, sender) in senders {
                join(sender)?;
            }
            join(work)?;
            let place =
                reached?.ok_or_else(|| LabError::Setup(format!("not stopped\n{}", agent.log.tail())))?;
            Ok::<_, LabError>((hit?, format!("{} {}", place.program, place.call)))
        })?;
        self.post.flush(PATIENCE)?;
        self.ledger.settle(self.machine(), &user, PATIENCE).map_err(|error| LabError::Protocol {
            asked: "a settled mailbox".into(),
            got: format!("{error}\n{}", story(&agent)),
        })?;
        agent.terminate()?;
        Ok(found)
    }

    /// Waits until each sender is through or waits, and says which.
    fn watch(&self, user: &User, senders: &[(Deliverer, ScopedJoinHandle<'_, Result<()>>)]) -> Result<Hit> {
        let mut hit = Hit::default();
        let start = Instant::now();
        while hit.through.len() + hit.waited.len() < senders.len() && start.elapsed() < WATCHING {
            for (deliverer, sender) in senders {
                if hit.through.contains(deliverer) || hit.waited.contains(deliverer) {
                    continue;
                }
                let through = match deliverer {
                    // It takes the message at once, and delivers it by and by.
                    Deliverer::Postfix => self.has_tried(user)?,
                    _ => sender.is_finished(),
                };
                if through {
                    hit.through.push(*deliverer);
                } else if deliverer.waits(self.machine())? {
                    hit.waited.push(*deliverer);
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(hit)
    }

    /// Whether Postfix has tried to deliver what was sent to this user within the window.
    fn has_tried(&self, user: &User) -> Result<bool> {
        let id = format!("{}.window.postfix", user.name);
        let Some(entry) = self.ledger.entries().remove(&id) else { return Ok(false) };
        let Some(queued) = entry.said.rsplit(' ').next().map(str::to_owned) else { return Ok(false) };
        let lines = self.post.postfix.log.lines();
        Ok(lines.iter().any(|line| line.text.contains(&queued) && line.text.contains("status=")))
    }
}

fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
