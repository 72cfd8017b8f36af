//! All places, all errors, in several machines at a time.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use mailready_tests::lab::Result;
use mailready_tests::stops::Place;

use super::deaths;
use super::fault::{self, Fault, Weathered, Work};
use super::rig::{Ended, Rig};

/// Machines at a time. What takes time is mostly waiting for the agent's next attempt.
const LANES: usize = 4;

fn campaign(name: &str, work: Work) -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    fault::prepare(&rig, work)?;
    let places = fault::count(&rig, work)?;
    drop(rig);
    let mut plan = plan(&places, std::env::var_os("MAILREADY_LONG").is_some());
    assert!(!plan.is_empty(), "the work touches disks");
    // For looking closer at some: only faults that hold this text.
    if let Ok(only) = std::env::var("MAILREADY_SPOT") {
        plan.retain(|fault| fault.to_string().contains(&only));
    }
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(|| lane(work, &plan, &next, &report))).collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.print(name, &places, plan.len());
    report.check(plan.len());
    Ok(())
}

/// All faults at all places; or one at each kind of place, the errors and the ways in turn.
fn plan(places: &[Place], all: bool) -> Vec<Fault> {
    let spots = deaths::spots(places);
    let possible = places.iter().zip(&spots).map(|(place, spot)| fault::faults_at(place, spot));
    if all {
        return possible.flatten().collect();
    }
    let first_of_its_kind = possible.filter(|faults| faults.first().is_some_and(|fault| fault.spot.nth == 1));
    first_of_its_kind
        .enumerate()
        .map(|(number, mut faults)| faults.swap_remove(number % faults.len()))
        .collect()
}

fn lane(work: Work, plan: &[Fault], next: &AtomicUsize, report: &Mutex<Report>) -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    fault::prepare(&rig, work)?;
    while let Some(fault) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
        let weathered = fault::weather(&rig, work, fault);
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        match weathered {
            Ok(Some(weathered)) => report.weathered.push(weathered),
            Ok(None) => report.not_reached.push(fault.to_string()),
            Err(error) => report.wrong.push(format!("{fault}: {error}")),
        }
    }
    Ok(())
}

/// What came of them all.
#[derive(Default)]
struct Report {
    weathered: Vec<Weathered>,
    not_reached: Vec<String>,
    wrong: Vec<String>,
}

impl Report {
    fn print(&self, name: &str, places: &[Place], planned: usize) {
        let ended = |ended| self.weathered.iter().filter(|each| each.ended == ended).count();
        let calls: usize = self.weathered.iter().map(|each| each.faults).sum();
        let mut text = format!(
            "{name}: {} places, {planned} faults planned, {} delivered ({calls} calls failed); first ended as mbox {}, as Maildir {}\n",
            places.len(),
            self.weathered.len() + self.wrong.len(),
            ended(Ended::Mbox),
            ended(Ended::Maildir),
        );
        for fault in &self.not_reached {
            text.push_str(&format!("  not reached: {fault}\n"));
        }
        for wrong in &self.wrong {
            text.push_str(&format!("  WRONG: {wrong}\n"));
        }
        // Past the capture of the harness; if stderr is closed nobody is listening.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn check(&self, planned: usize) {
        assert!(self.wrong.is_empty(), "{} faults went wrong", self.wrong.len());
        // How often an agent looks at a mailbox in its life depends on the clock.
        assert!(self.not_reached.len() <= planned / 20, "{} places were not reached", self.not_reached.len());
        let silent = self.weathered.iter().filter(|each| each.faults == 0).count();
        assert_eq!(silent, 0, "places were reached and nothing failed");
    }
}

#[test]
fn a_disk_fails_at_each_call_of_a_conversion() -> Result<()> {
    campaign("conversion", Work::Conversion)
}

#[test]
fn a_disk_fails_at_each_call_of_a_drain() -> Result<()> {
    campaign("drain", Work::Drain)
}

#[test]
fn a_disk_fails_at_each_call_of_a_rollback() -> Result<()> {
    campaign("rollback", Work::Rollback)
}

#[test]
fn a_disk_fails_at_each_call_of_a_verification() -> Result<()> {
    campaign("verification", Work::Verification)
}
