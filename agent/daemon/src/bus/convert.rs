//! `Convert`: the operator's word, for some users or for all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mailready_bus::{Answer, ConvertOptions, Converted, Error};
use mailready_config::Convert;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::rights::Rights;
use crate::account::SharedAccount;
use crate::agent::Agent;
use crate::conversions::Asked;
use crate::flow::Standing;
use crate::outcome::{Outcome, Why};
use crate::users::{Lane, UserError};
use crate::whom::Refusal;

/// Users of one call that are asked for at once; the queue sees to the rest.
const AT_ONCE: usize = 64;
/// A user has one mailbox; a few names for it at most.
const NAMES_OF_A_USER: usize = 16;
/// Until a full queue, or a mailbox whose last run is being settled, is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often that, before it is an answer.
const PATIENCE: u32 = 300;

/// Converts users and answers for each of them, in the order asked.
pub(super) async fn convert(
    agent: &Arc<Agent>,
    rights: Rights,
    users: Vec<String>,
    options: ConvertOptions,
) -> Result<Vec<Converted>, Error> {
    let users = match (options.all.unwrap_or(false), users.is_empty()) {
        (true, true) if rights.is_root() => selected(agent).await?,
        (true, true) => return Err(Error::AccessDenied("only root may convert all users".to_owned())),
        (true, false) => return Err(Error::InvalidArgs("users are named, and all are asked for".to_owned())),
        (false, true) => return Err(Error::InvalidArgs("no user is named".to_owned())),
        (false, false) => users,
    };
    if !rights.is_root() && users.len() > NAMES_OF_A_USER {
        return Err(Error::InvalidArgs(format!("more than {NAMES_OF_A_USER} names")));
    }
    let mut answers: Vec<Option<Converted>> = vec![None; users.len()];
    let mut asked = users.into_iter().enumerate();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some((at, user)) = asked.next()
        {
            let (agent, options) = (Arc::clone(agent), options.clone());
            under_way.spawn(async move { (at, one(&agent, rights, user, &options).await) });
        }
        // Dropping the set (the caller went away) only ends the watching; what has begun goes on.
        match under_way.join_next().await {
            Some(Ok((at, answer))) => answers[at] = Some(answer),
            Some(Err(error)) => return Err(Error::Failed(error.to_string())),
            None => break,
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

async fn one(agent: &Arc<Agent>, rights: Rights, user: String, options: &ConvertOptions) -> Converted {
    let (answer, text) = answer(agent, rights, &user, options).await;
    Converted::new(user, answer, text)
}

async fn answer(
    agent: &Arc<Agent>,
    rights: Rights,
    user: &str,
    options: &ConvertOptions,
) -> (Answer, String) {
    let account = match account(agent, rights, user).await {
        Ok(account) => account,
        Err(error) => return (Answer::Refused, text_of(error)),
    };
    if let Err(error) = rights.changes(&account) {
        return (Answer::Refused, text_of(error));
    }
    // Only an operator overrides `users.convert`; a user who asks is one who arrives.
    let why = if rights.is_root() { Why::Operator } else { Why::Arrival };
    if let Standing::Maildir { .. } = agent.mailboxes.standing(&account.key()) {
        return (Answer::Already, String::new());
    }
    if let Err(refusal) = agent.may_convert(&account, why) {
        let answer = match refusal {
            Refusal::NotSelected(_) => Answer::Refused,
            Refusal::Held(_) => Answer::Held,
            Refusal::Blocked(_) => Answer::Blocked,
        };
        return (answer, refusal.reason().to_string());
    }
    if options.dry_run.unwrap_or(false) {
        return match agent.conversions.last_outcome(&account.key()) {
            Some((outcome, _)) => answer_of(&outcome),
            None => (Answer::WouldConvert, "nothing is known to be in the way".to_owned()),
        };
    }
    let outcome = outcome(agent, &account, why, options.wait.unwrap_or(false)).await;
    answer_of(&outcome)
}

async fn outcome(agent: &Arc<Agent>, account: &SharedAccount, why: Why, wait: bool) -> Outcome {
    let mut asked = 0;
    let mut outcome = loop {
        asked += 1;
        match agent.conversions.ask(account, why) {
            Asked::Job(job) => break job.outcome().await,
            Asked::Known(outcome) => break outcome,
            Asked::Unsettled if agent.conversions.is_stopping() => break Outcome::Stopped,
            Asked::Unsettled | Asked::Full if asked > PATIENCE => {
                break Outcome::Failed(crate::outcome::Reason::new(
                    "unsettled",
                    "an earlier conversion of this mailbox is still being brought to its end, or the queue is full",
                    "ask again later",
                ));
            }
            Asked::Unsettled | Asked::Full => sleep(ASK_AGAIN).await,
        }
    };
    // The queue tries a busy mailbox again by itself; whoever wants to wait watches that attempt, and the next.
    while wait
        && matches!(outcome, Outcome::Busy(_))
        && let Some(job) = agent.conversions.next_attempt(&account.key())
    {
        outcome = job.outcome().await;
    }
    outcome
}

pub(super) fn answer_of(outcome: &Outcome) -> (Answer, String) {
    match outcome {
        Outcome::Converted { messages: 1, .. } => (Answer::Converted, "1 message".to_owned()),
        Outcome::Converted { messages, .. } => (Answer::Converted, format!("{messages} messages")),
        Outcome::Already { .. } => (Answer::Already, String::new()),
        Outcome::Busy(reason) => (Answer::Waiting, reason.to_string()),
        Outcome::Blocked(reason) if reason.code == "held" => (Answer::Held, reason.to_string()),
        Outcome::Blocked(reason) => (Answer::Blocked, reason.to_string()),
        Outcome::Failed(reason) => (Answer::Failed, reason.to_string()),
        Outcome::Stopped => (Answer::Stopped, String::new()),
    }
}

/// The account that a caller names, if it is any of the caller's business.
pub(super) async fn account(agent: &Agent, rights: Rights, user: &str) -> Result<SharedAccount, Error> {
    let lane = if rights.is_root() { Lane::Trusted } else { Lane::Selves };
    let settings = agent.settings();
    let found = agent.users.resolve(&settings.config, user.as_bytes(), lane).await;
    match found {
        Ok(account) if rights.sees(&account) => Ok(account),
        Ok(_) => Err(Error::AccessDenied("one sees oneself only".to_owned())),
        Err(UserError::Unknown) if rights.sees_all => Err(Error::NoSuchUser("no such user".to_owned())),
        Err(UserError::Unknown) => Err(Error::AccessDenied("one sees oneself only".to_owned())),
        Err(UserError::Name(error)) => Err(Error::InvalidArgs(error.to_string())),
        Err(error @ (UserError::Root | UserError::Paths(_))) => Err(Error::InvalidArgs(error.to_string())),
        Err(error @ (UserError::Service(_) | UserError::Late)) => Err(Error::Failed(error.to_string())),
    }
}

fn text_of(error: Error) -> String {
    match error {
        Error::AccessDenied(text)
        | Error::NotSupported(text)
        | Error::InvalidArgs(text)
        | Error::NoSuchUser(text)
        | Error::Busy(text)
        | Error::Stopping(text)
        | Error::Failed(text) => text,
        Error::ZBus(error) => error.to_string(),
    }
}

/// The users that the configuration selects: those listed, or for "all" those who have a file in the spool folder.
async fn selected(agent: &Agent) -> Result<Vec<String>, Error> {
    let settings = agent.settings();
    match settings.config.users.convert {
        Convert::None => Ok(Vec::new()),
        Convert::Listed => Ok(settings.allow.iter().map(str::to_owned).collect()),
        Convert::All => {
            let template = settings.config.mail.inbox.as_str();
            let Some(folder) = template.strip_suffix("/%u").filter(|folder| !folder.contains('%')) else {
                return Err(Error::NotSupported(format!(
                    "mail.inbox = {template:?} is not FOLDER/%u, so nobody can tell who has mail; name the users"
                )));
            };
            let folder = PathBuf::from(folder);
            tokio::task::spawn_blocking(move || owners(&folder))
                .await
                .map_err(|error| Error::Failed(error.to_string()))?
        }
    }
}

/// Names of the files in a spool folder that are somebody's mail: no locks, nothing hidden, nothing empty.
fn owners(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("{}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_mail = entry.metadata().is_ok_and(|found| found.is_file() && found.len() > 0);
        if is_mail && !name.starts_with('.') && !name.ends_with(".lock") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;

    #[test]
    fn those_who_have_mail_are_found_by_their_spools() {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in
            [("bob", "x"), ("ann", "x"), ("ann.lock", "1"), (".mailready", "x"), ("cid", "")]
        {
            fs::write(root.path().join(name), content).unwrap();
        }
        fs::create_dir(root.path().join("dir")).unwrap();
        assert_eq!(owners(root.path()).unwrap(), ["ann", "bob"]);
        assert!(owners(&root.path().join("none")).is_err());
    }
}
