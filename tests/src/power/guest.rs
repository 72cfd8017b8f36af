//! Booting the guest in a lab machine, and cutting its power.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::inside::SIGN;
use crate::lab::{self, Daemon, Doing, LabError, Line, Machine, Result, eventually};

/// Where its parts lie in the machine.
const FOLDER: &str = "/opt/guest";

/// For a guest on a machine that has other things to do. A bound for failures.
const PATIENCE: Duration = Duration::from_secs(180);

/// The kernel's folder, fetched if it is not there yet.
///
/// # Errors
/// Why there is none, in words for whoever runs the tests.
pub fn kernel() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("User Mode Linux runs on x86-64 only".into());
    }
    let made = Command::new(lab::script("guest"))
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("tests/lab/guest: {error}"))?;
    if made.status.success() {
        return Ok(String::from_utf8_lossy(&made.stdout).trim().into());
    }
    Err(String::from_utf8_lossy(&made.stderr).trim().replace('\n', " "))
}

/// Lays kernel and first process into a machine.
///
/// # Errors
/// If they cannot be read or written.
pub fn install(machine: &Machine, kernel: &std::path::Path, inside: &str) -> Result<()> {
    machine.run("mkdir", ["-p", FOLDER])?;
    let files = [
        (kernel.join("usr/bin/linux.uml"), "linux.uml"),
        (kernel.join("shim.so"), "shim.so"),
        (inside.into(), "power-guest"),
    ];
    for (file, name) in files {
        let content = std::fs::read(&file).doing(|| format!("read {}", file.display()))?;
        machine.write(&format!("{FOLDER}/{name}"), &content, (0, 0), 0o755)?;
    }
    Ok(())
}

/// How to boot.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// The images of the disks, as the machine names them, in the order of [`super::inside::DISKS`].
    pub disks: Vec<String>,
    /// Their file system.
    pub file_system: String,
    /// What is done, see [`super::inside`].
    pub work: String,
    /// Whose mailbox.
    pub user: String,
    /// Chance, the same for the same seed.
    pub seed: u64,
    /// Which boot of these disks: ids of letters begin with it.
    pub boot: usize,
    /// At most so many letters.
    pub letters: Option<u64>,
    /// Where everything done to the disks is written down, for [`super::journal`].
    pub journal: Option<String>,
}

/// A running guest.
pub struct Guest {
    daemon: Daemon,
}

impl Guest {
    /// Switches it on.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn boot(machine: &Machine, boot: &Boot) -> Result<Self> {
        let mut args: Vec<String> = [
            "mem=256M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            "con0=null,fd:1",
            "quiet",
            "panic=1",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("init={FOLDER}/power-guest"));
        args.extend(boot.disks.iter().enumerate().map(|(number, disk)| format!("ubd{number}={disk}")));
        for (name, value) in [
            ("FS", boot.file_system.clone()),
            ("WORK", boot.work.clone()),
            ("USER", boot.user.clone()),
            ("SEED", boot.seed.to_string()),
            ("BOOT", boot.boot.to_string()),
        ] {
            args.push(format!("POWER_{name}={value}"));
        }
        args.extend(boot.letters.map(|letters| format!("POWER_LETTERS={letters}")));
        let daemon = machine.daemon_with(&format!("{FOLDER}/linux.uml"), args, |command| {
            command
                .env("HOME", "/tmp")
                .env("TMPDIR", "/dev/shm")
                .env("LD_PRELOAD", format!("{FOLDER}/shim.so"));
            if let Some(journal) = &boot.journal {
                command.env("POWER_LOG", journal).env("POWER_DISKS", boot.disks.join(":"));
            }
        })?;
        Ok(Self { daemon })
    }

    /// Everything on its console so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.daemon.log.lines().into_iter().map(|line| line.text).collect()
    }

    /// Waits for a line on the console, at most until `deadline`; `None`: it has not come by then, or the kernel has ended.
    #[must_use]
    pub fn wait_until(&self, deadline: Instant, mut fits: impl FnMut(&str) -> bool) -> Option<Line> {
        let mut seen = 0;
        loop {
            // Its last words may still be in the pipe when it is gone.
            let ended = !self.daemon.is_running() && self.daemon.log.has_ended();
            let lines = self.daemon.log.lines();
            for line in &lines[seen..] {
                if fits(&line.text) {
                    return Some(line.clone());
                }
            }
            seen = lines.len();
            if ended || Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has said `what`.
    ///
    /// # Errors
    /// If it does not, with its last words.
    pub fn wait(&self, what: &str) -> Result<()> {
        let line = format!("{SIGN}{what}");
        match self.wait_until(Instant::now() + PATIENCE, |text| text == line) {
            Some(_) => Ok(()),
            None => Err(LabError::Timeout {
                what: format!("the guest says {line:?}"),
                waited: PATIENCE,
                log: format!("{:?}\n{}", self.words(), self.daemon.log.tail()),
            }),
        }
    }

    fn words(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(SIGN)).collect()
    }

    /// Why this kernel cannot run here at all, if it has said so: it tries first whether it may trace processes as it must.
    #[must_use]
    pub fn cannot_run(&self) -> Option<String> {
        self.lines().into_iter().find(|line| {
            let line = line.to_ascii_lowercase();
            line.contains("check") && line.contains("failed") || line.contains("operation not permitted")
        })
    }

    /// Cuts the power: kills kernel, disk thread and processes at once, and comes back when none of them can write any more.
    /// Gives back all that was on the console.
    ///
    /// # Errors
    /// If they do not end.
    pub fn cut(self) -> Result<Vec<String>> {
        let group = Pid::from_raw(self.daemon.pid().cast_signed());
        // They are one process group, the kernel's own.
        match killpg(group, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).doing(|| "kill the guest"),
        }
        self.daemon.wait_end()?;
        eventually(
            "nothing of the guest is left",
            || self.daemon.log.tail(),
            || matches!(killpg(group, None), Err(Errno::ESRCH)).then_some(()),
        )?;
        // The pipe ends with its last writer.
        eventually("its console has been read", String::new, || self.daemon.log.has_ended().then_some(()))?;
        Ok(self.lines())
    }
}
