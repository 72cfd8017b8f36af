//! What must hold: invariants 1 to 3 of the design, in every state or in every state where all is said and done.

use super::files::{Item, MailFile};
use super::rollback;
use super::session;
use super::spec::Spec;
use super::world::{Dotlock, Plan, Record, World};

/// A condition on a state.
pub type Holds = fn(&Spec, &World) -> bool;

/// What must hold in every state.
pub const ALWAYS: &[(&str, Holds)] = &[
    ("one place is the mail", one_place),
    ("the place is never an empty or shortened mbox", place_is_whole),
    ("nothing is twice in the Maildir", nothing_twice),
    ("nothing in the Maildir is torn", nothing_torn),
    ("no client sees an EXPUNGE of existing mail", no_expunge),
    ("a session that was told stay can open the mbox", stay_holds),
];

/// What must hold where nothing is left to do.
pub const AT_REST: &[(&str, Holds)] = &[
    ("at rest: every acknowledged message is served exactly once", all_served),
    ("at rest: no acknowledged flag is lost", flag_kept),
    ("at rest: the run is complete", complete),
];

/// The name of a condition that does not hold in this state.
pub fn broken(spec: &Spec, world: &World, at_rest: bool) -> Option<&'static str> {
    let at_rest = AT_REST.iter().filter(|_| at_rest);
    ALWAYS.iter().chain(at_rest).find(|(_, holds)| !holds(spec, world)).map(|(name, _)| *name)
}

/// Nothing can happen any more but accidents.
pub fn at_rest(spec: &Spec, world: &World) -> bool {
    spec.possible(world).into_iter().all(super::machine::Action::is_accident)
}

/// Before the commit the mbox, after it the Maildir, and it holds everything that was there from the beginning.
fn one_place(spec: &Spec, world: &World) -> bool {
    if rollback::between(world) {
        // The withdrawn Maildir is the mail, the tombstone keeps everybody waiting, nothing is shown.
        return !world.home.now().marked();
    }
    if world.home.now().marked() {
        let maildir = world.home.now().maildir.iter();
        let mails: Vec<&Item> = maildir.flat_map(|dir| dir.all()).collect();
        (0..spec.old).all(|msg| mails.iter().any(|item| item.msg == msg))
    } else {
        world.at_place().is_some_and(|file| !file.tombstone && session::shows_all(spec, file))
    }
}

/// Unless somebody has removed the tombstone and new mail has made a new mbox.
fn place_is_whole(spec: &Spec, world: &World) -> bool {
    spec.vanish > 0 || world.at_place().is_some_and(|file| file.tombstone || session::shows_all(spec, file))
}

fn nothing_twice(spec: &Spec, world: &World) -> bool {
    let Some(maildir) = &world.home.now().maildir else { return true };
    let brought = u8::try_from(spec.deliverers.len()).unwrap_or(u8::MAX);
    let is = |msg: u8, bytes: u8| spec.bytes(msg) == bytes;
    (0..spec.old + brought).map(|msg| spec.bytes(msg)).all(|bytes| {
        let sent = (0..spec.old + brought).filter(|msg| is(*msg, bytes)).count();
        maildir.all().filter(|item| is(item.msg, bytes)).count() <= sent
    })
}

fn nothing_torn(_: &Spec, world: &World) -> bool {
    world.home.now().maildir.iter().flat_map(|dir| dir.all()).all(|item| !item.half)
}

fn no_expunge(_: &Spec, world: &World) -> bool {
    !world.seen.expunge
}

fn stay_holds(_: &Spec, world: &World) -> bool {
    !world.seen.stay_broken
}

/// Counted by their bytes: nobody can tell twins apart.
fn all_served(spec: &Spec, world: &World) -> bool {
    let mut acked: Vec<u8> =
        (0..16).filter(|msg| world.acked & (1 << msg) != 0).map(|m| spec.bytes(m)).collect();
    let mut served: Vec<u8> =
        served(world).iter().filter(|item| !item.half).map(|item| spec.bytes(item.msg)).collect();
    acked.sort_unstable();
    served.sort_unstable();
    acked == served
}

/// What clients are served, and what a misguided deliverer has put into a Maildir that made the run give up.
fn served(world: &World) -> Vec<Item> {
    let home = world.home.now();
    let undone = home.withdrawn.is_some();
    let maildir = home.maildir.iter().filter(|_| !undone).flat_map(|dir| dir.all()).copied();
    if home.marked() {
        return maildir.collect();
    }
    let mbox = world.at_place().filter(|file| !file.tombstone);
    mbox.into_iter().flat_map(|file| file.items.iter().copied()).chain(maildir).collect()
}

fn flag_kept(spec: &Spec, world: &World) -> bool {
    !world.flag_acked || served(world).iter().any(|item| item.flag && spec.bytes(item.msg) == spec.bytes(0))
}

/// No lock, no half-done run, and the mailbox wholly the one or wholly the other.
fn complete(_: &Spec, world: &World) -> bool {
    let unlocked = world.dotlock != Some(Dotlock::Ours) && !world.hold.lock && !world.hold.lease;
    if world.home.now().marked() {
        let tombstone = world.at_place().is_some_and(MailFile::is_bare_tombstone);
        unlocked && tombstone && world.map && world.at.plan == Plan::Drain && world.record != Record::Undone
    } else {
        let idle = world.at.plan == Plan::Idle || world.record == Record::Undone;
        unlocked && idle && world.at_place().is_some_and(|file| !file.tombstone)
    }
}
