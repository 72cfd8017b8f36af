//! The operator's way to the agent.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mailready_config::Bus;
use tokio::sync::watch;

use crate::agent::Agent;

/// Serves `agent.control`.
pub async fn serve_control(_agent: Arc<Agent>, _socket: OwnedFd, mut stopping: watch::Receiver<bool>) -> io::Result<()> {
    let _ = stopping.wait_for(|stop| *stop).await;
    Ok(())
}

/// Serves the bus.
pub async fn stay_on_bus(_agent: Arc<Agent>, _bus: Bus) {}
