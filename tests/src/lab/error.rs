//! What goes wrong in the lab, told so that the line in a test's output is enough to start with.

use std::fmt;
use std::io;
use std::time::Duration;

/// An error of the lab. [`fmt::Debug`] is [`fmt::Display`], because that is what a failing test prints.
pub enum LabError {
    /// A system call or a file of the host.
    Io {
        /// What was being done, with the path.
        doing: String,
        /// Why it did not work.
        source: io::Error,
    },
    /// A program inside the machine ended with a failure.
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended, and what it said.
        said: String,
    },
    /// A server said something else than the protocol or the test allows.
    Protocol {
        /// What was asked.
        asked: String,
        /// What came back.
        got: String,
    },
    /// What was waited for did not happen in time.
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The log of the part in question, its last lines.
        log: String,
    },
    /// The lab itself is not as it must be: stale binaries, a missing root.
    Setup(String),
}

/// A result of the lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Command { command, said } => write!(f, "`{command}` failed: {said}"),
            Self::Protocol { asked, got } => write!(f, "asked {asked}, got {got}"),
            Self::Timeout { what, waited, log } => {
                write!(f, "{what}: not within {} ms; log:\n{log}", waited.as_millis())
            }
            Self::Setup(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Gives an I/O result its words: `fs::read(p).doing(|| format!("read {p}"))`.
pub trait Doing<T> {
    /// # Errors
    /// The same error, with what was being done.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| LabError::Io { doing: what().into(), source: source.into() })
    }
}
