//! The two doors for arrivals: `arrival.sock` for trusted programs, `self.sock` for users who announce themselves and for leases.
//!
//! Each is a task with a budget of its own, so that nothing that users do at one can hide what root says at the other. A connection carries one
//! request. Before it is read, the peer is known (the kernel's credentials), counted against its uid, and given a deadline; a uid over
//! its limit is closed at accept, before it has cost anything.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use crate::agent::Agent;
use crate::arrivals;
use crate::peer::Peer;
use mailready_protocol::Sparing;

mod bind;
mod connection;
mod permits;

pub use bind::{BindError, Bound, bind_packets, bind_stream};
pub use connection::Connection;
pub use permits::{Permit, Permits};

/// Which socket a connection came by, and so what its peer may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `arrival.sock`: whoever can connect may announce anybody.
    Arrival,
    /// `self.sock`: a peer may announce itself.
    Selves,
}

/// How many connections at once.
#[derive(Clone, Copy, Debug)]
struct Budget {
    all: usize,
    each_uid: usize,
}

impl Door {
    fn budget(self) -> Budget {
        match self {
            // Root's programs: one is as good as another.
            Door::Arrival => Budget { all: 512, each_uid: 512 },
            // A mail client opens five sessions at once, each with a lease; some open ten.
            Door::Selves => Budget { all: 256, each_uid: 16 },
        }
    }
}

/// Out of descriptors or memory: trying again at once would only burn the processor.
const BACKOFF: Duration = Duration::from_millis(100);

/// Takes connections until the agent stops, and comes back when the last conversation has ended.
///
/// # Errors
/// The socket itself is broken; the agent cannot go on without it.
pub async fn serve(
    agent: Arc<Agent>,
    door: Door,
    socket: OwnedFd,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let budget = door.budget();
    let permits = Permits::new(budget.all, budget.each_uid);
    // The listeners of the standard library and of tokio are meant for streams, and accept whatever the socket is of.
    let socket = UnixListener::from_std(socket.into())?;
    let quiet = Sparing::new(6);
    let mut conversations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = conversations.join_next() => continue,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let connection = match accepted {
            Ok((connection, _)) => connection,
            Err(error) => match after(&error) {
                After::GoOn => continue,
                After::BackOff => {
                    agent.counters.accept_backoff.add();
                    if let Some(unsaid) = quiet.pass(Instant::now()) {
                        warn!(?door, unsaid, "accepting has to wait: {error}");
                    }
                    sleep(BACKOFF).await;
                    continue;
                }
                After::GiveUp => return Err(error),
            },
        };
        let counter = match door {
            Door::Arrival => &agent.counters.arrival_connections,
            Door::Selves => &agent.counters.self_connections,
        };
        counter.add();
        let Ok(peer) = Peer::of(&connection) else { continue };
        let Some(permit) = permits.take(peer.uid) else {
            agent.counters.over_limit.add();
            if let Some(unsaid) = quiet.pass(Instant::now()) {
                warn!(?door, uid = peer.uid, pid = peer.pid, unsaid, "too many connections at once; closed");
            }
            continue;
        };
        let agent = Arc::clone(&agent);
        conversations.spawn(arrivals::serve(agent, door, peer, Connection::new(connection), permit));
    }
    // From here on nobody can connect; those who have get their last word.
    drop(socket);
    conversations.join_all().await;
    Ok(())
}

/// What an error of accept means for the next one.
#[derive(Debug, PartialEq, Eq)]
enum After {
    GoOn,
    BackOff,
    GiveUp,
}

fn after(error: &io::Error) -> After {
    match error.raw_os_error().map(Errno::from_raw) {
        // The peer is gone already, or a signal came.
        Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO | Errno::EPERM | Errno::EAGAIN) => {
            After::GoOn
        }
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => After::BackOff,
        _ => After::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_accept_are_sorted() {
        let sorted = |errno: Errno| after(&io::Error::from(errno));
        assert_eq!(sorted(Errno::ECONNABORTED), After::GoOn);
        assert_eq!(sorted(Errno::EMFILE), After::BackOff);
        assert_eq!(sorted(Errno::ENFILE), After::BackOff);
        assert_eq!(sorted(Errno::EBADF), After::GiveUp);
        assert_eq!(sorted(Errno::EINVAL), After::GiveUp);
    }
}
