//! The interface on a bus. The bus may come later than we do, hang, restart or never be there; this task tries again, ever more slowly, and nothing
//! else of the agent notices.

use std::sync::Arc;
use std::time::Duration;

use mailready_bus::{NAME, OBJECT};
use mailready_config::Bus;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use zbus::Connection;
use zbus::connection::Builder;

use super::interface::{Caller, Interface, forward_stops};
use crate::agent::Agent;

/// A bus that is up answers within milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts: at first, and at most.
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);

/// Stays on the bus that `agent.bus` names; comes back at once if it names none, else never.
pub async fn stay_on_bus(agent: Arc<Agent>, bus: Bus) {
    if bus == Bus::None {
        return;
    }
    let mut pause = SOON;
    let mut said = false;
    loop {
        match timeout(DEADLINE, connect(&agent, &bus)).await {
            Ok(Ok(connection)) => {
                info!(name = NAME, "on the bus");
                (pause, said) = (SOON, false);
                tokio::select! {
                    () = connection.closed() => {}
                    () = forward_stops(agent.stops.listen(), &connection) => {}
                }
                warn!("the bus is gone; the control socket still serves");
            }
            failed if !said => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "it does not answer".to_owned(),
                };
                warn!("not on the bus, trying on; the control socket serves: {why}");
                said = true;
            }
            _ => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(SELDOM);
    }
}

async fn connect(agent: &Arc<Agent>, bus: &Bus) -> zbus::Result<Connection> {
    let builder = match bus {
        Bus::Address(address) => Builder::address(address.as_str()),
        Bus::System | Bus::None => Builder::system(),
    };
    builder
        .name(NAME)
        .serve_at(OBJECT, Interface::new(Arc::clone(agent), Caller::OnBus))
        .method_timeout(DEADLINE)
        .build()
        .await
}
