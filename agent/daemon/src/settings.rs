//! What the agent is set to: the configuration, the lists of users it names, and where the worker is. Replaced as a whole by a reload.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use mailready_config::{Config, ConfigError, ListError, UserList};

/// One set of settings; a reload makes another.
#[derive(Debug, Clone)]
pub struct Settings {
    /// mailready.toml.
    pub config: Config,
    /// `users.allow`.
    pub allow: UserList,
    /// `users.hold`.
    pub hold: UserList,
    /// The worker binary: beside the agent's own.
    pub worker: PathBuf,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration is wrong; one line a problem.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A list of users is wrong.
    #[error("{0}")]
    List(#[from] ListError),
    /// Where this program lies cannot be told.
    #[error("the agent's own path: {0}")]
    OwnPath(io::Error),
    /// The worker is missing.
    #[error("{}: the worker belongs beside the agent and is not there: {error}", path.display())]
    Worker {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Settings {
    /// Reads everything: `path`, or the default file.
    ///
    /// # Errors
    /// Anything wrong in any of the files; settings are taken as a whole or not at all.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingsError> {
        Self::with_worker(Config::load(path)?, beside_us("mailready-worker")?)
    }

    /// Reads the lists that `config` names.
    ///
    /// # Errors
    /// A list that cannot be read, or a worker that is not there.
    pub fn with_worker(config: Config, worker: PathBuf) -> Result<Self, SettingsError> {
        if let Err(error) = worker.metadata() {
            return Err(SettingsError::Worker { path: worker, error });
        }
        let allow = UserList::load(&config.users.allow)?;
        let hold = UserList::load(&config.users.hold)?;
        Ok(Self { config, allow, hold, worker })
    }

    /// Makes these settings ones that can follow on `old` in a running agent: what is fixed at the start stays. Returns the names of the
    /// keys that were to change and wait for a restart.
    pub fn keep_fixed(&mut self, old: &Self) -> Vec<&'static str> {
        let (old, new) = (&old.config.agent, &mut self.config.agent);
        let differences = [
            ("agent.socket", old.socket != new.socket),
            ("agent.self_socket", old.self_socket != new.self_socket),
            ("agent.control", old.control != new.control),
            ("agent.bus", old.bus != new.bus),
            ("agent.state", old.state != new.state),
        ];
        *new = mailready_config::Agent { workers: new.workers, ..old.clone() };
        differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

fn beside_us(name: &str) -> Result<PathBuf, SettingsError> {
    let own = env::current_exe().map_err(SettingsError::OwnPath)?;
    Ok(own.with_file_name(name))
}
