//! New settings while the agent runs: on SIGHUP all of them, and the lists of users whenever their files change, since a hold that somebody
//! writes down is meant to hold now. Settings that are wrong are refused as a whole, and the old ones stay.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mailready_config::Config;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::agent::{Agent, limits};
use crate::settings::{Settings, SettingsError};

/// How often the lists' files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Makes and hands out new settings.
pub struct Reloader {
    agent: Arc<Agent>,
    file: Option<PathBuf>,
    settings: watch::Sender<Arc<Settings>>,
    turn: Mutex<()>,
}

impl Reloader {
    /// For the agent whose settings came from `file` (None: the default) and are handed out by `settings`.
    pub fn new(
        agent: Arc<Agent>,
        file: Option<PathBuf>,
        settings: watch::Sender<Arc<Settings>>,
    ) -> Arc<Self> {
        Arc::new(Self { agent, file, settings, turn: Mutex::new(()) })
    }

    /// Reads everything again. Whether that went well is in the log; the agent goes on either way.
    pub async fn reload(&self) {
        let _turn = self.turn.lock().await;
        let old = self.agent.settings();
        let (file, worker) = (self.file.clone(), old.worker.clone());
        let read = move || Settings::with_worker(Config::load(file.as_deref())?, worker);
        let Some(mut new) = off_thread(read).await else { return };
        for key in new.keep_fixed(&old) {
            warn!(key, "this key has changed and takes effect at the next start of the agent");
        }
        self.apply(new);
        // Whoever reads the configuration again has mended something.
        let agent = Arc::clone(&self.agent);
        let _ = tokio::task::spawn_blocking(move || agent.stops.clear()).await;
        // Beside us: programs that hang must not keep whoever reloads from telling the service manager that we live.
        let agent = Arc::clone(&self.agent);
        tokio::spawn(async move { agent.mailboxes.look_at_site(true).await });
        info!("configuration read again");
    }

    fn apply(&self, new: Settings) {
        let limits = limits(&new);
        self.settings.send_replace(Arc::new(new));
        self.agent.users.forget();
        self.agent.conversions.set_limits(limits);
        self.agent.conversions.end_rests(None);
    }

    /// Follows the lists' files; never comes back.
    pub async fn follow_lists(self: Arc<Self>) {
        let mut seen = stamps(&self.agent.settings().config);
        loop {
            sleep(LOOK).await;
            let settings = self.agent.settings();
            let now = stamps(&settings.config);
            if now == seen {
                continue;
            }
            seen = now;
            let _turn = self.turn.lock().await;
            let (config, worker) = (settings.config.clone(), settings.worker.clone());
            if let Some(new) = off_thread(move || Settings::with_worker(config, worker)).await {
                info!(allow = new.allow.len(), hold = new.hold.len(), "the lists of users have changed");
                self.apply(new);
            }
        }
    }
}

async fn off_thread(
    read: impl FnOnce() -> Result<Settings, SettingsError> + Send + 'static,
) -> Option<Settings> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(settings)) => Some(settings),
        Ok(Err(wrong)) => {
            for line in wrong.to_string().lines() {
                error!("refused, and the old configuration stays: {line}");
            }
            None
        }
        // The runtime is going down.
        Err(_) => None,
    }
}

/// What a file's identity and content are told apart by, without reading it.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamps(config: &Config) -> [Stamp; 2] {
    // Two looks at files below /etc: not worth a thread.
    [stamp(&config.users.allow), stamp(&config.users.hold)]
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime_nsec() ^ found.mtime(),
        found.ctime_nsec() ^ found.ctime(),
    ))
}
