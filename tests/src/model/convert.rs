//! The steps from mbox to Maildir: in which order, when each can be taken, what it does.

use super::files::{Dir, Home, MailFile};
use super::session;
use super::spec::{Guard, Spec};
use super::step::Step;
use super::world::{At, Dotlock, Plan, Record, Session, World};

/// Whether the next step can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Now.
    Go,
    /// Not yet; whoever is in the way goes by itself.
    Wait,
    /// Not this time: everything is unlocked, and the run goes back to the gate.
    BackOff,
    /// Never: the run is given up.
    GiveUp,
}

const CONVERT: &[Step] = &[
    Step::Record,
    Step::Stage,
    Step::Verify,
    Step::Gate,
    Step::Refresh,
    Step::Tombstone,
    Step::Dotlock,
    Step::Lock,
    Step::Lease,
    Step::Confirm,
    Step::Seal,
    Step::Commit,
    Step::SyncCommit,
    Step::SetAside,
    Step::SyncSetAside,
    Step::Unlock,
    Step::Map,
    Step::Converted,
];

/// What [`Guard::RecordFirst`] forbids.
const CONVERT_RECORD_LATE: &[Step] = &[
    Step::Stage,
    Step::Verify,
    Step::Gate,
    Step::Refresh,
    Step::Tombstone,
    Step::Dotlock,
    Step::Lock,
    Step::Lease,
    Step::Confirm,
    Step::Seal,
    Step::Commit,
    Step::Record,
    Step::SyncCommit,
    Step::SetAside,
    Step::SyncSetAside,
    Step::Unlock,
    Step::Map,
    Step::Converted,
];

/// The roll-forward of a run that died between `commit` and `set_aside`. Sessions may have found the mbox meanwhile, so
/// it ends them and has their flags written out as the conversion did. Nothing is read any more under the
/// locks, so `confirm`, which from here on only holds the index logs, can come before them.
const FORWARD: &[Step] = &[
    Step::SyncCommit,
    Step::Gate,
    Step::Confirm,
    Step::Tombstone,
    Step::Dotlock,
    Step::Lock,
    Step::Lease,
    Step::SetAside,
    Step::SyncSetAside,
    Step::Unlock,
    Step::Map,
    Step::Converted,
];

const FORWARD_BLINDLY: &[Step] =
    &[Step::SyncCommit, Step::Tombstone, Step::SetAside, Step::SyncSetAside, Step::Map, Step::Converted];

/// The steps of a plan as the protocol under test takes them.
pub fn sequence(spec: &Spec, plan: Plan) -> impl Iterator<Item = Step> {
    let steps: &[Step] = match plan {
        Plan::Convert if spec.keeps(Guard::RecordFirst) => CONVERT,
        Plan::Convert => CONVERT_RECORD_LATE,
        Plan::Forward if spec.keeps(Guard::RecoveryGate) => FORWARD,
        Plan::Forward => FORWARD_BLINDLY,
        Plan::Finish => &[Step::SyncCommit, Step::SyncSetAside, Step::Map, Step::Converted],
        Plan::Abort => &[Step::Abort],
        Plan::Recover | Plan::Drain | Plan::Rollback | Plan::Idle => &[],
    };
    steps.iter().copied().filter(|step| spec.takes(*step))
}

/// The step that a run takes next.
pub fn next(spec: &Spec, at: At) -> Option<Step> {
    sequence(spec, at.plan).nth(usize::from(at.done))
}

/// A plan right before its gate, where everything begins anew.
pub fn at_gate(spec: &Spec, plan: Plan) -> At {
    let gate =
        sequence(spec, plan).position(|step| matches!(step, Step::Gate | Step::Refresh | Step::Tombstone));
    At { plan, done: u8::try_from(gate.unwrap_or(0)).unwrap_or(u8::MAX) }
}

/// Whether `step` of `plan` can be taken.
pub fn ready(spec: &Spec, world: &World, plan: Plan, step: Step) -> Ready {
    match step {
        Step::Gate if spec.keeps(Guard::StayBinds) && stays(world.session) => Ready::Wait,
        Step::Dotlock if world.dotlock.is_some() => Ready::Wait,
        Step::Lock | Step::Lease if world.spool.now().place.is_none() => Ready::Wait,
        Step::Lease => {
            let ino = world.hold.ino.or(world.spool.now().place);
            if ino.is_some_and(|ino| world.opened_by_others(ino)) { Ready::BackOff } else { Ready::Go }
        }
        Step::Confirm => confirm(spec, world, plan),
        Step::Seal if spec.keeps(Guard::LeaseUnbroken) && world.hold.broken => Ready::BackOff,
        Step::Commit if world.home.now().stage.is_none() => Ready::GiveUp,
        Step::Commit if spec.keeps(Guard::NoReplace) && world.home.now().maildir.is_some() => Ready::GiveUp,
        Step::SetAside if world.spool.now().entry(0).is_none() || world.spool.now().place.is_none() => {
            Ready::Wait
        }
        _ => Ready::Go,
    }
}

fn stays(session: Session) -> bool {
    matches!(session, Session::Stay | Session::Selected { stay: true, .. })
}

fn confirm(spec: &Spec, world: &World, plan: Plan) -> Ready {
    if spec.keeps(Guard::IndexUnchanged) && world.index_version != world.agent.index_seen {
        return Ready::BackOff;
    }
    if plan == Plan::Forward {
        return Ready::Go;
    }
    let Some(place) = world.spool.now().place else { return Ready::Wait };
    if spec.keeps(Guard::SameInode) && world.hold.ino.is_some_and(|ino| ino != place) {
        return Ready::BackOff;
    }
    let items = &world.file(world.hold.ino.unwrap_or(place)).items;
    if spec.keeps(Guard::LookHolds) && !items.starts_with(&world.worker.look) {
        return Ready::BackOff;
    }
    Ready::Go
}

/// Takes the step.
pub fn take(spec: &Spec, world: &mut World, plan: Plan, step: Step) {
    match step {
        Step::Record => world.record = Record::Begun,
        Step::Stage => stage(spec, world),
        Step::Gate => gate(spec, world),
        Step::Refresh => {
            if !spec.keeps(Guard::IndexLookFirst) {
                world.agent.index_seen = world.index_version;
            }
            stage(spec, world);
        }
        Step::Tombstone => tombstone(spec, world),
        Step::Dotlock => world.dotlock = Some(Dotlock::Ours),
        Step::Lock => {
            world.hold.ino = world.spool.now().place;
            world.hold.lock = true;
        }
        Step::Lease => {
            world.hold.ino = world.hold.ino.or(world.spool.now().place);
            world.hold.lease = true;
        }
        Step::Confirm => look_again(spec, world, plan),
        Step::Seal => seal(spec, world),
        Step::Commit => world.home.change(|home| home.maildir = home.stage.take()),
        Step::SyncCommit => world.home.sync(),
        Step::SetAside => world.spool.change(|spool| {
            let original = spool.place;
            spool.place = spool.entry(0);
            spool.set_entry(0, original);
        }),
        Step::SyncSetAside => world.spool.sync(),
        Step::Unlock => world.let_go(),
        Step::Map => world.map = true,
        Step::Converted => world.record = Record::Converted,
        Step::Abort => abort(world),
        // A look that the model has no use for: what it writes is what it read.
        Step::Verify => {}
        Step::Probe
        | Step::Rotate
        | Step::Extract
        | Step::Extracted
        | Step::Deliver
        | Step::Delivered
        | Step::Forget => {}
    }
}

/// Where the run stands after the last step of its plan.
pub fn after(plan: Plan) -> At {
    At::start(match plan {
        Plan::Convert | Plan::Forward | Plan::Finish | Plan::Drain => Plan::Drain,
        Plan::Abort | Plan::Idle | Plan::Rollback => Plan::Idle,
        Plan::Recover => Plan::Recover,
    })
}

/// Reads the mbox without a lock, whatever state it is in.
fn stage(spec: &Spec, world: &mut World) {
    let Some(file) = world.at_place() else { return };
    let items = file.items.clone();
    let synced = spec.keeps(Guard::StageSync);
    world.worker.look.clone_from(&items);
    world.home.change(|home| {
        let late = home.stage.take().map(|old| old.late).unwrap_or_default();
        home.stage = Some(Dir { late, ..Dir::stage(&items, !synced) });
    });
    if synced {
        world.home.sync();
    }
}

/// The look at the index comes first: a flush that runs after it writes out whatever the look has seen.
pub(super) fn gate(spec: &Spec, world: &mut World) {
    world.agent.gate = true;
    world.agent.index_seen = world.index_version;
    if matches!(world.session, Session::Selected { .. } | Session::InMaildir) {
        world.session = Session::Out;
    }
    if spec.keeps(Guard::GateFlush) {
        session::flush(world);
    }
}

fn tombstone(spec: &Spec, world: &mut World) {
    if world.spool.now().entry(0).is_none() {
        let synced = spec.keeps(Guard::TombstoneSync);
        let ino = world.create(MailFile::new_tombstone(!synced));
        world.spool.change(|spool| spool.set_entry(0, Some(ino)));
        if synced {
            world.spool.sync();
        }
    }
}

fn look_again(spec: &Spec, world: &mut World, plan: Plan) {
    world.worker.index_locked = spec.keeps(Guard::IndexLock);
    if plan == Plan::Forward {
        return;
    }
    let Some(ino) = world.hold.ino.or(world.spool.now().place) else { return };
    let mut taken = world.worker.look.clone();
    if spec.keeps(Guard::TakeRest) {
        taken.extend(world.file(ino).items.iter().skip(taken.len()));
    }
    world.worker.taken = taken;
}

fn seal(spec: &Spec, world: &mut World) {
    let taken = world.worker.taken.clone();
    let synced = spec.keeps(Guard::SealSync);
    world.home.change(|home| {
        if let Some(stage) = &mut home.stage {
            stage.mails.clone_from(&taken);
            stage.marker = Some(taken);
            stage.dirty = !synced;
        }
    });
    if synced {
        world.home.sync();
    }
}

/// What is left of the run goes; the tombstone never stood anywhere.
fn abort(world: &mut World) {
    world.home.change(|home: &mut Home| home.stage = None);
    world.spool.change(|spool| spool.set_entry(0, None));
    world.record = Record::Undone;
}
