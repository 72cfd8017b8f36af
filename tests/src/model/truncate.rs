//! The drain that was not chosen: what stands behind the tombstone is extracted, published, and then cut off in place.
//!
//! Between the cut and the removal of the published folder a crash leaves a folder and a file, and nobody can tell
//! whether the file was cut: what stands in it may be the extracted mail, or the same bytes come again. To cut again
//! loses the second, not to cut doubles the first. The model shows both; rotation has neither.

use super::drain;
use super::files::Drain;
use super::spec::Spec;
use super::world::{Plan, World};

/// The one folder that there is at a time.
const ENTRY: u8 = 9;

/// A part of this drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// What stands behind the tombstone, durable in the temporary folder.
    Extract,
    /// The folder published.
    Publish,
    /// The source cut and synced.
    Cut,
    /// A new worker takes it for cut already.
    TakeForCut,
    /// One message moved.
    Deliver,
    /// The folder removed.
    Remove,
}

/// What can be done now.
pub fn actions(world: &World, cut_again: bool, out: &mut Vec<drain::DrainAct>) {
    if world.at.plan != Plan::Drain || !world.agent.alive || !world.worker.alive {
        return;
    }
    let (Some(place), Some(file)) = (world.spool.now().place, world.at_place()) else { return };
    let leased = !world.opened_by_others(place);
    let act = match world.home.now().drains.iter().find(|drain| drain.entry == ENTRY) {
        None => (leased && !file.items.is_empty()).then_some(Act::Extract),
        Some(drain) if !drain.published => Some(Act::Publish),
        // A worker that has published knows; its successor has to guess.
        Some(_) if !world.worker.cut && (cut_again || world.worker.published) => leased.then_some(Act::Cut),
        Some(_) if !world.worker.cut => Some(Act::TakeForCut),
        Some(drain) if !drain.mails.is_empty() => Some(Act::Deliver),
        Some(_) => Some(Act::Remove),
    };
    out.extend(act.map(drain::DrainAct::ByTruncation));
}

/// Does it.
pub fn take(spec: &Spec, world: &mut World, act: Act) {
    let Some(place) = world.spool.now().place else { return };
    match act {
        Act::Extract => {
            let mails = world.file(place).items.clone();
            let drain =
                Drain { entry: ENTRY, to: 0, published: false, known: mails.clone(), mails, dirty: false };
            world.home.change(|home| home.drains.push(drain));
            world.home.sync();
        }
        Act::Publish => {
            world.home.change(|home| home.drains.iter_mut().for_each(|drain| drain.published = true));
            world.home.sync();
            world.worker.published = true;
        }
        Act::Cut => cut(spec, world, place),
        Act::TakeForCut => world.worker.cut = true,
        Act::Deliver => world.home.change(|home| drain::deliver(home, ENTRY)),
        Act::Remove => {
            world.home.change(|home| home.drains.retain(|drain| drain.entry != ENTRY));
            world.home.sync();
            world.worker.cut = false;
            world.worker.published = false;
        }
    }
}

fn cut(spec: &Spec, world: &mut World, place: u8) {
    let folder = world.home.now().drains.iter().find(|drain| drain.entry == ENTRY);
    let known: Vec<u8> = folder.iter().flat_map(|d| &d.known).map(|item| spec.bytes(item.msg)).collect();
    let items = &mut world.file_mut(place).items;
    if items.len() >= known.len()
        && items.iter().zip(&known).all(|(item, bytes)| spec.bytes(item.msg) == *bytes)
    {
        items.drain(..known.len());
    }
    world.worker.cut = true;
}
