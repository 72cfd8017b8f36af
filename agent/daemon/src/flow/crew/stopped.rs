//! Workers that their own users have stopped, and workers that do not die.
//!
//! A worker runs as its user, who may send it any signal: nothing keeps a person from stopping it with all that it holds, its slot among the agent's workers, the turn of the mailbox, the spool's locks that its agent
//! holds for it. So a worker is not given the time of a slow disk when it is not slow but stopped: two seconds, all its stops taken together, and it is killed. And nobody waits for ever for the death of one that hangs in
//! the kernel (a disk that does not answer): it is left to the list here, and looked after whenever another is started.

use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How long a worker may be found stopped, in sum.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long a killed worker's end is waited for.
const DYING: Duration = Duration::from_secs(2);

/// Killed, and not dead yet.
static DYING_STILL: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// How long a process has been found stopped, in sum: whoever stops and continues it in turn gains nothing.
#[derive(Debug, Default)]
pub(super) struct Stops {
    found: Option<Instant>,
    before: Duration,
}

impl Stops {
    /// Looks at the process now; tells whether its time is over.
    pub(super) fn look(&mut self, pid: u32, now: Instant) -> bool {
        self.note(is_stopped(pid), now)
    }

    /// It has said something, so it is not stopped now.
    pub(super) fn goes_on(&mut self, now: Instant) {
        self.note(false, now);
    }

    fn note(&mut self, stopped: bool, now: Instant) -> bool {
        match (stopped, self.found) {
            (true, None) => self.found = Some(now),
            (false, Some(since)) => {
                self.before += now.duration_since(since);
                self.found = None;
            }
            _ => {}
        }
        let present = self.found.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.before + present > PATIENCE
    }
}

/// Whether a child of ours is stopped; its state is left to whoever waits for its end.
fn is_stopped(pid: u32) -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let Ok(pid) = i32::try_from(pid) else { return false };
    matches!(waitid(Id::Pid(Pid::from_raw(pid)), flags), Ok(WaitStatus::Stopped(..)))
}

/// Kills a child and sees its end. False: it does not end now; it is looked after here from now on.
pub(super) fn end(mut child: Child) -> bool {
    let _ = child.kill();
    let deadline = Instant::now() + DYING;
    let mut pause = Duration::from_micros(200);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(pause),
            Ok(Some(_)) => return true,
            Err(error) => {
                tracing::error!(%error, "a worker could not be reaped");
                return true;
            }
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    tracing::error!(
        pid = child.id(),
        "a killed worker does not end, it hangs in the kernel: its mailbox waits for its end, nothing else does"
    );
    // Nothing leaves the list half changed.
    DYING_STILL.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    false
}

/// Reaps those that have ended at last.
pub(super) fn reap_the_late() {
    let ended = |child: &mut Child| {
        let ended = !matches!(child.try_wait(), Ok(None));
        if ended {
            tracing::info!(pid = child.id(), "a worker that hung in the kernel has ended");
        }
        ended
    };
    DYING_STILL.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|child| !ended(child));
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use std::process::Command;

    #[test]
    fn stops_are_added_up_however_short_each_is() {
        let (mut stops, mut now) = (Stops::default(), Instant::now());
        for _ in 0..20 {
            assert!(!stops.note(true, now));
            now += Duration::from_millis(90);
            assert!(!stops.note(false, now));
            now += Duration::from_secs(60);
        }
        assert!(!stops.note(true, now), "1.8 s up to now");
        assert!(stops.note(true, now + Duration::from_millis(300)));
    }

    #[test]
    fn a_stopped_child_is_told_from_one_that_runs_and_one_that_has_ended() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(!is_stopped(child.id()));
        kill(pid, Signal::SIGSTOP).unwrap();
        while !is_stopped(child.id()) {
            std::thread::yield_now();
        }
        assert!(is_stopped(child.id()), "looking changes nothing");
        kill(pid, Signal::SIGCONT).unwrap();
        while is_stopped(child.id()) {
            std::thread::yield_now();
        }
        kill(pid, Signal::SIGSTOP).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_stopped(child.id()));
    }

    #[test]
    fn a_stopped_child_is_ended_and_reaped() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        assert!(end(child));
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
        reap_the_late();
    }
}
