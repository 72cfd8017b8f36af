//! One arrival: who says it, whom it means, whether it counts, and what the answer is.
//!
//! A hook waits for a login, so the first answer goes out within 100 ms whatever the name service or the disk does: `taken` to those who do
//! not wait, `wait` to those who do. The last word on a user who is on Maildir already comes from memory and touches neither queue nor disk.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailready_protocol::{Answer, Kind, Reason, ReceiveError, Received, Request, Source};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::account::SharedAccount;
use crate::agent::Agent;
use crate::conversions::{Asked, Job};
use crate::flow::Standing;
use crate::listener::{Connection, Door, Permit};
use crate::outcome::{Outcome, Why};
use crate::peer::Peer;
use crate::settings::Settings;
use crate::users::{Lane, UserError};
use crate::whom::Refusal;
use mailready_protocol::Sparing;

mod lease;
mod talk;

use talk::{Talk, Waited};

/// A peer sends its request right after it has connected; one that does not is not worth a descriptor.
const REQUEST_DEADLINE: Duration = Duration::from_secs(2);

/// Serves one connection to its end. `permit` counts it against its uid until then.
pub async fn serve(agent: Arc<Agent>, door: Door, peer: Peer, connection: Connection, permit: Permit) {
    let Ok(received) = timeout(REQUEST_DEADLINE, connection.request()).await else {
        agent.counters.silent.add();
        return;
    };
    let Received { request, lease } = match received {
        Ok(received) => received,
        Err(ReceiveError::Closed | ReceiveError::Io(_)) => return,
        Err(error) => {
            agent.counters.malformed.add();
            complain(door, peer, &error);
            // Whether it is heard makes no difference.
            let _ = connection.send(Answer::Refused(Reason::Malformed));
            // Closing descriptors that a peer chose takes as long as the peer likes; that is not for this thread, and counts against the peer.
            tokio::task::spawn_blocking(move || drop((error, permit)));
            return;
        }
    };
    debug!(?door, uid = peer.uid, pid = peer.pid, ?request, "arrival");
    // An accounting client repeats what is not answered; all others are gone with the first word, so that a slow look-up must not cost them theirs.
    let may_be_early = request.source != Source::Radius;
    let mut talk = Talk::new(connection, !request.wait.is_none(), may_be_early);
    let resolved = talk.while_working(resolve(&agent, door, peer, &request)).await;
    match (resolved, lease) {
        (Err(answer), _) => talk.say(answer),
        (Ok(account), Some(session)) => lease::serve(&agent, &request, account, session, talk).await,
        (Ok(account), None) => announcement(&agent, &request, &account, talk).await,
    }
    drop(permit);
}

/// An arrival that the agent has heard of by itself, and nobody waits for.
pub async fn hear(agent: &Agent, request: &Request) {
    let resolved =
        agent.users.resolve(&agent.settings().config, request.user.as_bytes(), Lane::Trusted).await;
    debug!(?request, "arrival");
    match resolved {
        Ok(account) => drop(decide(agent, request, &account)),
        Err(UserError::Unknown) => agent.counters.unknown_user.add(),
        Err(UserError::Name(_)) => agent.counters.malformed.add(),
        Err(UserError::Late | UserError::Service(_)) => agent.counters.lookup_failed.add(),
        Err(UserError::Paths(_) | UserError::Root) => {}
    }
}

/// The account that is meant, if this peer may speak for it.
async fn resolve(agent: &Agent, door: Door, peer: Peer, request: &Request) -> Result<SharedAccount, Answer> {
    let lane = match door {
        Door::Arrival => Lane::Trusted,
        Door::Selves => Lane::Selves,
    };
    let settings = agent.settings();
    let resolved = agent.users.resolve(&settings.config, request.user.as_bytes(), lane).await;
    let for_itself = |uid| door == Door::Arrival || uid == peer.uid;
    let (counter, what, answer): (_, &dyn Display, _) = match &resolved {
        Ok(account) if for_itself(account.uid) => return Ok(Arc::clone(account)),
        Err(UserError::Name(error)) => (&agent.counters.malformed, error, Answer::Refused(Reason::Malformed)),
        Err(error @ UserError::Late) => (&agent.counters.lookup_failed, error, Answer::Stay(Reason::Late)),
        Err(error @ UserError::Service(_)) => {
            (&agent.counters.lookup_failed, error, Answer::Stay(Reason::Failed))
        }
        // Whether there is such a user is not the business of somebody else.
        Ok(_) | Err(_) if door == Door::Selves => {
            (&agent.counters.not_allowed, &"speaks for somebody else", Answer::Refused(Reason::NotAllowed))
        }
        Err(UserError::Unknown) => {
            // Password guessers cause these by the thousand; the count tells.
            agent.counters.unknown_user.add();
            return Err(Answer::Refused(Reason::UnknownUser));
        }
        Err(UserError::Paths(_)) => return Err(Answer::Stay(Reason::Blocked)),
        Ok(_) | Err(UserError::Root) => return Err(Answer::Stay(Reason::NotSelected)),
    };
    counter.add();
    complain(door, peer, what);
    Err(answer)
}

/// What is to be done for a user who arrives.
enum Decision {
    /// The Maildir is the mail.
    Ready,
    /// This job makes it so.
    Wait(Job),
    /// Neither.
    No(Answer),
}

fn decide(agent: &Agent, request: &Request, account: &SharedAccount) -> Decision {
    match agent.mailboxes.standing(&account.key()) {
        Standing::Maildir { .. } => {
            agent.mailboxes.arrived(&account.key());
            return Decision::Ready;
        }
        Standing::Unknown => return Decision::No(Answer::Stay(Reason::Unsettled)),
        // Of one who was rolled back, mail may have come to the Maildir that was.
        Standing::Mbox => agent.mailboxes.arrived(&account.key()),
    }
    if !counts(&agent.settings(), request) {
        agent.counters.not_counted.add();
        return Decision::No(Answer::Refused(Reason::NotCounted));
    }
    agent.counters.arrivals.add();
    if let Err(refusal) = agent.may_convert(account, Why::Arrival) {
        let reason = match refusal {
            Refusal::NotSelected(_) => Reason::NotSelected,
            Refusal::Held(_) => Reason::Held,
            Refusal::Blocked(_) => Reason::Blocked,
        };
        return Decision::No(Answer::Stay(reason));
    }
    match agent.conversions.ask(account, Why::Arrival) {
        Asked::Job(job) => Decision::Wait(job),
        Asked::Known(outcome) => match answer_to(&outcome) {
            Answer::Ready => Decision::Ready,
            answer => Decision::No(answer),
        },
        Asked::Full => {
            agent.counters.crowded.add();
            Decision::No(Answer::Stay(Reason::Crowded))
        }
        Asked::Unsettled => Decision::No(Answer::Stay(Reason::Unsettled)),
    }
}

/// Whether arrivals from this source, and if it is PAM of this service, count.
fn counts(settings: &Settings, request: &Request) -> bool {
    let arrival = &settings.config.arrival;
    let source = arrival.sources.iter().any(|source| source.as_str() == request.source.name());
    let service = || arrival.services.iter().any(|service| service.as_bytes() == request.service.as_bytes());
    source && (request.source != Source::Pam || service())
}

/// What an outcome means to a login.
fn answer_to(outcome: &Outcome) -> Answer {
    Answer::Stay(match outcome {
        Outcome::Converted { .. } | Outcome::Already { .. } => return Answer::Ready,
        Outcome::Busy(_) => Reason::Busy,
        Outcome::Blocked(reason) => match reason.code {
            "held" => Reason::Held,
            "no-mail" => Reason::NoMail,
            _ => Reason::Blocked,
        },
        Outcome::Failed(_) => Reason::Failed,
        Outcome::Stopped => Reason::Unsettled,
    })
}

/// An arrival that binds nobody: the answer is for information, and for whoever can hold a login up a little.
async fn announcement(agent: &Agent, request: &Request, account: &SharedAccount, mut talk: Talk) {
    debug_assert_eq!(request.kind, Kind::Arrival);
    let job = match decide(agent, request, account) {
        Decision::Ready if talk.waits() => return talk.say(Answer::Ready),
        Decision::No(answer @ Answer::Refused(_)) => return talk.say(answer),
        // Not taken is told to those too who only announce: whoever can repeats it.
        Decision::No(answer @ Answer::Stay(Reason::Crowded | Reason::Unsettled)) => return talk.say(answer),
        Decision::No(answer) if talk.waits() => return talk.say(answer),
        Decision::Wait(job) if talk.waits() => job,
        Decision::Ready | Decision::No(_) | Decision::Wait(_) => return talk.say(Answer::Taken),
    };
    let sessions = &agent.settings().config.sessions;
    let Some(_place) = agent.waiting_arrivals.enter(sessions.max_waiting) else {
        agent.counters.crowded.add();
        return talk.say(Answer::Stay(Reason::Crowded));
    };
    let deadline = Instant::now() + request.wait.duration().min(sessions.budget);
    match talk.wait_for(&job, deadline).await {
        Waited::Ended(outcome) => {
            // How many they were, for whoever shows it.
            if let Outcome::Converted { messages, .. } = outcome {
                talk.count(messages);
            }
            talk.say(answer_to(&outcome));
        }
        Waited::Late => talk.say(Answer::Stay(Reason::Late)),
        Waited::Gone => {}
    }
}

/// Writes about a peer, sparingly: anybody can cause this.
fn complain(door: Door, peer: Peer, what: &dyn Display) {
    static LINES: [Sparing; 2] = [Sparing::new(12), Sparing::new(12)];
    let lines = match door {
        Door::Arrival => &LINES[0],
        Door::Selves => &LINES[1],
    };
    if let Some(unsaid) = lines.pass(Instant::now()) {
        warn!(?door, uid = peer.uid, pid = peer.pid, unsaid, "refused: {what}");
    }
}
