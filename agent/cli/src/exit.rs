//! Exit codes, by sysexits(3), and failures: one message and one code, put together in one place.

use std::process::ExitCode;

use mailready_bus::{ConnectError, ConnectErrorKind};
use mailready_config::ConfigError;

use crate::{json, terminal};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for is so.
    Ok = 0,
    /// The command line is wrong.
    Usage = 64,
    /// Mail, or a user's state, does not allow it; somebody has to mend the reason that was given.
    Data = 65,
    /// The file to be read is not there.
    NoInput = 66,
    /// No such user.
    NoUser = 67,
    /// The agent is not running, or does not do this yet.
    Unavailable = 69,
    /// Something in mailready went wrong.
    Software = 70,
    /// The file or folder to be written cannot be made.
    CantCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// It may work later.
    Temporary = 75,
    /// Not allowed.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

/// The exit codes with their meanings, for the manual.
pub const EXITS: &[(Exit, &str)] = &[
    (
        Exit::Ok,
        "Everything asked for is so. Of convert: all the users are on Maildir (with --dry-run: could be). Of rollback: all are on mbox. Of verify: nothing is lost or damaged.",
    ),
    (Exit::Usage, "The command line is wrong."),
    (
        Exit::Data,
        "The mail or the state of a user does not allow it: blocked, held, refused, no mbox. The reason was printed and needs mending. Of verify: something is lost or damaged.",
    ),
    (Exit::NoInput, "The mbox file is not there."),
    (Exit::NoUser, "No such user."),
    (
        Exit::Unavailable,
        "The agent is not running (the message says how to start it), or does not do this yet.",
    ),
    (Exit::Software, "An error within mailready."),
    (Exit::CantCreate, "The Maildir exists already or cannot be made."),
    (Exit::Io, "Reading or writing failed."),
    (Exit::Temporary, "It may work later: sessions are open, a lock is held, the agent is stopping."),
    (Exit::NoPermission, "You may not do this."),
    (Exit::Config, "The configuration is wrong; file and line were printed."),
    (Exit::Interrupted, "Ended by Ctrl-C. What the agent has begun, it finishes."),
];

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not get to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What to tell, perhaps in several lines; written through [`terminal`], so it need not be harmless.
    pub message: String,
}

impl Failure {
    /// Puts one together.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Tells it: to people on stderr, to programs besides as an object on stdout.
    #[must_use]
    pub fn report(&self, json: bool) -> Exit {
        for line in self.message.lines() {
            terminal::complain(&format!("mailready: {line}"));
        }
        if json {
            json::print(&json::Failed {
                version: json::VERSION,
                error: &self.message,
                exit: self.exit as u8,
            });
        }
        self.exit
    }
}

/// What clap says about the command line: help is no error, all else is wrong usage.
pub fn usage(error: &clap::Error) -> ExitCode {
    // clap's own code would be 2. That it cannot be written is not worth a word: there is nowhere to say it.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match error.kind {
            ConnectErrorKind::NotAllowed => Exit::NoPermission,
            _ => Exit::Unavailable,
        };
        let mut message = error.to_string();
        if matches!(error.kind, ConnectErrorKind::NotRunning) {
            message.push_str(
                "\nstart it with `systemctl start mailready-agent`, or without systemd by running `mailready-agent` as root",
            );
        }
        Self::new(exit, message)
    }
}

impl From<mailready_bus::Error> for Failure {
    fn from(error: mailready_bus::Error) -> Self {
        use mailready_bus::Error;
        match error {
            Error::ZBus(e) => Self::new(Exit::Unavailable, format!("the connection to the agent broke: {e}")),
            Error::AccessDenied(text) => Self::new(Exit::NoPermission, text),
            Error::NotSupported(text) => Self::new(Exit::Unavailable, text),
            Error::InvalidArgs(text) => Self::new(Exit::Usage, text),
            Error::NoSuchUser(text) => Self::new(Exit::NoUser, text),
            Error::Busy(text) | Error::Stopping(text) => Self::new(Exit::Temporary, text),
            Error::Failed(text) => Self::new(Exit::Software, text),
        }
    }
}
