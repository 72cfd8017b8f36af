//! What only Dovecot knows, asked of its own tools: who is connected, what its settings are; and told: write your pending flags out.
//!
//! Every command has a deadline and is judged by what it leaves on disk or prints, never by its exit code alone.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use std::{fmt, io};

use tokio::process::Command;

use super::site::tool;

/// Longest wait for a tool's answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The same where it has to read all of somebody's mail.
const READING: Duration = Duration::from_secs(120);

/// Exit code of a `doveadm` that did what it was asked to, but for some mailboxes: a file below the mbox root that is no mbox is one.
const DATA: i32 = 65;

/// One Dovecot instance.
#[derive(Clone, Debug)]
pub(super) struct Dovecot {
    config: PathBuf,
}

/// A session that `doveadm who` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) protocol: String,
    pub(super) pid: u32,
}

/// A tool could not be asked.
#[derive(Debug)]
pub(super) struct ToolError {
    tool: &'static str,
    config: PathBuf,
    what: String,
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -c {}: {}", self.tool, self.config.display(), self.what)
    }
}

impl std::error::Error for ToolError {}

impl Dovecot {
    pub(super) fn new(config: &Path) -> Self {
        Self { config: config.to_owned() }
    }

    /// Whether its master process runs. For the agent's start: needs no runtime. A tool that hangs counts as one that runs: its sessions may have decided without us.
    pub(super) fn is_running(&self) -> bool {
        let mut ask = std::process::Command::new("doveconf");
        match tool::run(ask.arg("-c").arg(&self.config).args(["-h", "base_dir"]), tool::DEADLINE) {
            Ok(said) => {
                std::os::unix::net::UnixStream::connect(Path::new(said.stdout.trim()).join("anvil")).is_ok()
            }
            Err(tool::Mute::Late(deadline)) => {
                tracing::error!(
                    "doveconf -c {} gives no answer within {} s; sessions are waited for",
                    self.config.display(),
                    deadline.as_secs()
                );
                true
            }
            Err(tool::Mute::Missing | tool::Mute::Broken(_)) => false,
        }
    }

    /// What the user database of a running Dovecot says of a user's mail; `None`: there is no such user.
    pub(super) fn user_mail(&self, user: &str) -> Result<Option<String>, String> {
        let output = self.run("doveadm", &["user", "-f", "mail", user]).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(said))
    }

    /// `dovecot --version`.
    pub(super) fn version() -> Result<String, String> {
        tool::ask("dovecot", &["--version"]).map(|said| said.trim().to_owned())
    }

    /// Sessions of a user. Without a running Dovecot there are none.
    pub(super) fn who(&self, user: &str) -> Result<Vec<Session>, ToolError> {
        Ok(parse_who(&self.list_sessions(&["who", "-1", user])?, user))
    }

    /// All who have a session.
    pub(super) fn everybody(&self) -> Result<HashSet<String>, ToolError> {
        let text = self.list_sessions(&["who", "-1"])?;
        Ok(text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    fn list_sessions(&self, arguments: &[&str]) -> Result<String, ToolError> {
        let output = self.run("doveadm", arguments)?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            // No anvil: no master process, and so no sessions of this instance.
            if errors.contains("/anvil")
                && (errors.contains("No such file") || errors.contains("Connection refused"))
            {
                return Ok(String::new());
            }
            return Err(self.error("doveadm", format!("who: {}", errors.trim().escape_debug())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Has Dovecot write the flags and UIDs that are in its index only into the user's mboxes; by its own server where it runs, since that has the rights on the spool folder.
    /// Whether it did is for the caller to see from the files.
    ///
    /// What it says of each mailbox goes to `told`.
    pub(super) fn write_out(&self, user: &str, prefix: &str, told: &OwnedFd) -> Result<(), ToolError> {
        let base = self.setting("base_dir")?;
        let server = Path::new(&base).join("doveadm-server");
        let server = server.to_string_lossy();
        let mut arguments = vec!["-f", "tab", "mailbox", "status"];
        if Path::new(server.as_ref()).exists() {
            arguments.extend(["-S", &server]);
        }
        arguments.extend(["-u", user, "messages recent unseen uidnext uidvalidity highestmodseq guid"]);
        let masks = masks(prefix);
        arguments.extend(masks.iter().map(String::as_str));
        self.run_into("doveadm", &arguments, told)
    }

    /// Flags and keywords of every message in a converted user's Maildir, to `told`. Without Dovecot's server, which takes no settings along: where the mail is may be known to the post-login script alone.
    pub(super) fn fetch_flags(
        &self,
        user: &str,
        location: &str,
        prefix: &str,
        told: &OwnedFd,
    ) -> Result<(), ToolError> {
        let location = format!("mail_location={location}");
        let mut arguments = vec!["-o", &location, "-f", "tab", "fetch", "-u", user, "mailbox uid flags"];
        let masks = masks(prefix);
        arguments.push("(");
        for (number, mask) in masks.iter().enumerate() {
            if number > 0 {
                arguments.push("OR");
            }
            arguments.extend(["mailbox", mask]);
        }
        arguments.extend([")", "ALL"]);
        self.run_into("doveadm", &arguments, told)
    }

    /// Where the user's mail is: by the user database where Dovecot runs, else by the setting alone.
    pub(super) fn location(&self, user: &str, home: &Path) -> Result<String, ToolError> {
        let output = self.run("doveadm", &["user", "-f", "mail", user])?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        if !errors.contains("/auth-userdb") {
            return Err(self.error("doveadm", format!("user: {}", errors.trim().escape_debug())));
        }
        let location = self.setting("mail_location")?;
        let (name, domain) = user.split_once('@').unwrap_or((user, ""));
        let home = home.to_string_lossy();
        Ok(location.replace("%u", user).replace("%n", name).replace("%d", domain).replace("%h", &home))
    }

    /// One setting's value.
    pub(super) fn setting(&self, name: &str) -> Result<String, ToolError> {
        let output = self.run("doveconf", &["-h", name])?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// `doveconf -n`: the settings that differ from the defaults.
    pub(super) fn settings(&self) -> Result<String, ToolError> {
        let output = self.run("doveconf", &["-n"])?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(self.error("doveconf", errors.trim().escape_debug().to_string()))
    }

    fn error(&self, tool: &'static str, what: String) -> ToolError {
        ToolError { tool, config: self.config.clone(), what }
    }

    fn run(&self, tool: &'static str, arguments: &[&str]) -> Result<Output, ToolError> {
        self.wait_for(tool, DEADLINE, self.command(tool, arguments).stdout(Stdio::piped()))
    }

    /// The same, for output that is not looked at.
    fn run_into(&self, tool: &'static str, arguments: &[&str], to: &OwnedFd) -> Result<(), ToolError> {
        let to = to.try_clone().map_err(|error| self.error(tool, error.to_string()))?;
        let output = self.wait_for(tool, READING, self.command(tool, arguments).stdout(Stdio::from(to)))?;
        match output.status.code() {
            Some(0 | DATA) => Ok(()),
            _ => {
                let errors = String::from_utf8_lossy(&output.stderr);
                Err(self.error(tool, format!("{}: {}", arguments.join(" "), errors.trim().escape_debug())))
            }
        }
    }

    fn command(&self, tool: &'static str, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool);
        command.arg("-c").arg(&self.config).args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn wait_for(
        &self,
        tool: &'static str,
        deadline: Duration,
        command: &mut Command,
    ) -> Result<Output, ToolError> {
        // The flow runs on blocking threads of the runtime, which may wait.
        let output = tokio::runtime::Handle::current().block_on(async {
            let child = command.kill_on_drop(true).spawn()?;
            Ok(tokio::time::timeout(deadline, child.wait_with_output()).await)
        });
        match output {
            Ok(Ok(Ok(output))) => Ok(output),
            Ok(Ok(Err(error))) => Err(self.error(tool, error.to_string())),
            Ok(Err(_)) => Err(self.error(tool, format!("no answer within {} s", deadline.as_secs()))),
            Err::<_, io::Error>(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.error(tool, "not installed (looked along PATH)".to_owned()))
            }
            Err(error) => Err(self.error(tool, error.to_string())),
        }
    }
}

/// Lines of `doveadm who -1`: `username proto pid ip`, a header first.
fn parse_who(text: &str, user: &str) -> Vec<Session> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, protocol, pid) = (words.next()?, words.next()?, words.next()?);
            (name == user).then_some(Session { protocol: protocol.to_owned(), pid: pid.parse().ok()? })
        })
        .collect()
}

/// What `doveadm` has to be asked for to get all mailboxes of the inbox namespace: `*` finds none that a prefix stands before, the inbox included.
pub(super) fn masks(prefix: &str) -> Vec<String> {
    if prefix.is_empty() { vec!["*".to_owned()] } else { vec!["INBOX".to_owned(), format!("{prefix}*")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lists_sessions_of_this_user_alone() {
        let text =
            "username  proto pid ip\nann  imap  40  127.0.0.1\nann  pop3  41  ::1\nanna imap 42 127.0.0.1\n";
        assert_eq!(
            parse_who(text, "ann"),
            [Session { protocol: "imap".into(), pid: 40 }, Session { protocol: "pop3".into(), pid: 41 }]
        );
        assert_eq!(parse_who("username proto pid ip\n", "ann"), []);
        assert_eq!(parse_who("", "ann"), []);
    }
}
