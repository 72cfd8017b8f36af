//! New mail that came to the old place, carried into the Maildir exactly once.
//!
//! What is drained is an entry of the archive folder, which only the agent can name: its number is the identity, and the position in it is published by
//! the same rename that publishes what was extracted. A crash before that rename leaves a `.tmp` folder, which is thrown away and made again; a crash after it leaves
//! a folder whose messages are moved to `new/`, each by one rename, each found either there or here.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mailready_mailbox::extract::{Begin, FlagMerge};
use mailready_mailbox::marker::Marker;
use mailready_mailbox::{Rules, RunId, Stage};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::channel::Channel;
use crate::look::{self, IndexLook};
use crate::place::Place;
use crate::wire::{Block, Order, Report, Step};
use crate::{Stop, step};

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// Where mail is kept that a deliverer brought into a Maildir whose commit a power cut took back; it is delivered by the next commit.
const LATE: &str = "late";

/// A worker that does not convert: asks the disk, and drains, order by order.
pub(crate) struct Drain<'a> {
    channel: &'a mut Channel,
    run: &'a RunId,
    rules: &'a Rules,
    place: &'a Place,
}

impl<'a> Drain<'a> {
    pub(crate) fn new(channel: &'a mut Channel, run: &'a RunId, rules: &'a Rules, place: &'a Place) -> Self {
        Self { channel, run, rules, place }
    }

    pub(crate) fn run(mut self) -> Result<(), Stop> {
        let mut index = IndexLook::at(self.place)?;
        let mut index_changes = 0;
        let mut _locks = None;
        loop {
            match self.channel.order()? {
                (Order::Probe, _) => self.probe()?,
                (Order::Extract { entry, from }, Some(fd)) => self.extract(entry, from, fd)?,
                (Order::Forgotten { entry }, _) => {
                    Folders { work: self.place.work(), run: self.run, entry }.forget_below(u64::MAX)?;
                }
                (Order::Refresh, _) => {
                    _locks = None;
                    let now = IndexLook::at(self.place)?;
                    index_changes += u64::from(now != index);
                    index = now;
                    self.channel.say(Report::Staged {
                        messages: 0,
                        length: 0,
                        bytes: 0,
                        boxes: 0,
                        skipped: 0,
                        indexed: now.is_there(),
                        index_changes,
                    })?;
                }
                (Order::Confirm, _) => {
                    step(Step::Confirm, self.run);
                    _locks = look::lock_index(self.place)?;
                    let holds = _locks.is_some() && IndexLook::at(self.place)? == index;
                    self.channel.say(if holds {
                        Report::Confirmed { messages: 0, length: 0 }
                    } else {
                        Report::Changed
                    })?;
                }
                (Order::Release, _) => return self.channel.say(Report::Done),
                (Order::Abort, _) => return Err(Stop::Abort),
                _ => {
                    return Err(Stop::errno(Step::Probe, Errno::EBADMSG));
                }
            }
        }
    }

    /// Where the mail is, by the disk. A stage that a dead worker left is removed, if it was not committed.
    fn probe(&mut self) -> Result<(), Stop> {
        step(Step::Probe, self.run);
        match committed(self.run, self.place)? {
            Some((_, marker)) => {
                // The worker that committed may have died before this.
                step(Step::SyncCommit, self.run);
                fsync(&self.place.parent).map_err(Stop::failed(Step::SyncCommit))?;
                let length = marker.sources.first().map_or(0, |source| source.length);
                self.channel.say(Report::Probed {
                    committed: true,
                    withdrawn: false,
                    rolling_back: false,
                    length,
                    folders: 0,
                    folders_left: 0,
                })
            }
            None => {
                step(Step::Abort, self.run);
                save_late(self.run, self.place)?;
                Stage::remove(self.place.work(), self.run).map_err(Stop::engine(Step::Abort))?;
                self.channel.say(Report::Probed {
                    committed: false,
                    withdrawn: false,
                    rolling_back: false,
                    length: 0,
                    folders: 0,
                    folders_left: 0,
                })
            }
        }
    }

    /// Carries the new mail of one entry into the Maildir.
    fn extract(&mut self, entry: u64, from: Option<u64>, source: OwnedFd) -> Result<(), Stop> {
        let (run, place) = (self.run, self.place);
        let Some((maildir, _)) = committed(run, place)? else {
            return Err(Stop::Say(Report::Blocked { block: Block::MaildirLost, detail: 0 }));
        };
        deliver_late(place, maildir.as_fd())?;
        let folders = Folders { work: place.work(), run, entry };
        let mut messages = folders.deliver_all(maildir.as_fd())?;
        folders.throw_away_unfinished()?;
        let position = folders.position()?;
        let size = u64::try_from(fstat(&source).map_err(Stop::failed(Step::Extract))?.st_size).unwrap_or(0);
        let begin = match position.or(from) {
            Some(begin) if begin >= size => {
                return self.channel.say(Report::Extracted { messages, to: begin });
            }
            Some(begin) => Begin::At(begin),
            None => Begin::ByContent { maildir: maildir.as_fd(), source: "INBOX" },
        };

        step(Step::Extract, run);
        let unfinished = folders.unfinished();
        mkdirat(place.work(), unfinished.as_c_str(), Mode::S_IRWXU).map_err(Stop::failed(Step::Extract))?;
        let drain = openat(place.work(), unfinished.as_c_str(), FOLDER, Mode::empty())
            .map_err(Stop::failed(Step::Extract))?;
        let name = format!("{run}.{entry}");
        let extracted = mailready_mailbox::extract::extract(
            source.as_fd(),
            name.as_ref(),
            begin,
            size,
            drain.as_fd(),
            run,
            entry,
            self.rules,
        )
        .map_err(Stop::engine(Step::Extract))?;
        merge_flags(maildir.as_fd(), &extracted.merges)?;

        step(Step::Extracted, run);
        let finished = folders.finished(extracted.to);
        let no_replace = RenameFlags::RENAME_NOREPLACE;
        renameat2(place.work(), unfinished.as_c_str(), place.work(), finished.as_c_str(), no_replace)
            .map_err(Stop::failed(Step::Extracted))?;
        fsync(place.work()).map_err(Stop::failed(Step::Extracted))?;
        messages += folders.deliver_all(maildir.as_fd())?;
        folders.forget_below(extracted.to)?;
        self.channel.say(Report::Extracted { messages, to: extracted.to })
    }
}

/// The Maildir, if it is this run's.
fn committed(run: &RunId, place: &Place) -> Result<Option<(OwnedFd, Marker)>, Stop> {
    let Some(maildir) = place.open_maildir()? else { return Ok(None) };
    let marker = Marker::read(maildir.as_fd()).map_err(Stop::engine(Step::Probe))?;
    Ok(marker.filter(|marker| marker.run == *run).map(|marker| (maildir, marker)))
}

/// Files of a stage that its run did not make: between the commit and its sync somebody delivered, and a power cut took the commit back, not the delivery.
fn save_late(run: &RunId, place: &Place) -> Result<(), Stop> {
    let stage = match openat(place.work(), Stage::name(run).as_str(), FOLDER, Mode::empty()) {
        Ok(stage) => stage,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(Stop::errno(Step::Abort, errno)),
    };
    // As the engine names the messages of a stage: by the random half of the run id.
    let ours = format!("R{}.mailready,", run.as_str().rsplit('-').next().unwrap_or_default());
    for folder in ["new", "cur"] {
        let Ok(folder) = openat(&stage, folder, FOLDER, Mode::empty()) else { continue };
        let foreign =
            names(folder.as_fd())?.into_iter().filter(|name| !name.to_string_lossy().contains(&ours));
        for name in foreign {
            match mkdirat(place.work(), LATE, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Stop::errno(Step::Abort, errno)),
            }
            let late =
                openat(place.work(), LATE, FOLDER, Mode::empty()).map_err(Stop::failed(Step::Abort))?;
            let no_replace = RenameFlags::RENAME_NOREPLACE;
            renameat2(&folder, name.as_c_str(), &late, name.as_c_str(), no_replace)
                .map_err(Stop::failed(Step::Abort))?;
            fsync(&late).map_err(Stop::failed(Step::Abort))?;
            fsync(place.work()).map_err(Stop::failed(Step::Abort))?;
            crate::note(
                "a message that was delivered into a Maildir whose commit was lost is kept for the next commit",
            );
        }
    }
    Ok(())
}

/// Delivers what [`save_late`] has kept.
pub(crate) fn deliver_late(place: &Place, maildir: BorrowedFd<'_>) -> Result<(), Stop> {
    let late = match openat(place.work(), LATE, FOLDER, Mode::empty()) {
        Ok(late) => late,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(Stop::errno(Step::Deliver, errno)),
    };
    let new = openat(maildir, "new", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
    for name in names(late.as_fd())? {
        let no_replace = RenameFlags::RENAME_NOREPLACE;
        renameat2(&late, name.as_c_str(), &new, name.as_c_str(), no_replace)
            .map_err(Stop::failed(Step::Deliver))?;
    }
    fsync(&new).map_err(Stop::failed(Step::Delivered))?;
    unlinkat(place.work(), LATE, UnlinkatFlags::RemoveDir).map_err(Stop::failed(Step::Delivered))
}

/// The drain folders of one entry.
struct Folders<'a> {
    work: BorrowedFd<'a>,
    run: &'a RunId,
    entry: u64,
}

/// A text without NUL as a C string; what this module makes of run ids and numbers never has one.
fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

impl Folders<'_> {
    fn prefix(&self) -> String {
        format!("drain-{}.{}.", self.run, self.entry)
    }

    fn unfinished(&self) -> CString {
        c_string(format!("{}tmp", self.prefix()))
    }

    fn finished(&self, to: u64) -> CString {
        c_string(format!("{}{to}", self.prefix()))
    }

    /// The extracted ones, by the offset up to which they hold the entry.
    fn all_finished(&self) -> Result<Vec<u64>, Stop> {
        let prefix = self.prefix();
        let mut found: Vec<u64> = names(self.work)?
            .iter()
            .filter_map(|name| name.to_str().ok()?.strip_prefix(&prefix)?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn position(&self) -> Result<Option<u64>, Stop> {
        Ok(self.all_finished()?.last().copied())
    }

    fn throw_away_unfinished(&self) -> Result<(), Stop> {
        let name = self.unfinished();
        match openat(self.work, name.as_c_str(), FOLDER, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Stop::errno(Step::Extract, errno)),
            Ok(folder) => {
                for name in names(folder.as_fd())? {
                    unlinkat(&folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
                        .map_err(Stop::failed(Step::Extract))?;
                }
            }
        }
        unlinkat(self.work, name.as_c_str(), UnlinkatFlags::RemoveDir).map_err(Stop::failed(Step::Extract))
    }

    /// Moves what is extracted and still here to `new/`.
    fn deliver_all(&self, maildir: BorrowedFd<'_>) -> Result<u64, Stop> {
        let mut delivered = 0;
        for to in self.all_finished()? {
            let folder = openat(self.work, self.finished(to).as_c_str(), FOLDER, Mode::empty())
                .map_err(Stop::failed(Step::Deliver))?;
            let waiting = names(folder.as_fd())?;
            if waiting.is_empty() {
                continue;
            }
            let new = openat(maildir, "new", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
            for name in waiting {
                step(Step::Deliver, self.run);
                renameat2(&folder, name.as_c_str(), &new, name.as_c_str(), RenameFlags::RENAME_NOREPLACE)
                    .map_err(Stop::failed(Step::Deliver))?;
                delivered += 1;
            }
            step(Step::Delivered, self.run);
            fsync(&new).map_err(Stop::failed(Step::Delivered))?;
            fsync(&folder).map_err(Stop::failed(Step::Delivered))?;
        }
        Ok(delivered)
    }

    /// Positions before the last one say nothing any more.
    fn forget_below(&self, to: u64) -> Result<(), Stop> {
        for old in self.all_finished()?.into_iter().filter(|old| *old < to) {
            unlinkat(self.work, self.finished(old).as_c_str(), UnlinkatFlags::RemoveDir)
                .map_err(Stop::failed(Step::Delivered))?;
        }
        Ok(())
    }
}

fn names(folder: BorrowedFd<'_>) -> Result<Vec<CString>, Stop> {
    let mut dir = Dir::openat(folder, ".", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(Stop::failed(Step::Deliver))?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A reader wrote flags back with its mbox: they are added to the Maildir's; none is taken away, nothing is expunged.
fn merge_flags(maildir: BorrowedFd<'_>, merges: &[FlagMerge]) -> Result<(), Stop> {
    if merges.is_empty() {
        return Ok(());
    }
    let cur = openat(maildir, "cur", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
    let new = openat(maildir, "new", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
    for folder in [&cur, &new] {
        for name in names(folder.as_fd())? {
            let Some((base, merge)) = find(&name, merges) else { continue };
            let old =
                name.to_str().ok().and_then(|name| name.split_once(":2,")).map_or("", |(_, letters)| letters);
            let mut letters: Vec<char> = old.chars().chain(merge.flags.chars()).collect();
            letters.sort_unstable();
            letters.dedup();
            let better = c_string(format!("{base}:2,{}", letters.into_iter().collect::<String>()));
            if better == name {
                continue;
            }
            match renameat2(folder, name.as_c_str(), &cur, better.as_c_str(), RenameFlags::RENAME_NOREPLACE) {
                // The server was faster: its flags are the newer ones.
                Ok(()) | Err(Errno::ENOENT | Errno::EEXIST) => {}
                Err(errno) => return Err(Stop::errno(Step::Deliver, errno)),
            }
        }
    }
    Ok(())
}

fn find<'m>(name: &CStr, merges: &'m [FlagMerge]) -> Option<(String, &'m FlagMerge)> {
    let name = name.to_str().ok()?;
    let base = name.split_once(":2,").map_or(name, |(base, _)| base);
    merges.iter().find(|merge| merge.file == base).map(|merge| (base.to_owned(), merge))
}
