//! One login, stopped before one system call, with a commit forced meanwhile.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mailready_tests::lab::{LabError, Result};
use mailready_tests::stops::{Control, Order, Place};

use super::client::{self, Seen};
use super::lane::Lane;
use super::phases::Phase;

/// Longer than a commit takes that nothing holds back.
const CERTAINLY: Duration = Duration::from_secs(10);

/// At one in so many stops of an IMAP login POP3 looks at the mailbox, too, in the end.
const POP3_EVERY: usize = 5;

/// How the client reads its mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Its session can be ended: the client comes again.
    Imap,
    /// Its session is never ended: it may have deleted something.
    Pop3,
}

/// Which program is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The post-login script and its children.
    Script,
    /// The imap or pop3 process.
    Session,
}

/// What came of it.
#[derive(Debug)]
pub struct Stopped {
    /// Where it stood.
    pub place: Place,
    /// In which part of the login that is.
    pub phase: Phase,
    /// The agent's word while the session stood still; none if it was still trying.
    pub meanwhile: Option<String>,
    /// Its last word, after the session had gone on.
    pub at_last: String,
    /// What the client went through.
    pub seen: Seen,
}

/// Stops a login of a new user before call `number` of `part`; `None` if it has fewer calls.
///
/// The commit is waited for as long as `patience` while the session stands, since it may be that it has to wait for the session.
///
/// # Errors
/// Whatever a mail client must not see, or the lab's own troubles.
pub fn stop(
    lane: &mut Lane,
    protocol: Protocol,
    part: Part,
    number: usize,
    patience: Duration,
) -> Result<Option<Stopped>> {
    let user = lane.next_user()?;
    let lane = &*lane;
    let control = control_of(lane, part)?;
    control.arm(&Order::Stop(number))?;
    let stopped = thread::scope(|scope| -> Result<Option<Stopped>> {
        let client = scope.spawn(|| match protocol {
            Protocol::Imap => client::read_by_imap(lane.machine(), &user, lane.expected.inbox()?),
            Protocol::Pop3 => client::read_by_pop3(lane.machine(), &user, &lane.expected.pop3.messages),
        });
        let reached = control.wait_reached(|| client.is_finished());
        let held = Held(&control);
        let Some(place) = reached? else {
            joined(client.join())??;
            return Ok(None);
        };
        let (tell, told) = mpsc::channel();
        scope.spawn(|| {
            // Fails only if the stop has failed, and then nobody asks.
            let _ = tell.send(lane.convert(&user));
            drop(tell);
        });
        let phase = || -> Result<Phase> {
            let places = control.places()?;
            Ok(match part {
                Part::Script => Phase::of_script(&places, &place),
                Part::Session => Phase::of_session(&places, &place),
            })
        };
        let stood = phase()?;
        // A session that nobody knows of holds nothing back: there the commit comes, and is waited for.
        let mut meanwhile = told.recv_timeout(patience).ok().transpose();
        if matches!(meanwhile, Ok(None)) && phase()? == Phase::BeforeTheLease {
            meanwhile = told.recv_timeout(CERTAINLY).ok().transpose();
        }
        let mut phase = phase()?;
        // Its children went on meanwhile, and the commit came before or after what they asked: that was against a `stay` if they were told one.
        if phase != stood && matches!(meanwhile, Ok(Some(_))) && !lane.was_told_to_stay(&user) {
            phase = Phase::InTheRequest;
        }
        drop(held);
        let (meanwhile, seen) = (meanwhile?, joined(client.join())??);
        let at_last = match &meanwhile {
            Some(word) => word.clone(),
            None => told.recv().map_err(|_| LabError::Setup("`convert` gave no answer".into()))??,
        };
        Ok(Some(Stopped { place, phase, meanwhile, at_last, seen }))
    })?;
    let Some(stopped) = stopped else { return Ok(None) };
    let by_pop3 = protocol == Protocol::Pop3 || number.is_multiple_of(POP3_EVERY);
    lane.check_at_rest(&user, by_pop3)?;
    if !lane.is_converted(&user)? {
        // Nothing of this session is left that could hold a commit back.
        let word = lane.convert(&user)?;
        if word != "converted" {
            return Err(LabError::Protocol {
                asked: "a conversion after the session's end".into(),
                got: word,
            });
        }
        lane.check_at_rest(&user, by_pop3)?;
    }
    Ok(Some(stopped))
}

/// The calls of one undisturbed login until the inbox is read, for their number.
pub fn count(lane: &mut Lane, protocol: Protocol, part: Part) -> Result<usize> {
    let user = lane.next_user()?;
    let control = control_of(lane, part)?;
    control.arm(&Order::Count)?;
    match protocol {
        Protocol::Imap => {
            let mut imap = mailready_tests::lab::Imap::login(lane.machine(), &user.name, &user.password)?;
            imap.ok("SELECT INBOX")?;
            let calls = control.places()?.len();
            imap.logout()?;
            Ok(calls)
        }
        Protocol::Pop3 => {
            let mut pop3 = mailready_tests::lab::Pop3::login(lane.machine(), &user.name, &user.password)?;
            pop3.command("STAT")?;
            let calls = control.places()?.len();
            pop3.quit()?;
            Ok(calls)
        }
    }
}

fn control_of(lane: &Lane, part: Part) -> Result<Control<'_>> {
    match part {
        Part::Script => lane.script(),
        Part::Session => lane.session(),
    }
}

/// Lets the session go on whatever happens: without that, the client would wait for as long as it has patience.
struct Held<'a>(&'a Control<'a>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // An error means that the machine is gone, and the session with it.
        let _ = self.0.go();
    }
}

fn joined<T>(result: thread::Result<T>) -> Result<T> {
    // A panic there is a panic of the test.
    result.map_err(|panic| std::panic::resume_unwind(panic))
}
