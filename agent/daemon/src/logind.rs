//! systemd-logind as a source of arrivals: for hosts whose PAM stacks are not to be touched.
//!
//! logind tells of sessions that `pam_systemd` registers: ssh, login, desktops; of Dovecot's and of POP3's it knows nothing. Its signals are heard on the same bus that the agent's own interface
//! is on, and on a connection of its own, since a source must not be lost with an interface. The bus may come late, hang and restart; who has logged in meanwhile is asked for when it is back.
//! Everything on the bus has a deadline.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mailready_config::{Bus, Source as Configured};
use mailready_protocol::{Kind, Phase, Request, Service, Source, User, Wait};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use zbus::connection::Builder;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::fdo::{DBusProxy, NameOwnerChangedStream};
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, proxy};

use crate::agent::Agent;
use crate::arrivals;

const LOGIND: &str = "org.freedesktop.login1";

/// What a bus that is up, and logind on it, answer within.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts: at first, and at most.
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);
/// Look-ups of uids at once; a name service that hangs holds up these and nothing else.
const LOOK_UPS: usize = 2;
/// Arrivals that may wait for them.
const WAITING: usize = 256;

#[proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    /// uid, name, object
    fn list_users(&self) -> zbus::Result<Vec<(u32, String, OwnedObjectPath)>>;
}

#[proxy(interface = "org.freedesktop.login1.Session", default_service = "org.freedesktop.login1")]
trait Session {
    /// uid, object
    #[zbus(property(emits_changed_signal = "false"))]
    fn user(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
}

/// Hears logind for as long as the agent runs; comes back at once if there is no bus or logind is no source that counts. (A change of `arrival.sources` is looked at with each arrival, one
/// of `agent.bus` at the next start.)
pub async fn listen(agent: Arc<Agent>, bus: Bus) {
    if bus == Bus::None {
        return;
    }
    let mut pause = SOON;
    let mut said = false;
    loop {
        if counts(&agent) {
            match hear(&agent, &bus, &mut pause).await {
                Ok(()) => said = false,
                Err(error) if !said => {
                    debug!("logind is not heard, trying on: {error}");
                    said = true;
                }
                Err(_) => {}
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(SELDOM);
    }
}

fn counts(agent: &Agent) -> bool {
    agent.settings().config.arrival.sources.contains(&Configured::Logind)
}

/// One connection, from its beginning to its end.
async fn hear(agent: &Arc<Agent>, bus: &Bus, pause: &mut Duration) -> zbus::Result<()> {
    let builder = match bus {
        Bus::Address(address) => Builder::address(address.as_str()),
        Bus::System | Bus::None => Builder::system(),
    };
    let connection = within(builder.method_timeout(DEADLINE).build()).await?;
    // In this order: whoever logs in after the list was made is told of by a signal.
    let mut signals = within(signals(&connection)).await?;
    let mut owners = within(owners(&connection)).await?;
    let ears = Ears {
        agent: Arc::clone(agent),
        turns: Arc::new(Semaphore::new(LOOK_UPS)),
        waiting: Arc::new(Semaphore::new(WAITING)),
    };
    *pause = SOON;
    ears.catch_up(&connection).await;
    let closed = connection.closed();
    tokio::pin!(closed);
    loop {
        tokio::select! {
            () = &mut closed => break,
            Some(changed) = owners.next() => {
                // logind has (re)started, and has its sessions from before.
                if changed.args().is_ok_and(|args| args.new_owner().is_some()) {
                    ears.catch_up(&connection).await;
                }
            }
            // An error is the connection's last word.
            Some(message) = signals.next() => match message {
                Ok(message) => ears.hear(&connection, &message),
                Err(_) => break,
            },
            else => break,
        }
    }
    warn!("the bus is gone; logind is heard again when it is back");
    Ok(())
}

/// Signals of logind's, and of nobody else: the bus sees to it that only the owner of the name is matched.
async fn signals(connection: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(LOGIND)
        .path("/org/freedesktop/login1")
        .interface("org.freedesktop.login1.Manager")
        .build()?;
    MessageStream::for_match_rule(rule, connection, NonZeroUsize::new(WAITING)).await
}

async fn owners(connection: &Connection) -> zbus::Result<NameOwnerChangedStream> {
    let bus = DBusProxy::new(connection).await?;
    bus.receive_name_owner_changed_with_args(&[(0, LOGIND)]).await
}

async fn within<T>(work: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(zbus::Error::Failure("no answer".to_owned())))
}

/// What is done with an arrival: off the task that hears the next.
struct Ears {
    agent: Arc<Agent>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Ears {
    /// Those who are there already.
    async fn catch_up(&self, connection: &Connection) {
        let users = match ManagerProxy::new(connection).await {
            Ok(manager) => manager.list_users().await,
            Err(error) => Err(error),
        };
        match users {
            Ok(users) => {
                info!("logind is heard");
                for (uid, ..) in users {
                    self.uid_arrived(uid);
                }
            }
            // It is started when somebody logs in.
            Err(error) => debug!("logind names nobody yet: {error}"),
        }
    }

    fn hear(&self, connection: &Connection, message: &Message) {
        match message.header().member().map(|member| member.as_str()) {
            Some("UserNew") => {
                if let Ok((uid, _)) = message.body().deserialize::<(u32, OwnedObjectPath)>() {
                    self.uid_arrived(uid);
                }
            }
            // A further session of somebody who is there already.
            Some("SessionNew") => {
                if let Ok((_, path)) = message.body().deserialize::<(String, OwnedObjectPath)>() {
                    self.session_begun(connection.clone(), path);
                }
            }
            _ => {}
        }
    }

    fn uid_arrived(&self, uid: u32) {
        let agent = Arc::clone(&self.agent);
        self.spawn(async move { announce_uid(&agent, uid).await });
    }

    fn session_begun(&self, connection: Connection, path: OwnedObjectPath) {
        let agent = Arc::clone(&self.agent);
        self.spawn(async move {
            let Ok(session) = SessionProxy::new(&connection, path).await else { return };
            // A session that has ended already is none.
            if let Ok((uid, _)) = session.user().await {
                announce_uid(&agent, uid).await;
            }
        });
    }

    /// More than may wait are dropped: these are logins whose mail stays an mbox for now.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            self.agent.counters.over_limit.add();
            return;
        };
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            let _place = place;
            // Never closed.
            let Ok(_turn) = turns.acquire_owned().await else { return };
            work.await;
        });
    }
}

/// logind's users are told by number; accounts are asked for by name.
async fn announce_uid(agent: &Arc<Agent>, uid: u32) {
    let users = &agent.settings().config.users;
    // Daemons have sessions too.
    if !(users.min_uid..=users.max_uid).contains(&uid) {
        return;
    }
    let name = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(uid.into()));
    match timeout(DEADLINE, name).await {
        Ok(Ok(Ok(Some(user)))) => announce(agent, user.name.as_bytes()).await,
        _ => agent.counters.lookup_failed.add(),
    }
}

async fn announce(agent: &Arc<Agent>, name: &[u8]) {
    let Ok(user) = User::new(name) else { return agent.counters.malformed.add() };
    let request = Request {
        kind: Kind::Arrival,
        source: Source::Logind,
        phase: Phase::Session,
        user,
        service: Service::default(),
        wait: Wait::NONE,
    };
    arrivals::hear(agent, &request).await;
}
