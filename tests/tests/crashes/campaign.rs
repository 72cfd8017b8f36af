//! All places, all ways to die, in several machines at a time.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use mailready_tests::lab::Result;
use mailready_tests::stops::{Place, Whom};

use super::deaths::{self, Death, Spot, Work};
use super::rig::{Ended, Rig};

/// Times that a place is tried for.
const ATTEMPTS: usize = 5;

/// Machines at a time.
const LANES: usize = 3;

/// Runs all deaths of one work; `every`: at one in so many places not all die.
fn campaign(name: &str, work: Work, every: usize) -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let before = deaths::prepare(&rig, work)?;
    let places = deaths::count(&rig, work, &before)?;
    // How often the agent looks at a mailbox in its life, and whether Dovecot has touched its list of UIDs in between (then what a rollback wrote is written again), depends on the clock. What a
    // second life comes to as well has to be reached.
    rig.dump()?;
    let again = deaths::spots(&deaths::count(&rig, work, &before)?);
    let by_chance: Vec<String> = deaths::spots(&places)
        .into_iter()
        .filter(|spot| !again.contains(spot))
        .map(|spot| spot.to_string())
        .collect();
    drop(rig);
    let every = if std::env::var_os("MAILREADY_LONG").is_some() { 1 } else { every };
    let mut plan = plan(&places, work, every);
    let wiped = plan.iter().filter(|(.., wiped)| *wiped).count();
    // For looking closer at some: only spots that hold this text.
    if let Ok(only) = std::env::var("MAILREADY_SPOT") {
        plan.retain(|(spot, whom, _)| format!("{whom} killed before {spot}").contains(&only));
    }
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(|| lane(work, &plan, &next, &report))).collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.print(name, &places, (plan.len(), wiped));
    report.check(&by_chance);
    if matches!(work, Work::Conversion | Work::Rollback) {
        // Else the deaths were not around the commit.
        assert!(report.ended(Ended::Mbox) && report.ended(Ended::Maildir), "both ends are seen");
    }
    Ok(())
}

/// At every place all die; at some also the one that makes the call alone, or the other one, while there is a worker.
fn plan(places: &[Place], work: Work, every: usize) -> Vec<(Spot, Whom, bool)> {
    let spots = deaths::spots(places);
    let by_worker = |place: &Place| place.program == "mailready-worker";
    let first = places.iter().position(by_worker).unwrap_or(0);
    let last = places.iter().rposition(by_worker).unwrap_or(0);
    // Every second one loses all but records and holds besides; if all ways are asked for, each dies both ways. Not the end of the originals: without the agent's count of the days that have passed
    // they are kept for as long again, as they should be.
    let wipes = work != Work::Retention;
    let mut plan: Vec<_> = spots
        .iter()
        .enumerate()
        .map(|(number, spot)| (spot.clone(), Whom::All, wipes && number % 2 == 0))
        .collect();
    if every == 1 && wipes {
        plan.extend(plan.clone().into_iter().map(|(spot, whom, wiped)| (spot, whom, !wiped)));
    }
    for (number, spot) in spots.iter().enumerate().take(last + 1).skip(first) {
        if number.is_multiple_of(every) {
            plan.push((spot.clone(), Whom::Itself, false));
        }
        if number % every == every / 2 {
            plan.push((spot.clone(), Whom::Others, false));
        }
    }
    plan
}

fn lane(work: Work, plan: &[(Spot, Whom, bool)], next: &AtomicUsize, report: &Mutex<Report>) -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let before = deaths::prepare(&rig, work)?;
    while let Some((spot, whom, wiped)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
        // Who is to die beside the one that makes the call may not have been born, or have ended: another life is asked.
        let delivered = |death: &Result<Option<Death>>| match death {
            Ok(Some(death)) => death.hit,
            Ok(None) => false,
            Err(_) => true,
        };
        let mut death = deaths::die(&rig, work, &before, spot, (*whom, *wiped));
        for _ in 1..ATTEMPTS {
            if delivered(&death) {
                break;
            }
            death = deaths::die(&rig, work, &before, spot, (*whom, *wiped));
        }
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{whom} killed before {spot}");
        match death {
            Ok(Some(death)) => report.deaths.push((name, *whom, death)),
            Ok(None) => report.not_reached.push(name),
            Err(error) => report.wrong.push(format!("{name}: {error}")),
        }
    }
    Ok(())
}

/// What came of them all.
#[derive(Default)]
struct Report {
    deaths: Vec<(String, Whom, Death)>,
    not_reached: Vec<String>,
    wrong: Vec<String>,
}

impl Report {
    fn print(&self, name: &str, places: &[Place], (planned, wiped): (usize, usize)) {
        let died = self.deaths.len();
        let mut text = format!(
            "{name}: {} places, {planned} deaths planned ({wiped} of them with all but records and holds deleted), {died} delivered\n",
            places.len()
        );
        for whom in [Whom::All, Whom::Itself, Whom::Others] {
            let of = |what: &dyn Fn(&Death) -> bool| {
                self.deaths.iter().filter(|(_, who, death)| *who == whom && what(death)).count()
            };
            text.push_str(&format!(
                "  killed {whom}: ended as mbox {}, as Maildir {}; hit nobody {}\n",
                of(&|death| death.ended == Ended::Mbox),
                of(&|death| death.ended == Ended::Maildir),
                of(&|death| !death.hit),
            ));
        }
        for spot in &self.not_reached {
            text.push_str(&format!("  not reached: {spot}\n"));
        }
        for (name, why) in self.off_the_model() {
            text.push_str(&format!("  off the model: {name}: {why}\n"));
        }
        for wrong in &self.wrong {
            text.push_str(&format!("  WRONG: {wrong}\n"));
        }
        // Past the capture of the harness; if stderr is closed nobody is listening.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn off_the_model(&self) -> impl Iterator<Item = (&str, &str)> {
        self.deaths
            .iter()
            .filter_map(|(name, _, death)| Some((name.as_str(), death.off_the_model.as_deref()?)))
    }

    fn check(&self, by_chance: &[String]) {
        assert!(self.wrong.is_empty(), "{} deaths went wrong", self.wrong.len());
        let missed =
            self.not_reached.iter().filter(|name| !by_chance.iter().any(|spot| name.ends_with(spot)));
        assert_eq!(missed.count(), 0, "every place that was listed twice is reached");
        // With the others it is different: at some places there are none.
        let nobody = self.deaths.iter().filter(|(_, whom, death)| !death.hit && *whom != Whom::Others);
        assert_eq!(nobody.count(), 0, "every death hit somebody");
        assert_eq!(self.off_the_model().count(), 0, "traces that are no path of the model");
    }

    fn ended(&self, ended: Ended) -> bool {
        self.deaths.iter().any(|(.., death)| death.ended == ended)
    }
}

#[test]
fn a_death_at_each_change_of_a_conversion() -> Result<()> {
    campaign("conversion", Work::Conversion, 4)
}

#[test]
fn a_death_at_each_change_of_a_drain() -> Result<()> {
    campaign("drain", Work::Drain, 6)
}

#[test]
fn a_death_at_each_change_of_a_rollback() -> Result<()> {
    campaign("rollback", Work::Rollback, 6)
}

#[test]
fn a_death_at_each_change_of_the_end_of_the_originals() -> Result<()> {
    campaign("retention", Work::Retention, 6)
}

#[test]
fn a_death_at_each_change_of_a_verification() -> Result<()> {
    campaign("verification", Work::Verification, 6)
}
