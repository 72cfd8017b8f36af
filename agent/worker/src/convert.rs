//! One conversion, order by order: stage, refresh, confirm, commit.
//!
//! Until the one `renameat2` at [`Conversion::commit`] the mbox is the mail and all that this has made is a folder of its own, which every
//! way out removes. After it the Maildir is the mail and nothing here undoes anything any more.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mailready_mailbox::{Progress, Rules, RunId, Source, Stage, SyncHow};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::fsync;

use crate::channel::Channel;
use crate::job::Job;
use crate::look::{self, IndexLocks, Look};
use crate::place::Place;
use crate::wire::{Block, Order, Report, Step};
use crate::{Stop, note, step};

/// A prefix up to this many bytes is hashed again under the locks to tell an append from a rewrite; a longer one is refreshed without locks.
const REHASH_UNDER_LOCK: u64 = 64 << 20;

/// An appended rest up to this many bytes is taken under the locks.
const REST_UNDER_LOCK: u64 = 16 << 20;

/// Looks that a refresh takes before it hands over what it has; the confirmation finds out if that was not enough.
const REFRESH_ROUNDS: usize = 4;

/// What HIGHESTMODSEQ is taken for where there is an index but Dovecot gave no answer: it grows by one a change, so no mailbox has come this far.
const UNASKED_MODSEQ: NonZeroU64 = NonZeroU64::MIN.saturating_add(1 << 40);

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct Conversion<'a> {
    channel: &'a mut Channel,
    run: &'a RunId,
    rules: &'a Rules,
    place: &'a Place,
    source: Source,
    spool: OwnedFd,
    told: Option<u64>,
}

/// A stage and the look it was made by.
struct Staged {
    stage: Stage,
    look: Look,
    /// How often Dovecot's index was found changed.
    index_changes: u64,
}

impl<'a> Conversion<'a> {
    pub(crate) fn new(
        channel: &'a mut Channel,
        job: &Job,
        run: &'a RunId,
        rules: &'a Rules,
        place: &'a Place,
        spool: OwnedFd,
    ) -> Self {
        let source = Source { name: "INBOX".to_owned(), path: job.inbox.clone() };
        Self { channel, run, rules, place, source, spool, told: None }
    }

    pub(crate) fn run(mut self) -> Result<(), Stop> {
        if self.place.maildir_exists()? {
            return Err(Stop::Say(Report::Blocked { block: Block::MaildirExists, detail: 0 }));
        }
        let folders = crate::place::count_folders(self.place)?;
        if folders > 0 {
            return Err(Stop::Say(Report::Blocked { block: Block::TooManyFolders, detail: folders }));
        }
        let uncommitted = self.until_commit();
        if uncommitted.is_err() {
            step(Step::Abort, self.run);
            if let Err(error) = Stage::remove(self.place.work(), self.run) {
                note(&format!("the stage stays behind: {error}"));
            }
        }
        let _locks = uncommitted?;
        self.channel.say(Report::Committed { folders_left: 0 })?;
        let order = self.channel.order();
        if let Some(maildir) = self.place.open_maildir()? {
            crate::drain::deliver_late(self.place, maildir.as_fd())?;
        }
        match order? {
            (Order::Release, _) => self.channel.say(Report::Done),
            _ => Err(Stop::errno(Step::SyncCommit, Errno::EBADMSG)),
        }
    }

    /// Everything up to the commit; the index locks that it returns are still held.
    fn until_commit(&mut self) -> Result<IndexLocks, Stop> {
        let mut staged = self.stage()?;
        self.say_staged(&staged)?;
        let mut locks = None;
        loop {
            match self.channel.order()? {
                (Order::Spool, Some(spool)) => self.spool = spool,
                (Order::Refresh, _) => {
                    locks = None;
                    staged = self.refresh(staged)?;
                    self.say_staged(&staged)?;
                }
                (Order::Confirm, _) => {
                    step(Step::Confirm, self.run);
                    locks = self.confirm(&mut staged)?;
                    let summary = staged.stage.summary();
                    self.channel.say(match locks {
                        Some(_) => Report::Confirmed { messages: summary.messages, length: summary.length },
                        None => Report::Changed,
                    })?;
                }
                (Order::Commit, _) => {
                    let Some(locks) = locks else { return Err(Stop::errno(Step::Commit, Errno::EPROTO)) };
                    self.commit(&mut staged)?;
                    return Ok(locks);
                }
                (Order::Abort, _) => return Err(Stop::Abort),
                _ => return Err(Stop::errno(Step::Stage, Errno::EBADMSG)),
            }
        }
    }

    fn say_staged(&mut self, staged: &Staged) -> Result<(), Stop> {
        let summary = staged.stage.summary();
        let (messages, length) = (summary.messages, summary.length);
        let indexed = staged.look.index.is_there();
        self.channel.say(Report::Staged {
            messages,
            length,
            bytes: length,
            boxes: 1,
            skipped: 0,
            indexed,
            index_changes: staged.index_changes,
        })
    }

    fn stage(&mut self) -> Result<Staged, Stop> {
        Stage::remove(self.place.work(), self.run).map_err(Stop::engine(Step::Stage))?;
        step(Step::Stage, self.run);
        let look = Look::at(&self.spool, self.place)?;
        let mut passing = Passing::new(self.channel);
        let stage = Stage::write(
            self.spool.as_fd(),
            self.place.work(),
            self.run,
            &self.source,
            &mailready_mailbox::Known { not_recent: self.told, ..Default::default() },
            self.rules,
            SyncHow::PerFile,
            &mut |progress| passing.on(progress),
        )
        .map_err(Stop::engine(Step::Stage))?;
        step(Step::Verify, self.run);
        let mut quiet = Passing::new(self.channel);
        mailready_mailbox::verify::verify(stage.folder(), &mut |_| quiet.interrupted())
            .map_err(Stop::engine(Step::Verify))?;
        Ok(Staged { stage, look, index_changes: 0 })
    }

    /// Looks until what was staged is what is there: takes an appended rest, stages anew after a rewrite.
    fn refresh(&mut self, mut staged: Staged) -> Result<Staged, Stop> {
        step(Step::Refresh, self.run);
        for _ in 0..REFRESH_ROUNDS {
            let now = Look::at(&self.spool, self.place)?;
            let index_changes = staged.index_changes + u64::from(now.index != staged.look.index);
            if now.spool == staged.look.spool {
                staged.stage.set_not_recent(self.told).map_err(Stop::engine(Step::Refresh))?;
                return Ok(Staged { look: now, index_changes, ..staged });
            }
            staged = if self.only_grew(&staged, &now, u64::MAX)? {
                let mut passing = Passing::new(self.channel);
                staged
                    .stage
                    .append_rest(self.spool.as_fd(), &mut |progress| passing.on(progress))
                    .map_err(Stop::engine(Step::Refresh))?;
                Staged { look: now, index_changes, ..staged }
            } else {
                drop(staged);
                Staged { index_changes, ..self.stage()? }
            };
        }
        Ok(staged)
    }

    /// Under the locks: is the stage the mailbox, or can it be made so at once?
    fn confirm(&mut self, staged: &mut Staged) -> Result<Option<IndexLocks>, Stop> {
        let Some(locks) = look::lock_index(self.place)? else { return Ok(None) };
        let now = Look::at(&self.spool, self.place)?;
        if now == staged.look {
            return Ok(Some(locks));
        }
        let rest = now.spool.size.saturating_sub(staged.stage.summary().length);
        if now.index != staged.look.index
            || rest > REST_UNDER_LOCK
            || !self.only_grew(staged, &now, REHASH_UNDER_LOCK)?
        {
            return Ok(None);
        }
        let mut quiet = Passing::new(self.channel);
        staged
            .stage
            .append_rest(self.spool.as_fd(), &mut |_| quiet.interrupted())
            .map_err(Stop::engine(Step::Confirm))?;
        staged.look = now;
        // The rest may have been cut short by its own end: only what is really taken counts.
        Ok((staged.stage.summary().length == staged.look.spool.size).then_some(locks))
    }

    /// The file is the one that was staged and its first bytes are still the same; hashes at most `limit` bytes.
    fn only_grew(&mut self, staged: &Staged, now: &Look, limit: u64) -> Result<bool, Stop> {
        let length = staged.stage.summary().length;
        if !now.spool.same_file(&staged.look.spool) || now.spool.size < length || length > limit {
            return Ok(false);
        }
        let mut quiet = Passing::new(self.channel);
        staged
            .stage
            .prefix_holds(self.spool.as_fd(), &mut |_| quiet.interrupted())
            .map_err(Stop::engine(Step::Refresh))
    }

    fn commit(&mut self, staged: &mut Staged) -> Result<(), Stop> {
        step(Step::Seal, self.run);
        let unasked = staged.look.index.is_there().then_some(UNASKED_MODSEQ);
        let stage = &mut staged.stage;
        stage.set_highest_modseq(unasked);
        self.subscriptions(stage)?;
        stage.seal().map_err(Stop::engine(Step::Seal))?;
        fsync(self.place.work()).map_err(Stop::failed(Step::Seal))?;
        step(Step::Commit, self.run);
        let name = Stage::name(self.run);
        renameat2(
            self.place.work(),
            name.as_str(),
            &self.place.parent,
            self.place.maildir.as_c_str(),
            RenameFlags::RENAME_NOREPLACE,
        )
        .map_err(|errno| match errno {
            Errno::EEXIST => Stop::Say(Report::Blocked { block: Block::MaildirExists, detail: 0 }),
            Errno::EXDEV => Stop::Say(Report::Blocked { block: Block::OtherMount, detail: 0 }),
            Errno::EINVAL => Stop::Say(Report::Blocked { block: Block::NoRename, detail: 0 }),
            other => Stop::errno(Step::Commit, other),
        })?;
        step(Step::SyncCommit, self.run);
        // From here on nothing may be undone: if the sync fails the agent asks the disk.
        if let Err(errno) = fsync(&self.place.parent) {
            note(&format!("the Maildir is in place, but its folder could not be synced: {errno}"));
            std::process::exit(1);
        }
        Ok(())
    }

    /// Carries Dovecot's list of subscribed folders over.
    fn subscriptions(&mut self, stage: &Stage) -> Result<(), Stop> {
        let Some(root) = &self.place.folders else { return Ok(()) };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let old = match openat(root, ".subscriptions", flags, Mode::empty()) {
            Ok(old) => old,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Stop::errno(Step::Seal, errno)),
        };
        let mut text = Vec::new();
        let io = |error: std::io::Error| {
            Stop::errno(Step::Seal, Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        };
        std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(old), 1 << 20), &mut text)
            .map_err(io)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let new = openat(stage.folder(), "subscriptions", flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(Stop::failed(Step::Seal))?;
        let mut new = std::fs::File::from(new);
        std::io::Write::write_all(&mut new, &mailready_mailbox::subscriptions::convert(&text, '/'))
            .map_err(io)?;
        new.sync_all().map_err(io)
    }
}

/// Says how far a long pass is, and stops it when the agent has something to say or is gone.
struct Passing<'a> {
    channel: &'a mut Channel,
    last: Instant,
}

impl<'a> Passing<'a> {
    fn new(channel: &'a mut Channel) -> Self {
        Self { channel, last: Instant::now() }
    }

    fn interrupted(&mut self) -> ControlFlow<()> {
        match self.channel.interrupted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn on(&mut self, progress: Progress) -> ControlFlow<()> {
        if self.last.elapsed() >= PROGRESS_EVERY {
            self.last = Instant::now();
            let Progress { messages, bytes, total } = progress;
            if self.channel.say(Report::Progress { messages, bytes, total }).is_err() {
                return ControlFlow::Break(());
            }
        }
        self.interrupted()
    }
}
