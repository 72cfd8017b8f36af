//! Not killed but joined, stopped, replaced or suspended: what happens to a conversion when a second agent comes, when the agent is asked to end, when a new agent is started
//! while a worker of the old one still lives, and when the worker stands still under its locks. At places all over the conversion, each reached exactly: the process is held before the call.

use std::thread;
use std::time::{Duration, Instant};

use mailready_tests::lab::{Differences, LabError, Result, eventually};
use mailready_tests::stops::{Order, Place};
use nix::sys::signal::Signal;

use super::deaths::{self, Spot, Work};
use super::rig::Rig;

/// Places of a conversion that are taken in the short form.
const SOME: usize = 8;

/// A worker that stands still is given up after this at the latest, on any machine.
const BOUND: Duration = Duration::from_secs(100);

fn wrong(asked: &str, got: impl Into<String>) -> LabError {
    LabError::Protocol { asked: asked.into(), got: got.into() }
}

/// A rig and the spots of a conversion on which `fits`, evenly spread.
fn stage(mut fits: impl FnMut(&Place) -> bool) -> Result<Option<(Rig, Vec<Spot>)>> {
    let Some(rig) = Rig::new()? else { return Ok(None) };
    let before = deaths::prepare(&rig, Work::Conversion)?;
    let places = deaths::count(&rig, Work::Conversion, &before)?;
    // Before and behind the conversion there is nothing to come between.
    let of_worker = |place: &Place| place.program == "mailready-worker";
    let first = places.iter().position(of_worker).unwrap_or(0);
    let last = places.iter().rposition(of_worker).unwrap_or(0);
    let all = deaths::spots(&places).into_iter().zip(&places).take(last + 1).skip(first);
    let fitting: Vec<Spot> = all.filter(|(_, place)| fits(place)).map(|(spot, _)| spot).collect();
    let wanted = if std::env::var_os("MAILREADY_LONG").is_some() { fitting.len() } else { SOME };
    let every = fitting.len().div_ceil(wanted).max(1);
    let spots: Vec<Spot> = fitting.into_iter().step_by(every).collect();
    assert!(spots.len() >= 2, "{spots:?}");
    Ok(Some((rig, spots)))
}

fn any(_: &Place) -> bool {
    true
}

fn of_worker(place: &Place) -> bool {
    place.program == "mailready-worker"
}

/// Has the agent convert until somebody stands before the spot, then `come` comes; afterwards the one who stands goes on, if `come` has not let him. Gives back what `convert` said.
fn at(
    rig: &Rig,
    spot: &Spot,
    come: impl FnOnce(&mailready_tests::lab::Daemon) -> Result<()>,
) -> Result<(mailready_tests::lab::Daemon, String)> {
    rig.restore()?;
    let agent = rig.start_traced(&Order::Hold { nth: spot.nth, kind: spot.kind.clone() })?;
    let said = thread::scope(|scope| {
        let converting = scope.spawn(|| rig.convert());
        let reached = rig.control()?.wait_reached(|| converting.is_finished())?;
        if reached.is_none() {
            return Err(wrong(&format!("to stand before {spot}"), agent.log.tail()));
        }
        let came = come(&agent);
        rig.control()?.go()?;
        let said = converting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        came.and(said)
    });
    Ok((agent, said?))
}

/// The mail is what it was, wholly mbox or wholly Maildir, and the next conversion is carried out.
fn all_is_right(rig: &Rig, agent: &mailready_tests::lab::Daemon, spot: &Spot) -> Result<()> {
    rig.check_places()?;
    rig.wait_settled(agent, false)?;
    let same = |rig: &Rig| -> Result<()> {
        let found = Differences::between(&rig.expected, &rig.dump()?);
        if found.is_empty() {
            Ok(())
        } else {
            Err(wrong(&format!("the mail as it was ({spot})"), found.to_string()))
        }
    };
    same(rig)?;
    let said = rig.convert()?;
    if !said.contains("\"on_maildir\":true") {
        return Err(wrong(
            &format!("a conversion afterwards ({spot})"),
            format!("{said}\n{}", agent.log.tail()),
        ));
    }
    rig.wait_settled(agent, false)?;
    assert!(!rig.has_kept_stage()?, "{spot}: nothing is left for a next run");
    same(rig)
}

#[test]
fn a_second_agent_is_refused_and_harms_nothing() -> Result<()> {
    let Some((rig, spots)) = stage(any)? else { return Ok(()) };
    for spot in &spots {
        let (agent, said) = at(&rig, spot, |_| {
            let second = rig.start_second()?;
            let why = || {
                second.log.tail().contains("another agent is running with this state folder").then_some(())
            };
            eventually("it says why", || second.log.tail(), why)?;
            let code = second.wait_end()?.code();
            if code == Some(75) {
                Ok(())
            } else {
                Err(wrong(&format!("exit code 75 ({spot})"), format!("{code:?}")))
            }
        })?;
        if !said.contains("\"on_maildir\":true") {
            return Err(wrong(&format!("a conversion that goes on ({spot})"), said));
        }
        all_is_right(&rig, &agent, spot)?;
        agent.terminate()?;
    }
    Ok(())
}

#[test]
fn an_agent_that_is_asked_to_end_finishes_or_gives_up() -> Result<()> {
    let Some((rig, spots)) = stage(any)? else { return Ok(()) };
    let mut finished = 0;
    for spot in &spots {
        let (agent, _) = at(&rig, spot, |agent| {
            agent.signal(Signal::SIGTERM)?;
            // That it has heard is said.
            agent.log.wait("stopping", |line| line.contains("stopping")).map(drop)
        })?;
        let code = agent.wait_end()?;
        assert!(code.success(), "{spot}: {code}: {}", agent.log.tail());
        // In good order: nothing is left for the next one to settle, and the package may be upgraded.
        rig.check_places()?;
        finished += usize::from(rig.is_on_maildir()?);
        let next = rig.start_plain()?;
        all_is_right(&rig, &next, spot)?;
        next.terminate()?;
    }
    assert!(finished < spots.len(), "some are given up");
    Ok(())
}

/// The old agent is gone and its worker is not, which stands still: the new one does not touch the mailbox before it is gone, too.
#[test]
fn a_new_agent_waits_for_the_worker_of_the_old_one() -> Result<()> {
    // From when the worker has the work folder.
    let mut has_it = false;
    let holds_it = |place: &Place| {
        let held = has_it && of_worker(place);
        has_it |= of_worker(place) && place.call == "flock";
        held
    };
    let Some((rig, spots)) = stage(holds_it)? else { return Ok(()) };
    // Each takes as long as it takes until the agent tries again.
    for spot in spots.iter().step_by(2) {
        let mut next = None;
        at(&rig, spot, |agent| {
            agent.kill()?;
            let new = rig.start_plain()?;
            // It has tried, and been told that somebody is at work there.
            new.log
                .wait("the new agent tries to settle the run", |line| line.contains("is not settled yet"))?;
            assert_eq!(rig.phase()?.as_deref(), Some("begun"), "{spot}");
            next = Some(new);
            Ok(())
        })?;
        let next = next.ok_or_else(|| wrong("a new agent", ""))?;
        all_is_right(&rig, &next, spot)?;
        next.terminate()?;
    }
    Ok(())
}

/// Stopped by its user, or by an administrator's debugger: deliverers must not wait for it.
#[test]
fn a_worker_that_stands_still_under_the_locks_does_not_keep_them() -> Result<()> {
    // Under the locks the worker makes few calls; the commit and the first folder's exchange are two of them.
    let under_locks = |place: &Place| {
        let commit = place.about.contains("/stage-") && place.about.ends_with("/Maildir");
        of_worker(place) && place.call == "renameat2" && (commit || place.about.contains("/mail/Sent"))
    };
    let Some((rig, spots)) = stage(under_locks)? else { return Ok(()) };
    let mut longest = Duration::ZERO;
    for spot in &spots {
        let (agent, _) = at(&rig, spot, |agent| {
            let begun = Instant::now();
            assert!(rig.is_locked()?, "{spot}");
            while rig.is_locked()? {
                if begun.elapsed() > BOUND {
                    return Err(wrong(&format!("the locks let go of ({spot})"), agent.log.tail()));
                }
                thread::sleep(Duration::from_millis(50));
            }
            longest = longest.max(begun.elapsed());
            Ok(())
        })?;
        all_is_right(&rig, &agent, spot)?;
        agent.terminate()?;
    }
    println!("locks of a suspended worker were kept for {longest:?} at most");
    Ok(())
}

/// A clock that is set back by years between two lives of the agent: the newest record is the one that counts, and what comes late is carried over once.
#[test]
fn a_clock_that_was_set_back_changes_nothing() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let agent = rig.start_plain()?;
    assert!(rig.convert()?.contains("\"converted\""), "{}", agent.log.tail());
    rig.wait_settled(&agent, false)?;
    rig.deliver_late()?;
    rig.wait_drained(&agent)?;
    agent.terminate()?;
    // All that carries a time is of the future from here on: the record, and the entries of the archive, numbered by the clock.
    rig.age(-5 * 365 * 24 * 60 * 60)?;
    let agent = rig.start_plain()?;
    rig.wait_settled(&agent, false)?;
    rig.deliver_late()?;
    rig.wait_drained(&agent)?;
    let (others, late) = super::rig::without_late(rig.dump()?.inbox()?);
    assert_eq!((others.len(), late), (6, 2), "each of the two late messages once: {}", agent.log.tail());
    Ok(())
}

/// The mailbox is rolled back and converted again under the clock that was set back: which of its two runs is the last?
#[test]
fn a_clock_that_was_set_back_does_not_change_the_order_of_runs() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let agent = rig.start_plain()?;
    assert!(rig.convert()?.contains("\"converted\""), "{}", agent.log.tail());
    rig.wait_settled(&agent, false)?;
    agent.terminate()?;
    rig.age(-5 * 365 * 24 * 60 * 60)?;
    let agent = rig.start_plain()?;
    let said = rig.roll_back_when_it_can()?;
    assert!(said.contains("\"on_mbox\":true"), "{said}");
    eventually(
        "converted again",
        || agent.log.tail(),
        || rig.convert().ok()?.contains("\"on_maildir\":true").then_some(()),
    )?;
    agent.terminate()?;
    let agent = rig.start_plain()?;
    rig.wait_settled(&agent, false)?;
    rig.deliver_late()?;
    rig.wait_drained(&agent)?;
    let (others, late) = super::rig::without_late(rig.dump()?.inbox()?);
    assert_eq!((others.len(), late), (6, 1), "{}", agent.log.tail());
    Ok(())
}
