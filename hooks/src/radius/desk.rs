//! What becomes of a datagram. Nothing here knows sockets or clocks, so every case can be put to it.
//!
//! An answer is a promise: the client forgets the packet. So an arrival is answered when the agent has taken it, and not before; whatever stands in the way (no agent, one that hangs, a
//! full queue), the client sends it again. The agent's verdict that somebody is unknown or does not count is final, and answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mailready_protocol::{Answer, ClientError, Reason, Sparing, User};

use super::clients::Clients;
use super::packet::{About, Packet};
use super::rate::Bucket;
use super::recent::Recent;

/// A client repeats itself for some seconds (RFC 2866 leaves it to the client; FreeRADIUS for 30 s).
const RETRANSMITS: Duration = Duration::from_secs(60);
/// Packets that are remembered for that.
const REMEMBERED: usize = 1 << 16;
/// Somebody who was announced a moment ago is there: the several links of one login, and updates in between, are one arrival.
const ONE_ARRIVAL: Duration = Duration::from_secs(10);

/// Whoever takes arrivals.
pub(crate) trait Agent: Sync {
    /// Announces somebody.
    fn announce(&self, user: &User) -> Result<Answer, ClientError>;
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What has come, since the start.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $($(#[$doc])* $name: AtomicU64),* }

        impl std::fmt::Display for Counters {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut blank = "";
                $(
                    write!(f, concat!("{}", stringify!($name), "={}"), blank, self.$name.load(Ordering::Relaxed))?;
                    blank = " ";
                )*
                let _ = blank;
                Ok(())
            }
        }
    };
}

counters! {
    /// Datagrams.
    received,
    /// From an address that no line of the clients' file names.
    strangers,
    /// Over `radius.rate`.
    over_rate,
    /// No packet for us.
    malformed,
    /// Not made with the client's secret.
    forged,
    /// Seen before, and answered as before.
    retransmits,
    /// Announced to the agent.
    announced,
    /// Of somebody who was announced a moment ago.
    joined,
    /// Starts that name nobody, or nobody who can have a name.
    nameless,
    /// The agent knows no such user, or does not count this source.
    refused,
    /// Left without an answer, since the agent did not take it.
    not_taken,
    /// Ends of sessions and other accounting.
    others,
    /// Answers.
    answered,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
struct Memory {
    packets: Recent<(SocketAddr, u8, [u8; 16])>,
    users: Recent<User>,
    buckets: Vec<Bucket>,
}

/// Judges datagrams.
pub(crate) struct Desk<A> {
    agent: A,
    clients: RwLock<Clients>,
    rate: u32,
    memory: Mutex<Memory>,
    pub(crate) counters: Counters,
    lines: Sparing,
}

impl<A: Agent> Desk<A> {
    /// `rate`: packets a second that are taken of one client, 0 for any number.
    pub(crate) fn new(agent: A, clients: Clients, rate: u32, now: Instant) -> Self {
        let buckets = vec![Bucket::full(rate, now); clients.len()];
        Self {
            agent,
            clients: RwLock::new(clients),
            rate,
            memory: Mutex::new(Memory {
                packets: Recent::new(RETRANSMITS, REMEMBERED, now),
                users: Recent::new(ONE_ARRIVAL, REMEMBERED, now),
                buckets,
            }),
            counters: Counters::default(),
            lines: Sparing::new(12),
        }
    }

    /// Takes a new list of clients.
    pub(crate) fn set_clients(&self, clients: Clients, now: Instant) {
        let mut old = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        self.memory().buckets = vec![Bucket::full(self.rate, now); clients.len()];
        *old = clients;
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Nothing in it is ever half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a datagram, or none.
    pub(crate) fn consider(&self, datagram: &[u8], from: SocketAddr, now: Instant) -> Option<Vec<u8>> {
        let counters = &self.counters;
        add(&counters.received);
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let Some((number, client)) = clients.find(from.ip().to_canonical()) else {
            add(&counters.strangers);
            self.complain(now, from, "no line of radius.clients names this address");
            return None;
        };
        if !self.memory().buckets[number].take(self.rate, now) {
            add(&counters.over_rate);
            self.complain(now, from, "more packets a second than radius.rate");
            return None;
        }
        let packet = match Packet::parse(datagram) {
            Ok(packet) => packet,
            Err(malformed) => {
                add(&counters.malformed);
                self.complain(now, from, &malformed.to_string());
                return None;
            }
        };
        if !packet.is_genuine(&client.secret) {
            add(&counters.forged);
            self.complain(now, from, "forged, or made with another secret than the one in radius.clients");
            return None;
        }
        let secret = client.secret.clone();
        // Asking the agent may take a while, and the list may be read anew meanwhile.
        drop(clients);
        if !self.settle(packet, from, now) {
            add(&counters.not_taken);
            return None;
        }
        add(&counters.answered);
        Some(packet.response(&secret))
    }

    /// Whether nothing is left to do for a genuine packet.
    fn settle(&self, packet: Packet<'_>, from: SocketAddr, now: Instant) -> bool {
        let counters = &self.counters;
        let name = match packet.about() {
            About::Arrival(name) => name,
            About::Client(starts) => {
                add(&counters.others);
                let what = if starts { "has started" } else { "is about to stop" };
                tracing::info!(client = %from.ip().to_canonical(), "a RADIUS client {what}: its sessions have ended");
                return true;
            }
            About::Else | About::Probe => {
                add(&counters.others);
                return true;
            }
        };
        let key = (from, packet.identifier(), packet.authenticator());
        if self.memory().packets.contains(&key, now) {
            add(&counters.retransmits);
            return true;
        }
        let Some(user) = name.and_then(|name| User::new(name).ok()) else {
            add(&counters.nameless);
            return true;
        };
        if self.memory().users.contains(&user, now) {
            add(&counters.joined);
            return true;
        }
        let answer = self.agent.announce(&user);
        let mut memory = self.memory();
        match answer {
            Ok(Answer::Refused(reason)) => {
                add(&counters.refused);
                drop(memory);
                tracing::debug!(?user, %reason, "refused by the agent");
            }
            Ok(Answer::Taken | Answer::Ready) => {
                add(&counters.announced);
                memory.users.insert(user, now);
                memory.packets.insert(key, now);
            }
            // It has made up its mind: the mbox stays.
            Ok(Answer::Stay(reason)) if !passes(reason) => {
                add(&counters.announced);
                memory.packets.insert(key, now);
            }
            Ok(Answer::Stay(reason)) => {
                drop(memory);
                self.complain(now, from, &format!("not answered, since the agent says: {reason}"));
                return false;
            }
            Ok(Answer::Wait(_)) => return false,
            Err(error) => {
                drop(memory);
                self.complain(now, from, &format!("not answered, since the agent does not take it: {error}"));
                return false;
            }
        }
        true
    }

    /// One line for many: anybody can cause these.
    fn complain(&self, now: Instant, from: SocketAddr, what: &str) {
        if let Some(unsaid) = self.lines.pass(now) {
            tracing::warn!(client = %from.ip().to_canonical(), unsaid, "{what}");
        }
    }
}

/// Whether another try may end better.
fn passes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unspecified
            | Reason::Crowded
            | Reason::Late
            | Reason::Unsettled
            | Reason::Failed
            | Reason::HungUp
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::packet::tests::request;
    use super::*;

    /// Says what it is told to, and counts.
    struct Scripted(Mutex<Cell<(usize, Result<Answer, ClientError>)>>);

    impl Agent for &Scripted {
        fn announce(&self, _: &User) -> Result<Answer, ClientError> {
            let mut cell = self.0.lock().unwrap();
            cell.get_mut().0 += 1;
            cell.get_mut().1.clone()
        }
    }

    impl Scripted {
        fn says(answer: Result<Answer, ClientError>) -> Self {
            Self(Mutex::new(Cell::new((0, answer))))
        }

        fn calls(&self) -> usize {
            self.0.lock().unwrap().get_mut().0
        }

        fn says_now(&self, answer: Result<Answer, ClientError>) {
            self.0.lock().unwrap().get_mut().1 = answer;
        }
    }

    fn clients() -> Clients {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clients");
        std::fs::write(&path, "192.0.2.1 s\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Clients::read(&path).unwrap()
    }

    const NAS: &str = "192.0.2.1:1024";

    fn start(identifier: u8, name: &str) -> Vec<u8> {
        request(4, identifier, &[(40, &[0, 0, 0, 1]), (1, name.as_bytes())], b"s")
    }

    #[test]
    fn an_arrival_is_answered_when_it_is_taken_and_a_retransmit_is_not_announced_again() {
        let agent = Scripted::says(Err(ClientError::Full { path: "/x".into() }));
        let now = Instant::now();
        let desk = Desk::new(&agent, clients(), 0, now);
        let nas = NAS.parse().unwrap();
        let packet = start(1, "ann");
        assert_eq!(desk.consider(&packet, nas, now), None, "the agent did not take it");
        agent.says_now(Ok(Answer::Stay(Reason::Crowded)));
        assert_eq!(desk.consider(&packet, nas, now), None);
        agent.says_now(Ok(Answer::Taken));
        let answer = desk.consider(&packet, nas, now).unwrap();
        assert_eq!(agent.calls(), 3);
        assert_eq!(desk.consider(&packet, nas, now), Some(answer), "the same answer, and nothing done");
        // Another link of the same user, as another packet.
        assert!(desk.consider(&start(2, "ann"), nas, now).is_some());
        assert_eq!(agent.calls(), 3);
        assert!(desk.consider(&start(2, "bob"), nas, now).is_some());
        assert_eq!(agent.calls(), 4);
        let later = now + ONE_ARRIVAL;
        assert!(desk.consider(&start(3, "ann"), nas, later).is_some());
        assert_eq!(agent.calls(), 5, "a new arrival");
    }

    #[test]
    fn a_refusal_is_final_and_answered() {
        let agent = Scripted::says(Ok(Answer::Refused(Reason::UnknownUser)));
        let now = Instant::now();
        let desk = Desk::new(&agent, clients(), 0, now);
        assert!(desk.consider(&start(1, "nobody"), NAS.parse().unwrap(), now).is_some());
        assert!(desk.consider(&start(1, "a\0b"), NAS.parse().unwrap(), now).is_some());
        assert_eq!(agent.calls(), 1);
        let text = desk.counters.to_string();
        assert!(text.contains("refused=1") && text.contains("nameless=1"), "{text}");
    }

    #[test]
    fn strangers_forgers_and_floods_get_no_answer() {
        let agent = Scripted::says(Ok(Answer::Taken));
        let now = Instant::now();
        let desk = Desk::new(&agent, clients(), 5, now);
        let packet = start(1, "ann");
        assert_eq!(desk.consider(&packet, "192.0.2.2:1024".parse().unwrap(), now), None);
        let mut forged = packet.clone();
        forged[30] ^= 1;
        let nas = NAS.parse().unwrap();
        assert_eq!(desk.consider(&forged, nas, now), None);
        assert_eq!(desk.consider(b"rubbish", nas, now), None);
        // The same client, as an IPv6 socket sees it.
        let mapped = "[::ffff:192.0.2.1]:1024".parse().unwrap();
        let answered = (0..10).filter(|_| desk.consider(&packet, mapped, now).is_some()).count();
        assert_eq!(answered, 3, "five a second, two were wrong");
        let text = desk.counters.to_string();
        assert!(text.contains("strangers=1 over_rate=7 malformed=1 forged=1"), "{text}");
    }

    #[test]
    fn what_is_no_arrival_is_answered_and_nobody_is_announced() {
        let agent = Scripted::says(Ok(Answer::Taken));
        let now = Instant::now();
        let desk = Desk::new(&agent, clients(), 0, now);
        for status in [2, 7, 8, 15] {
            let packet = request(4, status, &[(40, &[0, 0, 0, status]), (1, b"ann")], b"s");
            assert!(desk.consider(&packet, NAS.parse().unwrap(), now).is_some());
        }
        let probe = request(12, 1, &[(80, &[0; 16])], b"s");
        assert!(desk.consider(&probe, NAS.parse().unwrap(), now).is_some());
        assert_eq!(agent.calls(), 0);
    }
}
