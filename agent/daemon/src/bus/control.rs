//! `agent.control`: the interface peer to peer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailready_bus::OBJECT;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zbus::Guid;
use zbus::connection::Builder;

use super::capped::Capped;
use super::interface::{Caller, Interface, forward_changes};
use super::rights::Rights;
use crate::agent::Agent;
use crate::listener::Permits;
use crate::peer::Peer;
use mailready_protocol::Sparing;

/// A peer that does not finish the handshake is cut off.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections of one uid that is not root, and of all such together.
const EACH_UID: usize = 4;
const ALL_USERS: usize = 128;
/// Root's commands; more than anybody runs.
const ALL_ROOT: usize = 256;
/// Longest message of a user: `Hold` with a long reason. Of root: `convert` with as many users as fit a command line.
const USERS_LIMIT: usize = 64 * 1024;
const ROOT_LIMIT: usize = 16 * 1024 * 1024;

/// Takes connections until the agent stops, and comes back when the last call is answered.
///
/// # Errors
/// The socket itself is broken.
pub async fn serve(
    agent: Arc<Agent>,
    socket: OwnedFd,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let socket = UnixListener::from_std(socket.into())?;
    let of_users = Permits::new(ALL_USERS, EACH_UID);
    let of_root = Permits::new(ALL_ROOT, ALL_ROOT);
    let quiet = Sparing::new(6);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Unlike a door for arrivals this one may stay shut for a while, whatever the reason.
                if let Some(unsaid) = quiet.pass(Instant::now()) {
                    warn!(unsaid, "the control socket: {error}");
                }
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let permits = if peer.uid == 0 { &of_root } else { &of_users };
        let Some(permit) = permits.take(peer.uid) else {
            agent.counters.over_limit.add();
            continue;
        };
        let (agent, stopping) = (Arc::clone(&agent), stopping.clone());
        connections.spawn(async move {
            if let Err(error) = talk(agent, stream, peer, stopping).await {
                debug!(uid = peer.uid, pid = peer.pid, "control connection: {error}");
            }
            drop(permit);
        });
    }
    drop(socket);
    connections.join_all().await;
    Ok(())
}

async fn talk(
    agent: Arc<Agent>,
    stream: UnixStream,
    peer: Peer,
    mut stopping: watch::Receiver<bool>,
) -> zbus::Result<()> {
    // The group is looked up by name, and name services hang.
    let looked_up = tokio::task::spawn_blocking(move || (Rights::of_peer(peer, &stream), stream));
    let too_late = |_| zbus::Error::from(io::Error::from(io::ErrorKind::TimedOut));
    let (rights, stream) = match timeout(HANDSHAKE, looked_up).await.map_err(too_late)? {
        Ok(found) => found,
        Err(_) => return Ok(()),
    };
    let limit = if rights.is_root() { ROOT_LIMIT } else { USERS_LIMIT };
    let (changes, stops) = (agent.conversions.changes(), agent.stops.listen());
    let interface = Interface::new(Arc::clone(&agent), Caller::Peer(rights));
    let building = Builder::socket(Capped { stream, peer, limit })
        .server(Guid::generate())
        .p2p()
        .serve_at(OBJECT, interface)
        .build();
    let connection = timeout(HANDSHAKE, building).await.map_err(too_late)??;
    tokio::select! {
        () = connection.closed() => return Ok(()),
        () = forward_changes(changes, stops, &connection, rights) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    // Calls that wait for a conversion get their answer now, since the agent ends those.
    connection.graceful_shutdown().await;
    Ok(())
}
