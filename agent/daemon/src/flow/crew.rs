//! Starting a worker and talking to it.
//!
//! What it says is hostile input: a garbled packet, silence for too long or an answer out of turn ends it. It is always reaped before anything of the mailbox is let go
//! of, so that no worker can still write when the locks are dropped.

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
            Self::Blocked(block, detail, _) => write!(f, "{} ({detail})", block.word()),
            Self::Failed(step, errno) => write!(f, "{}: {}", step.word(), errno.desc()),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// A running worker.
pub(super) struct Worker {
    child: Child,
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
        let mut worker = Self { child, socket: ours, words: words.into(), indexed: false };
        wire::send(worker.socket.as_fd(), &job.encode(), spool).map_err(WorkerError::Start)?;
        match worker.report(&|| false)? {
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
        self.child.id()
    }

    pub(super) fn order(&mut self, order: Order, fd: Option<BorrowedFd<'_>>) -> Result<(), WorkerError> {
        let Err(error) = wire::send(self.socket.as_fd(), &order.encode(), fd) else { return Ok(()) };
        // It may have said why it ends before it ended.
        match self.report(&|| false) {
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
            match self.report(stop)? {
                Report::Progress { messages, bytes, total } => on_progress(messages, bytes, total),
                other => return Ok(other),
            }
        }
    }

    fn report(&mut self, stop: &dyn Fn() -> bool) -> Result<Report, WorkerError> {
        let deadline = Instant::now() + SILENCE;
        loop {
            if stop() {
                return Err(WorkerError::Stopped);
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(100_u8)) {
                Ok(0) if Instant::now() < deadline => continue,
                Ok(0) => return Err(WorkerError::Silent),
                Err(Errno::EINTR) => continue,
                Ok(_) | Err(_) => break,
            }
        }
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
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return WorkerError::Died(format!("{how}; {status}")),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => return WorkerError::Died(how.to_owned()),
            }
        }
    }

    /// Waits for its end after its last answer; tells whether it ended by itself and well.
    pub(super) fn finish(mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(status)) => return status.success(),
                Err(_) => return false,
            }
        }
        false
    }

    /// Ends it now, wherever it is, and sees its end.
    pub(super) fn reap(&mut self) {
        let _ = self.child.kill();
        if let Err(error) = self.child.wait() {
            tracing::error!(%error, "a worker could not be reaped");
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
