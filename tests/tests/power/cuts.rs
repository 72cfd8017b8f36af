//! The power goes at chance moments.
//!
//! Half of them are aimed at a step, so that short ones are hit too: the guest is cut some moments after it has said the step's name. The others come whenever they come. Some disks are booted again and
//! cut again, so that recovery is interrupted as well.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mailready_tests::lab::mail::Seeded;
use mailready_tests::lab::{Result, event};
use mailready_tests::power::guest::Boot;

use super::judge;
use super::promises::{Ended, Promises, part_of};
use super::stand::{FILE_SYSTEMS, FileSystem, Stand};

/// Aimed at.
const STEPS: [&str; 37] = [
    "record",
    "stage",
    "verify",
    "gate",
    "refresh",
    "tombstone",
    "folder_tombstone",
    "dotlock",
    "confirm",
    "lock_folders",
    "seal",
    "commit",
    "sync_commit",
    "set_aside_folder",
    "sync_set_aside_folders",
    "set_aside",
    "sync_set_aside",
    "unlock",
    "map",
    "converted",
    "rotate",
    "extract",
    "extracted",
    "deliver",
    "delivered",
    "forget",
    "back_stage",
    "back_mark",
    "back_confirm",
    "withdraw",
    "sync_withdraw",
    "back_late",
    "back_folder",
    "back_spool",
    "sync_back_spool",
    "back_done",
    "undone",
];

/// Machines at a time.
const LANES: usize = 2;

/// A cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    file_system: FileSystem,
    seed: u64,
    /// Step and which of its kind; `None`: by time alone.
    aim: Option<(&'static str, u64)>,
    /// After the step was said, or since the agent serves.
    delay: Duration,
    /// How often the same disks are cut.
    times: usize,
}

fn plan(count: usize) -> Vec<Cut> {
    let from = number("MAILREADY_SEED").unwrap_or(1);
    let only = std::env::var("MAILREADY_FS").ok();
    let file_systems: Vec<_> = FILE_SYSTEMS
        .into_iter()
        .filter(|each| only.as_deref().is_none_or(|only| only == each.name))
        .collect();
    let mut aimed = from as usize * 7;
    (0..count)
        .map(|index| {
            let seed = from * 1_000_000 + index as u64;
            let mut random = Seeded::new(seed);
            let by_step = random.below(10) < 6;
            let aim = by_step.then(|| {
                aimed += 1;
                (STEPS[aimed % STEPS.len()], 1 + random.below(2))
            });
            // From the call that is just being made to some calls later.
            let delay = match (aim, random.below(3)) {
                (Some(_), 0) => Duration::ZERO,
                (Some(_), _) => Duration::from_micros(random.below(12_000)),
                (None, _) => Duration::from_millis(random.below(5000)),
            };
            let times = if random.below(4) == 0 { 2 } else { 1 };
            Cut { file_system: file_systems[index % file_systems.len()], seed, aim, delay, times }
        })
        .collect()
}

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_power_goes_at_chance_moments() -> Result<()> {
    let long = std::env::var_os("MAILREADY_LONG").is_some();
    let count = number("MAILREADY_CUTS").unwrap_or(if long { 600 } else { 12 });
    let plan = plan(usize::try_from(count).unwrap_or(usize::MAX));
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(|| lane(&plan, &next, &report))).collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    if report.judged + report.wrong.len() == 0 {
        return Ok(()); // skipped, and said so
    }
    report.print(plan.len());
    assert!(report.wrong.is_empty(), "{} cuts went wrong", report.wrong.len());
    assert_eq!(report.judged, plan.len(), "all are judged");
    Ok(())
}

fn lane(plan: &[Cut], next: &AtomicUsize, report: &Mutex<Report>) -> Result<()> {
    let mut stands: BTreeMap<&str, Stand> = BTreeMap::new();
    while let Some(cut) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
        if !stands.contains_key(cut.file_system.name) {
            let Some(stand) = Stand::new(cut.file_system)? else { return Ok(()) };
            stands.insert(cut.file_system.name, stand);
        }
        let Some(stand) = stands.get(cut.file_system.name) else { continue };
        let outcome = make(stand, cut);
        let failed = outcome.is_err();
        report.lock().unwrap_or_else(PoisonError::into_inner).add(cut, outcome);
        if failed {
            // What it left mounted, or running, is not the next one's.
            stands.remove(cut.file_system.name);
        }
    }
    Ok(())
}

/// Where the cuts of one case fell, and what the mail was in the end.
type Outcome = (Vec<String>, Ended);

fn make(stand: &Stand, cut: &Cut) -> Result<Outcome> {
    let disks = stand.fresh("cut")?;
    let mut promises = Promises::default();
    let mut fell = Vec::new();
    let mut random = Seeded::new(cut.seed ^ 0x77);
    for boot in 0..cut.times {
        let work = "+convert,wait,back,wait".to_owned();
        let guest =
            stand.boot(&disks, Boot { work, boot, seed: cut.seed + boot as u64, ..Boot::default() })?;
        guest.wait("serving")?;
        if boot == 0 {
            aim(cut, |deadline, fits| guest.wait_until(deadline, fits).is_some());
        } else {
            // Recovery takes place at once.
            thread::sleep(Duration::from_millis(random.below(500)));
        }
        let said = guest.cut()?;
        promises.step = None;
        // What was answered before this boot holds until somebody asks for something else.
        promises.hear_all(&said);
        fell.push(promises.step.clone().unwrap_or_else(|| "before any".into()));
    }
    let ended = judge::judge(stand, &disks, &promises, cut.seed.is_multiple_of(3))?;
    Ok((fell, ended))
}

/// Waits for the moment.
fn aim(cut: &Cut, wait: impl Fn(Instant, &mut dyn FnMut(&str) -> bool) -> bool) {
    if let Some((step, nth)) = cut.aim {
        let mut seen = 0;
        // A step that does not come, for instance because nothing late has to be carried over, is as good as another.
        let deadline = Instant::now() + Duration::from_secs(20);
        wait(deadline, &mut |line| {
            let is_it = line.contains(step)
                && event(Instant::now(), line).is_some_and(|e| e.get("step") == Some(step));
            seen += u64::from(is_it);
            seen == nth
        });
    }
    thread::sleep(cut.delay);
}

#[derive(Default)]
struct Report {
    judged: usize,
    /// Cuts by file system and part of the protocol.
    parts: BTreeMap<(&'static str, &'static str), usize>,
    steps: BTreeMap<String, usize>,
    mbox: usize,
    maildir: usize,
    wrong: Vec<String>,
}

impl Report {
    fn add(&mut self, cut: &Cut, outcome: Result<Outcome>) {
        match outcome {
            Ok((fell, ended)) => {
                self.judged += 1;
                match ended {
                    Ended::Mbox => self.mbox += 1,
                    Ended::Maildir => self.maildir += 1,
                }
                for step in fell {
                    *self.parts.entry((cut.file_system.name, part_of(&step))).or_default() += 1;
                    *self.steps.entry(step).or_default() += 1;
                }
            }
            Err(error) => {
                let text = format!("{cut:?}: {error}");
                // At once: a long campaign may be watched.
                say(&format!("WRONG: {text}\n"));
                self.wrong.push(text);
            }
        }
    }

    fn print(&self, planned: usize) {
        let mut text = format!(
            "power cuts: {planned} planned, {} judged: ended as mbox {}, as Maildir {}; wrong {}\n",
            self.judged,
            self.mbox,
            self.maildir,
            self.wrong.len()
        );
        for file_system in FILE_SYSTEMS {
            let of = self.parts.iter().filter(|((name, _), _)| *name == file_system.name);
            let parts: Vec<String> = of.map(|((_, part), count)| format!("{part} {count}")).collect();
            text.push_str(&format!("  {}: {}\n", file_system.name, parts.join(", ")));
        }
        let steps: Vec<String> = self.steps.iter().map(|(step, count)| format!("{step} {count}")).collect();
        text.push_str(&format!("  by step: {}\n", steps.join(", ")));
        say(&text);
    }
}

/// Past the capture of the harness; if stderr is closed nobody is listening.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
