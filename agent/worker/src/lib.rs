//! One mailbox, as its user, in a sandbox.
//!
//! The agent may do much and reads no mail; the worker reads hostile mail and may do nothing but what its user may, in that user's home. It is
//! a program of its own (not a fork of the agent, whose memory the user could otherwise read), becomes the user after exec, stays closed to
//! tracing, and shuts itself into Landlock and a system-call filter before it looks at the first byte. It knows its agent by one socket: when that ends,
//! it undoes what is not committed and ends too.

#![deny(unsafe_code)]

mod aside;
mod channel;
mod check;
mod commit;
mod convert;
mod drain;
mod drain_folders;
mod empties;
mod extraction;
mod file;
mod folders;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod job;
mod judge;
mod late;
mod lease;
mod let_go;
mod locking;
mod locks;
mod look;
mod passing;
mod place;
mod probe;
mod proof;
mod rollback;
mod room;
mod sandbox;
mod staging;
mod stray;
mod subscribed;
mod told;
pub mod wire;

use std::process::ExitCode;

pub use mailready_mailbox::{RunId, tombstone};

/// What `doveadm` is run with for [`Order::CheckCompare`](wire::Order::CheckCompare), behind `-c WORK/check-RUNID/dovecot.conf`. Without sizes, which Dovecot has wrong of some messages in an mbox; how one is told from the next then: `check/shown.rs`.
pub const CHECK_ARGUMENTS: [&str; 5] =
    ["-f", "pager", "fetch", "mailbox uid date.received.unixtime text", "ALL"];

/// The same for [`Order::ProofMbox`](wire::Order::ProofMbox) and [`Order::ProofStage`](wire::Order::ProofStage), in front of a query for mailboxes.
pub const PROOF_ARGUMENTS: [&str; 4] =
    ["-f", "pager", "fetch", "mailbox uid guid flags date.received.unixtime text"];

use channel::Channel;
use job::Purpose;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wire::{Report, Step};

/// What stops a worker.
#[derive(Debug)]
pub(crate) enum Stop {
    /// To be said to the agent, after the stage is gone.
    Say(Report),
    /// The agent is gone; nobody is left to be told.
    AgentGone,
    /// The agent wants it undone.
    Abort,
    /// The agent wants it undone, and what was staged kept for the next attempt.
    Leave,
    /// A long pass was stopped, since the agent has something to say or is gone.
    Interrupted,
}

impl Stop {
    /// A system call failed at `step`.
    pub(crate) fn failed(step: Step) -> impl Fn(nix::errno::Errno) -> Stop {
        move |errno| Stop::errno(step, errno)
    }

    /// Something that has to be mended first.
    pub(crate) fn blocked(block: wire::Block, detail: u64) -> Stop {
        Stop::Say(Report::Blocked { block, detail })
    }

    /// Room and read-only disks are blocks that an operator can mend; the rest is a failure.
    pub(crate) fn errno(step: Step, errno: nix::errno::Errno) -> Stop {
        use nix::errno::Errno;
        let detail = errno as i32 as u64;
        Stop::Say(match errno {
            Errno::ENOSPC | Errno::EDQUOT => Report::Blocked { block: wire::Block::NoRoom, detail },
            Errno::EROFS => Report::Blocked { block: wire::Block::ReadOnly, detail },
            _ => Report::Failed { step, errno: detail },
        })
    }

    /// What the engine says, in the terms of the wire; its full text goes to the log, which is the agent's.
    pub(crate) fn engine(step: Step) -> impl Fn(mailready_mailbox::Error) -> Stop {
        Self::engine_at(step, 0)
    }

    /// The same, of the mailbox at a position.
    pub(crate) fn engine_at(step: Step, position: usize) -> impl Fn(mailready_mailbox::Error) -> Stop {
        use mailready_mailbox::Error;
        use mailready_mailbox::error::BlockReason;
        use wire::Block;
        move |error| {
            if !matches!(error, Error::Cancelled) {
                note(&format!("engine {} of mailbox {position}: {error}", step.word()));
            }
            match error {
                Error::Cancelled => Stop::Interrupted,
                Error::NotMbox { offset, .. } => Stop::blocked(Block::NotMbox, offset),
                Error::Blocked { reason, .. } => {
                    let block = match reason {
                        BlockReason::UidsUsedUp => Block::UidsUsedUp,
                        BlockReason::Name { .. } | BlockReason::EmptyLevel => Block::Names,
                        _ => Block::Keywords,
                    };
                    Stop::blocked(block, position as u64)
                }
                Error::NotForMbox { uid, .. } => Stop::blocked(Block::NotRepresentable, u64::from(uid)),
                Error::Io { source, .. } => match source.raw_os_error() {
                    Some(raw) => Stop::errno(step, nix::errno::Errno::from_raw(raw)),
                    None => Stop::Say(Report::Failed { step, errno: 0 }),
                },
                _ => Stop::Say(Report::Failed { step, errno: 0 }),
            }
        }
    }
}

/// What every part of a worker goes by.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) job: &'a job::Job,
    pub(crate) run: &'a RunId,
    pub(crate) rules: &'a mailready_mailbox::Rules,
    pub(crate) place: &'a place::Place,
}

/// Descriptors that are not there for folders.
const OTHER_DESCRIPTORS: u64 = 256;

/// Under the locks each folder has its mbox and its index log open, and perhaps a directory of its own.
const DESCRIPTORS_PER_FOLDER: u64 = 3;

/// However many descriptors there are: locking this many and looking at them takes a second or two, which deliverers wait.
const FOLDERS_AT_MOST: usize = 10_000;

/// Folders that can be locked at once.
pub(crate) fn most_folders() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_FOLDER)
        .map_or(FOLDERS_AT_MOST, |folders| folders.min(FOLDERS_AT_MOST))
}

/// Whether a file is one that Dovecot takes for an mbox. One that cannot be read is an error: what it is, nobody knows.
pub(crate) fn is_mbox(file: std::os::fd::BorrowedFd<'_>) -> nix::Result<bool> {
    mailready_mailbox::is_mbox(file).map_err(|error| match &error {
        mailready_mailbox::Error::Io { source, .. } => file::errno_of(source),
        _ => nix::errno::Errno::EIO,
    })
}

/// One line on stderr, which is the agent's log. Mail and user names never go there raw: `{:?}` them.
///
/// And on stdout, a pipe that the agent reads when this ends with a block: what it says to people is the last line that names something. A pipe that is full takes no more.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    let line = text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'") + "\n";
    // In one piece, since other workers write there, too. Nobody to tell when it fails.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let _ = std::io::stdout().write_all(line.as_bytes());
}

/// Says which step is about to be taken, in the words of ARCHITECTURE.md.
pub(crate) fn step(step: Step, run: &RunId) {
    note(&format!("step={} who=worker run={run}", step.word()));
}

/// The program.
pub fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            note(concat!("mailready-worker ", env!("CARGO_PKG_VERSION")));
            return ExitCode::SUCCESS;
        }
        Some("--job") => {}
        _ => {
            note(
                "mailready-worker is started by mailready-agent, with their socket as standard input. It has nothing to say to people.",
            );
            return ExitCode::from(64);
        }
    }
    // A panic must not unwind past a half-done step: die, and let the agent look at the disk.
    std::panic::set_hook(Box::new(|panic| {
        note(&format!("panic: {panic}"));
        std::process::abort();
    }));
    let Some(mut channel) = Channel::inherited() else {
        note("standard input is no socket of the agent");
        return ExitCode::from(64);
    };
    if let Err(Stop::Say(report)) = run(&mut channel) {
        // Fails only if the agent is gone, and then nobody is left to be told.
        let _ = channel.say(report);
    }
    // The agent keeps the record of a run that has left something behind, and has it removed later.
    if convert::has_left_traces() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(channel: &mut Channel) -> Result<(), Stop> {
    let (job, spool) = channel.job()?;
    let run = RunId::parse(&job.run).ok_or(Stop::Say(Report::Failed { step: Step::Become, errno: 0 }))?;
    sandbox::become_user(job.uid, job.gid).map_err(Stop::failed(Step::Become))?;
    let zone = match job.timezone.as_str() {
        "" => mailready_mailbox::Zone::local(),
        name => mailready_mailbox::Zone::named(name).map_err(Stop::engine(Step::Open))?,
    };
    let rules = mailready_mailbox::Rules { server: mailready_mailbox::Server::Dovecot, zone };
    raise_descriptors();
    let place = place::Place::open(&job)?;
    let sandboxed = sandbox::enter(&place).map_err(Stop::failed(Step::Sandbox))?;
    let task = Task { job: &job, run: &run, rules: &rules, place: &place };
    if matches!(job.purpose, Purpose::Drain | Purpose::Rollback) {
        check::remove_left_behind(task);
    }
    let indexed = match (job.purpose, &spool) {
        (Purpose::Convert, Some(spool)) => judge::before_anything(task, spool)?,
        _ => look::index_folder(place.index(), None).map_err(Stop::failed(Step::Open))?.is_some(),
    };
    channel.say(Report::Ready { sandboxed, indexed })?;
    match (job.purpose, spool) {
        (Purpose::Convert, Some(spool)) => convert::run(task, channel, spool),
        (Purpose::Drain, None) => drain::run(task, channel),
        (Purpose::Verify, Some(original)) => check::run(task, channel, original),
        (Purpose::Rollback, Some(back)) => rollback::run(task, channel, back),
        _ => Err(Stop::errno(Step::Become, nix::errno::Errno::EBADMSG)),
    }
}

/// Folders are locked all at once, and each needs a few descriptors.
fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If it cannot be had, there is room for fewer folders, which is asked for again.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
