//! Deliverers: each kind of lock discipline, with opening and appending far apart.

use super::files::{Dir, Item, MailFile};
use super::spec::{Delivery, Spec};
use super::world::{Deliverer, Dotlock, World};

/// Deliverer `who` can go on.
pub fn ready(spec: &Spec, world: &World, who: u8) -> bool {
    let kind = spec.deliverers[usize::from(who)];
    match world.deliverers[usize::from(who)] {
        Deliverer::Idle => match kind {
            Delivery::Marker if world.home.now().marked() => true,
            Delivery::Dotlock | Delivery::Marker => dotlock_free(world),
            _ => true,
        },
        Deliverer::Opening(ino) => !world.leased(ino),
        Deliverer::Opened(ino) => kind == Delivery::Bare || !world.locked(ino),
        // Deferred, for as long as something that is no Maildir stands there.
        Deliverer::ToMaildir if kind == Delivery::Maker => !world.home.now().barred,
        Deliverer::Dotlocked | Deliverer::Half(_) | Deliverer::ToMaildir => true,
        Deliverer::Done => false,
    }
}

/// Nobody has it, or the process that it names is dead: it may be broken.
fn dotlock_free(world: &World) -> bool {
    match world.dotlock {
        None => true,
        Some(Dotlock::Ours) => !world.worker.alive && world.worker.orphan.is_none(),
        Some(Dotlock::Deliverer(_)) => false,
    }
}

/// Goes on.
pub fn take(spec: &Spec, world: &mut World, who: u8) {
    let kind = spec.deliverers[usize::from(who)];
    let item = Item::new(spec.brought_by(who));
    let next = match world.deliverers[usize::from(who)] {
        Deliverer::Idle => match kind {
            Delivery::Marker if world.home.now().marked() => Deliverer::ToMaildir,
            Delivery::Maker => Deliverer::ToMaildir,
            Delivery::Dotlock | Delivery::Marker => {
                world.dotlock = Some(Dotlock::Deliverer(who));
                Deliverer::Dotlocked
            }
            Delivery::Kernel | Delivery::KernelChecked | Delivery::Bare => look_up(world),
        },
        Deliverer::Dotlocked => look_up(world),
        Deliverer::Opening(ino) => Deliverer::Opened(ino),
        Deliverer::Opened(ino) if kind == Delivery::Bare => {
            world.file_mut(ino).append(Item { half: true, ..item });
            Deliverer::Half(ino)
        }
        Deliverer::Opened(ino) if kind == Delivery::KernelChecked && world.spool.now().place != Some(ino) => {
            Deliverer::Idle
        }
        Deliverer::Opened(ino) => {
            world.file_mut(ino).append(item);
            acknowledge(world, item)
        }
        Deliverer::Half(ino) => {
            world.file_mut(ino).items.iter_mut().filter(|i| i.msg == item.msg).for_each(|i| i.half = false);
            acknowledge(world, item)
        }
        Deliverer::ToMaildir => into_maildir(world, kind, item),
        Deliverer::Done => Deliverer::Done,
    };
    if next == Deliverer::Done && world.dotlock == Some(Dotlock::Deliverer(who)) {
        world.dotlock = None;
    }
    world.deliverers[usize::from(who)] = next;
}

/// Finds the file, or makes one where there is none.
fn look_up(world: &mut World) -> Deliverer {
    if let Some(ino) = world.spool.now().place {
        return Deliverer::Opening(ino);
    }
    let ino = world.create(MailFile::mbox(Vec::new()));
    world.spool.change(|spool| spool.place = Some(ino));
    // It cannot acknowledge what lies in a file without a durable name.
    world.spool.sync();
    Deliverer::Opened(ino)
}

fn acknowledge(world: &mut World, item: Item) -> Deliverer {
    world.acked |= 1 << item.msg;
    Deliverer::Done
}

/// The deliverer syncs its file and the folder it lies in. Where that folder hangs may still be anywhere: the same
/// folder is the stage in the states before the commit.
///
/// One that makes Maildirs goes by the path. One that tests the marker has changed into the folder by now, and delivers
/// there even when a rollback has renamed it.
fn into_maildir(world: &mut World, kind: Delivery, item: Item) -> Deliverer {
    if kind == Delivery::Marker && world.home.now().withdrawn.is_some() {
        world.home.everywhere(|home| {
            if let Some(dir) = home.withdrawn.as_mut().or(home.maildir.as_mut()) {
                dir.take_late(item);
            }
        });
        return acknowledge(world, item);
    }
    if world.home.now().maildir.is_none() {
        world.home.change(|home| home.maildir = Some(Dir::stage(&[], false)));
        world.home.sync();
    }
    world.home.everywhere(|home| {
        if let Some(dir) = home.maildir.as_mut().or(home.stage.as_mut()) {
            dir.take_late(item);
        }
    });
    acknowledge(world, item)
}
