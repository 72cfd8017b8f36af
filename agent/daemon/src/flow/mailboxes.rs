//! The real [`Mailboxes`]: what is remembered of every mailbox, and who may work on one now.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mailready_config::{Lock, Reader};
use mailready_worker::job::{self, Job, Locks, Purpose};
use tokio::sync::watch as channel;

use super::dovecot::Dovecot;
use super::late::Late;
use super::names::Names;
use super::retention::Retention;
use super::sessions::Sessions;
use super::site::Site;
use super::spool::LockSet;
use super::stages::{self, Stages};
use super::watch::Watch;
use super::{
    Ask, Bind, BoxFuture, Checked, LeaseId, Mailboxes, RolledBack, Standing, map, reasons, settle,
    settle_back,
};
use crate::account::{MailboxKey, SharedAccount};
use crate::outcome::{Outcome, Reason};
use crate::passed::Passed;
use crate::records::{Layout, Phase, Record, Records, Served};
use crate::settings::Settings;

/// A run that could not be settled is tried again after this, and each time after twice as long.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(10 * 60);

/// When and how often a run was tried to be settled.
#[derive(Clone, Copy)]
struct Tried {
    last: Instant,
    times: u32,
}

impl Tried {
    fn never() -> Self {
        Self { last: Instant::now(), times: 0 }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() > (RETRY * (1 << self.times.min(8))).min(LONGEST_RETRY)
    }
}

#[derive(Default)]
pub(super) struct Memory {
    standings: HashMap<MailboxKey, Standing>,
    /// Runs of which only the disk knows the end, or whose spool is not set aside; and when and how often they were tried.
    unsettled: HashMap<String, Tried>,
    /// Their records, which may not even have been written.
    begun: HashMap<String, Arc<Record>>,
    /// The map could not be written.
    map_is_old: bool,
    pub(super) late: Late,
    pub(super) retention: Retention,
    pub(super) names: Names,
    /// Mailboxes that a thread works on.
    at_work: HashSet<MailboxKey>,
    last_entry: u64,
    grace_until: Option<Instant>,
}

/// Conversions, drains and recovery of all mailboxes.
pub struct Flow {
    settings: channel::Receiver<Arc<Settings>>,
    pub(super) records: Arc<Records>,
    pub(super) sessions: Sessions,
    pub(super) site: Site,
    memory: Mutex<Memory>,
    pub(super) passed: Passed,
    pub(super) stages: Stages,
    pub(super) watch: Mutex<Watch>,
    myself: std::sync::Weak<Flow>,
}

/// One thread's right to work on one mailbox.
pub(super) struct Turn<'a> {
    flow: &'a Flow,
    key: MailboxKey,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.flow.memory().at_work.remove(&self.key);
    }
}

impl Flow {
    /// Whether a Dovecot of the site runs. To be asked before the sockets open: the scripts of a Dovecot that comes later find the agent there.
    #[must_use]
    pub fn is_served(settings: &Settings) -> bool {
        let config = &settings.config;
        let mut dovecots = config.site.dovecot_config.iter().map(|config| Dovecot::new(config));
        config.site.readers.contains(&Reader::Dovecot) && dovecots.any(|dovecot| dovecot.is_running())
    }

    /// Reads what is known of every mailbox from its records. Where Dovecot was running before the sockets opened (`was_served`), a session may have decided for
    /// the mbox without us: nothing is committed until it must have shown up, which is the time that a script may wait.
    ///
    /// # Errors
    /// If inotify cannot be had.
    pub fn open(
        settings: channel::Receiver<Arc<Settings>>,
        records: Arc<Records>,
        was_served: bool,
    ) -> io::Result<Arc<Self>> {
        let grace_until = was_served.then(|| Instant::now() + settings.borrow().config.sessions.budget);
        let mut memory = Memory { grace_until, ..Memory::default() };
        let sessions = Sessions::default();
        for record in records.all() {
            let latest = records.latest(&record.key());
            if latest.is_none_or(|latest| latest.run != record.run) {
                continue;
            }
            let standing = match record.phase {
                Phase::Begun => {
                    memory.unsettled.insert(record.run.clone(), Tried::never());
                    Standing::Unknown
                }
                Phase::RollingBack => {
                    memory.unsettled.insert(record.run.clone(), Tried::never());
                    sessions.close(&record.key());
                    Standing::Unknown
                }
                Phase::Converted => Standing::Maildir { run: record.run.clone() },
                Phase::Undone => Standing::Mbox,
            };
            memory.standings.insert(record.key(), standing);
        }
        let watch = Watch::new()?;
        let known = records.all().iter().map(|record| record.kept.seen).max().unwrap_or(0);
        let passed = Passed::open(&settings.borrow().config.agent.state, known);
        let stages = Stages::open(&settings.borrow().config.agent.state);
        Ok(Arc::new_cyclic(|myself| Self {
            settings,
            records,
            sessions,
            site: Site::default(),
            memory: Mutex::new(memory),
            passed,
            stages,
            watch: Mutex::new(watch),
            myself: myself.clone(),
        }))
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing below leaves it half changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// The mailbox's turn, if nobody has it.
    pub(super) fn turn(&self, key: &MailboxKey) -> Option<Turn<'_>> {
        self.memory().at_work.insert(key.clone()).then(|| Turn { flow: self, key: key.clone() })
    }

    pub(super) fn lock_set(&self, settings: &Settings) -> LockSet {
        let has = |lock| settings.config.mail.locks.contains(&lock);
        LockSet { dotlock: has(Lock::Dotlock), fcntl: has(Lock::Fcntl), flock: has(Lock::Flock) }
    }

    /// What a worker of this run is told: how the mail lies by the record, how it is locked by the settings.
    pub(super) fn job(&self, settings: &Settings, record: &Record, purpose: Purpose) -> Job {
        let LockSet { dotlock, fcntl, flock } = self.lock_set(settings);
        let Served { folders, index, control, layout, prefix, separator, uidl, reuse_xuidl } =
            record.served.clone();
        Job {
            purpose,
            run: record.run.clone(),
            user: record.user.clone(),
            uid: record.uid,
            gid: record.gid,
            home: record.home.clone(),
            maildir: record.maildir.clone(),
            work: record.work.clone(),
            inbox: record.inbox().map(|source| source.path.clone()).unwrap_or_default(),
            folders,
            index,
            control,
            layout: match layout {
                Layout::MaildirPlusPlus => job::Layout::MaildirPlusPlus,
                Layout::Fs => job::Layout::Fs,
            },
            prefix,
            separator,
            locks: Locks { dotlock, fcntl, flock },
            uidl,
            reuse_xuidl,
            timezone: settings.config.mail.timezone.clone().unwrap_or_default(),
            reserve: settings.config.keep.reserve,
        }
    }

    pub(super) fn set_standing(&self, key: MailboxKey, standing: Standing) {
        self.memory().standings.insert(key, standing);
    }

    /// The spool is set aside: map, record, watch. What of it fails is made good at the next start or tick; the mail is where it is.
    pub(super) fn set_converted(&self, settings: &Settings, record: &mut Record) {
        tracing::debug!(step = "map", who = "agent", run = record.run);
        record.phase = Phase::Converted;
        if record.kept.since == 0 {
            record.kept = self.kept_from_now();
        }
        self.write_map(settings, record);
        tracing::debug!(step = "converted", who = "agent", run = record.run);
        if let Err(error) = self.records.put(record) {
            tracing::error!(
                run = record.run,
                "the record cannot be written, this run is settled again: {error}"
            );
            self.set_unsettled(record, true);
        }
        self.set_standing(record.key(), Standing::Maildir { run: record.run.clone() });
        self.stages.forget(&record.key());
        self.watch_places(record);
    }

    /// The mboxes are back: map, standing, and whoever waits for an answer gets one. The record says so already.
    pub(super) fn set_undone(&self, settings: &Settings, record: &Record) {
        self.write_map(settings, record);
        self.set_standing(record.key(), Standing::Mbox);
        self.sessions.reopen(&record.key());
        self.settled(record);
    }

    /// The map as all records make it, with `record` as it is here.
    pub(super) fn write_map(&self, settings: &Settings, record: &Record) {
        let all = self.records.all();
        let others = all.iter().map(AsRef::as_ref).filter(|other| other.run != record.run);
        self.write_map_with(settings, others.chain([record]));
    }

    /// The map as all records make it.
    pub(super) fn write_map_of_all(&self, settings: &Settings) {
        let all = self.records.all();
        self.write_map_with(settings, all.iter().map(AsRef::as_ref));
    }

    /// A map that cannot be written is tried again by the tick.
    fn write_map_with<'a>(&self, settings: &Settings, records: impl Iterator<Item = &'a Record>) {
        let meant = |record: &&Record| !self.memory().names.means_another(record);
        let written = map::write(&settings.config.agent.state, records.filter(meant));
        if let Err(error) = &written {
            tracing::error!(
                "the map for LDA and LMTP cannot be written, mail through them is deferred: {error}"
            );
        }
        self.memory().map_is_old = written.is_err();
    }

    /// Only the disk knows how this run ended, or (`committed`) its spool still stands at its place.
    pub(super) fn set_unsettled(&self, record: &Record, committed: bool) {
        let mut memory = self.memory();
        memory.unsettled.insert(record.run.clone(), Tried::never());
        memory.begun.insert(record.run.clone(), Arc::new(record.clone()));
        if !committed {
            memory.standings.insert(record.key(), Standing::Unknown);
        }
    }

    pub(super) fn settled(&self, record: &Record) {
        let mut memory = self.memory();
        memory.unsettled.remove(&record.run);
        memory.begun.remove(&record.run);
    }

    /// A number for an archive entry that no entry ever had: the work folder remembers positions by it.
    pub(super) fn next_entry(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos());
        let mut memory = self.memory();
        memory.last_entry = u64::try_from(now).unwrap_or(u64::MAX - 1).max(memory.last_entry + 1);
        memory.last_entry
    }

    /// Somebody else who is on Maildir: whoever came last.
    pub(super) fn converted_before(&self, record: &Record) -> Option<Arc<Record>> {
        let converted = |other: &Arc<Record>| {
            other.phase == Phase::Converted
                && other.run != record.run
                && matches!(self.standing(&other.key()), Standing::Maildir { run } if run == other.run)
        };
        self.records.all().into_iter().filter(converted).max_by_key(|other| other.started)
    }

    /// What is left of the time after a start in which nothing is committed.
    pub(super) fn grace_left(&self) -> Option<Duration> {
        let until = self.memory().grace_until?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn watch_places(&self, record: &Record) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let folders =
            record.source.iter().filter_map(|source| source.path.parent()).chain([record.archive.as_path()]);
        for folder in folders {
            if let Err(error) = watch.add(folder) {
                tracing::warn!("cannot watch {}: {error}; it is looked at once a minute", folder.display());
            }
        }
    }

    fn convert_now(&self, account: &SharedAccount, ask: &Ask) -> Outcome {
        let key = account.key();
        let Some(_turn) = self.turn(&key) else {
            return Outcome::Busy(reasons::at_work());
        };
        match self.standing(&key) {
            Standing::Maildir { run } => Outcome::Already { run },
            Standing::Unknown => Outcome::Busy(reasons::unsettled()),
            Standing::Mbox => super::convert::convert(self, &self.settings(), account, ask),
        }
    }

    /// The record of a converted mailbox that nobody else works on.
    fn converted(&self, key: &MailboxKey) -> Result<(Turn<'_>, Arc<Record>), Outcome> {
        let turn = self.turn(key).ok_or_else(|| Outcome::Busy(reasons::at_work()))?;
        match self.records.latest(key).filter(|record| record.phase == Phase::Converted) {
            Some(record) if matches!(self.standing(key), Standing::Maildir { .. }) => Ok((turn, record)),
            _ => Err(Outcome::Busy(reasons::unsettled())),
        }
    }

    fn rollback_now(&self, account: &SharedAccount, ask: &Ask) -> Result<RolledBack, Outcome> {
        let (_turn, record) = self.converted(&account.key())?;
        super::rollback::rollback(self, &self.settings(), &record, ask)
    }

    fn verify_now(
        &self,
        account: &SharedAccount,
        stop: &channel::Receiver<bool>,
    ) -> Result<Checked, Outcome> {
        let (_turn, record) = self.converted(&account.key())?;
        let checked = super::verify::verify(self, &self.settings(), &record, stop)?;
        let Checked { lost, damaged, unknown, unseen, .. } = checked;
        self.note_verified(&record, lost + damaged + unknown + unseen == 0);
        Ok(checked)
    }

    fn recover_now(&self) {
        let settings = self.settings();
        let records = self.records.all();
        for record in records.iter().filter(|record| record.phase == Phase::Converted) {
            self.watch_places(record);
        }
        self.mark_leftovers(&records);
        self.clear_undone(&records);
        let unsettled: Vec<String> = self.memory().unsettled.keys().cloned().collect();
        for run in unsettled {
            self.settle_run(&run);
        }
        self.write_map_of_all(&settings);
    }

    fn settle_run(&self, run: &str) {
        let written = self.records.all().into_iter().find(|record| record.run == run);
        let Some(record) = written.or_else(|| self.memory().begun.get(run).cloned()) else {
            self.memory().unsettled.remove(run);
            return;
        };
        let Some(_turn) = self.turn(&record.key()) else { return };
        if super::crew::is_resting(record.uid) {
            return;
        }
        if record.phase == Phase::RollingBack {
            if let Err(why) = settle_back::settle(self, &self.settings(), &record) {
                tracing::warn!(user = ?record.user, run, "this interrupted rollback is not settled yet: {why}");
                self.try_again(run);
            }
            return;
        }
        if let Outcome::Failed(why) | Outcome::Blocked(why) | Outcome::Busy(why) =
            settle::settle(self, &self.settings(), &record)
            && self.memory().unsettled.contains_key(run)
        {
            tracing::warn!(user = ?record.user, run, "this interrupted run is not settled yet: {why}");
            self.try_again(run);
        }
    }

    fn try_again(&self, run: &str) {
        if let Some(tried) = self.memory().unsettled.get_mut(run) {
            *tried = Tried { last: Instant::now(), times: tried.times + 1 };
        }
    }

    fn tick_now(self: &Arc<Self>) {
        let due: Vec<String> = {
            let memory = self.memory();
            memory.unsettled.iter().filter(|(_, tried)| tried.is_due()).map(|(run, _)| run.clone()).collect()
        };
        for run in due {
            self.settle_run(&run);
        }
        let settings = self.settings();
        if self.memory().map_is_old {
            self.write_map_of_all(&settings);
        }
        self.look_after_late_mail(&settings);
        self.look_after_originals(&settings);
        stages::sweep(self, &settings);
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Self>) -> T + Send + 'static,
    ) -> BoxFuture<'_, Option<T>> {
        let myself = self.myself.upgrade();
        Box::pin(async move {
            let myself = myself?;
            tokio::task::spawn_blocking(move || work(myself)).await.ok()
        })
    }
}

impl Mailboxes for Flow {
    fn standing(&self, key: &MailboxKey) -> Standing {
        self.memory().standings.get(key).cloned().unwrap_or(Standing::Mbox)
    }

    fn size_hint(&self, account: &SharedAccount) -> Option<u64> {
        account.inbox.symlink_metadata().ok().map(|file| file.len())
    }

    fn convert(&self, account: SharedAccount, ask: Ask) -> BoxFuture<'_, Outcome> {
        let work = self.blocking(move |flow| flow.convert_now(&account, &ask));
        Box::pin(async move { work.await.unwrap_or_else(|| Outcome::Failed(reasons::thread_ended())) })
    }

    fn rollback(&self, account: SharedAccount, ask: Ask) -> BoxFuture<'_, Result<RolledBack, Outcome>> {
        let work = self.blocking(move |flow| flow.rollback_now(&account, &ask));
        Box::pin(async move { work.await.unwrap_or_else(|| Err(Outcome::Failed(reasons::thread_ended()))) })
    }

    fn verify(
        &self,
        account: SharedAccount,
        stop: channel::Receiver<bool>,
    ) -> BoxFuture<'_, Result<Checked, Outcome>> {
        let work = self.blocking(move |flow| flow.verify_now(&account, &stop));
        Box::pin(async move { work.await.unwrap_or_else(|| Err(Outcome::Failed(reasons::thread_ended()))) })
    }

    fn lease(&self, account: &SharedAccount, session: OwnedFd) -> io::Result<LeaseId> {
        self.sessions.register(account.key(), account.uid, &session)
    }

    fn bind(&self, lease: LeaseId, answer: Bind) -> bool {
        self.sessions.bind(lease, answer, |key| matches!(self.standing(key), Standing::Maildir { .. }))
    }

    fn abandoned(&self, lease: LeaseId) {
        self.sessions.abandoned(lease);
    }

    fn arrived(&self, key: &MailboxKey) {
        self.mark_arrival(key);
    }

    fn recover(&self) -> BoxFuture<'_, ()> {
        let work = self.blocking(|flow| flow.recover_now());
        Box::pin(async move {
            work.await;
        })
    }

    fn look_at_site(&self, anew: bool) -> BoxFuture<'_, ()> {
        let work = self.blocking(move |flow| {
            if anew {
                flow.site.forget();
            }
            // Logged there, and remembered.
            let _ = flow.site.check(&flow.settings().config);
        });
        Box::pin(async move {
            work.await;
        })
    }

    fn site_trouble(&self) -> Option<Reason> {
        self.site.trouble()
    }

    fn tick(&self) -> BoxFuture<'_, ()> {
        let work = self.blocking(|flow| flow.tick_now());
        Box::pin(async move {
            work.await;
        })
    }
}
