//! The stage: all mailboxes of a user as one Maildir under construction, `stage-RUNID` in the work folder.
//!
//! The commit is one rename of this folder, so everything that has to appear together is in it: INBOX in its root, each folder where
//! the layout has it, a receipt in every mailbox, one marker in the root that lists them all.

use crate::durable::{Syncer, sync_file_system};
use crate::error::BlockReason;
use crate::layout::Layout;
use crate::marker::Marker;
use crate::names::{Namer, now};
use crate::salvage::{self, Salvage};
use crate::stage::{Ground, Plan, Source, Stage, SyncHow};
use crate::verify::{Verified, verify};
use crate::{Error, Known, OnProgress, Progress, Result, Rules, RunId, dir, validity};
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Courier's and Dovecot's sign of a folder in a Maildir++.
const MAILDIRFOLDER: &str = "maildirfolder";

/// A Maildir under construction. Dropping it leaves the folder; see [`Tree::remove`].
///
/// Its mailboxes are kept by their position, which is also their order in the marker: 0 is INBOX.
#[derive(Debug)]
pub struct Tree {
    ground: Arc<Ground>,
    work: OwnedFd,
    layout: Layout,
    boxes: BTreeMap<usize, Stage>,
    /// Folders that have to be synced when names below them are to last.
    levels: BTreeSet<String>,
    /// Boxes written so far: no two give their files the same names.
    written: u64,
    /// The highest UIDVALIDITY that the server ever gave.
    uid_validity_given: u32,
}

impl Tree {
    /// Makes the folder `stage-RUNID` below `work`, which must not exist.
    pub fn create(work: BorrowedFd<'_>, run: &RunId, layout: Layout, sync: SyncHow) -> Result<Tree> {
        let root = dir::create(work, &Tree::name(run))?;
        Ok(Tree {
            ground: Arc::new(Ground {
                root,
                run: run.clone(),
                sync,
                syncer: Syncer::new(sync),
                salvage: Salvage::default(),
            }),
            work: work.try_clone_to_owned().map_err(Error::io("keep open", "the work folder"))?,
            layout,
            boxes: BTreeMap::new(),
            levels: BTreeSet::new(),
            written: 0,
            uid_validity_given: 0,
        })
    }

    /// The name of the folder below the work folder: `stage-RUNID`.
    pub fn name(run: &RunId) -> String {
        format!("stage-{run}")
    }

    /// The Maildir to be.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.ground.root.as_fd()
    }

    /// Reads `mbox` (by `pread`, to the end it has now) into the mailbox at `position`, in place of one that is there. No lock is
    /// needed: what changes meanwhile is found by the look afterwards. After an error there is no mailbox at that position.
    pub fn write_box(
        &mut self,
        position: usize,
        mbox: BorrowedFd<'_>,
        source: &Source,
        known: &Known,
        rules: &Rules,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let before = self.boxes.remove(&position);
        let put_away = before.as_ref().and_then(|before| self.put_away(before));
        before.map_or(Ok(()), |before| before.clear())?;
        let directory = self.directory_of(source)?;
        self.make_folder(&directory)?;
        if self.layout == Layout::MaildirPlusPlus && !directory.is_empty() {
            self.sign(&directory)?;
        }
        let namer = Namer::new(&self.ground.run, self.written, now());
        self.written += 1;
        let plan = Plan { source: source.clone(), known: known.clone(), rules: rules.clone() };
        let written = Stage::write(mbox, Arc::clone(&self.ground), directory.clone(), namer, plan, progress);
        if let Some(name) = put_away {
            // What is left of it nobody wanted. Should it stay, it goes with the stages that were kept.
            let _ = dir::remove_tree(&self.work, &name);
        }
        match written {
            Ok(stage) => {
                self.boxes.insert(position, stage);
                Ok(())
            }
            Err(e) => {
                // The first error is the one that matters; what is left is removed with the run's other traces.
                let folder = dir::open_below(&self.ground.root, &directory);
                let _ = folder.and_then(|folder| crate::output::clear(folder.as_fd()));
                Err(e)
            }
        }
    }

    /// Makes a level that is no mailbox but may have some below it: a folder without cur/. Only LAYOUT=fs can keep one; elsewhere
    /// a level is there as soon as something is below it.
    pub fn directory(&mut self, source: &Source) -> Result<()> {
        let directory = self.directory_of(source)?;
        match self.layout {
            Layout::Fs => {
                self.make_folder(&directory)?;
                self.levels.insert(directory);
                Ok(())
            }
            Layout::MaildirPlusPlus => {
                Err(Error::Blocked { path: source.path.clone(), reason: BlockReason::EmptyLevel })
            }
        }
    }

    /// Takes the mailbox at `position` away again, as if it had never been written. Levels that have nothing below them any more go, too,
    /// those of [`Tree::directory`] among them: make them again where they are still there.
    pub fn remove_box(&mut self, position: usize) -> Result<()> {
        let Some(stage) = self.boxes.remove(&position) else { return Ok(()) };
        let directory = self.directory_of(stage.source())?;
        match self.layout {
            _ if directory.is_empty() => stage.clear(),
            Layout::MaildirPlusPlus => dir::remove_tree(&self.ground.root, &directory),
            Layout::Fs => {
                stage.clear()?;
                self.remove_empty_levels(&directory)
            }
        }
    }

    /// Gives mailboxes other positions, since one has appeared or gone; where `to` says `None` the position stays.
    pub fn renumber(&mut self, mut to: impl FnMut(&Source) -> Option<usize>) {
        let boxes = std::mem::take(&mut self.boxes);
        self.boxes = boxes.into_iter().map(|(at, stage)| (to(stage.source()).unwrap_or(at), stage)).collect();
    }

    /// The mailbox at a position.
    pub fn get(&self, position: usize) -> Option<&Stage> {
        self.boxes.get(&position)
    }

    /// The mailbox at a position, to add to it.
    pub fn get_mut(&mut self, position: usize) -> Option<&mut Stage> {
        self.boxes.get_mut(&position)
    }

    /// All mailboxes in their order.
    pub fn boxes(&self) -> impl Iterator<Item = (usize, &Stage)> {
        self.boxes.iter().map(|(position, stage)| (*position, stage))
    }

    /// Copies Dovecot's index of the mbox (the files [`crate::index::FILES`] in `index_folder`) into the mailbox, in place of an earlier copy;
    /// files that are gone are gone from the copy. `false`: there is none.
    ///
    /// Whether the files belong together and to the mbox is for a look to say, before and afterwards.
    pub fn carry_index(&mut self, position: usize, index_folder: BorrowedFd<'_>) -> Result<bool> {
        self.boxes.get_mut(&position).map_or(Ok(false), |stage| stage.carry_index(index_folder))
    }

    /// Says that the carried index and the mailbox hold the same messages, so that the first client need not wait until Dovecot has looked for itself. Without
    /// an index, or if this was said already, nothing is done.
    pub fn complete_index(&mut self, position: usize) -> Result<()> {
        self.boxes.get_mut(&position).map_or(Ok(()), Stage::complete_index)
    }

    /// Removes the copy of the index: Dovecot is going to make one.
    pub fn drop_index(&mut self, position: usize) -> Result<()> {
        self.boxes.get_mut(&position).map_or(Ok(()), Stage::drop_index)
    }

    /// Tells the highest UIDVALIDITY that the mbox tree's server ever gave ([`validity::highest`] of its control folder). A new mailbox of this
    /// Maildir is going to get a higher one; whatever the mailboxes themselves have counts, too.
    pub fn uid_validity_given(&mut self, highest: u32) {
        self.uid_validity_given = highest;
    }

    /// Reads everything back from disk and compares it with the receipts; see [`verify`].
    pub fn verify(&self, progress: OnProgress<'_>) -> Result<Verified> {
        // What is not on disk yet, the kernel cannot be made to read from there.
        self.ground.syncer.wait()?;
        let mut all = Verified::default();
        for stage in self.boxes.values() {
            all += verify(stage.folder()?.as_fd(), &mut |now: Progress| progress(all.with(now)))?;
        }
        Ok(all)
    }

    /// Writes the marker, and makes durable whatever is not yet: after this the rename is all that is missing.
    pub fn seal(&mut self) -> Result<Marker> {
        let sources = self.boxes.values().map(Stage::marker_source).collect::<Result<_>>()?;
        let marker = Marker { run: self.ground.run.clone(), sources };
        let root = self.ground.root.as_fd();
        let given = marker.sources.iter().map(|s| s.uid_validity).max().unwrap_or(0);
        let present = u32::try_from(now()).unwrap_or(0);
        let given = given.max(self.uid_validity_given).max(present);
        validity::write(root, given)?.into_iter().flatten().for_each(|file| self.ground.syncer.take(file));
        let file = marker.write(root)?;
        if self.ground.sync == SyncHow::SyncFs {
            sync_file_system(root)?;
            return Ok(marker);
        }
        let syncer = &self.ground.syncer;
        syncer.take(file);
        for level in &self.levels {
            syncer.take(dir::open_below(root, level)?);
        }
        syncer.take(dir::open(root, ".")?);
        syncer.take(dir::open(&self.work, ".")?);
        syncer.wait()?;
        Ok(marker)
    }

    /// Lets message files of the stages that were kept in the work folder ([`Tree::keep`]) be taken over by what is written from now on; see [`crate::salvage`]. What of them cannot
    /// be used is passed over.
    pub fn take_from_kept(&self) -> Result<()> {
        for name in kept(self.work.as_fd())? {
            // Not a folder any more: not one of ours.
            let Ok(folder) = dir::open(&self.work, &name) else { continue };
            // What was found up to an error is still good.
            let _ = self.ground.salvage.add(folder.as_fd());
        }
        Ok(())
    }

    /// Keeps the stage of a run for the next one instead of removing it. No stage there is no error.
    pub fn keep(work: BorrowedFd<'_>, run: &RunId) -> Result<()> {
        let (stage, kept) = (Tree::name(run), salvage::kept_name(run));
        match dir::move_if_there((work, &stage), (work, &kept)) {
            // A second time: what is there already has more of it.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                Tree::remove(work, run)
            }
            other => other,
        }
    }

    /// Removes all stages that were kept.
    pub fn remove_kept(work: BorrowedFd<'_>) -> Result<()> {
        kept(work)?.iter().try_for_each(|name| dir::remove_tree(work, name))
    }

    /// Removes the stage of a run below its work folder; no stage there is no error.
    pub fn remove(work: BorrowedFd<'_>, run: &RunId) -> Result<()> {
        dir::remove_tree(work, &Tree::name(run))
    }

    /// Moves the message files of a mailbox that is going to be written again out of the way, for the new one to take them over. `None`: they are not to be had.
    fn put_away(&self, before: &Stage) -> Option<String> {
        let name = salvage::put_away_name(&self.ground.run, self.written);
        let (folder, away) = (before.folder().ok()?, dir::create(&self.work, &name).ok()?);
        for home in ["cur", "new"] {
            // What cannot be moved is removed with the rest of the mailbox.
            let _ = dir::move_if_there((folder.as_fd(), home), (away.as_fd(), home));
        }
        // What was found up to an error is still good.
        let _ = self.ground.salvage.add(away.as_fd());
        Some(name)
    }

    fn directory_of(&self, source: &Source) -> Result<String> {
        self.layout.directory(&source.name).map_err(|why| Error::Blocked {
            path: source.path.clone(),
            reason: BlockReason::Name { name: source.name.clone(), why },
        })
    }

    /// Makes a folder and those above it, as far as they are not there.
    fn make_folder(&mut self, directory: &str) -> Result<()> {
        let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
        for level in ends.map(|end| &directory[..end]).filter(|level| !level.is_empty()) {
            match mkdirat(&self.ground.root, level, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(Error::io("create folder", level)(e)),
            }
            if level != directory {
                self.levels.insert(level.to_owned());
            }
        }
        Ok(())
    }

    /// Removes a folder and those above it, as far as they are empty.
    fn remove_empty_levels(&mut self, directory: &str) -> Result<()> {
        let mut level = directory;
        while !level.is_empty() {
            match unlinkat(&self.ground.root, level, UnlinkatFlags::RemoveDir) {
                Ok(()) => self.levels.remove(level),
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => return Ok(()),
                Err(e) => return Err(Error::io("remove folder", level)(e)),
            };
            level = level.rsplit_once('/').map_or("", |(above, _)| above);
        }
        Ok(())
    }

    fn sign(&self, directory: &str) -> Result<()> {
        let folder = dir::open_below(&self.ground.root, directory)?;
        match dir::create_file(&folder, MAILDIRFOLDER) {
            Ok(file) => {
                self.ground.syncer.take(file);
                Ok(())
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// The names of the stages that were kept.
fn kept(work: BorrowedFd<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    dir::for_each_name(&work, "the work folder", |name| {
        names.extend(
            std::str::from_utf8(name).ok().filter(|name| salvage::is_kept_name(name)).map(str::to_owned),
        );
    })?;
    names.sort_unstable();
    Ok(names)
}
