//! One death, and what has to come after it.

use std::collections::HashMap;
use std::fmt;

use mailready_tests::lab::{Daemon, Differences, LabError, Result};
use mailready_tests::stops::{Order, Place, Whom};

use super::rig::{self, Ended, Rig};
use super::trace;

/// What is going on when the death comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A conversion, from the agent's start to its end.
    Conversion,
    /// A drain of one message behind the tombstone, likewise.
    Drain,
    /// The way back, likewise.
    Rollback,
    /// The removal of originals whose time is over, likewise.
    Retention,
    /// The proof, likewise.
    Verification,
}

/// A place of the work, by what it is instead of by its number: threads overtake each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// [`Place::kind`].
    pub kind: String,
    /// Which of the calls of that kind, from 1.
    pub nth: usize,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (number {})", self.kind, self.nth)
    }
}

/// The spots of a list of places, in its order.
pub fn spots(places: &[Place]) -> Vec<Spot> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let spot = |place: &Place| {
        let kind = place.kind();
        let nth = seen.entry(kind.clone()).or_default();
        *nth += 1;
        Spot { kind, nth: *nth }
    };
    places.iter().map(spot).collect()
}

/// What came of a death.
#[derive(Debug)]
pub struct Death {
    /// Whether anybody was there to be killed.
    pub hit: bool,
    /// What the mail was when the dust had settled.
    pub ended: Ended,
    /// Why what was logged is no path of the model, if it is none.
    pub off_the_model: Option<String>,
}

/// What was logged before the work: the lines of one agent after the other.
pub type Before = Vec<Vec<String>>;

/// Brings the mailbox to where the work begins, and saves it; gives back what was logged on the way.
pub fn prepare(rig: &Rig, work: Work) -> Result<Before> {
    let mut before = Before::new();
    if work != Work::Conversion {
        rig.restore()?;
        let agent = rig.start_plain()?;
        let said = rig.convert()?;
        if !said.contains("\"converted\"") {
            return Err(LabError::Protocol { asked: "convert".into(), got: said });
        }
        rig.wait_settled(&agent, false)?;
        agent.terminate()?;
        match work {
            Work::Drain => rig.deliver_late()?,
            Work::Retention => rig.let_days_pass()?,
            Work::Conversion | Work::Rollback | Work::Verification => {}
        }
        rig.let_time_pass()?;
        before.push(trace::lines(&agent));
    }
    rig.save()?;
    Ok(before)
}

/// The calls of the work when nobody dies.
pub fn count(rig: &Rig, work: Work, before: &Before) -> Result<Vec<Place>> {
    rig.restore()?;
    let mut agent = rig.start_traced(&Order::Count)?;
    carry_out(rig, work, &mut agent)?;
    rig.check_places()?;
    let places = rig.control()?.places()?;
    let traced: Before = before.iter().cloned().chain([trace::lines(&agent)]).collect();
    check_trace(work, &traced)
        .map_err(|got| LabError::Protocol { asked: "a path of the model, nobody killed".into(), got })?;
    Ok(places)
}

/// The model has a way back of its own, which is explored and not followed: its steps have other names. Of the originals' end it knows nothing.
fn check_trace(work: Work, traced: &Before) -> Result<(), String> {
    if matches!(work, Work::Rollback | Work::Retention | Work::Verification) {
        Ok(())
    } else {
        trace::check(traced)
    }
}

/// Has the agent do its work and end, unless it dies.
fn carry_out(rig: &Rig, work: Work, agent: &mut Daemon) -> Result<()> {
    match work {
        Work::Conversion => {
            if agent.is_running() {
                rig.convert()?;
            }
        }
        Work::Rollback => {
            if agent.is_running() {
                rig.roll_back()?;
            }
        }
        Work::Verification => {
            if agent.is_running() {
                rig.verify()?;
            }
        }
        // The agent does it by itself: done, or dead, or its worker was and it has tried again.
        Work::Drain => rig.wait_drained_or_dead(agent)?,
        Work::Retention => rig.wait_gone_or_dead(agent)?,
    }
    if agent.is_running() {
        agent.terminate()?;
    }
    Ok(())
}

/// Kills `whom` at a spot of the work; `None` if the work did not come to it. `wiped`: before the next start everything that the agent keeps besides records and holds is
/// deleted.
///
/// # Errors
/// Whatever was not as it must be afterwards.
pub fn die(
    rig: &Rig,
    work: Work,
    before: &Before,
    spot: &Spot,
    (whom, wiped): (Whom, bool),
) -> Result<Option<Death>> {
    rig.restore()?;
    let mut first = rig.start_traced(&Order::Kill { nth: spot.nth, kind: spot.kind.clone(), whom })?;
    carry_out(rig, work, &mut first)?;
    if rig.control()?.reached()?.is_none() {
        return Ok(None);
    }
    // The agent was killed, or ended in good order after its worker's death: nobody is at work now but, for a moment, an
    // orphaned worker. This is the state in which the death left the disk.
    rig.check_places()?;
    if wiped {
        rig.wipe()?;
    }
    let second = rig.start_plain()?;
    let ended = rig.wait_settled(&second, work == Work::Drain)?;
    check_mail(rig, work, &second)?;
    if work == Work::Conversion {
        // Healed: the next order is carried out.
        let said = rig.convert()?;
        if !said.contains("\"on_maildir\":true") {
            return Err(LabError::Protocol { asked: "a conversion after the death".into(), got: said });
        }
        rig.wait_settled(&second, false)?;
        check_mail(rig, work, &second)?;
        if rig.has_kept_stage()? {
            let got = second.log.tail();
            return Err(LabError::Protocol { asked: "that nothing of the dead run is left".into(), got });
        }
    }
    if work == Work::Verification {
        let said = rig.verify_when_it_can()?;
        if !said.contains("\"answer\":\"verified\"") {
            return Err(LabError::Protocol { asked: "a verification after the death".into(), got: said });
        }
        if rig.has_kept_stage()? || rig.remembers_stages()? {
            let got = second.log.tail();
            return Err(LabError::Protocol { asked: "that nothing of the dead run is left".into(), got });
        }
    }
    if work == Work::Retention {
        rig.wait_gone(&second)?;
        check_mail(rig, work, &second)?;
    }
    if work == Work::Rollback {
        if ended == Ended::Maildir {
            let said = rig.roll_back_when_it_can()?;
            if rig.wait_settled(&second, false)? != Ended::Mbox {
                return Err(LabError::Protocol { asked: "a rollback after the death".into(), got: said });
            }
        }
        check_mail(rig, work, &second)?;
    }
    second.terminate()?;
    let (dead, second) = (trace::lines(&first), trace::lines(&second));
    let hit = dead.iter().any(|line| line.starts_with("killed"));
    let traced: Before = before.iter().cloned().chain([dead, second]).collect();
    Ok(Some(Death { hit, ended, off_the_model: check_trace(work, &traced).err() }))
}

/// Whether all mail is what it was, and what came late is there once.
pub fn check_mail(rig: &Rig, work: Work, agent: &Daemon) -> Result<()> {
    let after = rig.dump()?;
    let wrong = |got: String| {
        let got = format!("{got}\n{}", agent.log.tail());
        Err(LabError::Protocol { asked: "the mail as it was".into(), got })
    };
    match work {
        Work::Conversion | Work::Rollback | Work::Retention | Work::Verification => {
            let found = Differences::between(&rig.expected, &after);
            if found.is_empty() { Ok(()) } else { wrong(found.to_string()) }
        }
        Work::Drain => {
            let (before, after) = (rig.expected.inbox()?, after.inbox()?);
            let (others, late) = rig::without_late(after);
            let same = others == before.messages && after.uidvalidity == before.uidvalidity;
            if same && late == 1 && after.exists == before.exists + 1 {
                return Ok(());
            }
            wrong(format!(
                "{} messages, the late one {late} times, the others the same: {same}",
                after.exists
            ))
        }
    }
}
