//! A throw-away machine: a private Debian in namespaces of its own, made by `tests/lab/machine` over the cached root.
//!
//! It ends, with every process, mount and port in it, when this value is dropped, and just as well when the test process is
//! killed: its first process lives only as long as the pipe to its stdin.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use super::binaries::Binaries;
use super::daemon::{Daemon, SharedChild, lock_child};
use super::error::{Doing, LabError, Result};
use super::namespaces::Namespaces;

/// A machine that is up: file systems mounted, loopback up, no daemon running.
pub struct Machine {
    namespaces: Namespaces,
    life: Mutex<Life>,
}

/// What a machine's life hangs on: its first process reads this pipe, and `unshare` ends after it.
struct Life {
    stdin: Option<ChildStdin>,
    unshare: Child,
    daemons: Vec<SharedChild>,
}

/// A user made by [`Machine::add_user`].
#[derive(Clone, Debug)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Password in clear.
    pub password: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

impl User {
    /// Home folder, as seen inside.
    #[must_use]
    pub fn home(&self) -> String {
        format!("/home/{}", self.name)
    }

    /// Spool, as seen inside.
    #[must_use]
    pub fn spool(&self) -> String {
        format!("/var/mail/{}", self.name)
    }
}

impl Machine {
    /// A machine for a test: the programs under test are installed in it. `None`, said loudly and counted as skipped, where
    /// this environment has no machines.
    ///
    /// # Errors
    /// If there could be one and it does not start, or the programs are stale.
    pub fn for_test() -> Result<Option<Self>> {
        let root = match super::root::available() {
            Ok(root) => root,
            Err(reason) => {
                super::skip(&reason);
                return Ok(None);
            }
        };
        Self::start(&root, &Binaries::find()?).map(Some)
    }

    /// A machine over the tree `root`, with the programs at their places.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(root: &Path, binaries: &Binaries) -> Result<Self> {
        let mut command = Command::new("unshare");
        // A group of its own: Ctrl-C on the terminal is for whoever started the machine, who then ends it in order.
        command
            .process_group(0)
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"])
            .args(["--kill-child=KILL", "--propagation", "private"])
            .arg(super::root::script("machine"))
            .arg(root)
            .arg(root.with_file_name("machine"));
        for (file, place) in binaries.installed() {
            let mut pair = file.into_os_string();
            pair.push("=");
            pair.push(place);
            command.arg(pair);
        }
        let mut unshare =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().doing(|| "start unshare")?;
        let stdin = unshare.stdin.take();
        let stdout = unshare.stdout.take();
        let mut said = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut said).doing(|| "read what the machine says")?;
        }
        let Some(pid) = said.strip_prefix("ready ").and_then(|pid| pid.trim().parse().ok()) else {
            let _ = unshare.kill();
            let _ = unshare.wait();
            return Err(LabError::Setup(format!("the machine did not come up, it said {said:?}")));
        };
        let namespaces = Namespaces::of(pid).doing(|| "enter the machine")?;
        Ok(Self { namespaces, life: Mutex::new(Life { stdin, unshare, daemons: Vec::new() }) })
    }

    /// Ends the machine, and comes back when every process in it is gone. Safe to call from any thread, more than once.
    pub fn end(&self) {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        // Its first process reads EOF and ends, and the kernel kills the others. It is not gone before all of them have been
        // waited for, and those that we started are ours to wait for.
        life.stdin.take();
        for daemon in life.daemons.drain(..) {
            let mut child = lock_child(&daemon);
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = life.unshare.wait();
    }

    /// Runs `work` on a thread inside the machine: paths, ports and children are the machine's.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespaces.run(work).doing(|| "enter the machine")
    }

    /// Starts a program inside and lets it run; its stdout and stderr are kept.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn daemon<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Daemon> {
        self.daemon_with(program, args, |_| {})
    }

    /// As [`Self::daemon`], with a chance to change the command (environment, user, descriptors).
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn daemon_with<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
        change: impl FnOnce(&mut Command),
    ) -> Result<Daemon> {
        let mut command = command(program, args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let child = self.inside(|| command.spawn())?.doing(|| format!("start {program}"))?;
        let daemon = Daemon::new(program, child);
        self.life.lock().unwrap_or_else(PoisonError::into_inner).daemons.push(daemon.share());
        Ok(daemon)
    }

    /// Runs a program inside to its end, with `input` on its stdin, and gives back how it ended and what it said.
    ///
    /// # Errors
    /// If it cannot be started; not if it fails.
    pub fn output<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<Output> {
        let mut command = command(program, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.inside(|| command.spawn())?.doing(|| format!("start {program}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program need not read what it is given; then the pipe breaks and that is its own business.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output().doing(|| format!("wait for {program}"))
    }

    /// Runs a program inside that must succeed; gives back its stdout.
    ///
    /// # Errors
    /// [`LabError::Command`] if it fails.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.output(program, &args, b"")?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        Err(LabError::Command {
            command: format!("{program} {}", args.join(" ")),
            said: format!("{}: {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr)),
        })
    }

    /// Connects to a port of the machine.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect(("127.0.0.1", port))).map_err(std::io::Error::other)?
    }

    /// Writes a file inside, with owner and mode; the folder must be there.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&self, path: &str, content: &[u8], owner: (u32, u32), mode: u32) -> Result<()> {
        self.inside(|| {
            fs::write(path, content)?;
            chown(path, Some(owner.0), Some(owner.1))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })?
        .doing(|| format!("write {path}"))
    }

    /// Reads a file inside.
    ///
    /// # Errors
    /// As the system call.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.inside(|| fs::read(path))?.doing(|| format!("read {path}"))
    }

    /// Whether there is anything at `path`, a dangling link included.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn exists(&self, path: &str) -> Result<bool> {
        self.inside(|| fs::symlink_metadata(path).is_ok())
    }

    /// Makes a user with a home, a real password, and `mbox` as the spool (owner USER:mail, mode 0660, as deliverers do).
    ///
    /// # Errors
    /// If the account cannot be made.
    pub fn add_user(&self, name: &str, password: &str, mbox: &[u8]) -> Result<User> {
        self.run("useradd", ["--create-home", "--shell", "/bin/sh", name])?;
        let set =
            self.output("chpasswd", ["--crypt-method", "SHA256"], format!("{name}:{password}\n").as_bytes())?;
        if !set.status.success() {
            return Err(LabError::Command {
                command: "chpasswd".into(),
                said: String::from_utf8_lossy(&set.stderr).into_owned(),
            });
        }
        let id = |what| -> Result<u32> {
            let text = self.run("id", [what, name])?;
            text.trim()
                .parse()
                .map_err(|_| LabError::Protocol { asked: format!("id {what} {name}"), got: text })
        };
        let user = User { name: name.into(), password: password.into(), uid: id("-u")?, gid: id("-g")? };
        self.write(&user.spool(), mbox, (user.uid, MAIL_GID), 0o660)?;
        Ok(user)
    }
}

/// Debian's group `mail`.
pub const MAIL_GID: u32 = 8;

fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .process_group(0)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The folder `tests` of the checkout.
#[must_use]
pub fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
