//! A mail server with people on it who mean harm. No Dovecot: nothing here is about what it shows.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mailready_tests::lab::{Daemon, Doing, LabError, Machine, Result, User, event, eventually, mail};
use mailready_tests::stops::{Control, Order};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;

/// Nobody is converted by arriving unless a test says so, and no commit waits for sessions.
pub const CONFIG: &str = r#"
[users]
convert = "none"
[agent]
bus = "none"
[site]
readers = []
[sessions]
probe = "none"
"#;

const STOP_AT: &str = "/usr/lib/mailready-lab/stop-at";
const TICKETS: &str = "/run/stops/agent";
const AGENT: &str = "/usr/sbin/mailready-agent";
const CONTROL_SOCKET: &str = "/run/mailready/control.sock";
pub const ARCHIVE: &str = "/var/mail/.mailready";

/// The server.
pub struct Site {
    pub machine: Machine,
}

/// A file's owner, kind and mode, links, inode and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub uid: u32,
    pub mode: u32,
    pub links: u64,
    pub inode: u64,
    pub content: Vec<u8>,
}

impl Look {
    /// As it is at a path, links not followed.
    pub fn at(path: &str) -> std::io::Result<Self> {
        let stat = fs::symlink_metadata(path)?;
        let content = match (stat.is_file(), stat.is_symlink()) {
            (true, _) => fs::read(path)?,
            (_, true) => fs::read_link(path)?.into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        Ok(Self { uid: stat.uid(), mode: stat.mode(), links: stat.nlink(), inode: stat.ino(), content })
    }
}

impl Site {
    /// A server without users and without an agent; `None` (said loudly) where there are no machines.
    pub fn new() -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        Ok(Some(Self { machine }))
    }

    /// The same for tests that need a tracer.
    pub fn traced() -> Result<Option<Self>> {
        if let Some(why) = mailready_tests::stops::missing() {
            mailready_tests::lab::skip(why);
            return Ok(None);
        }
        let Some(site) = Self::new()? else { return Ok(None) };
        site.machine.run("mkdir", ["-p", "/usr/lib/mailready-lab"])?;
        let program = env!("CARGO_BIN_EXE_stop-at");
        let content = fs::read(program).doing(|| format!("read {program}"))?;
        site.machine.write(STOP_AT, &content, (0, 0), 0o755)?;
        Ok(Some(site))
    }

    /// A user with some mail.
    pub fn user(&self, name: &str) -> Result<User> {
        self.machine.add_user(name, "correct-horse", &mail::mbox(u64::from(name.len() as u32), 5))
    }

    /// Somebody who may write to the spool folder.
    pub fn member_of_group_mail(&self, name: &str) -> Result<User> {
        let user = self.user(name)?;
        self.machine.run("usermod", ["-a", "-G", "mail", name])?;
        Ok(user)
    }

    /// Does something inside with a user's rights, group mail among them if `in_group_mail`.
    pub fn as_user<T: Send>(
        &self,
        user: &User,
        in_group_mail: bool,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        let (uid, gid) = (user.uid, user.gid);
        self.machine.inside(move || {
            become_user(uid, gid, in_group_mail);
            work()
        })
    }

    /// Starts the agent under the tracer, which minds the calls of `programs`; comes back when it serves.
    pub fn start_stopping(&self, order: &Order, programs: &[&str]) -> Result<Daemon> {
        self.control()?.arm(order)?;
        let mut args = vec!["--control", TICKETS, "--changing"];
        for program in programs {
            args.extend(["--only", program]);
        }
        args.extend(["--", AGENT]);
        self.start(STOP_AT, &args, CONFIG)
    }

    /// Starts the agent as it is.
    pub fn start_with(&self, config: &str) -> Result<Daemon> {
        self.start(AGENT, &[], config)
    }

    fn start(&self, program: &str, args: &[&str], config: &str) -> Result<Daemon> {
        self.machine.run("mkdir", ["-p", "/etc/mailready"])?;
        self.machine.write("/etc/mailready/mailready.toml", config.as_bytes(), (0, 0), 0o644)?;
        self.machine.run("groupadd", ["--force", "--system", "mailready"])?;
        let agent = self.machine.daemon_with(program, args, |command| {
            command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
        })?;
        let log = agent.log.clone();
        eventually(
            "the agent serves",
            || log.tail(),
            || {
                let serves = || self.machine.inside(|| UnixStream::connect(CONTROL_SOCKET).is_ok());
                (serves().unwrap_or(false) || !agent.is_running()).then_some(())
            },
        )?;
        Ok(agent)
    }

    /// The tickets of the agent.
    pub fn control(&self) -> Result<Control<'_>> {
        Control::new(&self.machine, TICKETS)
    }

    /// Asks for a conversion; gives exit code and everything said.
    pub fn convert(&self, user: &str) -> Result<(i32, String)> {
        self.mailready(&["convert", user])
    }

    /// Runs the command-line program as root.
    pub fn mailready(&self, args: &[&str]) -> Result<(i32, String)> {
        let output = self.machine.output("/usr/bin/mailready", args, b"")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }

    /// What stands at a path.
    pub fn look(&self, path: &str) -> Result<Option<Look>> {
        self.machine
            .inside(|| match Look::at(path) {
                Ok(look) => Ok(Some(look)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            })?
            .doing(|| format!("look at {path}"))
    }

    /// The bodies of all messages in a user's Maildir, its folders not.
    pub fn maildir(&self, user: &User) -> Result<Vec<Vec<u8>>> {
        self.machine.inside(|| {
            let mut messages = Vec::new();
            for part in ["cur", "new"] {
                let folder = PathBuf::from(user.home()).join("Maildir").join(part);
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    messages.push(fs::read(entry.path()).unwrap());
                }
            }
            messages
        })
    }

    /// Names and looks of everything in the archive folder.
    pub fn archive(&self) -> Result<Vec<(String, Look)>> {
        self.machine.inside(|| {
            let mut entries: Vec<_> = fs::read_dir(ARCHIVE)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| {
                    let path = entry.path();
                    (
                        entry.file_name().to_string_lossy().into_owned(),
                        Look::at(&path.to_string_lossy()).unwrap(),
                    )
                })
                .collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries
        })
    }

    /// A deliverer that knows nothing of mailready appends a message to whatever stands at the path.
    pub fn deliver(&self, user: &User, subject: &str) -> Result<()> {
        let spool = user.spool();
        self.machine
            .inside(|| {
                let mut file =
                    fs::OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(&spool)?;
                file.write_all(letter(subject).as_bytes())
            })?
            .doing(|| format!("append to {spool}"))
    }

    /// Waits for a message in the user's Maildir, which must be there once.
    pub fn wait_for(&self, agent: &Daemon, user: &User, subject: &str) -> Result<()> {
        let wanted = format!("Subject: {subject}\n");
        let count = || -> Result<usize> {
            let messages = self.maildir(user)?;
            Ok(messages.iter().filter(|message| contains(message, wanted.as_bytes())).count())
        };
        eventually(
            format!("{subject:?} comes to {}'s Maildir", user.name),
            || agent.log.tail(),
            || count().map_or_else(|error| Some(Err(error)), |count| (count > 0).then_some(Ok(()))),
        )??;
        assert_eq!(count()?, 1, "{subject}: once");
        Ok(())
    }

    /// Everything that is said in the log so far that holds this text.
    pub fn said(agent: &Daemon, text: &str) -> bool {
        agent.log.lines().iter().any(|line| line.text.contains(text))
    }
}

/// A message in an mbox.
pub fn letter(subject: &str) -> String {
    format!(
        "From eve@example.org  Wed Feb  4 04:05:06 2009\nFrom: eve@example.org\nSubject: {subject}\n\n{subject}\n\n"
    )
}

pub fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// Two names change places, as a member of group mail can have them.
pub fn swap(one: &str, other: &str) {
    renameat2(AT_FDCWD, Path::new(one), AT_FDCWD, Path::new(other), RenameFlags::RENAME_EXCHANGE).unwrap();
}

/// Steps of agent and workers since the log's line `from`.
#[expect(dead_code, reason = "for tests to come")]
pub fn steps(agent: &Daemon, from: usize) -> Vec<String> {
    let lines = agent.log.lines();
    lines[from..]
        .iter()
        .filter_map(|line| event(line.at, &line.text)?.get("step").map(str::to_owned))
        .collect()
}

/// What a test cannot go on with.
pub fn setup(what: impl Into<String>) -> LabError {
    LabError::Setup(what.into())
}

#[expect(unsafe_code, reason = "the C library's functions would change all threads")]
fn become_user(uid: u32, gid: u32, in_group_mail: bool) {
    let groups = [gid, mailready_tests::lab::MAIL_GID];
    let count: libc::c_long = if in_group_mail { 2 } else { 1 };
    let (uid, gid) = (libc::c_long::from(uid), libc::c_long::from(gid));
    // SAFETY: plain system calls with integers and a list that lives as long as the call. In Linux credentials belong to the thread, and this one ends with what it does.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, count, groups.as_ptr()),
            libc::syscall(libc::SYS_setresgid, gid, gid, gid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
}
