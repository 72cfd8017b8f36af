//! Why the agent does not run, and the exit code for it (sysexits.h).

use std::io;
use std::path::PathBuf;

use crate::holds::HoldError;
use crate::listener::BindError;
use crate::records::RecordError;
use crate::settings::SettingsError;
use crate::state::StateError;

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration, or a list it names, is wrong.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// Not started by root.
    #[error("the agent has to run as root: it becomes each user in turn to convert that user's mail")]
    NotRoot,
    /// The state folder cannot be used.
    #[error("{0}")]
    State(#[from] StateError),
    /// The records cannot be read.
    #[error("{0}")]
    Records(#[from] RecordError),
    /// The holds cannot be read.
    #[error("{0}")]
    Holds(#[from] HoldError),
    /// A socket cannot be had.
    #[error("{0}")]
    Socket(#[from] BindError),
    /// A socket broke while the agent was running.
    #[error("{}: {error}", path.display())]
    SocketBroke {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system refuses something that every program needs.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Settings(SettingsError::Config(_) | SettingsError::List(_)) => 78,
            Self::Settings(SettingsError::OwnPath(_)) | Self::System { .. } | Self::SocketBroke { .. } => 71,
            Self::Settings(SettingsError::Worker { .. }) => 72,
            Self::NotRoot => 77,
            // Another agent is running: the same command may succeed later.
            Self::State(StateError::InUse(_)) | Self::Socket(BindError::InUse(_)) => 75,
            Self::State(_) | Self::Socket(_) => 73,
            Self::Records(_) | Self::Holds(_) => 74,
        }
    }
}
