//! Starting a worker and talking to it.
//!
//! What it says is hostile input: a garbled packet, silence for too long or an answer out of turn ends it. It is killed and reaped before anything of the mailbox is let go of that it could still write to; one that
//! does not even die (it hangs in the kernel) leaves its mailbox unsettled: it holds the work folder's lock until it is gone, so nobody asks the disk too early.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mailready_worker::job::Job;
use mailready_worker::wire::{self, Block, Order, Report, SIZE, Step};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe2;

use stopped::Stops;

mod resting;
mod stopped;

/// A worker that says nothing for this long is stuck (storage that hangs) and is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// As much as a pipe holds.
const MOST_WORDS: u64 = 64 * 1024;

/// Characters of a worker's line that are told on.
const LONGEST_LINE: usize = 400;

/// How a worker ended other than well.
#[derive(Debug)]
pub(super) enum WorkerError {
    /// It could not be started.
    Start(io::Error),
    /// It ended, was killed, or broke the wire's rules.
    Died(String),
    /// It said nothing for too long.
    Silent,
    /// It was found stopped for too long, and has been killed.
    Halted,
    /// The user's last worker had to be killed, and the next is not started yet.
    Resting(Duration),
    /// The time of an answer under locks is over; it lives and may answer yet.
    Late,
    /// An operator has to mend something; with the worker's own words, which may name a folder.
    Blocked(Block, u64, String),
    /// A step failed.
    Failed(Step, Errno),
    /// The caller wanted to stop.
    Stopped,
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "the worker cannot be started: {error}"),
            Self::Died(how) => write!(f, "the worker died: {how}"),
            Self::Silent => write!(f, "the worker made no progress for {} s", SILENCE.as_secs()),
            Self::Halted => {
                f.write_str("the worker was stopped by a signal of its user's, and has been killed")
            }
            Self::Resting(left) => write!(
                f,
                "the last worker of this user stood still and had to be killed; none is started for {} s",
                left.as_secs() + 1
            ),
            Self::Late => f.write_str("the worker did not answer in time"),
            Self::Blocked(block, detail, _) => write!(f, "{} ({detail})", block.word()),
            Self::Failed(step, errno) => write!(f, "{}: {}", step.word(), errno.desc()),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Whether no worker is started for this user now: the last one stood still.
pub(super) fn is_resting(uid: u32) -> bool {
    resting::left(uid, Instant::now()).is_some()
}

/// A running worker.
pub(super) struct Worker {
    /// `None`: it has ended, or is left to `stopped`.
    child: Option<Child>,
    pid: u32,
    uid: u32,
    stops: Stops,
    socket: OwnedFd,
    words: std::fs::File,
    indexed: bool,
}

impl Worker {
    /// Starts one and hands it the job, and the spool's descriptor if the job is about one; returns when it has become the user.
    pub(super) fn start(
        program: &Path,
        job: &Job,
        spool: Option<BorrowedFd<'_>>,
    ) -> Result<Self, WorkerError> {
        stopped::reap_the_late();
        if let Some(left) = resting::left(job.uid, Instant::now()) {
            return Err(WorkerError::Resting(left));
        }
        let start = |errno: Errno| WorkerError::Start(errno.into());
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(start)?;
        // Neither end ever waits: what does not fit is not needed.
        let (words, theirs_to_say) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(start)?;
        let child = Command::new(program)
            .arg("--job")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(theirs_to_say))
            .spawn()
            .map_err(WorkerError::Start)?;
        let mut worker = Self {
            pid: child.id(),
            uid: job.uid,
            child: Some(child),
            stops: Stops::default(),
            socket: ours,
            words: words.into(),
            indexed: false,
        };
        wire::send(worker.socket.as_fd(), &job.encode(), spool).map_err(WorkerError::Start)?;
        match worker.report(&|| false, None)? {
            Report::Ready { sandboxed, indexed } => {
                worker.indexed = indexed;
                if !sandboxed {
                    tracing::warn!(user = ?job.user, "the worker runs without its full sandbox on this kernel");
                }
                Ok(worker)
            }
            other => Err(worker.out_of_turn(other)),
        }
    }

    /// Whether Dovecot kept an index of the mbox when it started.
    pub(super) fn found_index(&self) -> bool {
        self.indexed
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn order(&mut self, order: Order, fd: Option<BorrowedFd<'_>>) -> Result<(), WorkerError> {
        let Err(error) = wire::send(self.socket.as_fd(), &order.encode(), fd) else { return Ok(()) };
        // It may have said why it ends before it ended.
        match self.report(&|| false, None) {
            Err(said @ (WorkerError::Blocked(..) | WorkerError::Failed(..))) => Err(said),
            _ => Err(self.died(&error.to_string())),
        }
    }

    /// The next report that is not progress; `on_progress` is called for those that are.
    pub(super) fn answer(
        &mut self,
        stop: &dyn Fn() -> bool,
        on_progress: &mut dyn FnMut(u64, u64, u64),
    ) -> Result<Report, WorkerError> {
        loop {
            match self.report(stop, None)? {
                Report::Progress { messages, bytes, total } => on_progress(messages, bytes, total),
                other => return Ok(other),
            }
        }
    }

    /// The next report that is not progress, of a worker for which locks are held: progress buys it no time.
    pub(super) fn answer_by(&mut self, due: Instant) -> Result<Report, WorkerError> {
        loop {
            match self.report(&|| false, Some(due))? {
                Report::Progress { .. } => {}
                other => return Ok(other),
            }
        }
    }

    fn report(&mut self, stop: &dyn Fn() -> bool, due: Option<Instant>) -> Result<Report, WorkerError> {
        let deadline = Instant::now() + SILENCE;
        loop {
            if stop() {
                return Err(WorkerError::Stopped);
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(100_u8)) {
                Ok(0) => {
                    let now = Instant::now();
                    if self.stops.look(self.pid, now) {
                        return Err(self.stands_still(WorkerError::Halted));
                    }
                    if due.is_some_and(|due| now >= due) {
                        return Err(WorkerError::Late);
                    }
                    if now >= deadline {
                        return Err(self.stands_still(WorkerError::Silent));
                    }
                }
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.stops.goes_on(Instant::now());
        let mut packet = [0; SIZE];
        let mut received = wire::receive(self.socket.as_fd(), &mut packet);
        // It ended without having read an order of ours. That is told first, and its last words after it.
        if received.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::ECONNRESET as i32)) {
            received = wire::receive(self.socket.as_fd(), &mut packet);
        }
        match received {
            Ok(Some((length, _))) => match Report::decode(&packet[..length]) {
                Ok(Report::Blocked { block, detail }) => {
                    Err(WorkerError::Blocked(block, detail, self.last_words()))
                }
                Ok(Report::Failed { step, errno }) => {
                    Err(WorkerError::Failed(step, Errno::from_raw(i32::try_from(errno).unwrap_or(0))))
                }
                Ok(report) => Ok(report),
                Err(garbled) => Err(self.died(&garbled.to_string())),
            },
            Ok(None) => Err(self.died("it closed its socket")),
            Err(error) => Err(self.died(&error.to_string())),
        }
    }

    /// The last line that it has said, its steps left out. It is told to people as it is, so it is cut short and made harmless.
    fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        // Ends at the first error: there is no more yet.
        let _ = (&mut self.words).take(MOST_WORDS).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().rev().find(|line| !line.starts_with("step=")).unwrap_or_default();
        let line: String = line.chars().take(LONGEST_LINE).collect();
        line.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }

    /// An answer that does not fit the order.
    pub(super) fn out_of_turn(&mut self, report: Report) -> WorkerError {
        self.died(&format!("it answered {report:?} out of turn"))
    }

    fn died(&mut self, how: &str) -> WorkerError {
        // Its exit status tells more than a closed socket, if it is there within a moment.
        let deadline = Instant::now() + Duration::from_millis(500);
        let Some(child) = &mut self.child else { return WorkerError::Died(how.to_owned()) };
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return WorkerError::Died(format!("{how}; {status}")),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => return WorkerError::Died(how.to_owned()),
            }
        }
    }

    /// Kills it, and has its user rest.
    fn stands_still(&mut self, why: WorkerError) -> WorkerError {
        tracing::warn!(uid = self.uid, pid = self.pid, "{why}");
        resting::begin(self.uid, Instant::now());
        self.reap();
        why
    }

    /// Waits for its end after its last answer; tells whether it ended by itself and well.
    pub(super) fn finish(mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            match child.try_wait() {
                Ok(None) if self.stops.look(self.pid, Instant::now()) => {
                    self.stands_still(WorkerError::Halted);
                    return false;
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(status)) => return status.success(),
                Err(_) => return false,
            }
        }
        false
    }

    /// Ends it now, wherever it is, and sees its end, unless it hangs in the kernel.
    pub(super) fn reap(&mut self) {
        if let Some(child) = self.child.take() {
            stopped::end(child);
        }
    }

    /// Lets it undo what it has staged, and sees its end; tells whether it lived to do so. One that has reported why it cannot go on has undone everything already.
    pub(super) fn abort(self) -> bool {
        self.end_with(Order::Abort)
    }

    /// As [`Self::abort`], but what was staged is kept for the mailbox's next attempt.
    pub(super) fn leave(self) -> bool {
        self.end_with(Order::Leave)
    }

    fn end_with(self, order: Order) -> bool {
        // It may be in the middle of a pass: it looks at the socket after each piece. An error means that it has ended.
        let _ = wire::send(self.socket.as_fd(), &order.encode(), None);
        self.finish()
    }
}

impl Drop for Worker {
    /// Whoever drops a worker is about to let go of locks.
    fn drop(&mut self) {
        self.reap();
    }
}
