//! `Hold` and `Release`. Users may hold themselves back; a hold that root made is root's to end.

use std::sync::Arc;

use mailready_bus::Error;

use super::convert::account;
use super::rights::Rights;
use crate::account::SharedAccount;
use crate::agent::{Agent, unix_now};
use crate::holds::Hold;
use crate::outcome::{Reason, Why};
use crate::users::Name;
use crate::whom::Refusal;

/// Long enough for a sentence or two; it is kept in memory and shown on terminals.
const WHY_MAX: usize = 500;
/// By whom a hold is that users may not touch.
const ROOT: &str = "root";

/// Holds a user back until a time in unix seconds (0: for ever).
pub(super) async fn hold(
    agent: &Arc<Agent>,
    rights: Rights,
    user: &str,
    until: u64,
    why: String,
) -> Result<(), Error> {
    let now = unix_now();
    if why.len() > WHY_MAX || why.chars().any(char::is_control) {
        return Err(Error::InvalidArgs(format!("the reason is one line of at most {WHY_MAX} bytes")));
    }
    if until != 0 && until <= now {
        return Err(Error::InvalidArgs("the hold would end in the past".to_owned()));
    }
    let account = may_touch(agent, rights, user, now).await?;
    let by = if rights.is_root() { ROOT.to_owned() } else { account.name.clone() };
    let hold = Hold { by, since: now, until: (until != 0).then_some(until), why };
    let name = name_of(&account)?;
    let holds = Arc::clone(&agent.holds);
    off_thread(move || holds.put(&name, &hold)).await?;
    // From here on nothing starts; what has, and has not committed, is abandoned.
    let reason = match agent.may_convert(&account, Why::Operator) {
        Err(Refusal::Held(reason)) => reason,
        _ => Reason::new("held", "held", ""),
    };
    agent.conversions.hold(&account.key(), &reason);
    tracing::info!(user = %account.name, by = rights.uid, "held");
    Ok(())
}

/// Ends a user's hold.
pub(super) async fn release(agent: &Arc<Agent>, rights: Rights, user: &str) -> Result<(), Error> {
    let account = may_touch(agent, rights, user, unix_now()).await?;
    let name = name_of(&account)?;
    let holds = Arc::clone(&agent.holds);
    off_thread(move || holds.remove(&name).map(drop)).await?;
    agent.conversions.end_rests(Some(&account.key()));
    tracing::info!(user = %account.name, by = rights.uid, "released");
    let settings = agent.settings();
    if settings.hold.contains(&account.name) {
        let file = settings.config.users.hold.display().to_string();
        return Err(Error::Failed(format!("{} is still held: {file} names this user", account.name)));
    }
    Ok(())
}

async fn may_touch(agent: &Arc<Agent>, rights: Rights, user: &str, now: u64) -> Result<SharedAccount, Error> {
    let account = account(agent, rights, user).await?;
    rights.changes(&account)?;
    let roots = agent.holds.of(&account.name, now).is_some_and(|hold| hold.by == ROOT);
    if roots && !rights.is_root() {
        return Err(Error::AccessDenied("this hold was made by root".to_owned()));
    }
    Ok(account)
}

fn name_of(account: &SharedAccount) -> Result<Name, Error> {
    Name::new(account.name.as_bytes()).map_err(|error| Error::InvalidArgs(error.to_string()))
}

async fn off_thread(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::Failed(format!("the hold could not be written: {error}"))),
        Err(_) => Err(Error::Stopping("the agent is stopping".to_owned())),
    }
}
