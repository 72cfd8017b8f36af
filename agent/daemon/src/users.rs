//! From a name that somebody announced to the account it means.
//!
//! Name services hang, and at boot they can hang on us: look-ups run off the async threads, a few at a time, each with a deadline, and a
//! thread that never comes back costs one of those few for good but nothing else. Users who announce themselves have look-ups of their own, so
//! that they cannot use up those for what root announces. What was found, and that nothing was found, is remembered for some seconds: one login
//! announces itself several times.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mailready_config::{Config, ExpandError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::account::{Account, SharedAccount};

mod cache;
mod name;

use cache::Cache;
pub use name::{Name, NameError};

/// Look-ups at once for what trusted programs announce.
const TRUSTED: usize = 6;
/// Look-ups at once for users who announce themselves.
const SELVES: usize = 3;
/// A name service that takes longer is taken as down.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who caused a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Root's programs, operators.
    Trusted,
    /// Any user.
    Selves,
}

/// An entry of the name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Login name as the service spells it.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home folder.
    pub home: PathBuf,
}

/// Why there is no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name cannot be one; nothing was looked up.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The name service knows no such user.
    #[error("no such user")]
    Unknown,
    /// The account is root's. Root's mail is often the only sign of trouble, and root's files are not for a worker to write.
    #[error("this is root's account")]
    Root,
    /// The configuration's templates give no path for this user.
    #[error("{0}")]
    Paths(String),
    /// The name service failed.
    #[error("the name service failed: {0}")]
    Service(String),
    /// The name service did not answer in time, or too many wait for it.
    #[error("the name service has not answered within {} s", DEADLINE.as_secs())]
    Late,
}

impl From<ExpandError> for UserError {
    fn from(error: ExpandError) -> Self {
        Self::Paths(error.to_string())
    }
}

/// Where entries come from; the name service, or a test's own.
pub type Source = dyn Fn(&str) -> io::Result<Option<Entry>> + Send + Sync;

/// The look-ups.
pub struct Users {
    source: Arc<Source>,
    trusted: Arc<Semaphore>,
    selves: Arc<Semaphore>,
    cache: Mutex<Cache>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

impl Users {
    /// Look-ups in the system's name service.
    pub fn system() -> Self {
        Self::of(Arc::new(from_name_service))
    }

    /// Look-ups in `source`, which may block.
    pub fn of(source: Arc<Source>) -> Self {
        Self {
            source,
            trusted: Arc::new(Semaphore::new(TRUSTED)),
            selves: Arc::new(Semaphore::new(SELVES)),
            cache: Mutex::new(Cache::default()),
        }
    }

    /// The account that an announced name means under `config`.
    ///
    /// # Errors
    /// There is none, or none could be found in time.
    pub async fn resolve(
        &self,
        config: &Config,
        announced: &[u8],
        lane: Lane,
    ) -> Result<SharedAccount, UserError> {
        let name = Name::announced(announced, &config.names)?;
        let entry = self.entry(&name, lane).await?;
        account(config, &entry).map(Arc::new)
    }

    /// Forgets everything, so that the next look-up asks again.
    pub fn forget(&self) {
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Cache::default();
    }

    async fn entry(&self, name: &Name, lane: Lane) -> Result<Arc<Entry>, UserError> {
        let remembered = |now| self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(name, now);
        if let Some(known) = remembered(Instant::now()) {
            return known.ok_or(UserError::Unknown);
        }
        let permits = match lane {
            Lane::Trusted => &self.trusted,
            Lane::Selves => &self.selves,
        };
        let looked_up = timeout(DEADLINE, async {
            // The semaphore is never closed; if it were, nobody would answer, which is what Late says.
            let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| UserError::Late)?;
            // Whoever was in front in the line may have asked for the same name.
            if let Some(known) = remembered(Instant::now()) {
                return Ok(known);
            }
            let (source, wanted) = (Arc::clone(&self.source), name.clone());
            let answer = tokio::task::spawn_blocking(move || {
                // Given back when the look-up really has ended, and not when nobody waits for it any more.
                let _permit = permit;
                source(wanted.as_str())
            });
            let found = answer
                .await
                .map_err(|error| UserError::Service(error.to_string()))?
                .map_err(|error| UserError::Service(error.to_string()))?
                .map(Arc::new);
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(name.clone(), found.clone(), Instant::now());
            Ok(found)
        });
        looked_up.await.unwrap_or(Err(UserError::Late))?.ok_or(UserError::Unknown)
    }
}

/// What the configuration makes of an entry.
fn account(config: &Config, entry: &Entry) -> Result<Account, UserError> {
    if entry.uid == 0 {
        return Err(UserError::Root);
    }
    // The service may spell the name otherwise, and that spelling becomes part of paths.
    let name = Name::new(entry.name.as_bytes())?;
    let path = |template: &mailready_config::Template| template.expand(name.as_str(), &entry.home);
    Ok(Account {
        inbox: path(&config.mail.inbox)?,
        folders: config.mail.folders.as_ref().map(path).transpose()?,
        maildir: path(&config.mail.maildir)?,
        work: path(&config.mail.work)?,
        archive: config.mail.archive.clone(),
        home: entry.home.clone(),
        uid: entry.uid,
        gid: entry.gid,
        name: entry.name.clone(),
    })
}

fn from_name_service(name: &str) -> io::Result<Option<Entry>> {
    let found = nix::unistd::User::from_name(name)?;
    Ok(found.map(|user| Entry {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
    }))
}

#[cfg(test)]
mod tests;
