//! The tracer: follows a program and all its threads and children from call to call.
//!
//! It is single-threaded and handles one event at a time. Only at the entry of a call that is to be counted does it look
//! closer; once the order is done everybody runs on without being stopped at calls, and the tracer only waits for their end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls;
use super::control::{Order, Place, Whom, publish};
use super::tracee::{self, Entry};

/// Between two looks for `go` while somebody stands still.
const PAUSE: Duration = Duration::from_millis(1);

/// What of a program's calls counts.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Counting begins behind the first call of which the name or the arguments hold this text.
    pub from: Option<String>,
    /// Only calls that change files, folders or locks.
    pub changing: bool,
    /// With `changing`: those that read files or folders, too.
    pub reading: bool,
    /// Only calls of these programs, by file name; others are let go when they are executed. Empty: all.
    pub programs: Vec<String>,
}

/// A program under watch.
pub struct Tracer {
    control: PathBuf,
    order: Order,
    filter: Filter,
    list: File,
    count: usize,
    /// Calls so far of the kind before which somebody is to die.
    of_kind: usize,
    counting: bool,
    /// Every traced thread, and the file name of its program.
    threads: HashMap<Pid, String>,
    /// The thread that stands still until it may go on.
    held: Option<Pid>,
    /// Threads within a call that is not carried out, each with the error that it is going to get.
    failing: HashMap<Pid, i32>,
    /// The disk whose calls fail now, and how.
    broken: Option<(String, i32)>,
    /// The order is done: nobody is stopped at calls any more.
    done: bool,
}

impl Tracer {
    /// Attaches to a running process, which is about to execute the program.
    ///
    /// # Errors
    /// If it cannot be attached to, or the list cannot be written.
    pub fn attach(pid: Pid, control: PathBuf, order: Order, filter: Filter) -> io::Result<Self> {
        let list = File::create(control.join("list"))?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(pid, options)?;
        let counting = filter.from.is_none();
        let threads = HashMap::from([(pid, String::new())]);
        Ok(Self {
            control,
            order,
            filter,
            list,
            count: 0,
            of_kind: 0,
            counting,
            threads,
            held: None,
            failing: HashMap::new(),
            broken: None,
            done: false,
        })
    }

    /// Follows until the last thread has ended.
    ///
    /// # Errors
    /// If the control folder is gone; whoever is traced then runs on by himself.
    pub fn run(mut self) -> io::Result<()> {
        while !self.threads.is_empty() {
            let flags = match self.held {
                Some(_) => WaitPidFlag::__WALL | WaitPidFlag::WNOHANG,
                None => WaitPidFlag::__WALL,
            };
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => {
                    if self.control.join("go").exists() {
                        self.release();
                    } else {
                        thread::sleep(PAUSE);
                    }
                }
                Ok(status) => self.on(status)?,
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        publish(&self.control, "ended", "")
    }

    fn on(&mut self, status: WaitStatus) -> io::Result<()> {
        match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.threads.remove(&pid);
                self.failing.remove(&pid);
                if self.held == Some(pid) {
                    self.held = None;
                    self.done = true;
                }
            }
            WaitStatus::PtraceSyscall(pid) => self.on_call(pid)?,
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => {
                let program = tracee::program(pid);
                if self.filter.programs.is_empty() || self.filter.programs.contains(&program) {
                    self.threads.insert(pid, program);
                    self.go_on(pid, None);
                } else {
                    self.threads.remove(&pid);
                    // Gone if it was killed meanwhile.
                    let _ = ptrace::detach(pid, None);
                }
            }
            // A new thread or child stands at its first instruction, a parent at the birth of one; or somebody was stopped
            // by a signal for job control, which nothing here relies on.
            WaitStatus::PtraceEvent(pid, ..) => {
                self.threads.entry(pid).or_insert_with(|| tracee::program(pid));
                self.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
            WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
        Ok(())
    }

    fn on_call(&mut self, pid: Pid) -> io::Result<()> {
        if let Some(errno) = self.failing.remove(&pid) {
            // Fails only for one that was killed meanwhile.
            let _ = tracee::end_with(pid, errno);
            self.done = self.broken.is_none();
            self.go_on(pid, None);
            return Ok(());
        }
        // Gone between the stop and the question: its end is told next.
        if let Ok(Some(entry)) = Entry::of(pid)
            && !self.done
            && self.counts(&entry)
        {
            self.count += 1;
            let program = self.threads.get(&pid).cloned().unwrap_or_default();
            let place = Place {
                number: self.count,
                pid: tracee::process(pid).as_raw(),
                program,
                call: entry.name(),
                about: entry.description(),
            };
            writeln!(self.list, "{place}")?;
            return self.reached(&entry, pid, &place);
        }
        self.go_on(pid, None);
        Ok(())
    }

    fn counts(&mut self, entry: &Entry) -> bool {
        if !self.counting {
            let from = self.filter.from.as_deref().unwrap_or_default();
            self.counting = entry.name().contains(from) || entry.description().contains(from);
            return false;
        }
        !self.filter.changing || entry.changes() || (self.filter.reading && entry.reads())
    }

    fn reached(&mut self, entry: &Entry, pid: Pid, place: &Place) -> io::Result<()> {
        if self.broken.is_some() && self.control.join("heal").exists() {
            self.broken = None;
            self.done = true;
        }
        if let Some((disk, errno)) = &self.broken {
            let errno = *errno;
            if calls::disk_errors(&place.call).contains(&errno) && is_below(&place.about, disk) {
                self.fail(entry, place, errno)?;
            }
            self.go_on(pid, None);
            return Ok(());
        }
        match &self.order {
            Order::Stop(number) if *number == place.number => {
                self.held = Some(pid);
                publish(&self.control, "reached", &place.to_string())?;
                return Ok(());
            }
            Order::StopBefore { call, about } if *call == place.call && place.about.contains(about) => {
                self.held = Some(pid);
                publish(&self.control, "reached", &place.to_string())?;
                return Ok(());
            }
            Order::Hold { nth, kind } if *kind == place.kind() => {
                self.of_kind += 1;
                if self.of_kind == *nth {
                    self.held = Some(pid);
                    return publish(&self.control, "reached", &place.to_string());
                }
            }
            Order::Kill { nth, kind, whom } if *kind == place.kind() => {
                self.of_kind += 1;
                if self.of_kind == *nth {
                    self.done = true;
                    publish(&self.control, "reached", &place.to_string())?;
                    self.kill(pid, *whom);
                }
            }
            Order::Fail { nth, kind, errno, below } if *kind == place.kind() => {
                self.of_kind += 1;
                if self.of_kind == *nth {
                    let errno = *errno;
                    self.broken = below.clone().map(|disk| (disk, errno));
                    publish(&self.control, "reached", &place.to_string())?;
                    self.fail(entry, place, errno)?;
                }
            }
            _ => {}
        }
        self.go_on(pid, None);
        Ok(())
    }

    fn fail(&mut self, entry: &Entry, place: &Place, errno: i32) -> io::Result<()> {
        entry.suppress()?;
        self.failing.insert(entry.thread(), errno);
        let faults = self.control.join("faults");
        File::options().create(true).append(true).open(faults)?.write_all(format!("{place}\n").as_bytes())
    }

    /// A thread that stands at the entry of a call and is killed never makes that call.
    fn kill(&self, pid: Pid, whom: Whom) {
        let itself = tracee::process(pid);
        let mut processes: Vec<(Pid, &String)> =
            self.threads.iter().map(|(thread, program)| (tracee::process(*thread), program)).collect();
        processes.sort_unstable();
        processes.dedup_by_key(|(process, _)| *process);
        processes.retain(|(process, _)| match whom {
            Whom::Itself => *process == itself,
            Whom::Others => *process != itself,
            Whom::All => true,
        });
        // Both can only fail for one that has ended already.
        for (process, program) in &processes {
            let _ = obituary(*process, program);
        }
        for (process, _) in &processes {
            let _ = kill(*process, Signal::SIGKILL);
        }
    }

    fn release(&mut self) {
        self.done = true;
        if let Some(pid) = self.held.take() {
            self.go_on(pid, None);
        }
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        // An error means that it was killed while it stood; its end is told next.
        let _ = if self.done { ptrace::cont(pid, signal) } else { ptrace::syscall(pid, signal) };
    }
}

/// Whether what a call names lies below a path; of two names, whether either does.
fn is_below(about: &str, path: &str) -> bool {
    let below =
        |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    about.split(" -> ").any(below)
}

/// Says `killed PROGRAM` where the program itself says what it does, so that the death has its place among those lines: what it
/// has written so far stands before this, and it writes nothing after it.
fn obituary(process: Pid, program: &str) -> io::Result<()> {
    let log = format!("/proc/{process}/fd/2");
    File::options().append(true).open(log)?.write_all(format!("killed {program}\n").as_bytes())
}
