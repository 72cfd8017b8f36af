//! The connection to the agent.

use std::path::Path;

use mailready_bus::{AgentProxy, Error, connect_p2p};
use mailready_config::Config;

use crate::exit::{Exit, Failure};

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
