//! `mailready hold` and `release`.

use std::path::Path;

use mailready_bus::AgentProxy;

use crate::args::{HoldArgs, ReleaseArgs};
use crate::exit::{Exit, Failure};
use crate::{agent, terminal, when};

pub(crate) fn run(config: Option<&Path>, args: &HoldArgs) -> Result<Exit, Failure> {
    // A time that is none is told even when the agent is not there: it is the nearer mistake.
    let until = match &args.until {
        Some(text) => when::parse_until(text, when::now()).map_err(|e| Failure::new(Exit::Usage, e))?,
        None => 0,
    };
    agent::with(config, async |agent| {
        agent::answer(agent.hold(&args.user, until, &args.why)).await?;
        let how_long =
            if until == 0 { "until released".to_owned() } else { format!("until {}", when::show(until)) };
        terminal::say(&format!("{}: held {how_long}", args.user));
        Ok(Exit::Ok)
    })
}

pub(crate) async fn release(agent: &AgentProxy<'_>, args: &ReleaseArgs) -> Result<Exit, Failure> {
    agent::answer(agent.release(&args.user)).await?;
    terminal::say(&format!("{}: released", args.user));
    Ok(Exit::Ok)
}
