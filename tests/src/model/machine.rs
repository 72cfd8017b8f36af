//! What can happen next, and what it does: the whole as a transition system for the checker.

use stateright::{Model, Property};

use super::convert::{self, Ready};
use super::deliver;
use super::drain::{self, DrainAct};
use super::properties;
use super::reader;
use super::recover;
use super::rollback::{self, UndoAct};
use super::session::{self, SessionAct};
use super::spec::Spec;
use super::step::{Step, Who};
use super::world::{At, Deliverer, Dotlock, Plan, Reader, Session, World};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The process that a step belongs to takes it.
    Take(Step),
    /// The step cannot be taken now: unlock, back to the gate.
    BackOff(Step),
    /// The step can never be taken: unlock, abort.
    GiveUp(Step),
    /// A worker that has not noticed yet that its agent is dead takes its next step.
    Orphan(Step),
    /// It notices, and ends.
    OrphanEnds,
    /// A new run looks at record, marker and entries.
    Recover,
    /// Part of a drain.
    Drain(DrainAct),
    /// Part of a rollback.
    Undo(UndoAct),
    /// The agent is started again.
    StartAgent,
    /// A deliverer goes on.
    Deliverer(u8),
    /// The session does something.
    Session(SessionAct),
    /// The reader goes on.
    Reader,
    /// The agent is killed.
    KillAgent,
    /// The worker is killed.
    KillWorker,
    /// The machine loses power; each file system keeps one of its states.
    PowerCut {
        /// Which state of the spool's file system.
        spool: u8,
        /// Which of the home's.
        home: u8,
    },
    /// The kernel breaks the lease for somebody who has waited too long.
    BreakLease,
    /// Somebody removes the bare tombstone.
    Vanish,
}

impl Action {
    /// It need not happen: an execution that waits for it is stuck.
    pub fn is_accident(self) -> bool {
        matches!(
            self,
            Action::KillAgent
                | Action::KillWorker
                | Action::PowerCut { .. }
                | Action::BreakLease
                | Action::Vanish
        )
    }
}

impl Spec {
    /// Everything that can happen in this state.
    pub fn possible(&self, world: &World) -> Vec<Action> {
        let mut out = Vec::new();
        self.by_the_run(world, &mut out);
        let mut drains = Vec::new();
        drain::actions(self, world, &mut drains);
        out.extend(drains.into_iter().map(Action::Drain));
        rollback::actions(self, world, &mut out);
        self.by_others(world, &mut out);
        self.accidents(world, &mut out);
        out
    }

    fn by_the_run(&self, world: &World, out: &mut Vec<Action>) {
        if let Some(step) = convert::next(self, world.at)
            && world.can_act(step.who())
        {
            match convert::ready(self, world, world.at.plan, step) {
                Ready::Go => out.push(Action::Take(step)),
                Ready::Wait => {}
                Ready::BackOff => out.push(Action::BackOff(step)),
                Ready::GiveUp => out.push(Action::GiveUp(step)),
            }
        }
        if let Some(orphan) = world.worker.orphan {
            out.push(Action::OrphanEnds);
            if let Some(step) = convert::next(self, orphan)
                && step.who() == Who::Worker
                && convert::ready(self, world, orphan.plan, step) == Ready::Go
            {
                out.push(Action::Orphan(step));
            }
        }
        if recover::ready(self, world) {
            out.push(Action::Recover);
        }
        if !world.agent.alive {
            out.push(Action::StartAgent);
        }
    }

    fn by_others(&self, world: &World, out: &mut Vec<Action>) {
        for who in (0u8..).take(world.deliverers.len()) {
            if deliver::ready(self, world, who) {
                out.push(Action::Deliverer(who));
            }
        }
        let mut sessions = Vec::new();
        session::actions(self, world, &mut sessions);
        out.extend(sessions.into_iter().map(Action::Session));
        if reader::ready(self, world) {
            out.push(Action::Reader);
        }
    }

    fn accidents(&self, world: &World, out: &mut Vec<Action>) {
        if world.left.kills > 0 && world.agent.alive {
            out.push(Action::KillAgent);
            if world.worker.alive {
                out.push(Action::KillWorker);
            }
        }
        if world.left.power_cuts > 0 {
            for spool in (0u8..).take(world.spool.outcomes()) {
                for home in (0u8..).take(world.home.outcomes()) {
                    out.push(Action::PowerCut { spool, home });
                }
            }
        }
        let waited_for = |ino| world.deliverers.contains(&Deliverer::Opening(ino));
        if world.left.lease_breaks > 0 && world.hold.lease && world.hold.ino.is_some_and(waited_for) {
            out.push(Action::BreakLease);
        }
        if world.left.vanish > 0 && removable_tombstone(world) {
            out.push(Action::Vanish);
        }
    }

    /// The state after an action.
    pub fn after(&self, world: &World, action: Action) -> World {
        let mut world = world.clone();
        match action {
            Action::Take(step) => {
                let plan = world.at.plan;
                convert::take(self, &mut world, plan, step);
                world.at = self.advanced(world.at);
            }
            Action::BackOff(_) => {
                world.let_go();
                world.at = convert::at_gate(self, world.at.plan);
            }
            Action::GiveUp(_) => {
                world.let_go();
                world.at = At::start(Plan::Abort);
            }
            Action::Orphan(step) => {
                if let Some(orphan) = world.worker.orphan {
                    convert::take(self, &mut world, orphan.plan, step);
                    world.worker.orphan = Some(self.advanced(orphan));
                }
            }
            Action::OrphanEnds => end_of_worker(&mut world),
            Action::Recover => recover::take(self, &mut world),
            Action::Drain(act) => drain::take(self, &mut world, act),
            Action::Undo(act) => rollback::take(self, &mut world, act),
            Action::StartAgent => {
                world.agent.alive = true;
                world.at = At::start(Plan::Recover);
            }
            Action::Deliverer(who) => deliver::take(self, &mut world, who),
            Action::Session(act) => session::take(self, &mut world, act),
            Action::Reader => reader::take(self, &mut world),
            Action::KillAgent => kill_agent(&mut world),
            Action::KillWorker => {
                world.left.kills -= 1;
                world.at = At::start(Plan::Recover);
                end_of_worker(&mut world);
            }
            Action::PowerCut { spool, home } => power_cut(&mut world, spool, home),
            Action::BreakLease => {
                world.left.lease_breaks -= 1;
                world.hold.lease = false;
                world.hold.broken = true;
            }
            Action::Vanish => {
                world.left.vanish -= 1;
                let gone = world.spool.now().place;
                world.spool.everywhere(|spool| spool.place = spool.place.filter(|ino| Some(*ino) != gone));
            }
        }
        world
    }

    fn advanced(&self, at: At) -> At {
        let at = At { done: at.done + 1, ..at };
        if convert::next(self, at).is_some() { at } else { convert::after(at.plan) }
    }
}

/// Whoever removes it while somebody is about to append to it destroys that mail, not we.
fn removable_tombstone(world: &World) -> bool {
    world.spool.now().place.is_some_and(|ino| {
        let unused = !world.opened_by_others(ino) && !world.deliverers.contains(&Deliverer::Opening(ino));
        unused && world.file(ino).is_bare_tombstone()
    })
}

/// The agent's memory is gone; the worker goes on until it reads EOF, and the locks live as long as it does.
fn kill_agent(world: &mut World) {
    world.left.kills -= 1;
    world.agent.alive = false;
    world.agent.gate = false;
    if world.worker.alive {
        world.worker.alive = false;
        // While the agent syncs, the worker has been told nothing yet.
        let told = world.agent.unsynced.is_none();
        world.worker.orphan = Some(if told { world.at } else { At::start(Plan::Idle) });
    } else if world.worker.orphan.is_none() {
        world.hold = super::world::Hold::default();
    }
    world.agent.unsynced = None;
    world.at = At::start(Plan::Recover);
}

/// What the worker held goes with it; the open file description too, if the agent that shared it is dead.
fn end_of_worker(world: &mut World) {
    world.worker.alive = false;
    world.worker.orphan = None;
    world.worker.index_locked = false;
    world.worker.published = false;
    world.worker.cut = false;
    world.worker.look.clear();
    world.worker.taken.clear();
    if !world.agent.alive {
        world.hold = super::world::Hold::default();
    }
}

/// Every process is gone. Deliverers that were not through come again; what they had half written is not there.
fn power_cut(world: &mut World, spool: u8, home: u8) {
    world.left.power_cuts -= 1;
    world.agent.alive = false;
    world.agent.gate = false;
    world.agent.unsynced = None;
    world.at = At::start(Plan::Recover);
    end_of_worker(world);
    if matches!(world.dotlock, Some(Dotlock::Deliverer(_))) {
        world.dotlock = None;
    }
    for deliverer in world.deliverers.iter_mut().filter(|deliverer| **deliverer != Deliverer::Done) {
        *deliverer = Deliverer::Idle;
    }
    world.session = Session::Out;
    world.index_pending = false;
    world.flag_acked = false;
    world.reader = Reader::Done;
    world.spool.cut(usize::from(spool));
    world.home.cut_and_tear(usize::from(home));
    for file in &mut world.files {
        file.items.retain(|item| !item.half);
        if file.dirty {
            *file = super::files::MailFile::mbox(Vec::new());
        }
    }
}

impl Model for Spec {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(self.possible(world));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.after(world, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = properties::ALWAYS.iter().map(|(name, holds)| Property::always(name, *holds));
        let at_rest: fn(&Spec, &World) -> bool = |spec, world| {
            !properties::at_rest(spec, world) || properties::broken(spec, world, true).is_none()
        };
        always.chain([Property::always("at rest all is well", at_rest)]).collect()
    }
}
