//! One user's mailbox as the agent knows it: who owns it and where its parts lie.

use std::path::PathBuf;
use std::sync::Arc;

/// What a mailbox is on disk. Several names for one mailbox (aliases in the name service, realms, case) make one key, and so one job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxKey {
    /// Owner of the mailbox.
    pub uid: u32,
    /// The spool, as the `mail.inbox` template gives it.
    pub inbox: PathBuf,
}

/// A resolved user: the answer of the name service and the paths that the configuration makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name as the name service spells it.
    pub name: String,
    /// Numeric user id; never 0.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home folder.
    pub home: PathBuf,
    /// The spool (`mail.inbox`).
    pub inbox: PathBuf,
    /// Root of further mboxes (`mail.folders`), if the site has one.
    pub folders: Option<PathBuf>,
    /// Where the Maildir is going to be (`mail.maildir`).
    pub maildir: PathBuf,
    /// The work folder (`mail.work`).
    pub work: PathBuf,
    /// The archive folder for spools (`mail.archive`).
    pub archive: PathBuf,
}

impl Account {
    /// The key under which jobs, leases and records of this mailbox are kept.
    pub fn key(&self) -> MailboxKey {
        MailboxKey { uid: self.uid, inbox: self.inbox.clone() }
    }
}

/// Accounts are shared between queue, flow and waiters.
pub type SharedAccount = Arc<Account>;
