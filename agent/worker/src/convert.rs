//! One conversion, order by order: stage, refresh, confirm, commit.
//!
//! Until the one `renameat2` in [`commit`] the mboxes are the mail and all that this has made is its own, which every
//! way out removes. After it the Maildir is the mail and nothing here undoes anything any more.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use mailready_mailbox::{RunId, Tree};
use nix::errno::Errno;
use nix::unistd::fsync;

use crate::aside::Aside;
use crate::channel::Channel;
use crate::commit::{self, Committed};
use crate::locking::AllLocks;
use crate::locks::LockFile;
use crate::look::{IndexLook, Look, Seen};
use crate::passing::Passing;
use crate::place::Place;
use crate::proof::{self, Proof};
use crate::staging::Staging;
use crate::told::Told;
use crate::wire::{Block, Order, Report, Step};
use crate::{Stop, Task, empties, late, note, room, step};

/// A prefix up to this many bytes is hashed again under the locks to tell an append from a rewrite; a longer one is refreshed without locks.
const REHASH_UNDER_LOCK: u64 = 64 << 20;

/// Appended rests up to this many bytes are taken under the locks.
const REST_UNDER_LOCK: u64 = 16 << 20;

/// Times that Dovecot may tell something else than is staged, before that is no coincidence.
const DIFFERENCES: u32 = 4;

pub(crate) fn run(task: Task<'_>, channel: &mut Channel, spool: OwnedFd) -> Result<(), Stop> {
    let uncommitted = until_commit(task, channel, spool);
    if let Err(stop) = &uncommitted {
        let fate = Fate::after(stop, channel);
        step(Step::Abort, task.run);
        clean_up(task.place, task.run, fate);
        if let Stop::Say(Report::Blocked { block: Block::NoRoom, .. }) = stop {
            room::settle(task.place.work());
        }
    }
    let committed = uncommitted?;
    channel.say(Report::Committed { folders_left: committed.folders_left })?;
    // Until the agent has set the spool aside, Dovecot's index locks are held.
    let order = channel.order();
    drop(committed);
    if let Err(errno) = LockFile::remove(task.place.work(), task.run) {
        stays_behind(&format!("the end of the dotlocks stays behind: {errno}"));
    }
    if let Some(maildir) = task.place.open_maildir()? {
        late::deliver(task.place, maildir.as_fd())?;
    }
    match order? {
        (Order::Release, _) => channel.say(Report::Done),
        _ => Err(Stop::errno(Step::SyncCommit, Errno::EBADMSG)),
    }
}

/// Whether something stays behind that this process was to remove.
static TRACES: AtomicBool = AtomicBool::new(false);

pub(crate) fn has_left_traces() -> bool {
    TRACES.load(Ordering::Relaxed)
}

/// Says what could not be removed, and has the agent told by the exit status.
pub(crate) fn stays_behind(what: &str) {
    note(what);
    TRACES.store(true, Ordering::Relaxed);
}

/// What becomes of a stage without commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The next run of this mailbox takes over what it can use of it.
    Kept,
    /// It goes, and so does what earlier runs have left: it takes room, or something about it was wrong.
    Removed,
}

impl Fate {
    /// Whether the mailbox is only put off: its agent has said so, or is gone.
    fn after(stop: &Stop, channel: &mut Channel) -> Self {
        let kept = match stop {
            Stop::Leave | Stop::AgentGone => true,
            // In the middle of a pass, and it is not known yet by what.
            Stop::Interrupted => matches!(channel.order(), Ok((Order::Leave, _)) | Err(Stop::AgentGone)),
            Stop::Say(_) | Stop::Abort => false,
        };
        if kept { Self::Kept } else { Self::Removed }
    }
}

/// Removes, or puts away, what a conversion without commit has made; tells whether nothing stays that should not.
pub(crate) fn clean_up(place: &Place, run: &RunId, fate: Fate) -> bool {
    let copies = proof::remove(place, run)
        .inspect_err(|errno| note(&format!("copies for a proof stay behind: {errno}")));
    let done = match fate {
        Fate::Kept => Tree::keep(place.work(), run),
        Fate::Removed => Tree::remove(place.work(), run).and_then(|()| Tree::remove_kept(place.work())),
    };
    let stage = done.inspect_err(|error| {
        note(&format!("the stage stays behind: {error}"));
    });
    let unused = Aside::remove_unused(place.work(), run).and_then(|()| LockFile::remove(place.work(), run));
    let unused = unused.inspect_err(|errno| {
        note(&format!("tombstones that were never used stay behind: {errno}"));
    });
    // The record is going to be removed, and after that nobody would look for what a power cut brought back.
    let synced =
        fsync(place.work()).inspect_err(|errno| note(&format!("the work folder cannot be synced: {errno}")));
    let clean = copies.is_ok() && stage.is_ok() && unused.is_ok() && synced.is_ok();
    TRACES.fetch_or(!clean, Ordering::Relaxed);
    clean
}

/// Everything up to the commit; the locks that it returns are still held.
fn until_commit(task: Task<'_>, channel: &mut Channel, spool: OwnedFd) -> Result<Committed, Stop> {
    let told = match channel.order()? {
        (Order::Stage, told) => told,
        (Order::Abort, _) => return Err(Stop::Abort),
        (Order::Leave, _) => return Err(Stop::Leave),
        _ => return Err(Stop::errno(Step::Stage, Errno::EBADMSG)),
    };
    let told = told.map_or(Ok(Told::default()), |told| read_told(task, told))?;
    let mut staging = Staging::make(task, channel, spool, told)?;
    commit::make_tombstones(&staging)?;
    channel.say(staging.report())?;
    let mut locks = None;
    let mut differences = 0;
    let mut proof = Proof::default();
    loop {
        match channel.order()? {
            (Order::Spool, Some(spool)) => staging.spool = spool,
            (Order::Refresh, told) => {
                drop(locks.take());
                if let Some(told) = told {
                    staging.told = read_told(task, told)?;
                }
                staging.refresh(channel)?;
                empties::make(&staging)?;
                commit::make_tombstones(&staging)?;
                channel.say(staging.report())?;
            }
            (Order::ProofPrepare, _) => {
                step(Step::ProofPrepare, task.run);
                let report = proof::prepare(&staging, channel)?;
                channel.say(report)?;
            }
            (Order::ProofMbox, Some(shown)) => {
                proof = Proof::see_mbox(shown, channel)?;
                channel.say(Report::Obeyed)?;
            }
            (Order::ProofStage, Some(shown)) => {
                proof.see_stage(shown, channel)?;
                channel.say(Report::Obeyed)?;
            }
            (Order::ProofBoxes, Some(told)) => {
                step(Step::ProofCompare, task.run);
                proof.see_boxes(told, &staging)?;
                std::mem::take(&mut proof).judge()?;
                channel.say(Report::Obeyed)?;
            }
            (Order::ProofDone, _) => {
                proof::remove(task.place, task.run).map_err(Stop::failed(Step::ProofCompare))?;
                channel.say(Report::Obeyed)?;
            }
            (Order::Confirm, _) => {
                step(Step::Confirm, task.run);
                locks = confirm(&mut staging, channel)?;
                if let Some(position) = locks.as_ref().and_then(|_| staging.differs()) {
                    locks = None;
                    differences += 1;
                    if differences >= DIFFERENCES {
                        return Err(Stop::blocked(Block::Differs, position as u64));
                    }
                }
                channel.say(match (&locks, staging.report()) {
                    (Some(_), Report::Staged { messages, length, .. }) => {
                        Report::Confirmed { messages, length }
                    }
                    _ => Report::Changed,
                })?;
            }
            (Order::Commit, _) => {
                let Some(locks) = locks else { return Err(Stop::errno(Step::Commit, Errno::EPROTO)) };
                return commit::commit(&mut staging, locks);
            }
            (Order::Abort, _) => return Err(Stop::Abort),
            (Order::Leave, _) => return Err(Stop::Leave),
            _ => return Err(Stop::errno(Step::Stage, Errno::EBADMSG)),
        }
    }
}

fn read_told(task: Task<'_>, told: OwnedFd) -> Result<Told, Stop> {
    Told::read(told, task.job).map_err(Stop::failed(Step::Refresh))
}

/// Locks everything, and asks: is the stage what is there, or can it be made so at once?
fn confirm(staging: &mut Staging<'_>, channel: &mut Channel) -> Result<Option<AllLocks>, Stop> {
    let folders = staging.boxes.iter().enumerate();
    let folders = folders.filter_map(|(position, mailbox)| Some((position, mailbox.path()?)));
    let index = (0..staging.boxes.len()).map(|position| staging.index_folder(position));
    let Some(locks) = AllLocks::try_take(staging.task, folders, index)? else { return Ok(None) };
    if !staging.still_has_all()? {
        return Ok(None);
    }
    let mut rehash = REHASH_UNDER_LOCK;
    let mut rest = REST_UNDER_LOCK;
    for position in 0..staging.boxes.len() {
        let Some(before) = staging.boxes[position].look else { return Ok(None) };
        let now = look(staging, &locks, position)?;
        if now.index != before.index {
            return Ok(None);
        }
        if now == before {
            continue;
        }
        let length = staging.stage(position)?.summary().length;
        let more = now.mbox.size.saturating_sub(length);
        if more > rest || !grew(staging, &locks, position, &now.mbox, rehash, channel)? {
            return Ok(None);
        }
        (rest, rehash) = (rest - more, rehash - length);
        append_rest(staging, &locks, position, channel)?;
        // The rest may have been cut short by its own end: only what is really taken counts.
        if staging.stage(position)?.summary().length != now.mbox.size {
            return Ok(None);
        }
        staging.boxes[position].look = Some(now);
    }
    Ok(Some(locks))
}

fn look(staging: &Staging<'_>, locks: &AllLocks, position: usize) -> Result<Look, Stop> {
    let index = staging.index_folder(position)?;
    let mbox = locks.file(position).unwrap_or(staging.spool.as_fd());
    let look = || Ok(Look { mbox: Seen::at(mbox)?, index: IndexLook::at(index.as_ref().map(AsFd::as_fd))? });
    look().map_err(Stop::failed(Step::Confirm))
}

fn grew(
    staging: &mut Staging<'_>,
    locks: &AllLocks,
    position: usize,
    now: &Seen,
    limit: u64,
    channel: &mut Channel,
) -> Result<bool, Stop> {
    let spool = staging
        .spool
        .try_clone()
        .map_err(|error| Stop::errno(Step::Confirm, crate::file::errno_of(&error)))?;
    let mbox = locks.file(position).unwrap_or(spool.as_fd());
    staging.only_grew(position, mbox, now, limit, channel)
}

fn append_rest(
    staging: &mut Staging<'_>,
    locks: &AllLocks,
    position: usize,
    channel: &mut Channel,
) -> Result<(), Stop> {
    let mbox = locks.file(position).unwrap_or(staging.spool.as_fd());
    let Some(stage) = staging.tree.get_mut(position) else { return Ok(()) };
    let mut quiet = Passing::quiet(channel);
    stage
        .append_rest(mbox, &mut |progress| quiet.on(progress))
        .map_err(Stop::engine_at(Step::Confirm, position))
}
