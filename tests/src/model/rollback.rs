//! Back to mbox. No issue builds it yet; its steps have no names in the architecture page, so they are parts here.
//!
//! A mark in the work folder and the gate; then the commit: the Maildir is renamed away. What it holds, and whatever still
//! stands in archive entries, becomes an mbox beside the place, which is exchanged for the tombstone. Mail that comes late
//! (to the old Maildir, behind the tombstone, to any archived file) is *carried*: a longer copy of the mbox is made
//! and exchanged for it, never anything appended, because nobody could tell after a crash whether it had been. What the
//! copy adds is noted in the archive record, with its inode number, before the exchange; whether the exchange
//! happened is then a look at the place.

use super::convert;
use super::drain;
use super::files::{Item, MailFile};
use super::machine::Action;
use super::spec::{Guard, Spec};
use super::world::{At, Plan, Record, World};

/// A part of a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UndoAct {
    /// `rolling-back` in the work folder, synced: post-login asks the agent though the marker is there.
    Mark,
    /// As in a conversion.
    Gate,
    /// The map forgets the user.
    Unmap,
    /// The Maildir renamed away: from here on the rollback rolls forward.
    Withdraw,
    /// The home synced.
    SyncWithdraw,
    /// A longer copy of what stands at the place, or the first mbox, in the archive; noted in the record.
    Copy,
    /// Under the lease, the place and the copy exchanged.
    Exchange,
    /// Spool and archive folder synced; what the copy added counts as carried.
    Carried,
    /// Record `undone`, mark removed.
    Undone,
}

const FIRST: &[UndoAct] =
    &[UndoAct::Mark, UndoAct::Gate, UndoAct::Unmap, UndoAct::Withdraw, UndoAct::SyncWithdraw];

/// Resume before the gate.
pub const GATE: At = At { plan: Plan::Rollback, done: 1 };
/// Resume behind the withdrawal.
pub const RESTORE: At = At { plan: Plan::Rollback, done: 5 };
/// Nothing left to do but to carry what comes late.
pub const CARRY: At = At { plan: Plan::Rollback, done: 6 };

/// The Maildir is gone and the mbox not back yet.
pub fn between(world: &World) -> bool {
    let place_is_tombstone = world.at_place().is_some_and(|file| file.tombstone);
    world.home.now().withdrawn.is_some() && world.record != Record::Undone && place_is_tombstone
}

/// What a rollback can do now.
pub fn actions(spec: &Spec, world: &World, out: &mut Vec<Action>) {
    if world.at.plan != Plan::Rollback || !world.agent.alive || !world.worker.alive {
        return;
    }
    if let Some(act) = FIRST.get(usize::from(world.at.done)) {
        out.push(Action::Undo(*act));
        return;
    }
    let place = world.spool.now().place;
    let open = place.is_some_and(|ino| world.opened_by_others(ino)) && spec.keeps(Guard::CarryLease);
    let act = match world.carried.noted {
        Some((copy, _)) if place == Some(copy) => Some(UndoAct::Carried),
        // The copy is made and exchanged under one lease, so nothing came between.
        Some(_) => Some(UndoAct::Exchange),
        None if place_is_mbox(world) && world.at == RESTORE => Some(UndoAct::Undone),
        None => (!open && (!late(world).is_empty() || !place_is_mbox(world))).then_some(UndoAct::Copy),
    };
    out.extend(act.map(Action::Undo));
}

fn place_is_mbox(world: &World) -> bool {
    world.at_place().is_some_and(|file| !file.tombstone)
}

/// Does it.
pub fn take(spec: &Spec, world: &mut World, act: UndoAct) {
    match act {
        UndoAct::Mark => {
            world.home.change(|home| home.rolling_back = true);
            world.home.sync();
        }
        UndoAct::Gate => convert::gate(spec, world),
        UndoAct::Unmap => world.map = false,
        UndoAct::Withdraw => world.home.change(|home| {
            home.withdrawn = home.maildir.take();
            home.barred = spec.keeps(Guard::MaildirTombstone);
        }),
        UndoAct::SyncWithdraw => {
            if spec.keeps(Guard::WithdrawSync) {
                world.home.sync();
            }
        }
        UndoAct::Copy => copy(spec, world),
        UndoAct::Exchange => exchange(world),
        UndoAct::Carried => {
            if spec.keeps(Guard::CarrySync) {
                world.spool.sync();
            }
            carried(world);
        }
        UndoAct::Undone => {
            world.record = Record::Undone;
            world.home.change(|home| home.rolling_back = false);
            world.agent.gate = false;
        }
    }
    if matches!(act, UndoAct::Undone) || usize::from(world.at.done) < FIRST.len() {
        world.at.done += 1;
    }
}

/// Everything that stands anywhere and is not in the mbox yet. Files that somebody is appending to wait.
fn late(world: &World) -> Vec<Item> {
    let home = world.home.now();
    let stray = home.maildir.iter().filter(|dir| dir.marker.is_none());
    let dirs = home.withdrawn.iter().chain(stray).flat_map(|dir| dir.all().copied());
    let drained =
        home.drains.iter().filter(|drain| drain.published).flat_map(|drain| drain.mails.iter().copied());
    let tombstone = world.spool.now().place.filter(|ino| world.file(*ino).tombstone);
    let quiet = world.spool.now().present().map(|(_, ino)| ino).filter(|ino| !world.opened_by_others(*ino));
    let archived = quiet.chain(tombstone).flat_map(|ino| world.file(ino).items.iter().copied());
    let mut seen = world.carried.done;
    let mut items: Vec<Item> = dirs.chain(drained).chain(archived).collect();
    items.retain(|item| {
        let new = seen & (1 << item.msg) == 0;
        seen |= 1 << item.msg;
        new
    });
    items.sort_unstable();
    items
}

fn copy(spec: &Spec, world: &mut World) {
    let late = late(world);
    let adds = late.iter().fold(0, |adds, item| adds | 1 << item.msg);
    let mut items =
        world.at_place().filter(|file| !file.tombstone).map(|file| file.items.clone()).unwrap_or_default();
    items.extend(late);
    let synced = spec.keeps(Guard::MboxSync);
    let ino = world.create(MailFile { tombstone: false, items, dirty: !synced });
    let n = drain::newest(world) + 1;
    world.spool.change(|spool| spool.set_entry(n, Some(ino)));
    if synced {
        world.spool.sync();
    }
    world.carried.noted = Some((ino, adds));
    if !spec.keeps(Guard::CarryNote) {
        // Noted only in memory, so to say: counted as soon as it is made.
        carried(world);
        exchange(world);
    }
}

/// The old file stays in the archive: who has it open may still append to it.
fn exchange(world: &mut World) {
    let n = drain::newest(world);
    world.spool.change(|spool| {
        let old = spool.place;
        spool.place = spool.entry(n);
        spool.set_entry(n, old);
    });
}

fn carried(world: &mut World) {
    if let Some((_, adds)) = world.carried.noted.take() {
        world.carried.done |= adds;
    }
}

/// After a crash: the note counts if the copy stands at the place. If not, the copy stays in the archive all the same: it
/// may have stood at the place before a power cut took the exchange back, and have been appended to.
pub fn settle(world: &mut World) {
    let Some((copy, _)) = world.carried.noted else { return };
    if world.spool.now().place == Some(copy) {
        carried(world);
    } else {
        world.carried.noted = None;
    }
}
