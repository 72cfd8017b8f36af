//! Asking a program of the site, with a deadline.
//!
//! `postconf`, `exim -bP` and `doveconf` look things up (NSS, LDAP, a network disk) and may hang; a hanging tool must neither hang the agent's start nor keep a thread for ever. Needs no
//! runtime. What is printed goes to a file in memory and not through a pipe: a child that the tool leaves behind may hold on to it, and nobody waits for that.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

/// Longest wait for a program's answer.
pub(in crate::flow) const DEADLINE: Duration = Duration::from_secs(10);

/// As much of an answer as is read.
const MOST: u64 = 4 << 20;

/// What a program said and how it ended.
#[derive(Debug)]
pub(in crate::flow) struct Said {
    pub(in crate::flow) ok: bool,
    pub(in crate::flow) stdout: String,
    pub(in crate::flow) stderr: String,
}

/// Why a program said nothing.
#[derive(Debug)]
pub(in crate::flow) enum Mute {
    /// There is no such program.
    Missing,
    /// It did not end in time, and was killed.
    Late(Duration),
    /// It could not be started or waited for.
    Broken(std::io::Error),
}

impl std::fmt::Display for Mute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("is not installed (looked along PATH)"),
            Self::Late(deadline) => write!(f, "gives no answer within {} s", deadline.as_secs()),
            Self::Broken(error) => write!(f, "cannot be run: {error}"),
        }
    }
}

/// Runs a command to its end, or kills it and all that it has started at the deadline.
pub(in crate::flow) fn run(command: &mut Command, deadline: Duration) -> Result<Said, Mute> {
    let file = |name| -> std::io::Result<File> { Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into()) };
    let (mut out, mut err) = (file(c"stdout").map_err(Mute::Broken)?, file(c"stderr").map_err(Mute::Broken)?);
    let clone = |file: &File| file.try_clone().map(Stdio::from).map_err(Mute::Broken);
    let child = command
        .stdin(Stdio::null())
        .stdout(clone(&out)?)
        .stderr(clone(&err)?)
        // Its own group, so that what it has started ends with it.
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Mute::Missing),
        Err(error) => return Err(Mute::Broken(error)),
    };
    let ended = wait(&child, deadline);
    if !matches!(ended, Ok(true)) {
        if let Ok(group) = i32::try_from(child.id()) {
            // Gone already: then there is nothing to end.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = child.kill();
    }
    let status = child.wait().map_err(Mute::Broken)?;
    if !ended.map_err(Mute::Broken)? {
        return Err(Mute::Late(deadline));
    }
    Ok(Said { ok: status.success(), stdout: text(&mut out), stderr: text(&mut err) })
}

fn wait(child: &Child, deadline: Duration) -> std::io::Result<bool> {
    let until = Instant::now() + deadline;
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("no such process number"))?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) if Instant::now() >= until => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // Memory that cannot be read does not exist.
    let _ = file.rewind().and_then(|()| file.take(MOST).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A program's answer, if it ends well.
pub(in crate::flow) fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    let spelt = || format!("{program} {}", arguments.join(" "));
    match run(Command::new(program).args(arguments).current_dir("/"), DEADLINE) {
        Ok(Said { ok: true, stdout, .. }) => Ok(stdout),
        Ok(Said { stderr, .. }) => Err(format!("{} fails: {}", spelt(), last_line(&stderr))),
        Err(mute) => Err(format!("{} {mute}", spelt())),
    }
}

/// The last thing that was said, made harmless.
pub(super) fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    line.trim().chars().take(300).collect::<String>().escape_debug().to_string()
}

/// Where a program is: its own path, or along PATH and where the system's programs are.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin", "/usr/lib/dovecot"];
    let folders = std::env::split_paths(&path).chain(usual.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.exists())
}

/// A small configuration file; `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    let done = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    match done {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 3600 & sleep 3600"]);
        let begun = Instant::now();
        assert!(matches!(run(&mut command, Duration::from_millis(200)), Err(Mute::Late(_))));
        assert!(begun.elapsed() < Duration::from_secs(600));
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 3600 & echo $!; echo oh >&2; exit 3"]);
        let said = run(&mut command, Duration::from_secs(600)).unwrap();
        assert_eq!((said.ok, said.stderr.as_str()), (false, "oh\n"));
        let left = Pid::from_raw(said.stdout.trim().parse().unwrap());
        nix::sys::signal::kill(left, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_missing_program_is_named() {
        assert!(
            ask("/no/such/program", &["-x"]).unwrap_err().contains("/no/such/program -x is not installed")
        );
        assert_eq!(ask("echo", &["a"]), Ok("a\n".into()));
        assert!(ask("sh", &["-c", "echo why >&2; exit 1"]).unwrap_err().ends_with("fails: why"));
    }
}
