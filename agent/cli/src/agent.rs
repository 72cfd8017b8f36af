//! The connection to the agent.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use mailready_bus::{AgentProxy, Error, connect_p2p};
use mailready_config::Config;

use crate::exit::{Exit, Failure};

/// What is not a conversion is answered from memory; an agent that takes longer than this hangs.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// Connects as the configuration says and runs `work` with the agent.
///
/// # Errors
/// The configuration is wrong, the agent is not there, or what `work` says.
pub fn with(
    config: Option<&Path>,
    work: impl AsyncFnOnce(AgentProxy<'static>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let config = Config::load(config)?;
    // One thread: all there is to do is to wait for one peer.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Software, format!("no event loop: {e}")))?;
    runtime.block_on(async {
        let connection = connect_p2p(&config.agent.control).await?;
        work(AgentProxy::new(&connection).await.map_err(Error::ZBus)?).await
    })
}

/// Waits for the answer to a call, but not for ever.
///
/// # Errors
/// What the agent says, or that it says nothing.
pub async fn answer<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(LONGEST_ANSWER, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let seconds = LONGEST_ANSWER.as_secs();
            Err(Failure::new(Exit::Temporary, format!("mailready-agent has not answered within {seconds} s")))
        }
    }
}
