//! One mailbox, as its user, in a sandbox.
//!
//! The agent may do much and reads no mail; the worker reads hostile mail and may do nothing but what its user may, in that user's home. It is
//! a program of its own (not a fork of the agent, whose memory the user could otherwise read), becomes the user after exec, stays closed to
//! tracing, and shuts itself into Landlock and a system-call filter before it looks at the first byte. It knows its agent by one socket: when that ends,
//! it undoes what is not committed and ends too.

#![deny(unsafe_code)]

mod channel;
mod convert;
mod drain;
pub mod job;
mod look;
mod place;
mod sandbox;
pub mod wire;

use std::process::ExitCode;

pub use mailready_mailbox::{RunId, tombstone};

/// What `doveadm` is run with for [`Order::CheckCompare`], behind `-c WORK/check-RUNID/dovecot.conf`: with the size before the text, each message can be told from the next.
pub const CHECK_ARGUMENTS: [&str; 5] =
    ["-f", "pager", "fetch", "mailbox uid date.received.unixtime size.physical text", "ALL"];

use channel::Channel;
use wire::{Order, Report, Step};

/// What stops a worker.
#[derive(Debug)]
pub(crate) enum Stop {
    /// To be said to the agent, after the stage is gone.
    Say(Report),
    /// The agent is gone; nobody is left to be told.
    AgentGone,
    /// The agent wants it undone.
    Abort,
}

impl Stop {
    /// A system call failed at `step`.
    pub(crate) fn failed(step: Step) -> impl Fn(nix::errno::Errno) -> Stop {
        move |errno| Stop::errno(step, errno)
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
        use mailready_mailbox::Error;
        move |error| {
            if !matches!(error, Error::Cancelled) {
                note(&format!("engine {}: {error}", step.word()));
            }
            match error {
                Error::Cancelled => Stop::Abort,
                Error::NotMbox { offset, .. } => {
                    Stop::Say(Report::Blocked { block: wire::Block::NotMbox, detail: offset })
                }
                Error::Blocked { .. } => {
                    Stop::Say(Report::Blocked { block: wire::Block::Keywords, detail: 0 })
                }
                Error::Io { source, .. } => match source.raw_os_error() {
                    Some(raw) => Stop::errno(step, nix::errno::Errno::from_raw(raw)),
                    None => Stop::Say(Report::Failed { step, errno: 0 }),
                },
                _ => Stop::Say(Report::Failed { step, errno: 0 }),
            }
        }
    }
}

/// One line on stderr, which is the agent's log. Mail and user names never go there raw: `{:?}` them.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    // Nobody to tell when that fails.
    let _ = writeln!(
        std::io::stderr(),
        "{}",
        text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
    );
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
    match run(&mut channel) {
        Ok(()) | Err(Stop::Abort | Stop::AgentGone) => ExitCode::SUCCESS,
        Err(Stop::Say(report)) => {
            // Fails only if the agent is gone, and then nobody is left to be told.
            let _ = channel.say(report);
            ExitCode::SUCCESS
        }
    }
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
    let place = place::Place::open(&job)?;
    let sandboxed = sandbox::enter(&place).map_err(Stop::failed(Step::Sandbox))?;
    let indexed = look::IndexLook::at(&place)?.is_there();
    channel.say(Report::Ready { sandboxed, indexed })?;
    if let Some(spool) = spool {
        return match channel.order()? {
            (Order::Stage, _) => convert::Conversion::new(channel, &job, &run, &rules, &place, spool).run(),
            (Order::Abort, _) => Err(Stop::Abort),
            _ => Err(Stop::errno(Step::Stage, nix::errno::Errno::EBADMSG)),
        };
    }
    drain::Drain::new(channel, &run, &rules, &place).run()
}
