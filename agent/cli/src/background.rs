//! `mailready background`: whether the agent has stopped by itself, and its end.

use mailready_bus::AgentProxy;

use crate::agent::answer;
use crate::args::{BackgroundArgs, BackgroundWhat};
use crate::exit::{Exit, Failure};
use crate::terminal;

pub(crate) async fn run(agent: &AgentProxy<'_>, args: &BackgroundArgs) -> Result<Exit, Failure> {
    match (args.what, stopped_because(agent).await) {
        (_, None) => terminal::say("not stopped: arrivals are converted as users.convert says"),
        (BackgroundWhat::Status, Some(why)) => {
            terminal::say(&stopped(&why));
            return Ok(Exit::Temporary);
        }
        (BackgroundWhat::Start, Some(_)) => {
            answer(agent.background("start")).await?;
            terminal::say("conversions go on");
        }
    }
    Ok(Exit::Ok)
}

/// Why the agent has stopped, if it has; an agent from before it could has not.
pub(crate) async fn stopped_because(agent: &AgentProxy<'_>) -> Option<String> {
    let because = answer(async { Ok(agent.stopped_because().await.unwrap_or_default()) }).await;
    because.ok().filter(|why| !why.is_empty())
}

/// A line for people.
pub(crate) fn stopped(why: &str) -> String {
    format!("STOPPED: {why}; mend what went wrong, then `mailready background start`")
}
