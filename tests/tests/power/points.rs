//! The power goes at every moment of one run.
//!
//! One guest converts, drains, and rolls back, and everything that it does to its disks is written down. From that the disks are made again as a power cut would have left them: after each flush of any
//! of them, and after each step and each promise, with each disk having kept all that it was told, or only what it had flushed, in every combination (so mail ahead of home, home ahead of state, and so on), or
//! some pages of the rest by chance. What comes out the same is judged once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use mailready_tests::lab::mail::Seeded;
use mailready_tests::lab::{LabError, Result};
use mailready_tests::power::guest::Boot;
use mailready_tests::power::inside::DISKS;
use mailready_tests::power::journal::{self, Disk, Keeps, Pages, Record};

use super::cuts::{number, say};
use super::judge;
use super::promises::{Ended, Promises, part_of};
use super::stand::{FILE_SYSTEMS, FileSystem, Stand};

/// Moments a file system in CI.
const SAMPLE: u64 = 24;

/// Machines at a time, while the points are judged.
const LANES: usize = 2;

/// Where the journal is, in the machine.
const JOURNAL: &str = "/tmp/journal";

/// A state of all disks.
struct Point {
    pages: Vec<Pages>,
    promises: Promises,
    /// Which moment it first was, and what each disk has kept.
    name: String,
    /// Whether all disks kept everything.
    honest: bool,
}

#[test]
fn the_power_goes_at_every_moment_of_a_run_on_ext4() -> Result<()> {
    every_moment(FILE_SYSTEMS[0])
}

#[test]
fn the_power_goes_at_every_moment_of_a_run_on_xfs() -> Result<()> {
    every_moment(FILE_SYSTEMS[1])
}

#[test]
fn the_power_goes_at_every_moment_of_a_run_on_btrfs() -> Result<()> {
    every_moment(FILE_SYSTEMS[2])
}

fn every_moment(file_system: FileSystem) -> Result<()> {
    if std::env::var("MAILREADY_FS").is_ok_and(|only| only != file_system.name) {
        return Ok(());
    }
    // One file system after the other, or all of them would share the processors.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(first) = Stand::new(file_system)? else { return Ok(()) };
    let seed = number("MAILREADY_SEED").unwrap_or(1);
    let records = run(&first, seed)?;
    let points = points(&first, &records, seed)?;
    let long = std::env::var_os("MAILREADY_LONG").is_some();
    let sample = number("MAILREADY_POINTS").or((!long).then_some(SAMPLE));
    let sample = sample.map_or(usize::MAX, |sample| usize::try_from(sample).unwrap_or(usize::MAX));
    let chosen = choose(&points, sample, seed);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Done::default()));
    let judge_some = |stand: Stand| {
        let mut stand = Some(stand);
        while let Some(point) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(here) =
                stand.take().map_or_else(|| same_disks(&first, file_system), |stand| Ok(Some(stand)))?
            else {
                return Ok(());
            };
            let judged = here
                .fresh_with("point", &point.pages)
                .and_then(|disks| judge::judge(&here, &disks, &point.promises, false));
            if judged.is_ok() {
                // Else what went wrong may still be mounted.
                stand = Some(here);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).add(point, judged);
        }
        Ok::<_, LabError>(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| scope.spawn(|| same_disks(&first, file_system)?.map_or(Ok(()), judge_some)))
            .collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let parts: Vec<String> = done.parts.iter().map(|(part, count)| format!("{part} {count}")).collect();
    say(&format!(
        "every moment on {}: {} records, {} different states, {} judged ({}): mbox {}, Maildir {}; wrong {}\n",
        file_system.name,
        records.len(),
        points.len(),
        chosen.len(),
        parts.join(", "),
        done.mbox,
        done.maildir,
        done.wrong
    ));
    assert_eq!(done.wrong, 0, "states in which a promise is broken");
    assert_eq!(done.mbox + done.maildir, chosen.len(), "all are judged");
    assert!(done.mbox > 0 && done.maildir > 0, "both ends are seen");
    Ok(())
}

/// Another machine with the very disks of the first: what differs from them is only known for those.
fn same_disks(first: &Stand, file_system: FileSystem) -> Result<Option<Stand>> {
    let Some(stand) = Stand::new(file_system)? else { return Ok(None) };
    stand.take_base(first)?;
    Ok(Some(stand))
}

/// A conversion, a while of late mail, and the way back, written down.
fn run(stand: &Stand, seed: u64) -> Result<Vec<Record>> {
    let disks = stand.fresh("run")?;
    let boot = Boot {
        work: "convert,wait,back".into(),
        seed,
        letters: Some(12),
        journal: Some(JOURNAL.into()),
        ..Boot::default()
    };
    let guest = stand.boot(&disks, boot)?;
    guest.wait("end")?;
    guest.cut()?;
    let bytes = stand.machine.read(JOURNAL)?;
    let records =
        journal::read(&bytes).map_err(|got| LabError::Protocol { asked: "a journal".into(), got })?;
    for disk in 0..DISKS.len() {
        let flushes = records.iter().filter(|record| **record == Record::Flush { disk }).count();
        assert!(flushes > 10, "disk {disk} was told {flushes} times to make everything durable");
    }
    Ok(records)
}

/// All states that a power cut could have left, those that are the same only once.
fn points(stand: &Stand, records: &[Record], seed: u64) -> Result<Vec<Point>> {
    let mut disks =
        (0..DISKS.len()).map(|number| Ok(Disk::new(stand.base(number)?))).collect::<Result<Vec<_>>>()?;
    let mut random = Seeded::new(seed);
    let (mut points, mut known) = (Vec::<Point>::new(), HashMap::<Vec<u64>, usize>::new());
    let (mut promises, mut line, mut mounted) = (Promises::default(), String::new(), false);
    for (moment, record) in records.iter().enumerate() {
        let is_moment = match record {
            Record::Write { disk, offset, data } => {
                at(&mut disks, *disk)?.write(*offset, data);
                false
            }
            Record::Zero { disk, offset, length } => {
                at(&mut disks, *disk)?.zero(*offset, *length);
                false
            }
            Record::Flush { disk } => {
                at(&mut disks, *disk)?.flush();
                true
            }
            Record::Said(text) => {
                line.push_str(text);
                let mut whole = false;
                while let Some(end) = line.find('\n') {
                    let one: String = line.drain(..=end).collect();
                    promises.hear(&one);
                    mounted |= one.contains("power: serving");
                    whole |=
                        one.contains("step") || one.contains("power: ack") || one.contains("power: said");
                }
                whole
            }
        };
        if !(is_moment && mounted) {
            continue;
        }
        // All combinations of keeping everything and nothing beyond the last flush; and twice something by chance.
        for combination in 0..10u64 {
            let keeps: Vec<Keeps> = (0..disks.len())
                .map(|disk| match combination {
                    0..8 if combination >> disk & 1 == 0 => Keeps::All,
                    0..8 => Keeps::Flushed,
                    _ => Keeps::Some(random.number()),
                })
                .collect();
            let pages: Vec<Pages> =
                disks.iter().zip(&keeps).map(|(disk, keeps)| disk.after_cut(*keeps)).collect();
            match known.entry(pages.iter().map(Pages::hash).collect()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(points.len());
                    let name = format!("moment {moment} of {}, kept {keeps:?}", records.len());
                    points.push(Point { pages, promises: promises.clone(), name, honest: combination == 0 });
                }
                // The same disks a while later: by then more has been promised of them.
                Entry::Occupied(same) => points[*same.get()].promises = promises.clone(),
            }
        }
    }
    Ok(points)
}

fn at(disks: &mut [Disk], number: usize) -> Result<&mut Disk> {
    disks.get_mut(number).ok_or_else(|| LabError::Setup(format!("the journal tells of disk {number}")))
}

/// Behind these the agent takes a run to be over, and looks for nothing of it any more: what another disk has not got by then is never made good.
const LAST_WORDS: [&str; 3] = ["converted", "undone", "map"];

/// So many of them: a third where a run has just ended and the disks differ, the others from all parts of the run.
fn choose(points: &[Point], sample: usize, seed: u64) -> Vec<&Point> {
    if sample >= points.len() {
        return points.iter().collect();
    }
    let (ends, others): (Vec<&Point>, Vec<&Point>) = points.iter().partition(|point| {
        let step = point.promises.step.as_deref().unwrap_or_default();
        !point.honest && LAST_WORDS.contains(&step)
    });
    let mut random = Seeded::new(seed ^ 0x33);
    let mut spread = |points: Vec<&'_ Point>, sample: usize| -> Vec<usize> {
        let count = points.len();
        if sample >= count {
            return (0..count).collect();
        }
        let within = |index| {
            let (from, to) = (index * count / sample, (index + 1) * count / sample);
            from + usize::try_from(random.below((to - from) as u64)).unwrap_or(0)
        };
        (0..sample).map(within).collect()
    };
    let of_ends = (sample / 3).min(ends.len());
    let (some_ends, some_others) = (spread(ends.clone(), of_ends), spread(others.clone(), sample - of_ends));
    let some_ends = some_ends.into_iter().map(|at| ends[at]);
    some_ends.chain(some_others.into_iter().map(|at| others[at])).collect()
}

#[derive(Default)]
struct Done {
    mbox: usize,
    maildir: usize,
    wrong: usize,
    parts: std::collections::BTreeMap<&'static str, usize>,
}

impl Done {
    fn add(&mut self, point: &Point, judged: Result<Ended>) {
        *self.parts.entry(part_of(point.promises.step.as_deref().unwrap_or_default())).or_default() += 1;
        match judged {
            Ok(Ended::Mbox) => self.mbox += 1,
            Ok(Ended::Maildir) => self.maildir += 1,
            Err(error) => {
                self.wrong += 1;
                say(&format!(
                    "WRONG: {} (all kept everything: {}), after step {:?}: {error}\n",
                    point.name, point.honest, point.promises.step
                ));
            }
        }
    }
}
