//! The flow of one conversion, from the record to the set-aside spool, and all that follows it: drain and recovery.
//!
//! The rest of the agent (listener, queue, bus) sees it through [`Mailboxes`] only, and is tested with a simulated twin of it. The flow itself is plain blocking code on
//! the runtime's blocking threads: it is a sequence of system calls whose order is everything, and reads like one.

mod convert;
mod crew;
mod dovecot;
mod drain;
mod file_lease;
mod gate;
mod late;
mod location;
mod mailboxes;
mod map;
mod names;
mod place;
mod postfix;
mod reasons;
mod retention;
mod rollback;
mod sessions;
mod settle;
mod settle_back;
mod site;
mod spool;
mod stage_proof;
mod stages;
mod stray;
mod told;
mod verify;
mod watch;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch as channel;

use crate::account::{Account, MailboxKey, SharedAccount};
use crate::outcome::{Outcome, Progress, Reason, Why};
use crate::records::Record;

pub use mailboxes::Flow;

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The account as it was when the run began; enough for all that follows the commit, whatever has become of the name since.
fn account_of(record: &Record) -> Account {
    Account {
        name: record.user.clone(),
        uid: record.uid,
        gid: record.gid,
        home: record.home.clone(),
        inbox: record.inbox().map(|source| source.path.clone()).unwrap_or_default(),
        folders: Some(record.served.folders.clone()).filter(|root| !root.as_os_str().is_empty()),
        maildir: record.maildir.clone(),
        work: record.work.clone(),
        archive: record.archive.clone(),
    }
}

/// A boxed future, since the trait is used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the agent remembers of a mailbox, answered from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The mbox is the mail.
    Mbox,
    /// The Maildir is the mail, by this run.
    Maildir {
        /// Run id.
        run: String,
    },
    /// A record says `begun` and the disk has not been asked yet; do not answer `ready`, do not convert.
    Unknown,
}

/// What a conversion is started with.
#[derive(Clone)]
pub struct Ask {
    /// On whose behalf; may rise while it runs (promotion): watch it.
    pub why: channel::Receiver<Why>,
    /// Becomes true when the agent stops: before the commit the conversion is abandoned, after it it is finished.
    pub stop: channel::Receiver<bool>,
    /// Called a few times a second at most.
    pub report: Arc<dyn Fn(Progress) + Send + Sync>,
}

/// A rollback that was made: the mboxes are the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// Run id of the conversion that it undid.
    pub run: String,
    /// Messages in the mboxes.
    pub messages: u64,
}

/// What a verification found; messages, but for the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Dovecot's reading of the original, the receipt and the Maildir agree.
    pub same: u64,
    /// Not in the Maildir and not in its list of UIDs: expunged since.
    pub gone: u64,
    /// In the list of UIDs, and there is no file.
    pub lost: u64,
    /// In the Maildir with other bytes or another date.
    pub damaged: u64,
    /// In the original as Dovecot reads it, and not in the receipt, or otherwise there.
    pub unknown: u64,
    /// In the receipt, and Dovecot did not show it.
    pub unseen: u64,
    /// Mailboxes that were checked.
    pub boxes: u64,
    /// Mailboxes whose original is not there any more.
    pub missing: u64,
}

/// A post-login script that waits for its answer, bound to the process of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// What a lease is bound to, told before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// The session opens the Maildir; holds back a rollback.
    Ready,
    /// The session opens the mbox; holds back the commit until its process ends.
    Stay,
}

/// The mailboxes, as the rest of the agent sees them.
pub trait Mailboxes: Send + Sync {
    /// From memory, at once.
    fn standing(&self, key: &MailboxKey) -> Standing;

    /// Bytes of the mbox, as far as known without waiting; for the order of the queue.
    fn size_hint(&self, account: &SharedAccount) -> Option<u64>;

    /// Converts one mailbox. The caller sees to it that one key has one conversion at a time.
    fn convert(&self, account: SharedAccount, ask: Ask) -> BoxFuture<'_, Outcome>;

    /// Gives a converted user mboxes again; the error says why not.
    fn rollback(&self, account: SharedAccount, ask: Ask) -> BoxFuture<'_, Result<RolledBack, Outcome>>;

    /// Has Dovecot read the originals of a converted user again, and compares; the error says why that cannot be done. `stop` as in [`Ask`].
    fn verify(
        &self,
        account: SharedAccount,
        stop: channel::Receiver<bool>,
    ) -> BoxFuture<'_, Result<Checked, Outcome>>;

    /// Registers the session behind a lease request. `session` is the descriptor that came with it: a socket whose peer is the imap or pop3 process.
    ///
    /// # Errors
    /// If the peer cannot be told, has ended, or is not the user's.
    fn lease(&self, account: &SharedAccount, session: OwnedFd) -> io::Result<LeaseId>;

    /// Binds a lease to its answer; to be called before the answer is sent. False: that answer is not allowed now (a `Stay` while the
    /// commit is under way: wait for its outcome, which takes no longer than the locks are held; a `Ready` while there is no Maildir).
    fn bind(&self, lease: LeaseId, answer: Bind) -> bool;

    /// The script went away without an answer: it decides for the mbox by itself, so this binds as `Stay`, whatever is under way.
    fn abandoned(&self, lease: LeaseId);

    /// The user has arrived: mail at the old places of folders is looked for, if the Maildir is the mail.
    fn arrived(&self, key: &MailboxKey);

    /// Brings every `begun` run to its end by what the disk says; called once at start, before [`Standing::Unknown`] can vanish.
    fn recover(&self) -> BoxFuture<'_, ()>;

    /// Looks whether the site's readers and deliverers would follow, where something may have changed since the last look; `anew`: also where nothing has. For those who wait for no
    /// conversion: the log and `status`.
    fn look_at_site(&self, _anew: bool) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// What of the site is in everybody's way, from memory.
    fn site_trouble(&self) -> Option<Reason> {
        None
    }

    /// Called about once a second: drains what came to the old places.
    fn tick(&self) -> BoxFuture<'_, ()>;
}
