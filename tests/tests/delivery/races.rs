//! A told deliverer is stopped between its look at the marker and its writing, the user goes to the other side meanwhile, and then it
//! writes: where it had decided to, and where the mail is not any more.

use std::time::{Duration, Instant};

use mailready_tests::lab::{LabError, Result, User, eventually};
use mailready_tests::stops::{Control, Order};

use super::deliverer::{self, Deliverer, FROM_LINE};
use super::lane::{Lane, PATIENCE, STOP_AT, story};
use super::ledger;
use super::post::Told;
use super::submission::Word;

/// Where the tracer of the deliverer takes its tickets.
const TICKETS: &str = "/run/stops/deliverer";

/// Behind which call it is stopped: its look at the marker, or at the map.
fn look(deliverer: Deliverer) -> &'static str {
    match deliverer {
        Deliverer::Lda => "/auth-userdb",
        _ => "mailready-marker",
    }
}

#[test]
fn who_decided_for_the_mbox_before_the_commit_writes_after_it() -> Result<()> {
    let Some(lane) = Lane::start(Told::Yes)? else { return Ok(()) };
    let agent = lane.plain()?;
    for deliverer in [Deliverer::Exim, Deliverer::Procmail, Deliverer::Maildrop, Deliverer::Lda] {
        let user = lane.add(&format!("there{deliverer}"))?;
        cross(&lane, deliverer, &user, || lane.convert(&user).map(drop))
            .map_err(|error| told(error, deliverer, &story(&agent)))?;
    }
    agent.terminate()?;
    lane.post.nothing_bounced()
}

#[test]
fn who_decided_for_the_maildir_before_a_rollback_writes_after_it() -> Result<()> {
    let Some(lane) = Lane::start(Told::Yes)? else { return Ok(()) };
    let agent = lane.plain()?;
    for deliverer in [Deliverer::Exim, Deliverer::Procmail, Deliverer::Maildrop] {
        let user = lane.add(&format!("back{deliverer}"))?;
        lane.convert(&user)?;
        cross(&lane, deliverer, &user, || lane.roll_back(&user).map(drop))
            .map_err(|error| told(error, deliverer, &story(&agent)))?;
        let left = lane.machine().exists(&format!("{}/Maildir", user.home()))?;
        assert!(!left, "{deliverer} made a Maildir that nobody reads");
    }
    agent.terminate()?;
    lane.post.nothing_bounced()
}

fn told(error: LabError, deliverer: Deliverer, story: &str) -> LabError {
    LabError::Protocol {
        asked: format!("{deliverer} to deliver on time or later"),
        got: format!("{error}\n{story}"),
    }
}

/// One delivery, with `crossing` between its look and its writing.
fn cross(
    lane: &Lane,
    deliverer: Deliverer,
    user: &User,
    crossing: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let machine = lane.machine();
    let control = Control::new(machine, TICKETS)?;
    control.arm(&Order::Stop(1))?;
    let id = format!("{}.crossing", user.name);
    let message = ledger::message(&id, 1);
    let mut command: Vec<String> =
        [STOP_AT, "--control", TICKETS, "--from", look(deliverer), "--changing", "--"]
            .map(str::to_owned)
            .into();
    command.extend(deliverer.command(user));
    if deliverer == Deliverer::Procmail {
        // Where there is no Maildir any more it tries for a lock in it eight times, before it goes to the old place.
        command.push("LOCKSLEEP=1".to_owned());
    }
    let input = if deliverer == Deliverer::Exim { message } else { [FROM_LINE, &message].concat() };
    let handed = Instant::now();
    let word = std::thread::scope(|scope| {
        let delivery = scope.spawn(|| deliverer::run(machine, &command, &input));
        let reached = control.wait_reached(|| delivery.is_finished());
        let crossed = match &reached {
            Ok(Some(_)) => crossing(),
            _ => Ok(()),
        };
        control.go()?;
        let word = delivery.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        crossed?;
        reached?.ok_or_else(|| LabError::Setup(format!("{deliverer} was not stopped: {word:?}")))?;
        Ok::<_, LabError>(word)
    })?;
    match word {
        Word::Taken(said) => lane.ledger.taken(&id, &user.name, handed, said),
        Word::Later(_) => lane.deliver_until_taken(deliverer, user, "again")?,
    }
    // The tracer's children may outlive the program that was waited for.
    eventually("the deliverer is gone", String::new, || control.ended().ok()?.then_some(()))?;
    lane.post.flush(PATIENCE)?;
    lane.ledger.settle(machine, user, Duration::from_secs(60))
}
