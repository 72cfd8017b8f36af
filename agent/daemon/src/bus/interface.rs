//! The interface itself: who calls, what they may, and the plain work behind each method.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mailready_bus::{ConvertOptions, Converted, Details, Error, UserStatus, Verified};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedVariant, interface};

use super::rights::Rights;
use super::{back, convert, holds, status};
use crate::agent::Agent;
use crate::conversions::Change;
use crate::stops::Told;

/// Calls under way on one connection. On a bus, which all callers share, it is more.
const CALLS: usize = 16;
const CALLS_ON_BUS: usize = 256;
/// The bus answers within this, or it is taken as hung.
const BUS_DEADLINE: Duration = Duration::from_secs(5);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    /// One peer, known since it connected.
    Peer(Rights),
    /// Somebody on the bus, who is asked for at each call.
    OnBus,
}

/// The interface on one connection.
pub(super) struct Interface {
    agent: Arc<Agent>,
    caller: Caller,
    calls: Semaphore,
}

impl Interface {
    pub(super) fn new(agent: Arc<Agent>, caller: Caller) -> Self {
        let calls = match caller {
            Caller::Peer(_) => CALLS,
            Caller::OnBus => CALLS_ON_BUS,
        };
        Self { agent, caller, calls: Semaphore::new(calls) }
    }

    /// Lets a call in, and tells what its caller may.
    async fn admit(
        &self,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<(Rights, SemaphorePermit<'_>), Error> {
        let place = self
            .calls
            .try_acquire()
            .map_err(|_| Error::Busy("too many calls at once; ask again".to_owned()))?;
        let rights = match self.caller {
            Caller::Peer(rights) => rights,
            Caller::OnBus => {
                timeout(BUS_DEADLINE, rights_on_bus(connection, header)).await.unwrap_or_else(|_| {
                    Err(Error::AccessDenied("the bus does not say who you are".to_owned()))
                })?
            }
        };
        Ok((rights, place))
    }
}

async fn rights_on_bus(connection: &Connection, header: &Header<'_>) -> Result<Rights, Error> {
    let unknown = |_| Error::AccessDenied("the bus does not say who you are".to_owned());
    let sender = header.sender().ok_or_else(|| Error::AccessDenied("a call without a sender".to_owned()))?;
    let bus = DBusProxy::new(connection).await.map_err(unknown)?;
    let found = bus
        .get_connection_credentials(BusName::Unique(sender.clone()))
        .await
        .map_err(|_| Error::AccessDenied("the bus does not say who you are".to_owned()))?;
    let uid = found.unix_user_id().ok_or_else(|| Error::AccessDenied("you have no uid".to_owned()))?;
    let groups = found.unix_group_ids().cloned().unwrap_or_default();
    tokio::task::spawn_blocking(move || Rights::of(uid, &groups))
        .await
        .map_err(|_| Error::Stopping("the agent is stopping".to_owned()))
}

#[interface(name = "org.mailready.Agent1")]
impl Interface {
    async fn convert(
        &self,
        users: Vec<String>,
        options: ConvertOptions,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<Vec<Converted>, Error> {
        let (rights, _place) = self.admit(connection, &header).await?;
        let converting = convert::convert(&self.agent, rights, users, options);
        match self.caller {
            // On a connection of its own a caller hears of changes anyway; when it goes away, no further users are begun.
            Caller::Peer(_) => tokio::select! {
                answers = converting => answers,
                () = connection.closed() => Err(Error::Stopping("the caller went away".to_owned())),
            },
            // On a bus, signals would reach everybody; so they go to the caller alone, and only while it waits.
            Caller::OnBus => {
                let mut changes = self.agent.conversions.changes();
                let caller = match header.sender() {
                    Some(sender) => emitter.set_destination(BusName::Unique(sender.to_owned())),
                    None => emitter,
                };
                let answers = tokio::select! {
                    answers = converting => answers,
                    () = forward(&mut changes, &caller, rights) => {
                        Err(Error::Stopping("the agent is stopping".to_owned()))
                    }
                };
                // What happened last is told before the answer.
                while let Ok(change) = changes.try_recv() {
                    tell(&change, &caller, rights).await;
                }
                answers
            }
        }
    }

    async fn status(
        &self,
        users: Vec<String>,
        options: HashMap<String, OwnedVariant>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<UserStatus>, Error> {
        // Reserved for filters; what a later caller asks for is left out by an earlier agent.
        let _ = options;
        let (rights, _place) = self.admit(connection, &header).await?;
        status::status(&self.agent, rights, users).await
    }

    async fn verify(
        &self,
        user: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Verified, Error> {
        let (rights, _place) = self.admit(connection, &header).await?;
        back::verify(&self.agent, rights, user).await
    }

    async fn rollback(
        &self,
        user: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Converted, Error> {
        let (rights, _place) = self.admit(connection, &header).await?;
        back::rollback(&self.agent, rights, user).await
    }

    async fn hold(
        &self,
        user: String,
        until: u64,
        why: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let (rights, _place) = self.admit(connection, &header).await?;
        holds::hold(&self.agent, rights, &user, until, why).await
    }

    async fn release(
        &self,
        user: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let (rights, _place) = self.admit(connection, &header).await?;
        holds::release(&self.agent, rights, &user).await
    }

    async fn background(
        &self,
        what: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let (rights, _place) = self.admit(connection, &header).await?;
        if what == "start" && self.agent.stops.stopped().is_some() {
            if !rights.is_root() {
                return Err(Error::AccessDenied("only root may let the conversions go on".to_owned()));
            }
            let agent = Arc::clone(&self.agent);
            let cleared = tokio::task::spawn_blocking(move || {
                agent.conversions.end_rests(None);
                agent.stops.clear();
            });
            return cleared.await.map_err(|error| Error::Failed(error.to_string()));
        }
        Err(not_yet("background", &what))
    }

    #[zbus(signal)]
    async fn mailbox_changed(
        emitter: &SignalEmitter<'_>,
        user: &str,
        state: &str,
        details: Details,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn stopped(emitter: &SignalEmitter<'_>, code: &str, text: &str) -> zbus::Result<()>;

    /// Why nobody is converted by arriving, if the agent has stopped by itself; else empty.
    #[zbus(property(emits_changed_signal = "false"))]
    fn stopped_because(&self) -> String {
        self.agent.stops.stopped().map(|told| told.text).unwrap_or_default()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }
}

fn not_yet(method: &str, of: &str) -> Error {
    Error::NotSupported(format!("this version of mailready has no {method} yet ({of}: nothing was changed)"))
}

/// Tells a peer what happens to those whom it may see; ends with the connection or the agent.
pub(super) async fn forward_changes(
    mut changes: Receiver<Change>,
    stops: Receiver<Told>,
    connection: &Connection,
    rights: Rights,
) {
    if let Ok(emitter) = SignalEmitter::new(connection, mailready_bus::OBJECT) {
        tokio::join!(forward(&mut changes, &emitter, rights), forward_stops(stops, connection));
    }
}

/// Tells of every stop; to everybody, since it names nobody.
pub(super) async fn forward_stops(mut stops: Receiver<Told>, connection: &Connection) {
    let Ok(emitter) = SignalEmitter::new(connection, mailready_bus::OBJECT) else { return };
    loop {
        match stops.recv().await {
            Ok(told) => {
                let telling = Interface::stopped(&emitter, &told.code, &told.text);
                let _ = timeout(BUS_DEADLINE, telling).await;
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn forward(changes: &mut Receiver<Change>, to: &SignalEmitter<'_>, rights: Rights) {
    loop {
        match changes.recv().await {
            Ok(change) => tell(&change, to, rights).await,
            // Those who lag behind miss some; the last state is what counts, and `Status` tells it.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn tell(change: &Change, to: &SignalEmitter<'_>, rights: Rights) {
    if rights.sees(&change.account) {
        let (state, details) = status::of_change(change);
        // A peer that is gone, or reads nothing, is noticed elsewhere; its calls still have to be answered.
        let telling = Interface::mailbox_changed(to, &change.account.name, state.as_str(), details);
        let _ = timeout(BUS_DEADLINE, telling).await;
    }
}
