//! `Rollback` and `Verify`: of one user each, who is converted.

use std::sync::Arc;
use std::time::Duration;

use mailready_bus::{Answer, Checked, Converted, Error, Verified};
use tokio::time::sleep;

use super::convert::{account, answer_of};
use super::rights::Rights;
use crate::account::SharedAccount;
use crate::agent::Agent;
use crate::flow::Standing;
use crate::operations::Operations;

/// Until a mailbox whose last run is being settled is asked again, and how often that.
const ASK_AGAIN: Duration = Duration::from_millis(200);
const PATIENCE: u32 = 300;

/// Gives a user mboxes again.
pub(super) async fn rollback(agent: &Arc<Agent>, rights: Rights, user: String) -> Result<Converted, Error> {
    let account = may_change(agent, rights, &user).await?;
    let (answer, text) = match settled(agent, &account).await {
        Standing::Mbox => (Answer::OnMbox, String::new()),
        Standing::Maildir { .. } | Standing::Unknown => match Operations::rollback(agent, &account).await {
            Ok(back) if back.messages == 1 => (Answer::RolledBack, "1 message".to_owned()),
            Ok(back) => (Answer::RolledBack, format!("{} messages", back.messages)),
            Err(outcome) => answer_of(&outcome),
        },
    };
    Ok(Converted::new(user, answer, text))
}

/// Has Dovecot read a user's originals again.
pub(super) async fn verify(agent: &Arc<Agent>, rights: Rights, user: String) -> Result<Verified, Error> {
    let account = may_change(agent, rights, &user).await?;
    if settled(agent, &account).await == Standing::Mbox {
        let text = "the mail is in the mbox, so there is nothing to verify";
        return Ok(Verified::not(user, Answer::OnMbox, text));
    }
    Ok(match Operations::verify(agent, &account).await {
        Ok(found) => {
            let crate::flow::Checked { same, gone, lost, damaged, unknown, unseen, boxes, missing } = found;
            let checked = Checked {
                same: Some(same),
                gone: Some(gone),
                lost: Some(lost),
                damaged: Some(damaged),
                unknown: Some(unknown),
                unseen: Some(unseen),
                mailboxes: Some(boxes),
                missing: Some(missing),
                reason: None,
            };
            let answer = if checked.is_sound() { Answer::Verified } else { Answer::Damaged };
            Verified::new(user, answer, checked)
        }
        Err(outcome) => {
            let (answer, text) = answer_of(&outcome);
            Verified::not(user, answer, text)
        }
    })
}

async fn may_change(agent: &Agent, rights: Rights, user: &str) -> Result<SharedAccount, Error> {
    let account = account(agent, rights, user).await?;
    rights.changes(&account)?;
    Ok(account)
}

/// Where the mail is; waits for a run that is being settled, but not for ever.
async fn settled(agent: &Agent, account: &SharedAccount) -> Standing {
    for _ in 0..PATIENCE {
        match agent.mailboxes.standing(&account.key()) {
            Standing::Unknown if !agent.conversions.is_stopping() => sleep(ASK_AGAIN).await,
            standing => return standing,
        }
    }
    Standing::Unknown
}
