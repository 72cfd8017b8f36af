//! The stage of all mailboxes, and what it was made from: every mbox, its index, and the list of folders itself.
//!
//! Nothing is locked here, so anything may change at any time. Each mailbox is looked at before it is read; whatever a later look finds
//! different is read again, as little of it as will do, until a round changes nothing. Folders that come and go are followed in the same way.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mailready_mailbox::layout::INBOX;
use mailready_mailbox::{Known, Source, Stage, SyncHow, Tree, Uidl, verify};
use nix::errno::Errno;

use crate::folders::{self, Folder, Found};
use crate::judge;
use crate::look::{self, IndexLook, Look, Seen};
use crate::passing::Passing;
use crate::room::{self, Need};
use crate::told::{Told, ToldBox};
use crate::wire::{Block, Report, Step};
use crate::{Stop, Task, note, step};

/// Rounds that a refresh takes before it hands over what it has; the confirmation finds out if that was not enough.
const ROUNDS: usize = 4;

/// A walk that took longer is not taken again under the locks.
const WALK_UNDER_LOCK: Duration = Duration::from_millis(500);

/// A Maildir has letters for this many keywords.
pub(crate) const LETTERS: usize = 26;

/// One mailbox of the stage.
pub(crate) struct Mailbox {
    /// `None`: the inbox.
    pub(crate) folder: Option<Folder>,
    /// What it was staged from; `None`: it is not staged yet.
    pub(crate) look: Option<Look>,
    /// What Dovecot told when it was staged: told something else, it is staged again, once.
    told: ToldBox,
}

impl Mailbox {
    pub(crate) fn name(&self) -> &str {
        self.folder.as_ref().map_or(INBOX, |folder| &folder.name)
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.folder.as_ref().map(|folder| folder.path.as_path())
    }
}

pub(crate) struct Staging<'a> {
    pub(crate) task: Task<'a>,
    pub(crate) spool: OwnedFd,
    pub(crate) told: Told,
    pub(crate) tree: Tree,
    /// By position; the inbox first.
    pub(crate) boxes: Vec<Mailbox>,
    bare: Vec<String>,
    pub(crate) empties: Vec<Folder>,
    skipped: u64,
    /// How often an index was found changed.
    index_changes: u64,
    /// How long the last walk took.
    walked: Duration,
}

impl<'a> Staging<'a> {
    /// Makes the stage, and reads it back.
    pub(crate) fn make(
        task: Task<'a>,
        channel: &mut crate::channel::Channel,
        spool: OwnedFd,
        told: Told,
    ) -> Result<Self, Stop> {
        let work = task.place.work();
        Tree::remove(work, task.run).map_err(Stop::engine(Step::Stage))?;
        step(Step::Stage, task.run);
        let tree = Tree::create(work, task.run, task.job.layout, SyncHow::PerFile)
            .map_err(Stop::engine(Step::Stage))?;
        tree.take_from_kept().map_err(Stop::engine(Step::Stage))?;
        let inbox = Mailbox { folder: None, look: None, told: ToldBox::default() };
        let mut staging = Self {
            task,
            spool,
            told,
            tree,
            boxes: vec![inbox],
            bare: Vec::new(),
            empties: Vec::new(),
            skipped: 0,
            index_changes: 0,
            walked: Duration::ZERO,
        };
        staging.follow_folders()?;
        let size = staging.size()?;
        room::check(task, work, staging.need(size))?;
        let mut passing = Passing::new(channel, size).minding_room(task);
        for position in 0..staging.boxes.len() {
            staging.write(position, &mut passing)?;
        }
        step(Step::Verify, task.run);
        let mut quiet = Passing::quiet(channel);
        staging.tree.verify(&mut |progress| quiet.on(progress)).map_err(Stop::engine(Step::Verify))?;
        // All that was of use is in this stage now.
        Tree::remove_kept(work).map_err(Stop::engine(Step::Verify))?;
        staging.mind_room()?;
        Ok(staging)
    }

    /// Looks until what was staged is what is there.
    pub(crate) fn refresh(&mut self, channel: &mut crate::channel::Channel) -> Result<(), Stop> {
        step(Step::Refresh, self.task.run);
        for _ in 0..ROUNDS {
            self.mind_room()?;
            let mut changed = self.follow_folders()?;
            for position in 0..self.boxes.len() {
                changed |= self.update(position, channel)?;
            }
            if !changed {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn report(&self) -> Report {
        let mut report = (0, 0, 0);
        for (position, stage) in self.tree.boxes() {
            let summary = stage.summary();
            report.0 += summary.messages;
            report.1 += summary.length;
            if position == 0 {
                report.2 = summary.length;
            }
        }
        let (messages, bytes, length) = report;
        let indexed = self.boxes.iter().any(|each| each.look.is_some_and(|look| look.index.is_there()));
        let (boxes, skipped, index_changes) = (self.boxes.len() as u64, self.skipped, self.index_changes);
        Report::Staged { messages, length, bytes, boxes, skipped, indexed, index_changes }
    }

    /// The stage of a mailbox that was staged.
    pub(crate) fn stage(&mut self, position: usize) -> Result<&mut Stage, Stop> {
        self.tree.get_mut(position).ok_or_else(|| Stop::errno(Step::Stage, Errno::ENOENT))
    }

    /// What the folders are now.
    fn walk(&self) -> Result<Found, Stop> {
        let known = self.boxes.iter().filter_map(|each| Some(each.look?.mbox.identity())).collect();
        judge::walk(self.task, Some(&self.spool), known, false)
    }

    /// Whether the folders are still those that are staged, asked under the locks. A home full of other things takes too long to go through while deliverers wait: a folder that was made there since the last look
    /// is then found later, as one that came after the conversion.
    pub(crate) fn still_has_all(&self) -> Result<bool, Stop> {
        Ok(self.walked > WALK_UNDER_LOCK || self.has_all(&self.walk()?))
    }

    /// Whether the folders are those that are staged.
    fn has_all(&self, found: &Found) -> bool {
        let staged = self.boxes.iter().filter_map(|each| each.folder.as_ref());
        staged.eq(&found.folders) && self.bare == found.bare
    }

    /// Makes the list of mailboxes what the folders are now: those that are gone leave the stage, new ones wait to be written. Tells whether there was a change.
    fn follow_folders(&mut self) -> Result<bool, Stop> {
        let begun = Instant::now();
        let found = self.walk()?;
        self.walked = begun.elapsed();
        judge::judge(self.task, &found)?;
        self.skipped = found.skipped;
        self.empties.clone_from(&found.empties);
        if self.has_all(&found) {
            return Ok(false);
        }
        let here: HashSet<&Folder> = found.folders.iter().collect();
        for (position, mailbox) in self.boxes.iter().enumerate() {
            if mailbox.folder.as_ref().is_some_and(|folder| !here.contains(folder)) {
                self.tree.remove_box(position).map_err(Stop::engine_at(Step::Refresh, position))?;
            }
        }
        let mut before: std::collections::HashMap<Option<Folder>, Mailbox> =
            self.boxes.drain(..).map(|mailbox| (mailbox.folder.clone(), mailbox)).collect();
        let all = std::iter::once(None).chain(found.folders.into_iter().map(Some));
        self.boxes = all
            .map(|folder| match before.remove(&folder) {
                Some(mailbox) => mailbox,
                None => Mailbox { folder, look: None, told: ToldBox::default() },
            })
            .collect();
        let positions: std::collections::HashMap<&str, usize> =
            self.boxes.iter().enumerate().map(|(position, mailbox)| (mailbox.name(), position)).collect();
        self.tree.renumber(|source| positions.get(source.name.as_str()).copied());
        self.follow_bare(found.bare)?;
        Ok(true)
    }

    /// Directories without folders, where the layout can keep them. One that is gone stays in the stage: an empty directory less in the end than was once seen.
    fn follow_bare(&mut self, bare: Vec<String>) -> Result<(), Stop> {
        for name in &bare {
            let path = self.task.job.folders.join(folders::path_of(name));
            let source = Source { name: name.clone(), path };
            self.tree.directory(&source).map_err(Stop::engine_at(Step::Stage, 0))?;
        }
        self.bare = bare;
        Ok(())
    }

    /// What the stage is going to take, of mboxes of so many bytes in all: a file a message where Dovecot told how many there are, and a few files a mailbox.
    fn need(&self, size: u64) -> Need {
        /// Folders, lists, receipt, copies of the index.
        const FILES_A_BOX: u64 = 12;
        /// Half a block, and a line each in uidlist and receipt.
        const BYTES_A_MESSAGE: u64 = 2048 + 400;
        let told = self.boxes.iter().filter_map(|mailbox| self.told.of(mailbox.name()).messages);
        let messages = told.fold(0, |sum: u64, messages| sum.saturating_add(messages));
        Need {
            bytes: size.saturating_add(messages.saturating_mul(BYTES_A_MESSAGE)),
            files: messages.saturating_add(FILES_A_BOX * self.boxes.len() as u64),
        }
    }

    /// Gives the stage up when others need its room.
    fn mind_room(&self) -> Result<(), Stop> {
        room::check(self.task, self.task.place.work(), Need::default())
    }

    /// Bytes of all mboxes, for the progress.
    fn size(&self) -> Result<u64, Stop> {
        let mut size = 0;
        for mailbox in &self.boxes {
            size += match &mailbox.folder {
                None => Seen::at(&self.spool).map_err(Stop::failed(Step::Stage))?.size,
                Some(folder) => self.open(folder)?.map_or(Ok(0), |mbox| {
                    Seen::at(&mbox).map(|seen| seen.size).map_err(Stop::failed(Step::Stage))
                })?,
            };
        }
        Ok(size)
    }

    fn open(&self, folder: &Folder) -> Result<Option<OwnedFd>, Stop> {
        let Some(root) = self.task.place.mail() else { return Ok(None) };
        folders::open(root, folder).map_err(Stop::failed(Step::Stage))
    }

    /// The mbox of a mailbox; `None`: it is gone.
    pub(crate) fn open_mbox(&self, position: usize) -> Result<Option<OwnedFd>, Stop> {
        match self.boxes.get(position).and_then(|mailbox| mailbox.folder.as_ref()) {
            Some(folder) => self.open(folder),
            None => {
                let spool = self.spool.try_clone();
                spool.map(Some).map_err(|error| Stop::errno(Step::Stage, crate::file::errno_of(&error)))
            }
        }
    }

    pub(crate) fn index_folder(&self, position: usize) -> Result<Option<OwnedFd>, Stop> {
        look::index_folder(self.task.place.index(), self.boxes[position].path())
            .map_err(Stop::failed(Step::Refresh))
    }

    fn look(&self, mbox: BorrowedFd<'_>, index: Option<&OwnedFd>) -> Result<Look, Stop> {
        let look = || Ok(Look { mbox: Seen::at(mbox)?, index: IndexLook::at(index.map(AsFd::as_fd))? });
        look().map_err(Stop::failed(Step::Refresh))
    }

    /// Stages one mailbox, whatever was there of it.
    fn write(&mut self, position: usize, passing: &mut Passing<'_>) -> Result<(), Stop> {
        let opened = match &self.boxes[position].folder {
            None => None,
            Some(folder) => match self.open(folder)? {
                Some(mbox) => Some(mbox),
                // Gone since the walk: the next one sees it, too.
                None => return Ok(()),
            },
        };
        let index = self.index_folder(position)?;
        let mbox = opened.as_ref().map_or(self.spool.as_fd(), AsFd::as_fd);
        let look = self.look(mbox, index.as_ref())?;
        let mailbox = &self.boxes[position];
        let told = self.told.of(mailbox.name());
        let path = mailbox
            .path()
            .map_or_else(|| self.task.job.inbox.clone(), |path| self.task.job.folders.join(path));
        let source = Source { name: mailbox.name().to_owned(), path };
        let known = self.known(position, &told, look.index.is_there());
        self.tree
            .write_box(position, mbox, &source, &known, self.task.rules, &mut |progress| passing.on(progress))
            .map_err(|error| passing.or(unless_at_work(mbox, &look.mbox, position, error, Step::Stage)))?;
        if let Some(index) = &index {
            self.tree.carry_index(position, index.as_fd()).map_err(Stop::engine_at(Step::Stage, position))?;
        }
        let summary = self.stage(position)?.summary();
        passing.add(summary.messages, summary.length);
        (self.boxes[position].look, self.boxes[position].told) = (Some(look), told);
        Ok(())
    }

    fn known(&self, position: usize, told: &ToldBox, index: bool) -> Known {
        let job = self.task.job;
        Known {
            uid_validity: told.uid_validity,
            uid_next: told.uid_next,
            not_recent: told.not_recent(),
            index,
            mailbox_guid: told.guid,
            uidl: (position == 0).then(|| Uidl::parse(&job.uidl, job.reuse_xuidl)).flatten(),
            ..Known::default()
        }
    }

    /// Brings one mailbox up to date; tells whether there was anything to do.
    fn update(&mut self, position: usize, channel: &mut crate::channel::Channel) -> Result<bool, Stop> {
        let opened = match &self.boxes[position].folder {
            None => None,
            Some(folder) => match self.open(folder)? {
                Some(mbox) => Some(mbox),
                None => return Ok(true),
            },
        };
        let index = self.index_folder(position)?;
        let mbox = opened.as_ref().map_or(self.spool.as_fd(), AsFd::as_fd);
        let now = self.look(mbox, index.as_ref())?;
        let Some(before) = self.boxes[position].look else { return self.rewrite(position, channel) };
        let index_changed = now.index != before.index;
        self.index_changes += u64::from(index_changed);
        let told = self.told.of(self.boxes[position].name());
        if now.mbox != before.mbox {
            let grown = self.only_grew(position, mbox, &now.mbox, u64::MAX, channel)?;
            if !grown {
                return self.rewrite(position, channel);
            }
            let mut passing = Passing::quiet(channel);
            self.tree
                .get_mut(position)
                .map_or(Ok(()), |stage| stage.append_rest(mbox, &mut |progress| passing.on(progress)))
                .map_err(|error| unless_at_work(mbox, &now.mbox, position, error, Step::Refresh))?;
        }
        if index_changed {
            // Whether keywords beyond the letters are kept hangs on the index being there.
            let many = self.stage(position)?.keywords() > LETTERS;
            if many && now.index.is_there() != before.index.is_there() {
                return self.rewrite(position, channel);
            }
            match &index {
                Some(index) => self.tree.carry_index(position, index.as_fd()).map(drop),
                None => self.tree.drop_index(position),
            }
            .map_err(Stop::engine_at(Step::Refresh, position))?;
        }
        self.boxes[position].look = Some(now);
        if told != self.boxes[position].told && self.told.is_given() {
            let stage = self.stage(position)?;
            let agrees = told.agrees_with(stage.summary());
            if !agrees || (told.guid.is_some() && told.guid != self.boxes[position].told.guid) {
                // Dovecot knows a number that the file does not say, or has written since: with that, all of it again.
                return self.rewrite(position, channel);
            }
            self.stage(position)?
                .set_not_recent(told.not_recent())
                .map_err(Stop::engine_at(Step::Refresh, position))?;
            self.boxes[position].told = told;
        }
        let told = self.boxes[position].told.clone();
        if told.is_exactly(self.stage(position)?.summary()) {
            self.tree.complete_index(position).map_err(Stop::engine_at(Step::Refresh, position))?;
        }
        Ok(now != before)
    }

    fn rewrite(&mut self, position: usize, channel: &mut crate::channel::Channel) -> Result<bool, Stop> {
        let mut passing = Passing::new(channel, 0).minding_room(self.task);
        self.write(position, &mut passing)?;
        step(Step::Verify, self.task.run);
        let Some(stage) = self.tree.get(position) else { return Ok(true) };
        let folder = stage.folder().map_err(Stop::engine_at(Step::Verify, position))?;
        let mut quiet = Passing::quiet(channel);
        verify::verify(folder.as_fd(), &mut |progress| quiet.on(progress))
            .map_err(Stop::engine_at(Step::Verify, position))?;
        Ok(true)
    }

    /// The file is the one that was staged and its first bytes are still the same; hashes at most `limit` bytes.
    pub(crate) fn only_grew(
        &self,
        position: usize,
        mbox: BorrowedFd<'_>,
        now: &Seen,
        limit: u64,
        channel: &mut crate::channel::Channel,
    ) -> Result<bool, Stop> {
        let Some((look, stage)) = self.boxes[position].look.zip(self.tree.get(position)) else {
            return Ok(false);
        };
        let length = stage.summary().length;
        if !now.same_file(&look.mbox) || now.size < length || length > limit {
            return Ok(false);
        }
        let mut quiet = Passing::quiet(channel);
        stage
            .prefix_holds(mbox, &mut |progress| quiet.on(progress))
            .map_err(Stop::engine_at(Step::Refresh, position))
    }

    /// Compares what Dovecot told with what is staged; the position of the first mailbox that differs.
    pub(crate) fn differs(&self) -> Option<usize> {
        let differing = self.boxes.iter().enumerate().find(|(position, mailbox)| {
            let told = self.told.of(mailbox.name());
            self.tree.get(*position).is_none_or(|stage| !told.agrees_with(stage.summary()))
        });
        if let Some((position, mailbox)) = differing {
            note(&format!(
                "mailbox {position}, {:?}, is not what Dovecot told: {:?}, but staged {:?}",
                mailbox.name(),
                self.told.of(mailbox.name()),
                self.tree.get(position).map(|stage| {
                    let summary = stage.summary();
                    (summary.messages, summary.uid_next, summary.uid_validity)
                })
            ));
            return Some(position);
        }
        let empties = self.empties.iter().map(|empty| empty.name.as_str());
        let ours: HashSet<&str> = self.boxes.iter().map(Mailbox::name).chain(empties).collect();
        let missing = self.told.names().find(|name| {
            let told = self.told.of(name);
            let used = told.messages.is_some_and(|n| n > 0) || told.uid_next.is_some_and(|n| n > 1);
            used && !ours.contains(name)
        });
        missing.map(|name| {
            note(&format!(
                "Dovecot tells of a mailbox {name:?} with mail, and below the mbox root there is none"
            ));
            self.boxes.len()
        })
    }
}

/// What an error of the engine means, read without a lock: a program that rewrites the mbox in place shows half of a message where a From_ line should be. So before a mailbox is called no mbox, it is asked
/// whether it has changed since it was looked at, or whether somebody has it open; then it is looked at again later.
fn unless_at_work(
    mbox: BorrowedFd<'_>,
    before: &Seen,
    position: usize,
    error: mailready_mailbox::Error,
    step: Step,
) -> Stop {
    let is_no_mbox = matches!(error, mailready_mailbox::Error::NotMbox { .. });
    let said = Stop::engine_at(step, position)(error);
    let changed = || Seen::at(mbox).is_ok_and(|now| now != *before);
    // The file is locked and kept open for as long as it is being rewritten.
    let open = || {
        let lease = mbox.try_clone_to_owned().map(crate::lease::Lease::try_take);
        matches!(lease, Ok(Ok(None)))
    };
    if is_no_mbox && (changed() || open()) {
        return Stop::blocked(Block::Rewritten, position as u64);
    }
    said
}
