//! New mail out of one file that was a mailbox's place, into a mailbox of the Maildir, exactly once.
//!
//! The file has a number that it alone has, and the position in it is published by the same rename that publishes what was extracted. A crash before that rename leaves a `.tmp` folder, which is thrown away
//! and made again; a crash after it leaves a folder whose messages are moved to `new/`, each by one rename, each found either there or here.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mailready_mailbox::extract::{ArchiveEntry, Begin, FlagMerge, extract};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::file::{self, FOLDER};
use crate::wire::Step;
use crate::{Stop, Task, step};

/// The mailbox that the mail goes to.
pub(crate) struct Target<'a> {
    /// Root of the Maildir, with the marker.
    pub(crate) maildir: BorrowedFd<'a>,
    /// The mailbox's own folder in it.
    pub(crate) folder: BorrowedFd<'a>,
    /// Its source's name.
    pub(crate) source: &'a str,
}

/// The drain folders of one file.
pub(crate) struct Extraction<'a> {
    task: Task<'a>,
    entry: ArchiveEntry,
}

/// A text without NUL as a C string; what this module makes of run ids and numbers never has one.
fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

impl<'a> Extraction<'a> {
    pub(crate) fn new(task: Task<'a>, entry: ArchiveEntry) -> Self {
        Self { task, entry }
    }

    /// Carries over what is new in `file`; tells how many messages were delivered, and up to where the file is drained. `from`: where new mail begins, if nothing was drained yet and the caller
    /// knows; else the content decides.
    pub(crate) fn carry_over(
        &self,
        file: &OwnedFd,
        from: Option<u64>,
        target: &Target<'_>,
    ) -> Result<(u64, u64), Stop> {
        let Task { place, run, rules, .. } = self.task;
        let mut messages = self.deliver_all(target.folder)?;
        self.throw_away_unfinished()?;
        let size = u64::try_from(fstat(file).map_err(Stop::failed(Step::Extract))?.st_size).unwrap_or(0);
        let begin = match self.position()?.or(from) {
            Some(begin) if begin >= size => return Ok((messages, begin)),
            Some(begin) => Begin::At(begin),
            None => {
                Begin::ByContent { maildir: target.maildir, folder: target.folder, source: target.source }
            }
        };

        step(Step::Extract, run);
        let unfinished = self.unfinished();
        mkdirat(place.work(), unfinished.as_c_str(), Mode::S_IRWXU).map_err(Stop::failed(Step::Extract))?;
        let drain = openat(place.work(), unfinished.as_c_str(), FOLDER, Mode::empty())
            .map_err(Stop::failed(Step::Extract))?;
        let name = format!("{run}.{}", self.label());
        let extracted =
            extract(file.as_fd(), name.as_ref(), begin, size, drain.as_fd(), run, self.entry, rules)
                .map_err(Stop::engine(Step::Extract))?;
        merge_flags(target.folder, &extracted.merges)?;

        step(Step::Extracted, run);
        let finished = self.finished(extracted.to);
        let no_replace = RenameFlags::RENAME_NOREPLACE;
        renameat2(place.work(), unfinished.as_c_str(), place.work(), finished.as_c_str(), no_replace)
            .map_err(Stop::failed(Step::Extracted))?;
        fsync(place.work()).map_err(Stop::failed(Step::Extracted))?;
        messages += self.deliver_all(target.folder)?;
        self.forget_below(extracted.to)?;
        Ok((messages, extracted.to))
    }

    /// The file is gone for good: its position need not be remembered any more.
    pub(crate) fn forget(&self) -> Result<(), Stop> {
        self.forget_below(u64::MAX)
    }

    /// Up to where the file is drained, as far as this work folder remembers.
    pub(crate) fn position(&self) -> Result<Option<u64>, Stop> {
        Ok(self.all_finished()?.last().copied())
    }

    /// Whether there is anything that was extracted and is still here.
    pub(crate) fn has_waiting(&self) -> Result<bool, Stop> {
        for to in self.all_finished()? {
            let folder = openat(self.task.place.work(), self.finished(to).as_c_str(), FOLDER, Mode::empty())
                .map_err(Stop::failed(Step::Deliver))?;
            if !file::names(folder.as_fd()).map_err(Stop::failed(Step::Deliver))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves what is extracted and still here to `new/`.
    pub(crate) fn deliver_all(&self, mailbox: BorrowedFd<'_>) -> Result<u64, Stop> {
        let mut delivered = 0;
        for to in self.all_finished()? {
            let folder = openat(self.task.place.work(), self.finished(to).as_c_str(), FOLDER, Mode::empty())
                .map_err(Stop::failed(Step::Deliver))?;
            let waiting = file::names(folder.as_fd()).map_err(Stop::failed(Step::Deliver))?;
            if waiting.is_empty() {
                continue;
            }
            let new = openat(mailbox, "new", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
            for name in waiting {
                step(Step::Deliver, self.task.run);
                renameat2(&folder, name.as_c_str(), &new, name.as_c_str(), RenameFlags::RENAME_NOREPLACE)
                    .map_err(Stop::failed(Step::Deliver))?;
                delivered += 1;
            }
            step(Step::Delivered, self.task.run);
            fsync(&new).map_err(Stop::failed(Step::Delivered))?;
            fsync(&folder).map_err(Stop::failed(Step::Delivered))?;
        }
        Ok(delivered)
    }

    /// `N` of the archive, or `POSITION-N` of the folders set aside.
    fn label(&self) -> String {
        match self.entry.position {
            0 => self.entry.number.to_string(),
            position => format!("{position}-{}", self.entry.number),
        }
    }

    fn prefix(&self) -> String {
        format!("drain-{}.{}.", self.task.run, self.label())
    }

    fn unfinished(&self) -> CString {
        c_string(format!("{}tmp", self.prefix()))
    }

    fn finished(&self, to: u64) -> CString {
        c_string(format!("{}{to}", self.prefix()))
    }

    /// The extracted ones, by the offset up to which they hold the file.
    fn all_finished(&self) -> Result<Vec<u64>, Stop> {
        let prefix = self.prefix();
        let mut found: Vec<u64> = file::names(self.task.place.work())
            .map_err(Stop::failed(Step::Deliver))?
            .iter()
            .filter_map(|name| name.to_str().ok()?.strip_prefix(&prefix)?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn throw_away_unfinished(&self) -> Result<(), Stop> {
        let name = self.unfinished();
        let throw_away = || {
            let folder = match openat(self.task.place.work(), name.as_c_str(), FOLDER, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::ENOENT) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            for name in file::names(folder.as_fd())? {
                unlinkat(&folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            }
            unlinkat(self.task.place.work(), name.as_c_str(), UnlinkatFlags::RemoveDir)
        };
        throw_away().map_err(Stop::failed(Step::Extract))
    }

    /// Positions before the last one say nothing any more.
    fn forget_below(&self, to: u64) -> Result<(), Stop> {
        for old in self.all_finished()?.into_iter().filter(|old| *old < to) {
            unlinkat(self.task.place.work(), self.finished(old).as_c_str(), UnlinkatFlags::RemoveDir)
                .map_err(Stop::failed(Step::Delivered))?;
        }
        Ok(())
    }
}

/// A reader wrote flags back with its mbox: they are added to the Maildir's; none is taken away, nothing is expunged.
fn merge_flags(mailbox: BorrowedFd<'_>, merges: &[FlagMerge]) -> Result<(), Stop> {
    if merges.is_empty() {
        return Ok(());
    }
    let cur = openat(mailbox, "cur", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
    let new = openat(mailbox, "new", FOLDER, Mode::empty()).map_err(Stop::failed(Step::Deliver))?;
    for folder in [&cur, &new] {
        for name in file::names(folder.as_fd()).map_err(Stop::failed(Step::Deliver))? {
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
