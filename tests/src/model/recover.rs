//! What a new run does first: it believes nothing but archive record, marker and archive entries.

use super::convert;
use super::files::Ino;
use super::rollback;
use super::spec::{Guard, Spec};
use super::step::Step;
use super::world::{At, Plan, Record, World};

/// The agent can look: the last run's worker, which may have outlived its agent, is gone.
pub fn ready(spec: &Spec, world: &World) -> bool {
    spec.takes(Step::Probe)
        && world.agent.alive
        && world.at.plan == Plan::Recover
        && (world.worker.orphan.is_none() || !spec.keeps(Guard::Flock))
}

/// Looks, and decides what is left to do.
pub fn take(spec: &Spec, world: &mut World) {
    world.let_go();
    world.agent.unsynced = None;
    world.worker.alive = true;
    world.worker.look.clear();
    world.worker.taken.clear();
    // An extraction that was not published may be incomplete: it is made again.
    world.home.change(|home| home.drains.retain(|drain| drain.published));
    if spec.keeps(Guard::RecoverySync) {
        world.spool.sync();
        world.home.sync();
    }
    rollback::settle(world);
    world.at = look(spec, world);
    // Between withdrawal and restoration there is nothing to be told to stay with.
    world.agent.gate = world.at == rollback::RESTORE;
}

fn look(spec: &Spec, world: &World) -> At {
    let home = world.home.now();
    match world.record {
        Record::Undone if home.withdrawn.is_some() => rollback::CARRY,
        Record::Converted if home.withdrawn.is_some() => rollback::RESTORE,
        Record::Converted if home.rolling_back => rollback::GATE,
        Record::None | Record::Undone => At::start(Plan::Idle),
        Record::Converted => At::start(Plan::Drain),
        Record::Begun if world.home.now().marked() => {
            At::start(if set_aside(world) { Plan::Finish } else { Plan::Forward })
        }
        Record::Begun if spec.keeps(Guard::KeepStrays) && has_strays(world) => {
            convert::at_gate(spec, Plan::Convert)
        }
        Record::Begun => At::start(Plan::Abort),
    }
}

/// Entry 0 says it, not the place: after the exchange somebody may have written an mbox back to the place.
fn set_aside(world: &World) -> bool {
    let is_tombstone = |ino: Ino| world.file(ino).tombstone;
    world.spool.now().entry(0).is_some_and(|ino| !is_tombstone(ino))
}

/// The stage was a Maildir for a moment: the power cut took the rename, not what was delivered into it.
fn has_strays(world: &World) -> bool {
    world.home.now().stage.as_ref().is_some_and(|stage| !stage.late.is_empty())
}
