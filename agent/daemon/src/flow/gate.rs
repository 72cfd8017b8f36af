//! The gate: nobody has the mailbox open any more, and the files hold all that Dovecot knows.
//!
//! It closes only when every session that remains can be ended now. IMAP clients reconnect, and so may be ended where the policy says so; POP3 never: its deletes would be lost.

use std::os::fd::OwnedFd;
use std::time::Duration;

use mailready_config::{Policy, Probe};

use super::dovecot::{Dovecot, ToolError};
use super::sessions::{Process, Sessions};
use super::told::Told;
use super::{Bind, Flow, reasons};
use crate::account::Account;
use crate::outcome::{Outcome, Reason};
use crate::settings::Settings;

/// What is waited for a session to end after it was asked to.
const KICK_PATIENCE: Duration = Duration::from_secs(3);

/// Times that sessions are looked for: one may come while others are being ended.
const KICK_ROUNDS: usize = 3;

/// Times that Dovecot is asked to write out before a busy mailbox is left for later.
const WRITE_OUT_ROUNDS: usize = 5;

/// Dovecot's index of the mbox, as the worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexState {
    /// There is one.
    pub(super) indexed: bool,
    /// How often it was found changed so far.
    pub(super) changes: u64,
}

/// Ends the sessions that were told to open what is about to go, where the policy allows to end all of them now: `Stay` before a commit, `Ready` before a rollback. Those that Dovecot lists are ended
/// whatever they were told.
pub(super) fn end_sessions(
    flow: &Flow,
    settings: &Settings,
    account: &Account,
    told: Bind,
) -> Result<(), Outcome> {
    for _ in 0..KICK_ROUNDS {
        let living = living(flow, settings, account, told)?;
        if living.is_empty() {
            return Ok(());
        }
        let protocols: Vec<String> = living.iter().map(Process::name).collect();
        if settings.config.sessions.policy != Policy::KickImap
            || protocols.iter().any(|protocol| protocol != "imap")
        {
            return Err(Outcome::Busy(reasons::sessions(&protocols)));
        }
        for process in &living {
            // Root's: its post-login script is still running, and it is going to become the user's in a moment.
            if process.uid().is_ok_and(|uid| uid == account.uid) {
                tracing::info!(user = ?account.name, pid = process.pid(), "ending an IMAP session; its client reconnects");
                if let Err(error) = process.terminate() {
                    tracing::warn!(pid = process.pid(), "cannot end the session: {error}");
                }
            }
        }
        Sessions::wait_ended(&living, KICK_PATIENCE);
    }
    Err(Outcome::Busy(reasons::sessions(&["imap".to_owned()])))
}

/// Sessions that live, by their leases and by Dovecot's own list.
fn living(flow: &Flow, settings: &Settings, account: &Account, told: Bind) -> Result<Vec<Process>, Outcome> {
    let mut pids = flow.sessions.living(&account.key(), told);
    if settings.config.sessions.probe == Probe::Dovecot {
        for config in &settings.config.site.dovecot_config {
            let listed = Dovecot::new(config).who(&account.name).map_err(|error| {
                Outcome::Failed(Reason::new(
                    "sessions",
                    error.to_string(),
                    "see that Dovecot answers `doveadm who`",
                ))
            })?;
            pids.extend(listed.iter().map(|session| session.pid));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    // One that cannot be opened has ended.
    Ok(pids.into_iter().filter_map(|pid| Process::open(pid).ok()).collect())
}

/// Has Dovecot write the flags and UIDs that only its index knows into the mboxes, until a look after it finds the index as it was before: a flag stored in between would otherwise be lost.
/// Whether the files have them is then for the confirmation to see, not for Dovecot's exit code to say. False: it keeps changing.
pub(super) fn write_out<E>(
    settings: &Settings,
    account: &Account,
    prefix: &str,
    look: &mut dyn FnMut(Option<&Told>) -> Result<IndexState, E>,
) -> Result<bool, E> {
    let mut before = look(None)?;
    for _ in 0..WRITE_OUT_ROUNDS {
        if !before.indexed {
            return Ok(true);
        }
        let told = write_out_once(settings, account, prefix);
        let after = look(told.as_ref())?;
        if after == before {
            return Ok(true);
        }
        before = after;
    }
    Ok(false)
}

/// One time, whatever comes of it; for what is known before the stage, to be made good at the gate.
pub(super) fn write_out_once(settings: &Settings, account: &Account, prefix: &str) -> Option<Told> {
    ask(settings, account, &|dovecot, told| dovecot.write_out(&account.name, prefix, told))
}

/// Asks every instance, and gives all that they said.
pub(super) fn ask(
    settings: &Settings,
    account: &Account,
    question: &dyn Fn(&Dovecot, &OwnedFd) -> Result<(), ToolError>,
) -> Option<Told> {
    let told = Told::by(|told| {
        for config in &settings.config.site.dovecot_config {
            if let Err(error) = question(&Dovecot::new(config), told) {
                tracing::warn!(user = ?account.name, "{error}");
            }
        }
    });
    told.unwrap_or_else(|error| {
        tracing::warn!(user = ?account.name, "what Dovecot says cannot be kept: {error}");
        None
    })
}
