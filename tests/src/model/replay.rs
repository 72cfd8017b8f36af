//! Is what really happened a path of the model?
//!
//! A step is logged *before* it is taken, so at every moment each process has at most one step of which the log cannot
//! tell. Deliveries, failed attempts and looks are not in the log. So the replay follows every world that fits what has
//! been read so far; a trace is refused at the line that fits none of them.
//!
//! What a log may leave out: a step that would change nothing (a second sync, a tombstone that is there already), the
//! unlocking, and the gate of a roll-forward. What needs no explanation in it: going back to an earlier look, the gate or the
//! dotlock before the seal, a run that is given up before its commit, locks around a rotation, a record written again,
//! new mail behind a tombstone or behind an entry's position.

use std::collections::HashSet;
use std::fmt;

use super::convert;
use super::files::{Ino, Item};
use super::machine::Action;
use super::spec::Spec;
use super::step::{Step, Who};
use super::trace::{Event, TraceLine};
use super::world::{At, Hold, Left, Plan, Record, World};

/// The line that no path of the model explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError {
    /// The line in the log.
    pub line: usize,
    /// What it says.
    pub event: Event,
    /// The steps that were possible instead.
    pub possible: Vec<Step>,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {:?} is not on any path of the model; possible were:", self.line, self.event)?;
        self.possible.iter().try_for_each(|step| write!(f, " {step}"))
    }
}

impl std::error::Error for ReplayError {}

/// Whether the trace of one mailbox is a path of the model.
///
/// # Errors
/// The first line that does not fit.
pub fn replay(trace: &[TraceLine]) -> Result<(), ReplayError> {
    let spec = Spec::quiet("replay", 1);
    let mut fitting = HashSet::from([Fit::begin(&spec)]);
    let mut run: Option<&str> = None;
    let mut previous: Option<&Event> = None;
    for line in trace {
        let repeated = previous == Some(&line.event) && is_deliver(&line.event);
        previous = Some(&line.event);
        if repeated {
            continue;
        }
        fitting = closure(&spec, fitting);
        if let (Some(before), Some(now)) = (run, line.run.as_deref())
            && before != now
        {
            // A new run begins where the last one was given up.
            fitting.retain(|fit| fit.world.at.plan == Plan::Idle);
            fitting = if fitting.is_empty() { fitting } else { HashSet::from([Fit::begin(&spec)]) };
        }
        run = line.run.as_deref().or(run);
        let next: HashSet<Fit> = fitting.iter().flat_map(|fit| fit.with(&spec, &line.event)).collect();
        if next.is_empty() {
            return Err(ReplayError {
                line: line.line,
                event: line.event.clone(),
                possible: possible(&spec, &fitting),
            });
        }
        fitting = next;
    }
    Ok(())
}

/// One line a message: the model knows one message at a time.
fn is_deliver(event: &Event) -> bool {
    matches!(event, Event::Step { step: Step::Deliver, .. })
}

/// A world that fits the trace so far, and the steps announced of which nobody knows yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fit {
    world: World,
    agent: Option<Step>,
    worker: Option<Step>,
}

impl Fit {
    fn begin(spec: &Spec) -> Fit {
        Fit { world: World::new(spec), agent: None, worker: None }
    }

    fn announced(&self, who: Who) -> Option<Step> {
        match who {
            Who::Agent => self.agent,
            Who::Worker => self.worker,
        }
    }

    fn set(&mut self, who: Who, step: Option<Step>) {
        match who {
            Who::Agent => self.agent = step,
            Who::Worker => self.worker = step,
        }
    }

    /// The worlds that this one may be after one more line; none if it does not fit.
    fn with(&self, spec: &Spec, event: &Event) -> Vec<Fit> {
        match *event {
            // Something failed: the locks are dropped, and the run is somewhere before them again.
            Event::Step { who: Who::Agent, step: Step::Unlock } if self.is_locked() => gone_back(spec, self),
            Event::Step { who, step } => self.announce(spec, who, step).into_iter().collect(),
            Event::Killed(who) => self.killed(spec, who).into_iter().collect(),
            Event::Started(Who::Agent) if !self.world.agent.alive => {
                vec![self.after(spec, Action::StartAgent)]
            }
            // The model's agent always has a worker.
            Event::Started(Who::Worker) if self.world.agent.alive => vec![self.clone()],
            Event::PowerCut => self.power_cut(spec),
            Event::Started(_) | Event::Unknown(_) => Vec::new(),
        }
    }

    fn announce(&self, spec: &Spec, who: Who, step: Step) -> Option<Fit> {
        if step.who() == who && self.is_aside(step) {
            return Some(self.clone());
        }
        let lives = match who {
            Who::Agent => self.world.agent.alive,
            // The first thing that a new worker does.
            Who::Worker if step == Step::Probe => self.world.agent.alive,
            Who::Worker => self.world.worker.alive || self.world.worker.orphan.is_some(),
        };
        let fits = lives && step.who() == who && self.announced(who).is_none();
        if !fits || !next_steps(spec, self).contains(&step) {
            return None;
        }
        let mut fit = self.clone();
        fit.set(who, Some(step));
        Some(fit)
    }

    /// In a conversion, before its commit.
    fn is_locked(&self) -> bool {
        let locked = self.world.dotlock.is_some() || self.world.hold != Hold::default();
        locked && self.world.at.plan == Plan::Convert && !self.world.home.now().marked()
    }

    /// A line that changes nothing here: the locks around a rotation, a record written again, a refresh that stages anew.
    fn is_aside(&self, step: Step) -> bool {
        let draining = self.world.at.plan == Plan::Drain;
        let staging = self.world.at.plan == Plan::Convert && self.world.record == Record::Begun;
        let aside = match step {
            Step::Dotlock | Step::Lock | Step::Lease | Step::Unlock => draining,
            Step::Record => staging && !self.world.home.now().marked(),
            Step::Stage | Step::Verify => staging && self.world.agent.gate && !self.world.hold.lock,
            _ => false,
        };
        aside && self.world.agent.alive && self.announced(step.who()).is_none()
    }

    fn killed(&self, spec: &Spec, who: Who) -> Option<Fit> {
        let action = match who {
            Who::Agent if self.world.agent.alive => Action::KillAgent,
            Who::Worker if self.world.worker.orphan.is_some() => Action::OrphanEnds,
            Who::Worker if self.world.worker.alive => Action::KillWorker,
            // Killed before it had looked.
            Who::Worker if self.worker == Some(Step::Probe) => {
                return Some(Fit { worker: None, ..self.clone() });
            }
            _ => return None,
        };
        let mut fit = self.after(spec, action);
        fit.set(who, None);
        Some(fit)
    }

    /// Each file system may have kept any of its states.
    fn power_cut(&self, spec: &Spec) -> Vec<Fit> {
        let outcomes = |count| (0u8..).take(count);
        outcomes(self.world.spool.outcomes())
            .flat_map(|spool| {
                outcomes(self.world.home.outcomes()).map(move |home| Action::PowerCut { spool, home })
            })
            .map(|cut| Fit { agent: None, worker: None, ..self.after(spec, cut) })
            .collect()
    }

    fn take(&mut self, spec: &Spec, action: Action) {
        self.world.left = Left { kills: 1, power_cuts: 1, ..self.world.left };
        self.world = spec.after(&self.world, action);
        self.world.left = Left { kills: 0, power_cuts: 0, ..self.world.left };
    }

    fn after(&self, spec: &Spec, action: Action) -> Fit {
        let mut fit = self.clone();
        fit.take(spec, action);
        fit
    }
}

/// Everything that may have happened without a line of its own.
fn closure(spec: &Spec, fitting: HashSet<Fit>) -> HashSet<Fit> {
    let mut all = fitting.clone();
    let mut new: Vec<Fit> = fitting.into_iter().collect();
    while let Some(fit) = new.pop() {
        for next in silently(spec, &fit) {
            if all.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    all
}

fn silently(spec: &Spec, fit: &Fit) -> Vec<Fit> {
    let mut out = Vec::new();
    for action in spec.possible(&fit.world).into_iter().filter(|action| !action.is_accident()) {
        if action == Action::StartAgent {
            continue;
        }
        let mut next = fit.after(spec, action);
        let announced = match logged_as(action) {
            Some(step) if fit.announced(step.who()) == Some(step) => {
                next.set(step.who(), None);
                true
            }
            _ => false,
        };
        if action == Action::OrphanEnds {
            // What it announced last it has done or not.
            next.worker = None;
        }
        let only_moves_on = (World { at: fit.world.at, ..next.world.clone() }) == fit.world;
        if announced || only_moves_on || may_be_missing(&fit.world, action) {
            out.push(next);
        }
    }
    out.extend(failed(spec, fit));
    out.extend(arrivals(fit));
    out
}

/// The line that stands right before an action, if it has one.
fn logged_as(action: Action) -> Option<Step> {
    match action {
        Action::Recover => Some(Step::Probe),
        Action::Take(step) | Action::Orphan(step) => Some(step),
        Action::Drain(act) if act.is_logged() => Some(act.step()),
        _ => None,
    }
}

/// An action that happens without a line.
fn may_be_missing(world: &World, action: Action) -> bool {
    match action {
        // A run that has come to its end needs no look.
        Action::Recover => world.record != Record::Begun,
        Action::Take(Step::Unlock) => true,
        Action::Take(Step::Gate) => world.at.plan == Plan::Forward,
        _ => logged_as(action).is_none(),
    }
}

/// Attempts that came to nothing, and runs that were given up.
fn failed(spec: &Spec, fit: &Fit) -> Vec<Fit> {
    let mut out = Vec::new();
    let uncommitted = !fit.world.home.now().marked();
    if fit.world.at.plan == Plan::Convert && uncommitted && fit.world.agent.alive {
        let mut given_up = fit.after(spec, Action::GiveUp(Step::Abort));
        given_up.set(Who::Agent, None);
        given_up.set(Who::Worker, None);
        out.push(given_up);
    }
    out.extend(gone_back(spec, fit));
    out
}

/// Before the seal, and before the exchange of a roll-forward, a run can go back as often as it likes.
fn gone_back(spec: &Spec, fit: &Fit) -> Vec<Fit> {
    let at = fit.world.at;
    let Some(step) = convert::next(spec, at) else { return Vec::new() };
    let fallible = match at.plan {
        Plan::Convert => step <= Step::Seal,
        Plan::Forward => step <= Step::SetAside,
        _ => false,
    };
    if !fallible || !fit.world.agent.alive {
        return Vec::new();
    }
    let earlier = (0u8..at.done).zip(convert::sequence(spec, at.plan));
    let back = earlier.filter(|(_, step)| {
        matches!(step, Step::Stage | Step::Gate | Step::Refresh | Step::Dotlock | Step::Confirm)
            && (at.plan == Plan::Forward || *step != Step::Confirm)
    });
    back.map(|(done, _)| {
        let mut next = fit.after(spec, Action::BackOff(step));
        // Whatever was announced has failed.
        next.agent = None;
        next.worker = None;
        next.world.at = At { done, ..at };
        next
    })
    .collect()
}

/// New mail, wherever it can still arrive, one message at a time.
fn arrivals(fit: &Fit) -> Vec<Fit> {
    let world = &fit.world;
    let spool = world.spool.now();
    let mut open: Vec<Ino> = Vec::new();
    open.extend(spool.place.filter(|ino| world.file(*ino).is_bare_tombstone()));
    if world.home.now().marked() {
        open.extend(spool.present().filter(|(n, ino)| is_read(world, *n, *ino)).map(|(_, ino)| ino));
    }
    let append = |ino: Ino| {
        let mut next = fit.clone();
        next.world.file_mut(ino).append(Item::new(NEW));
        next
    };
    open.into_iter().map(append).collect()
}

/// Stands for every message that came after the conversion.
const NEW: u8 = 9;

/// The entry stood at the place once and has been read to its end.
fn is_read(world: &World, n: u8, ino: Ino) -> bool {
    let file = world.file(ino);
    let old = if n == 0 && !file.tombstone { 1 } else { 0 };
    let read = world.home.now().position(n).map_or(old, usize::from);
    !file.is_bare_tombstone() && read == file.items.len()
}

/// What could be logged next in this world.
fn next_steps(spec: &Spec, fit: &Fit) -> Vec<Step> {
    let mut steps: Vec<Step> = spec.possible(&fit.world).into_iter().filter_map(logged_as).collect();
    // An attempt that will fail is announced too.
    steps.extend(convert::next(spec, fit.world.at).filter(|step| fit.world.can_act(step.who())));
    steps
}

fn possible(spec: &Spec, fitting: &HashSet<Fit>) -> Vec<Step> {
    let mut steps: Vec<Step> = fitting.iter().flat_map(|fit| next_steps(spec, fit)).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

#[cfg(test)]
mod tests {
    use super::super::trace::parse_log;
    use super::*;

    const TO_COMMIT: &str = "record stage gate refresh tombstone dotlock lock lease confirm seal commit";
    const FROM_COMMIT: &str = "sync_commit set_aside sync_set_aside unlock map converted";

    /// Steps by name; a word that is no step is what was done: `-agent` killed, `+agent` started.
    fn trace(words: &[&str]) -> Vec<TraceLine> {
        let lines: Vec<String> = words
            .iter()
            .flat_map(|words| words.split(' '))
            .map(|word| match word.split_at(1) {
                ("-", who) => format!("killed {who}"),
                ("+", who) => format!("started {who}"),
                ("~", _) => "power cut".to_owned(),
                _ => format!("step={word} run=R"),
            })
            .collect();
        parse_log(&lines.join("\n"))
    }

    #[track_caller]
    fn fits(words: &[&str]) {
        assert_eq!(replay(&trace(words)), Ok(()));
    }

    #[track_caller]
    fn refused_at(line: usize, words: &[&str]) {
        assert_eq!(replay(&trace(words)).map_err(|e| e.line), Err(line));
    }

    #[test]
    fn a_quiet_conversion_and_its_drains_fit() {
        fits(&[TO_COMMIT, FROM_COMMIT, "rotate extract extracted deliver deliver deliver delivered"]);
        fits(&[
            TO_COMMIT,
            FROM_COMMIT,
            "extract extracted deliver delivered rotate extract extracted deliver delivered",
        ]);
    }

    #[test]
    fn a_refresh_without_change_may_be_missing() {
        fits(&["record stage gate tombstone dotlock lock lease confirm seal commit", FROM_COMMIT]);
    }

    #[test]
    fn a_swapped_pair_is_refused_where_it_shows() {
        refused_at(12, &[TO_COMMIT, "set_aside sync_commit"]);
        refused_at(1, &["stage record"]);
        refused_at(10, &["record stage gate refresh tombstone dotlock lock lease confirm commit seal"]);
        refused_at(20, &[TO_COMMIT, FROM_COMMIT, "rotate extract deliver extracted"]);
    }

    #[test]
    fn what_a_failed_lock_leads_to_fits() {
        let again = "refresh dotlock lock lease confirm seal commit";
        fits(&["record stage gate refresh tombstone dotlock lock lease unlock", again, FROM_COMMIT]);
        fits(&["record stage gate refresh tombstone dotlock lock lease confirm gate", again, FROM_COMMIT]);
        fits(&["record stage gate refresh tombstone dotlock dotlock lock lease unlock abort"]);
        fits(&[
            "record stage verify gate refresh tombstone dotlock lock lease confirm refresh gate",
            again,
            FROM_COMMIT,
        ]);
        fits(&[
            "record stage verify gate refresh stage verify refresh record tombstone dotlock lock lease confirm",
        ]);
        refused_at(9, &["record stage gate refresh tombstone dotlock lock unlock confirm"]);
    }

    #[test]
    fn a_worker_killed_before_the_commit_leads_to_an_abort() {
        fits(&["record stage gate refresh tombstone dotlock lock lease confirm -worker probe abort"]);
        fits(&[TO_COMMIT, "-worker probe abort"]);
        refused_at(
            14,
            &[
                "record stage gate refresh tombstone dotlock lock lease confirm seal -worker probe abort commit",
            ],
        );
    }

    #[test]
    fn a_worker_killed_at_the_commit_leads_forward_or_back() {
        let forward =
            "probe sync_commit gate confirm dotlock lock lease set_aside sync_set_aside unlock map converted";
        let tersely = "probe sync_commit confirm dotlock lock lease set_aside sync_set_aside map converted";
        fits(&[TO_COMMIT, "-worker", forward]);
        fits(&[TO_COMMIT, "-worker", tersely]);
        fits(&[TO_COMMIT, "sync_commit -agent -worker +agent", forward]);
        fits(&[TO_COMMIT, "-worker probe -worker", tersely]);
        refused_at(13, &[TO_COMMIT, "-worker abort"]);
        refused_at(15, &[TO_COMMIT, "sync_commit -worker probe abort"]);
        refused_at(15, &[TO_COMMIT, "sync_commit -worker probe set_aside"]);
    }

    #[test]
    fn a_worker_goes_on_until_it_notices_that_its_agent_is_dead() {
        let locked = "record stage verify gate refresh tombstone dotlock lock lease confirm";
        fits(&[locked, "-agent seal commit sync_commit +agent probe sync_commit confirm"]);
        fits(&[locked, "-agent seal commit +agent probe abort"]);
        refused_at(14, &[locked, "-agent seal commit set_aside"]);
        refused_at(17, &[locked, "-agent seal commit sync_commit +agent probe abort"]);
    }

    #[test]
    fn an_agent_killed_behind_the_exchange_finishes() {
        fits(&[TO_COMMIT, "sync_commit set_aside -agent +agent probe sync_set_aside map converted"]);
        fits(&[
            TO_COMMIT,
            "sync_commit set_aside sync_set_aside unlock map -agent +agent probe converted rotate",
        ]);
        fits(&[TO_COMMIT, FROM_COMMIT, "rotate extract -agent -worker +agent extract extracted deliver"]);
        fits(&[
            TO_COMMIT,
            FROM_COMMIT,
            "dotlock lock lease rotate extract extracted -worker deliver deliver delivered",
        ]);
        refused_at(18, &[TO_COMMIT, "sync_commit set_aside sync_set_aside -agent +agent probe confirm"]);
    }

    #[test]
    fn a_power_cut_may_take_the_last_steps_back() {
        let again = "confirm dotlock lock lease set_aside sync_set_aside";
        fits(&[TO_COMMIT, "~ +agent probe abort"]);
        fits(&[TO_COMMIT, "~ +agent probe sync_commit", again]);
        refused_at(17, &[TO_COMMIT, "sync_commit set_aside ~ +agent probe abort"]);
        fits(&[TO_COMMIT, "sync_commit set_aside ~ +agent probe", again]);
        fits(&[TO_COMMIT, "sync_commit set_aside sync_set_aside ~ +agent probe map converted"]);
        fits(&[TO_COMMIT, "sync_commit set_aside sync_set_aside ~ +agent probe", again]);
        refused_at(19, &[TO_COMMIT, "sync_commit set_aside sync_set_aside map ~ +agent probe confirm"]);
    }

    #[test]
    fn a_run_given_up_may_be_followed_by_another() {
        let both = |first: &str| {
            let lines = first.split(' ').map(|step| format!("step={step} run=R1"));
            let lines: Vec<String> =
                lines.chain(["step=record run=R2", "step=stage run=R2"].map(str::to_owned)).collect();
            replay(&parse_log(&lines.join("\n"))).map_err(|e| e.line)
        };
        assert_eq!(both("record stage gate abort"), Ok(()));
        assert_eq!(both(&format!("{TO_COMMIT} sync_commit")), Err(13));
    }

    #[test]
    fn steps_of_the_other_process_and_unknown_ones_are_refused() {
        let lines = parse_log("step=record who=worker run=R");
        assert_eq!(replay(&lines).map_err(|e| e.line), Err(1));
        let lines = parse_log("step=recrod run=R");
        assert_eq!(replay(&lines).map_err(|e| e.line), Err(1));
    }
}
