//! A long-running program in a machine: its log, line by line as it comes, and its signals.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{Doing, LabError, Result};
use super::wait::{PATIENCE, eventually};

/// A line of a log and the moment it came.
#[derive(Clone, Debug)]
pub struct Line {
    /// When the lab read it: for timelines, not for proofs of order between two programs.
    pub at: Instant,
    /// Without its end; bytes that are no UTF-8 replaced.
    pub text: String,
}

/// Everything a program has said so far, shared with the thread that reads it.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    /// Streams that are read. Stdout may end while the last word on stderr is still under way.
    open: usize,
    begun: bool,
}

impl Lines {
    fn ended(&self) -> bool {
        self.begun && self.open == 0
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        {
            let mut lines = log.lock();
            lines.open += 1;
            lines.begun = true;
        }
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                log.lock().lines.push(Line { at: Instant::now(), text });
                log.0.1.notify_all();
                line.clear();
            }
            log.lock().open -= 1;
            log.0.1.notify_all();
        });
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// The number of lines so far; a mark for [`Self::wait_from`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Whether nothing was said yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all was read that the program and its children will ever say.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended()
    }

    /// The last lines, for an error message.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(40);
        lines[from..].iter().map(|line| format!("  {}\n", line.text)).collect()
    }

    /// The first line that fits, waited for if it has not come yet.
    ///
    /// # Errors
    /// [`LabError::Timeout`] after [`PATIENCE`], or at once when the program has closed its log.
    pub fn wait(&self, what: &str, fits: impl FnMut(&str) -> bool) -> Result<Line> {
        self.wait_from(0, what, fits)
    }

    /// As [`Self::wait`], of the lines from number `from` on.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_from(&self, from: usize, what: &str, mut fits: impl FnMut(&str) -> bool) -> Result<Line> {
        let start = Instant::now();
        let mut seen = from;
        let mut held = self.lock();
        loop {
            while let Some(line) = held.lines.get(seen) {
                if fits(&line.text) {
                    return Ok(line.clone());
                }
                seen += 1;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            if held.ended() || left.is_zero() {
                drop(held);
                return Err(LabError::Timeout {
                    what: what.into(),
                    waited: start.elapsed(),
                    log: self.tail(),
                });
            }
            held = self.0.1.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A child that both its [`Daemon`] and its machine can wait for: a process namespace does not end before its last process has
/// been waited for, and the parent of these is we.
pub(super) type SharedChild = Arc<Mutex<Child>>;

/// The child, whatever a thread that held it panicked over.
pub(super) fn lock_child(child: &SharedChild) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running program. Killed, and waited for, when dropped.
pub struct Daemon {
    name: String,
    pid: u32,
    child: SharedChild,
    /// Its stdout and stderr.
    pub log: Log,
}

impl Daemon {
    /// Takes over a child whose stdout and stderr are pipes.
    pub(super) fn new(name: impl Into<String>, mut child: Child) -> Self {
        let log = Log::default();
        if let Some(stream) = child.stdout.take() {
            log.follow(stream);
        }
        if let Some(stream) = child.stderr.take() {
            log.follow(stream);
        }
        Self { name: name.into(), pid: child.id(), child: Arc::new(Mutex::new(child)), log }
    }

    pub(super) fn share(&self) -> SharedChild {
        Arc::clone(&self.child)
    }

    /// Its process number as the host sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to it alone.
    ///
    /// # Errors
    /// If it has been waited for already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid().cast_signed()), signal)
            .doing(|| format!("send {signal} to {}", self.name))
    }

    /// Stops it (SIGSTOP) and comes back when the kernel says that it stands still.
    ///
    /// # Errors
    /// If it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let stat = format!("/proc/{}/stat", self.pid());
        eventually(
            format!("{} stands still", self.name),
            || self.log.tail(),
            || {
                let stat = std::fs::read_to_string(&stat).ok()?;
                // The state stands behind the name, and the name may hold anything but a last parenthesis.
                (stat.rsplit_once(") ")?.1.starts_with('T')).then_some(())
            },
        )
    }

    /// Lets it go on after [`Self::freeze`].
    ///
    /// # Errors
    /// If it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        matches!(lock_child(&self.child).try_wait(), Ok(None))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it does not end.
    pub fn wait_end(&self) -> Result<ExitStatus> {
        let ended = || lock_child(&self.child).try_wait().ok().flatten();
        eventually(format!("{} ends", self.name), || self.log.tail(), ended)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it does not end.
    pub fn terminate(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_end()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = lock_child(&self.child);
        child.kill().doing(|| format!("kill {}", self.name))?;
        child.wait().doing(|| format!("wait for {}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing useful could be done about an error: either way it ends with the machine.
        let mut child = lock_child(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}
