//! Entering a machine: a closure runs on a thread of its own that has joined the machine's namespaces.
//!
//! Namespaces belong to threads, so the rest of the test process stays on the host. A child spawned by the closure is born
//! inside (also into the process namespace) and yet is an ordinary child of the test, with its number as the host sees it; a
//! socket opened by the closure stays connected to the machine's network wherever it is used afterwards.

use std::fs::File;
use std::io;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// Handles to the namespaces of one machine. They keep the namespaces, not the processes, alive.
pub struct Namespaces {
    handles: Vec<(CloneFlags, File)>,
}

impl Namespaces {
    /// The namespaces of process `pid`, in the order in which they are joined: the mounts last, since they take /proc away.
    ///
    /// # Errors
    /// If the process is gone or not ours to enter.
    pub fn of(pid: u32) -> io::Result<Self> {
        let wanted = [
            ("net", CloneFlags::CLONE_NEWNET),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        let handles = wanted
            .into_iter()
            .map(|(name, flag)| Ok((flag, File::open(format!("/proc/{pid}/ns/{name}"))?)))
            .collect::<io::Result<_>>()?;
        Ok(Self { handles })
    }

    /// Runs `work` inside and gives back what it gave.
    ///
    /// # Errors
    /// If a namespace cannot be joined; `work` did not run then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> io::Result<T> {
                // Root and working folder are shared by all threads of a process unless one takes its own.
                unshare(CloneFlags::CLONE_FS)?;
                for (flag, handle) in &self.handles {
                    setns(handle, *flag)?;
                }
                Ok(work())
            });
            match inside.join() {
                Ok(result) => result,
                // An assertion in the closure is an assertion of the test.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}
