//! One login, told to the agent.
//!
//! Plain announcing does not wait for an answer, not even a short time. The kernel has both the connection and the packet once
//! `send` returns, whatever the agent is doing, and an answer would tell nothing that PAM could use; but waiting for it would
//! tie every login to how soon the agent is scheduled on a busy machine, and a stopped agent would cost each one the whole
//! deadline. So the call is socket, connect, send, close, the same few microseconds with the agent up, hung or
//! stopped, and less when it is gone or its backlog is full. Only `timeout=` or `wait=` ask for more.

use mailready_protocol::{
    Answer, ClientError, Deadlines, Kind, NameError, Phase, Progress, Request, Service, Source, User, Wait,
    announce as ask, tell,
};

use crate::options::Options;
use crate::pam::{Call, Level};

/// Tells the agent. Whatever becomes of it, the login is not told.
///
/// Failures are logged with `debug` alone: with the agent down for an hour, its unit says so once and
/// loudly; a line for each login would bury what else is in that log, and `syslog` itself may block.
pub(crate) fn announce(call: &Call<'_>, phase: Phase, may_speak: bool) {
    let options = Options::read(call.args(), |warning| call.log(Level::Warning, &warning));
    let show = |line: &str| {
        if may_speak {
            call.tell_user(line);
        }
    };
    let mut screen = Screen::of(call.service(), &show);
    let outcome = request(call, phase, &options).map(|request| deliver(&request, &options, &mut screen));
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

fn deliver(
    request: &Request,
    options: &Options,
    screen: &mut Screen<'_>,
) -> Result<Option<Answer>, ClientError> {
    if options.wait.is_none() && options.timeout.is_none() {
        return tell(&options.socket, request).map(|()| None);
    }
    let mut deadlines = Deadlines::waiting(request.wait.duration());
    if let Some(timeout) = options.timeout {
        deadlines.first = timeout;
        deadlines.total = request.wait.duration().saturating_add(timeout);
    }
    let answer = ask(&options.socket, request, None, deadlines, &mut |progress| screen.waits(progress));
    screen.ended(answer.as_ref().is_ok_and(|answer| *answer == Answer::Ready));
    answer.map(Some)
}

/// What a user sees who is held up by `wait=`: nothing if there was nothing to wait for.
struct Screen<'a> {
    show: &'a dyn Fn(&str),
    /// What it shows comes when all is over: one line is enough then.
    afterwards: bool,
    waited: bool,
    messages: u32,
}

impl<'a> Screen<'a> {
    fn of(service: Option<&[u8]>, show: &'a dyn Fn(&str)) -> Self {
        // sshd keeps what modules say in `account` until the user is in.
        Self { show, afterwards: service == Some(b"sshd"), waited: false, messages: 0 }
    }

    fn waits(&mut self, progress: Progress) {
        self.messages = self.messages.max(progress.done);
        if !std::mem::replace(&mut self.waited, true) && !self.afterwards {
            (self.show)("Preparing your mail ...");
        }
    }

    fn ended(&self, ready: bool) {
        match (self.waited, ready, self.messages) {
            (false, _, _) => {}
            (true, true, 0) => (self.show)("Your mail is ready."),
            (true, true, 1) => (self.show)("Your mail is ready: 1 message."),
            (true, true, messages) => {
                (self.show)(&format!("Your mail is ready: {} messages.", grouped(messages)))
            }
            (true, false, _) if self.afterwards => {}
            (true, false, _) => (self.show)("Your mail stays as it is for now."),
        }
    }
}

/// `2,341`
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn shown(service: &[u8], frames: &[u32], ready: bool) -> Vec<String> {
        let lines = RefCell::new(Vec::new());
        let show = |line: &str| lines.borrow_mut().push(line.to_owned());
        let mut screen = Screen::of(Some(service), &show);
        for done in frames {
            screen.waits(Progress { done: *done, total: 0 });
        }
        screen.ended(ready);
        lines.into_inner()
    }

    #[test]
    fn who_waits_sees_it_and_who_does_not_sees_nothing() {
        assert_eq!(shown(b"login", &[], true), [""; 0]);
        assert_eq!(
            shown(b"login", &[0, 17, 2341], true),
            ["Preparing your mail ...", "Your mail is ready: 2,341 messages."]
        );
        assert_eq!(
            shown(b"login", &[0], false),
            ["Preparing your mail ...", "Your mail stays as it is for now."]
        );
        assert_eq!(
            shown(b"sshd", &[0, 1], true),
            ["Your mail is ready: 1 message."],
            "one line, after the fact"
        );
        assert_eq!(shown(b"sshd", &[0], false), [""; 0]);
    }

    #[test]
    fn numbers_are_grouped() {
        let all: Vec<String> = [0, 7, 999, 1000, 1_234_567].map(grouped).into();
        assert_eq!(all, ["0", "7", "999", "1,000", "1,234,567"]);
    }
}
