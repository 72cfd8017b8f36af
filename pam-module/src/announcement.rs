//! One login, told to the agent.
//!
//! Plain announcing does not wait for an answer, not even a short time. The kernel has both the connection and the packet once
//! `send` returns, whatever the agent is doing, and an answer would tell nothing that PAM could use; but waiting for it would
//! tie every login to how soon the agent is scheduled on a busy machine, and a stopped agent would cost each one the whole
//! deadline. So the call is socket, connect, send, close, the same few microseconds with the agent up, hung or
//! stopped, and less when it is gone or its backlog is full. Only `timeout=` or `wait=` ask for more.

use mailready_protocol::{
    Answer, ClientError, Deadlines, Kind, NameError, Phase, Request, Service, Source, User, Wait,
    announce as ask, tell,
};

use crate::options::Options;
use crate::pam::{Call, Level};

/// Tells the agent. Whatever becomes of it, the login is not told.
///
/// Failures are logged with `debug` alone: with the agent down for an hour, its unit says so once and
/// loudly; a line for each login would bury what else is in that log, and `syslog` itself may block.
pub(crate) fn announce(call: &Call<'_>, phase: Phase) {
    let options = Options::read(call.args(), |warning| call.log(Level::Warning, &warning));
    let outcome = request(call, phase, &options).map(|request| deliver(&request, &options));
    if options.debug {
        let text = match outcome {
            Ok(Ok(None)) => "announced".to_owned(),
            Ok(Ok(Some(answer))) => format!("announced: {answer}"),
            Ok(Err(error)) => format!("not announced: {error}"),
            Err(error) => format!("not announced: no user to tell of: {error}"),
        };
        call.log(Level::Debug, &text);
    }
}

fn request(call: &Call<'_>, phase: Phase, options: &Options) -> Result<Request, NameError> {
    Ok(Request {
        kind: Kind::Arrival,
        source: Source::Pam,
        phase,
        user: User::new(call.user().unwrap_or_default())?,
        // A service with a name that cannot travel is better told of without it than not at all.
        service: Service::new(call.service().unwrap_or_default()).unwrap_or_default(),
        wait: options.wait.map_or(Wait::NONE, Wait::new),
    })
}

fn deliver(request: &Request, options: &Options) -> Result<Option<Answer>, ClientError> {
    if options.wait.is_none() && options.timeout.is_none() {
        return tell(&options.socket, request).map(|()| None);
    }
    let mut deadlines = Deadlines::waiting(request.wait.duration());
    if let Some(timeout) = options.timeout {
        deadlines.first = timeout;
        deadlines.total = request.wait.duration().saturating_add(timeout);
    }
    ask(&options.socket, request, None, deadlines, &mut |_| {}).map(Some)
}
