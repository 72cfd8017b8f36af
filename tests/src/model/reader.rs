//! Readers that write a mailbox back: they have read it, closed it, and come again with a changed flag.
//!
//! One that overwrites mail it has never seen loses it with or without a conversion; the readers here look whether the
//! file holds anything they do not know, and leave it alone then.

use super::files::{Ino, Item, MailFile};
use super::spec::{Spec, WriteBack};
use super::world::{Reader, World};

/// The reader can go on.
pub fn ready(spec: &Spec, world: &World) -> bool {
    let Some(place) = world.spool.now().place else { return false };
    match &world.reader {
        Reader::Idle => !world.leased(place) && world.file(place).items.iter().all(|item| !item.half),
        Reader::Read { .. } => spec.write_back == Some(WriteBack::Rename) || !world.leased(place),
        Reader::Opened { ino, .. } => !world.locked(*ino),
        Reader::Done => false,
    }
}

/// Goes on.
pub fn take(spec: &Spec, world: &mut World) {
    let Some(place) = world.spool.now().place else { return };
    world.reader = match world.reader.clone() {
        Reader::Idle if world.file(place).tombstone => Reader::Done,
        Reader::Idle => Reader::Read { ino: place, items: world.file(place).items.clone() },
        Reader::Read { items, .. } if !knows_all(world, place, &items) => Reader::Done,
        Reader::Read { items, .. } if spec.write_back == Some(WriteBack::Rename) => {
            let file = world.create(MailFile::mbox(flagged(items)));
            world.spool.change(|spool| spool.place = Some(file));
            world.flag_acked = true;
            Reader::Done
        }
        Reader::Read { items, .. } => Reader::Opened { ino: place, items },
        Reader::Opened { ino, items } if ino == place && knows_all(world, ino, &items) => {
            *world.file_mut(ino) = MailFile::mbox(flagged(items));
            world.flag_acked = true;
            Reader::Done
        }
        Reader::Opened { .. } | Reader::Done => Reader::Done,
    };
}

fn knows_all(world: &World, ino: Ino, items: &[Item]) -> bool {
    world.file(ino).items.iter().all(|there| items.iter().any(|known| known.msg == there.msg) && !there.half)
}

fn flagged(mut items: Vec<Item>) -> Vec<Item> {
    items.iter_mut().filter(|item| item.msg == 0).for_each(|item| item.flag = true);
    items
}
