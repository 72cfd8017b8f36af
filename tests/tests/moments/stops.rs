//! The campaigns: which calls of which part are taken, in how many machines at a time, and what has to come of it.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mailready_tests::lab::Result;

use super::lane::{Lane, Who};
use super::one_stop::{self, Part, Protocol, Stopped};
use super::phases::Phase;

/// Machines at a time: a stopped login mostly waits.
const LANES: usize = 3;

/// How long a commit is given while the session stands. One that has to wait for the session is let go on with it: that is the
/// more interesting case, since both then move at once.
const PATIENCE: Duration = Duration::from_millis(150);

/// Longer than the agent waits for sessions to end: it gives up while the session still stands.
const TO_THE_END: Duration = Duration::from_secs(15);

/// One in so many of those that have to wait is held until the agent gives up.
const HELD_TO_THE_END: usize = 48;

/// What is stopped, and at how many of its calls.
#[derive(Clone, Copy)]
struct Campaign {
    name: &'static str,
    who: Who,
    protocol: Protocol,
    part: Part,
    /// One call in so many, except in the long form.
    every: usize,
}

impl Campaign {
    /// Runs it; `None` where there are no machines.
    fn run(self) -> Result<Option<Report>> {
        let Some(mut first) = Lane::new(self.who, 4)? else { return Ok(None) };
        let calls = one_stop::count(&mut first, self.protocol, self.part)?;
        drop(first);
        assert!(calls > 0, "{}: no calls", self.name);
        let every = if std::env::var_os("MAILREADY_LONG").is_some() { 1 } else { self.every };
        // A few calls more: which of two processes is first differs from login to login.
        let numbers: Vec<usize> = (1..=calls + 5).step_by(every).collect();
        let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
        thread::scope(|scope| {
            let lanes: Vec<_> =
                (0..LANES).map(|_| scope.spawn(|| self.lane(&numbers, &next, &report))).collect();
            lanes
                .into_iter()
                .try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        report.calls = calls;
        report.print(self.name);
        Ok(Some(report))
    }

    fn lane(self, numbers: &[usize], next: &AtomicUsize, report: &Mutex<Report>) -> Result<()> {
        let Some(mut lane) = Lane::new(self.who, numbers.len())? else { return Ok(()) };
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let Some(number) = numbers.get(turn) else { return Ok(()) };
            let patience = if turn.is_multiple_of(HELD_TO_THE_END) { TO_THE_END } else { PATIENCE };
            let mut stop = || one_stop::stop(&mut lane, self.protocol, self.part, *number, patience);
            // Under load a login now and then has other calls than the one before; the next one then.
            let stopped = match stop() {
                Ok(None) => stop(),
                other => other,
            };
            let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match stopped {
                Ok(Some(stopped)) => report.stops.push(stopped),
                Ok(None) => report.not_reached.push(*number),
                Err(error) => {
                    report.wrong.push(format!("call {number}: {error}; the agent's log:\n{}", lane.log()))
                }
            }
        }
    }
}

/// What came of a campaign.
#[derive(Default)]
struct Report {
    calls: usize,
    stops: Vec<Stopped>,
    not_reached: Vec<usize>,
    wrong: Vec<String>,
}

impl Report {
    fn of(&self, phase: Phase) -> impl Iterator<Item = &Stopped> {
        self.stops.iter().filter(move |stopped| stopped.phase == phase)
    }

    fn print(&self, name: &str) {
        let mut text = format!("{name}: {} calls, {} stops\n", self.calls, self.stops.len());
        for phase in Phase::ALL {
            let count = |what: &dyn Fn(&Stopped) -> bool| self.of(phase).filter(|each| what(each)).count();
            text.push_str(&format!(
                "  {phase}: {} stops; committed while it stood {}, after it had gone on {}, stayed {}; thrown out {}\n",
                count(&|_| true),
                count(&committed_meanwhile),
                count(&|each| each.meanwhile.is_none() && is_on_maildir(&each.at_last)),
                count(&|each| !is_on_maildir(&each.at_last)),
                count(&|each| !each.seen.thrown_out.is_empty()),
            ));
        }
        if !self.not_reached.is_empty() {
            text.push_str(&format!("  calls that a login did not come to: {:?}\n", self.not_reached));
        }
        for wrong in &self.wrong {
            text.push_str(&format!("  WRONG: {wrong}\n"));
        }
        // Past the capture of the harness; if stderr is closed nobody is listening.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Nothing was wrong, and the stops were where they were meant to be.
    fn check(&self) {
        assert!(self.wrong.is_empty(), "{} of {} stops went wrong", self.wrong.len(), self.stops.len());
        // How many calls a login has differs by a dozen; but what lies before its last one is to be hit.
        let last = self.stops.iter().map(|stopped| stopped.place.number).max().unwrap_or(0);
        let gaps: Vec<_> = self.not_reached.iter().filter(|number| **number < last).collect();
        assert!(gaps.len() <= self.stops.len() / 20, "calls in the midst that were not reached: {gaps:?}");
    }

    fn assert_some(&self, phase: Phase, what: impl Fn(&Stopped) -> bool, said: &str) {
        assert!(self.of(phase).any(what), "{phase}: no stop {said}");
    }

    fn assert_all(&self, phase: Phase, what: impl Fn(&Stopped) -> bool, said: &str) {
        if let Some(other) = self.of(phase).find(|each| !what(each)) {
            panic!("{phase}: not {said}: {}: {other:?}", other.place);
        }
    }
}

/// Whether this word of `mailready convert` says that the mail is in the Maildir.
fn is_on_maildir(word: &str) -> bool {
    matches!(word, "converted" | "already")
}

fn committed_meanwhile(stopped: &Stopped) -> bool {
    stopped.meanwhile.as_deref().is_some_and(is_on_maildir)
}

/// Bound by its `stay`, a session holds the commit back as long as it lives: it is going to open the mbox.
fn nothing_is_committed_against_a_stay(report: &Report, phases: &[Phase]) {
    for phase in phases {
        report.assert_some(*phase, |_| true, "at all");
        report.assert_all(*phase, |each| !committed_meanwhile(each), "held back while the session stood");
    }
}

#[test]
fn an_operator_converts_while_the_script_of_an_imap_login_stands() -> Result<()> {
    let campaign = Campaign {
        name: "imap login, script, operator",
        who: Who::Operator,
        protocol: Protocol::Imap,
        part: Part::Script,
        every: 1,
    };
    let Some(report) = campaign.run()? else { return Ok(()) };
    report.check();
    report.assert_some(Phase::BeforeTheLease, |_| true, "at all");
    report.assert_all(Phase::BeforeTheLease, committed_meanwhile, "committed while nobody had asked");
    report.assert_some(Phase::InTheRequest, |_| true, "at all");
    nothing_is_committed_against_a_stay(&report, &[Phase::AfterTheAnswer]);
    Ok(())
}

#[test]
fn an_operator_converts_while_the_imap_process_stands() -> Result<()> {
    let campaign = Campaign {
        name: "imap login, session, operator",
        who: Who::Operator,
        protocol: Protocol::Imap,
        part: Part::Session,
        every: 3,
    };
    let Some(report) = campaign.run()? else { return Ok(()) };
    report.check();
    report.assert_some(Phase::BeforeTheLease, committed_meanwhile, "with a commit meanwhile");
    nothing_is_committed_against_a_stay(&report, &[Phase::InTheSession]);
    report.assert_some(Phase::InTheSession, |each| is_on_maildir(&each.at_last), "with a commit afterwards");
    Ok(())
}

#[test]
fn the_arrival_itself_converts_while_the_script_stands() -> Result<()> {
    let campaign = Campaign {
        name: "imap login, script, arrival",
        who: Who::Arrival,
        protocol: Protocol::Imap,
        part: Part::Script,
        every: 8,
    };
    let Some(report) = campaign.run()? else { return Ok(()) };
    report.check();
    report.assert_some(Phase::BeforeTheLease, committed_meanwhile, "with a commit meanwhile");
    Ok(())
}

#[test]
fn an_operator_converts_while_the_script_of_a_pop3_login_stands() -> Result<()> {
    let campaign = Campaign {
        name: "pop3 login, script, operator",
        who: Who::Operator,
        protocol: Protocol::Pop3,
        part: Part::Script,
        every: 12,
    };
    let Some(report) = campaign.run()? else { return Ok(()) };
    report.check();
    report.assert_some(Phase::BeforeTheLease, committed_meanwhile, "with a commit meanwhile");
    nothing_is_committed_against_a_stay(&report, &[Phase::AfterTheAnswer]);
    Ok(())
}

#[test]
fn an_operator_converts_while_the_pop3_process_stands() -> Result<()> {
    let campaign = Campaign {
        name: "pop3 login, session, operator",
        who: Who::Operator,
        protocol: Protocol::Pop3,
        part: Part::Session,
        every: 12,
    };
    let Some(report) = campaign.run()? else { return Ok(()) };
    report.check();
    nothing_is_committed_against_a_stay(&report, &[Phase::InTheSession]);
    report.assert_all(Phase::InTheSession, |each| each.seen.thrown_out.is_empty(), "left alone to its end");
    Ok(())
}
