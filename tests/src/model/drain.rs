//! Draining: rotate what stands at the place into the archive, extract it, publish the extraction, deliver it, forget it.
//!
//! Nothing here remembers anything: what can be done follows from what lies on the disks, so recovery is the same code.

use super::files::{Dir, Drain, Home, Ino, Item, MailFile};
use super::spec::{Guard, Spec};
use super::step::Step;
use super::truncate;
use super::world::{Deliverer, Plan, Unsynced, World};

/// A part of a drain step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrainAct {
    /// `rotate`: a fresh tombstone in the archive, synced.
    Prepare(u8),
    /// `rotate`: under the lease, place and entry exchanged (or the tombstone put where nothing is).
    Exchange(u8),
    /// `rotate`: folders synced.
    SyncRotate,
    /// `extract`.
    Extract(u8),
    /// `extracted`.
    Extracted(u8),
    /// `deliver`: the first message of that entry's folder.
    Deliver(u8),
    /// `delivered`.
    Delivered,
    /// `forget`: unlinked.
    Forget(u8),
    /// `forget`: archive folder synced.
    SyncForget,
    /// `forget`: the position folder, of no use any more.
    Clear(u8),
    /// A part of [`super::truncate`].
    ByTruncation(truncate::Act),
}

impl DrainAct {
    /// The step that it is a part of.
    pub fn step(self) -> Step {
        match self {
            DrainAct::Prepare(_) | DrainAct::Exchange(_) | DrainAct::SyncRotate => Step::Rotate,
            DrainAct::Extract(_) => Step::Extract,
            DrainAct::Extracted(_) => Step::Extracted,
            DrainAct::Deliver(_) => Step::Deliver,
            DrainAct::Delivered => Step::Delivered,
            DrainAct::Forget(_) | DrainAct::SyncForget | DrainAct::Clear(_) => Step::Forget,
            DrainAct::ByTruncation(_) => Step::Rotate,
        }
    }

    /// The part that the step's log line stands right before.
    pub fn is_logged(self) -> bool {
        !matches!(
            self,
            DrainAct::Prepare(_) | DrainAct::SyncRotate | DrainAct::SyncForget | DrainAct::Clear(_)
        )
    }
}

/// What can be done now.
pub fn actions(spec: &Spec, world: &World, out: &mut Vec<DrainAct>) {
    if !world.home.now().marked() {
        return;
    }
    if let super::spec::Drain::Truncation { cut_again } = spec.drain {
        return truncate::actions(world, cut_again, out);
    }
    let mut found = Vec::new();
    if world.agent.alive && draining(world.at.plan) {
        by_agent(spec, world, &mut found);
    }
    let orphan = world.worker.orphan.is_some_and(|at| draining(at.plan));
    if orphan || (world.agent.alive && world.worker.alive && draining(world.at.plan)) {
        by_worker(spec, world, &mut found);
    }
    out.extend(found.into_iter().filter(|act| spec.takes(act.step())));
}

fn by_agent(spec: &Spec, world: &World, out: &mut Vec<DrainAct>) {
    let spool = world.spool.now();
    match world.agent.unsynced {
        // One thing at a time: a change is made durable before anything builds on it.
        Some(Unsynced::Rotate) if spec.keeps(Guard::RotateSync) => return out.push(DrainAct::SyncRotate),
        Some(Unsynced::Forget) if spec.keeps(Guard::ForgetSync) => return out.push(DrainAct::SyncForget),
        Some(_) | None => {}
    }
    let fresh = spool.present().find(|(n, ino)| *n > 0 && world.file(*ino).is_bare_tombstone());
    let place_is_clean = world.at_place().is_some_and(MailFile::is_bare_tombstone);
    if !place_is_clean {
        match fresh {
            None => out.push(DrainAct::Prepare(newest(world) + 1)),
            Some((n, _)) => {
                let open = spool.place.is_some_and(|ino| world.opened_by_others(ino));
                if !open || !spec.keeps(Guard::RotateLease) {
                    out.push(DrainAct::Exchange(n));
                }
            }
        }
    }
    for (n, ino) in spool.present() {
        if can_forget(spec, world, n, ino) {
            out.push(DrainAct::Forget(n));
        }
    }
}

/// A rollback drains as well, until it withdraws the Maildir.
fn draining(plan: Plan) -> bool {
    matches!(plan, Plan::Drain | Plan::Rollback)
}

pub(super) fn newest(world: &World) -> u8 {
    world.spool.now().present().map(|(n, _)| n).max().unwrap_or(0)
}

fn can_forget(spec: &Spec, world: &World, n: u8, ino: Ino) -> bool {
    let file = world.file(ino);
    let drained = match world.home.now().drains.iter().find(|drain| drain.entry == n) {
        Some(drain) => drain.published && drain.mails.is_empty() && usize::from(drain.to) == file.items.len(),
        None => false,
    };
    let being_opened = world.deliverers.contains(&Deliverer::Opening(ino));
    (file.tombstone || !spec.keeps(Guard::KeepMboxes))
        && (n < newest(world) || !spec.keeps(Guard::KeepNewest))
        && (drained || !spec.keeps(Guard::ForgetDrained))
        && !file.is_bare_tombstone()
        && !(world.opened_by_others(ino) && spec.keeps(Guard::ForgetLease))
        && !(being_opened && spec.keeps(Guard::ForgetLate))
}

fn by_worker(spec: &Spec, world: &World, out: &mut Vec<DrainAct>) {
    let home = world.home.now();
    let told = world.worker.orphan.is_none();
    let unsynced = world.agent.unsynced == Some(Unsynced::Rotate) && spec.keeps(Guard::RotateSync);
    for (n, ino) in world.spool.now().present().filter(|_| !unsynced) {
        let file = world.file(ino);
        let waiting = home.drains.iter().any(|drain| drain.entry == n && !drain.mails.is_empty());
        let open = world.opened_by_others(ino) && spec.keeps(Guard::ExtractLease);
        let too_early = !file.tombstone && spec.keeps(Guard::OldestFirst) && older_unread(world, n);
        if !file.is_bare_tombstone() && !waiting && !open && !too_early && unread(world, n, ino) {
            out.push(DrainAct::Extract(n));
        }
    }
    for drain in &home.drains {
        if !drain.published {
            out.push(DrainAct::Extracted(drain.entry));
        }
        let may = drain.published || !spec.keeps(Guard::PublishFirst) || !spec.takes(Step::Extracted);
        if may && !drain.mails.is_empty() {
            out.push(DrainAct::Deliver(drain.entry));
        }
        let gone = world.spool.now().entry(drain.entry).is_none();
        let durably = world.agent.unsynced.is_none() || !spec.keeps(Guard::ForgetSync);
        if told && gone && durably && drain.published && drain.mails.is_empty() {
            out.push(DrainAct::Clear(drain.entry));
        }
    }
    if !world.home.is_synced() && home.drains.iter().all(|drain| drain.mails.is_empty()) {
        out.push(DrainAct::Delivered);
    }
}

/// There is something behind the published position, or no position yet.
fn unread(world: &World, n: u8, ino: Ino) -> bool {
    let home = world.home.now();
    let under_way = home.drains.iter().any(|drain| drain.entry == n && !drain.published);
    !under_way && home.position(n).is_none_or(|to| usize::from(to) < world.file(ino).items.len())
}

fn older_unread(world: &World, n: u8) -> bool {
    world.spool.now().present().filter(|(older, _)| *older < n).any(|(older, ino)| {
        let file = world.file(ino);
        let to = world.home.now().position(older);
        !file.tombstone && to.is_none_or(|to| usize::from(to) < file.items.len())
    })
}

/// Does it.
pub fn take(spec: &Spec, world: &mut World, act: DrainAct) {
    match act {
        DrainAct::Prepare(n) => {
            let ino = world.create(MailFile::new_tombstone(false));
            world.spool.change(|spool| spool.set_entry(n, Some(ino)));
            world.spool.sync();
        }
        DrainAct::Exchange(n) => {
            world.spool.change(|spool| {
                let full = spool.place;
                spool.place = spool.entry(n);
                spool.set_entry(n, full);
            });
            world.agent.unsynced = Some(Unsynced::Rotate);
        }
        DrainAct::SyncRotate | DrainAct::SyncForget => {
            world.spool.sync();
            world.agent.unsynced = None;
        }
        DrainAct::Extract(n) => extract(spec, world, n),
        DrainAct::Extracted(n) => {
            world.home.change(|home| {
                home.drains.retain(|drain| drain.entry != n || !drain.published);
                home.drains
                    .iter_mut()
                    .filter(|drain| drain.entry == n)
                    .for_each(|drain| drain.published = true);
            });
            world.home.sync();
        }
        DrainAct::Deliver(n) => world.home.change(|home| deliver(home, n)),
        DrainAct::Delivered => world.home.sync(),
        DrainAct::Forget(n) => {
            world.spool.change(|spool| spool.set_entry(n, None));
            world.agent.unsynced = Some(Unsynced::Forget);
        }
        DrainAct::Clear(n) => world.home.change(|home| home.drains.retain(|drain| drain.entry != n)),
        DrainAct::ByTruncation(act) => truncate::take(spec, world, act),
    }
}

pub(super) fn deliver(home: &mut Home, n: u8) {
    let Some(drain) = home.drains.iter_mut().find(|drain| drain.entry == n && !drain.mails.is_empty()) else {
        return;
    };
    let item = drain.mails.remove(0);
    if let Some(maildir) = &mut home.maildir {
        maildir.take_late(item);
    }
}

/// Reads the entry from its position to its end.
fn extract(spec: &Spec, world: &mut World, n: u8) {
    let Some(ino) = world.spool.now().entry(n) else { return };
    let file = world.file(ino).clone();
    let home = world.home.now();
    let receipt = home.maildir.as_ref().and_then(|dir| dir.marker.clone()).unwrap_or_default();
    let before = home.drains.iter().find(|drain| drain.entry == n && drain.published);
    let mut again = Vec::new();
    let news: Vec<Item> = match before {
        Some(drain) => file.items.iter().skip(usize::from(drain.to)).copied().collect(),
        None if file.tombstone => file.items.clone(),
        None if n == 0 && (!spec.keeps(Guard::HeadHash) || file.items.starts_with(&receipt)) => {
            file.items.iter().skip(receipt.len()).copied().collect()
        }
        None if spec.keeps(Guard::Match) => {
            let mut known = receipt;
            if spec.keeps(Guard::MatchDrained) {
                known.extend(
                    home.drains.iter().filter(|drain| drain.published).flat_map(|drain| &drain.known),
                );
            }
            matched(spec, &known, &file.items, &mut again)
        }
        None => file.items.clone(),
    };
    let mut known = before.map(|drain| drain.known.clone()).unwrap_or_default();
    if !file.tombstone {
        known.extend(&news);
    }
    let to = u8::try_from(file.items.len()).unwrap_or(u8::MAX);
    let synced = spec.keeps(Guard::ExtractSync);
    let merge = spec.keeps(Guard::MergeFlags);
    world.home.change(|home| {
        if let (Some(maildir), true) = (&mut home.maildir, merge) {
            merge_flags(spec, maildir, &again);
        }
        home.drains.retain(|drain| drain.entry != n || drain.published);
        home.drains.push(Drain { entry: n, to, published: false, mails: news, known, dirty: !synced });
        home.drains.sort_by_key(|drain| (drain.entry, drain.published));
    });
    if synced {
        world.home.sync();
    }
}

/// Takes from `items` what is known, as a multiset over the messages' bytes; gives the rest.
fn matched(spec: &Spec, known: &[Item], items: &[Item], again: &mut Vec<Item>) -> Vec<Item> {
    let mut unmatched: Vec<u8> = known.iter().map(|item| spec.bytes(item.msg)).collect();
    let mut news = Vec::new();
    for item in items {
        match unmatched.iter().position(|bytes| *bytes == spec.bytes(item.msg)) {
            Some(at) => {
                unmatched.swap_remove(at);
                again.push(*item);
            }
            None => news.push(*item),
        }
    }
    news
}

fn merge_flags(spec: &Spec, maildir: &mut Dir, again: &[Item]) {
    for item in again.iter().filter(|item| item.flag) {
        if let Some(mail) = maildir.mails.iter_mut().find(|m| spec.bytes(m.msg) == spec.bytes(item.msg)) {
            mail.flag = true;
        }
    }
}
