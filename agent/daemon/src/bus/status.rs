//! `Status`, and the words for what happens: where a user stands, from memory alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mailready_bus::{Details, Error, State, UserStatus};
use tokio::time::timeout;

use super::convert::account;
use super::rights::Rights;
use crate::account::{Account, SharedAccount};
use crate::agent::{Agent, unix_now};
use crate::conversions::{Change, View, What};
use crate::flow::Standing;
use crate::outcome::{Outcome, Progress, Reason, Stage, WORKER_STOPPED, Why};
use crate::records::{Originals, Phase, Record};
use crate::whom::{ROLLED_BACK, Refusal};

/// The name service is not waited for longer to say what a uid is called.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where users stand; nobody named means all whom the caller may see.
pub(super) async fn status(
    agent: &Arc<Agent>,
    rights: Rights,
    users: Vec<String>,
) -> Result<Vec<UserStatus>, Error> {
    if users.is_empty() {
        return if rights.sees_all { Ok(everybody(agent)) } else { Ok(vec![oneself(agent, rights).await?]) };
    }
    let mut found = Vec::with_capacity(users.len());
    for user in users {
        let account = account(agent, rights, &user).await?;
        found.push(of_account(agent, &account));
    }
    Ok(found)
}

async fn oneself(agent: &Arc<Agent>, rights: Rights) -> Result<UserStatus, Error> {
    let uid = nix::unistd::Uid::from_raw(rights.uid);
    let looked_up = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(uid));
    let name = match timeout(DEADLINE, looked_up).await {
        Ok(Ok(Ok(Some(user)))) => user.name,
        _ => return Err(Error::NoSuchUser(format!("uid {uid} has no name"))),
    };
    let account = account(agent, rights, &name).await?;
    Ok(of_account(agent, &account))
}

/// Everybody of whom something is known: by a record, a hold, a job, or a failure.
fn everybody(agent: &Agent) -> Vec<UserStatus> {
    let now = unix_now();
    let mut all = BTreeMap::new();
    for user in agent.holds.users(now) {
        let (state, details) = held_by_name(agent, &user, now);
        all.insert(user.clone(), UserStatus::new(user, state, details));
    }
    let recorded = agent.records.all();
    for account in recorded.iter().map(|record| account_of(record)).chain(agent.conversions.accounts()) {
        all.insert(account.name.clone(), of_account(agent, &account));
    }
    all.into_values().collect()
}

fn held_by_name(agent: &Agent, user: &str, now: u64) -> (State, Details) {
    let hold = agent.holds.of(user, now);
    let mut details = Details::default();
    if let Some(hold) = hold {
        add_hold(&mut details, hold);
    }
    (State::Held, details)
}

fn add_hold(details: &mut Details, hold: crate::holds::Hold) {
    details.by = Some(hold.by);
    details.since = Some(hold.since);
    details.until = hold.until;
    details.code = Some("held".to_owned());
    details.reason = (!hold.why.is_empty()).then_some(hold.why);
}

/// What a record still knows of an account; enough to ask for its standing.
fn account_of(record: &Record) -> SharedAccount {
    let key = record.key();
    Arc::new(Account {
        name: record.user.clone(),
        uid: record.uid,
        gid: record.gid,
        home: Path::new("/").to_owned(),
        inbox: key.inbox,
        folders: None,
        maildir: record.maildir.clone(),
        work: record.work.clone(),
        archive: record.archive.clone(),
    })
}

fn of_account(agent: &Agent, account: &SharedAccount) -> UserStatus {
    let mut details = Details { uid: Some(account.uid), ..Details::default() };
    let state = find_state(agent, account, &mut details);
    if details.mail.is_none() {
        let mail = if state == State::Maildir { &account.maildir } else { &account.inbox };
        details.mail = Some(mail.display().to_string());
    }
    UserStatus::new(account.name.clone(), state, details)
}

fn find_state(agent: &Agent, account: &SharedAccount, details: &mut Details) -> State {
    let key = account.key();
    if let Some(progress) = agent.operations.rollback_of(&key) {
        if let Some(progress) = progress {
            add_progress(details, &progress);
        }
        return State::RollingBack;
    }
    if let Some((job, running)) = agent.conversions.job(&key) {
        details.ahead = agent.conversions.ahead(&key).and_then(|ahead| u32::try_from(ahead).ok());
        return if running { of_view(&job.view(), details) } else { State::Waiting };
    }
    match agent.mailboxes.standing(&key) {
        Standing::Maildir { run } => {
            if let Some(record) = agent.records.latest(&key) {
                details.since = Some(record.started);
                details.mail = Some(record.maildir.display().to_string());
                match record.kept.originals {
                    Originals::Kept => {
                        details.original =
                            Some(record.archive.join(format!("{run}.0")).display().to_string());
                    }
                    Originals::Going | Originals::Gone => details.original_gone = Some(record.kept.since),
                }
            }
            details.run = Some(run);
            if let Some(reason) = agent.mailboxes.site_trouble() {
                // The mail is where it is; but sessions may not find it.
                add_reason(details, &reason);
            }
            return State::Maildir;
        }
        Standing::Unknown => {
            match agent.conversions.last_outcome(&key) {
                Some((Outcome::Failed(reason), _)) if reason.code == WORKER_STOPPED => {
                    add_reason(details, &reason);
                }
                _ => add_reason(details, &unsettled()),
            }
            let latest = agent.records.latest(&key);
            let goes_back = latest.is_some_and(|record| record.phase == Phase::RollingBack);
            return if goes_back { State::RollingBack } else { State::Waiting };
        }
        Standing::Mbox => {}
    }
    let refusal = agent.may_convert(account, Why::Arrival).err();
    if let Some(Refusal::Held(reason)) = &refusal {
        add_reason(details, reason);
        if let Some(hold) = agent.holds.of(&account.name, unix_now()) {
            add_hold(details, hold);
        }
        return State::Held;
    }
    if let Some((outcome, left)) = agent.conversions.last_outcome(&key) {
        details.until = Some(unix_now() + left.as_secs()).filter(|_| !left.is_zero());
        return of_outcome(&outcome, details);
    }
    match refusal {
        Some(Refusal::Blocked(reason)) => {
            add_reason(details, &reason);
            State::Blocked
        }
        Some(refusal) if refusal.reason().code == ROLLED_BACK => {
            add_reason(details, refusal.reason());
            State::RolledBack
        }
        refusal => match (agent.mailboxes.site_trouble(), refusal) {
            // Everybody is, whoever may be converted.
            (Some(reason), _) => {
                add_reason(details, &reason);
                State::Blocked
            }
            (None, Some(refusal)) => {
                add_reason(details, refusal.reason());
                State::Mbox
            }
            (None, None) => {
                if let Some(Outcome::Blocked(reason)) = agent.stops.refusal() {
                    add_reason(details, &reason);
                }
                State::Mbox
            }
        },
    }
}

/// The words for something that happened.
pub(super) fn of_change(change: &Change) -> (State, Details) {
    let mut details = Details { uid: Some(change.account.uid), ..Details::default() };
    let state = match &change.what {
        What::Queued => State::Waiting,
        What::Moves(progress) => of_progress(progress, &mut details),
        What::Ended(outcome) => of_outcome(outcome, &mut details),
        What::MovesBack(progress) => {
            add_progress(&mut details, progress);
            State::RollingBack
        }
        What::RolledBack { messages } => {
            details.messages = Some(*messages);
            State::RolledBack
        }
    };
    (state, details)
}

fn of_view(view: &View, details: &mut Details) -> State {
    match &view.progress {
        Some(progress) => of_progress(progress, details),
        None => State::Staging,
    }
}

fn add_progress(details: &mut Details, progress: &Progress) {
    details.messages = Some(progress.messages);
    details.bytes = Some(progress.bytes);
    details.bytes_total = Some(progress.bytes_total);
}

fn of_progress(progress: &Progress, details: &mut Details) -> State {
    add_progress(details, progress);
    match progress.stage {
        Stage::Staging => State::Staging,
        Stage::Gate => State::Staged,
        Stage::Committing => State::Committing,
        Stage::Finishing => State::Maildir,
    }
}

fn of_outcome(outcome: &Outcome, details: &mut Details) -> State {
    match outcome {
        Outcome::Converted { run, messages } => {
            details.run = Some(run.clone());
            details.messages = Some(*messages);
            details.messages_total = Some(*messages);
            State::Maildir
        }
        Outcome::Already { run } => {
            details.run = Some(run.clone());
            State::Maildir
        }
        Outcome::Busy(reason) => {
            add_reason(details, reason);
            State::Waiting
        }
        Outcome::Blocked(reason) => {
            add_reason(details, reason);
            if reason.code == "held" { State::Held } else { State::Blocked }
        }
        Outcome::Failed(reason) => {
            add_reason(details, reason);
            State::Failed
        }
        Outcome::Stopped => State::Mbox,
    }
}

fn add_reason(details: &mut Details, reason: &Reason) {
    details.code = Some(reason.code.to_owned());
    details.reason = Some(reason.text.clone());
    details.mend = (!reason.mend.is_empty()).then(|| reason.mend.clone());
}

fn unsettled() -> Reason {
    Reason::new("unsettled", "an earlier conversion is being brought to its end by what the disk says", "")
}
