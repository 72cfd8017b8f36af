//! What an exchange has brought into the archive folder.
//!
//! Whoever may write to the spool folder can put anything at a user's path between our last look and the exchange: another user's mbox, a link, a fifo, a folder, a file with a second name. An exchange takes what
//! it finds, so what has come in is looked at before anything else is done with it. What cannot be the user's mail is never read, never given to root, never handed to a worker: it goes back to where it was, which
//! is all that whoever put it there has gained, or, if our tombstone is not there to be exchanged for it any more, it is kept under a name that no drain takes.
//!
//! A death between the exchange and the look is met by the same look: every entry is judged each time that it is opened.

use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use mailready_worker::RunId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::{AtPath, Result, Spool, is_tombstone};

/// What came into the archive, believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow) enum Taken {
    /// The file that was locked.
    Locked,
    /// Another plain file of the user's own, of one name: some program had renamed it to the place.
    Another,
}

/// Behind the run id and a number: what is kept for an operator to look at. No number behind the last dot, so it is no entry.
const KEPT: &str = "foreign";

type Identity = (u64, u64);

/// What we have put at the place.
type Went = Option<Identity>;

/// What has come in: believed, or what it is instead.
type Came = std::result::Result<Taken, &'static str>;

fn identity(stat: &FileStat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

impl Spool {
    /// Exchanges what stands at the path for the tombstone of that number and looks at what has come in; `locked` is what should.
    ///
    /// # Errors
    /// What went wrong, in words for the journal; where something foreign came in, what was done with it.
    pub(in crate::flow) fn take(
        &self,
        run: &RunId,
        entry: u64,
        locked: &FileStat,
    ) -> std::result::Result<Taken, String> {
        let name = Self::entry_name(run, entry);
        let (tombstone, came) = self.exchange_and_look(&name, locked)?;
        came.map_err(|what| {
            let said = self.expel(run, &name, what, tombstone);
            self.renumber(run, entry);
            said
        })
    }

    /// Exchanges what stands at the path for the mbox of a rollback; `locked` is the tombstone that should come in.
    ///
    /// # Errors
    /// As [`Spool::take`]; after an error the rollback's mbox is where it was, or gone and has to be written again.
    pub(in crate::flow) fn exchange_back(
        &self,
        run: &RunId,
        locked: &FileStat,
    ) -> std::result::Result<(), String> {
        let name = Self::back_name(run);
        let (mbox, came) = self.exchange_and_look(&name, locked)?;
        match came {
            Ok(Taken::Locked) => Ok(()),
            Ok(Taken::Another) => Err(self.expel(run, &name, "another file of the user's own", mbox)),
            Err(what) => Err(self.expel(run, &name, what, mbox)),
        }
    }

    /// What has gone to the place, and what has come from there.
    fn exchange_and_look(&self, name: &str, locked: &FileStat) -> std::result::Result<(Went, Came), String> {
        let text = |error: super::SpoolError| error.to_string();
        let went = self.glance_in_archive(name).map_err(text)?.as_ref().map(identity);
        let exchange = RenameFlags::RENAME_EXCHANGE;
        renameat2(&self.archive, name, &self.folder, self.name.as_c_str(), exchange)
            .map_err(self.at_spool("exchange what stands at"))
            .map_err(text)?;
        let came = self.glance_in_archive(name).map_err(text)?.ok_or("what was exchanged is gone")?;
        let came = match self.foreign(&came) {
            Some(what) => Err(what),
            None if identity(&came) == identity(locked) => Ok(Taken::Locked),
            None => Ok(Taken::Another),
        };
        Ok((went, came))
    }

    pub(super) fn glance_in_archive(&self, name: &str) -> Result<Option<FileStat>> {
        match fstatat(&self.archive, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.in_archive("look at", name)(errno)),
        }
    }

    /// Gets something foreign out of the archive; tells what was done, for the journal.
    pub(super) fn expel(&self, run: &RunId, name: &str, what: &str, went: Went) -> String {
        let path = self.path();
        let begun = format!("{what} was put at {} at the moment of an exchange", path.display());
        let mend = "see who may write to that folder, and bring back the file that belongs there";
        if self.put_back(name, went) {
            return format!("{begun}; it was put back there ({mend})");
        }
        let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos());
        let kept = format!("{run}.{number}.{KEPT}");
        let no_replace = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&self.archive, name, &self.archive, kept.as_str(), no_replace) {
            Ok(()) => format!(
                "{begun}; it is kept as {} and nothing uses it ({mend}; it may be another user's mailbox)",
                self.archive_path.join(kept).display()
            ),
            Err(errno) => {
                format!(
                    "{begun}; it lies in {} as {name} and cannot be moved: {}",
                    self.archive_path.display(),
                    errno.desc()
                )
            }
        }
    }

    /// Exchanges once more, if what we had put at the place is still there, or nothing is. False: something else is, and what lies in the archive under that name is foreign still.
    fn put_back(&self, name: &str, went: Went) -> bool {
        let standing = match self.glance() {
            Ok(standing) => standing.as_ref().map(identity),
            Err(_) => return false,
        };
        let flags = match standing {
            None => RenameFlags::RENAME_NOREPLACE,
            Some(_) if standing == went => RenameFlags::RENAME_EXCHANGE,
            Some(_) => return false,
        };
        if renameat2(&self.archive, name, &self.folder, self.name.as_c_str(), flags).is_err() {
            return false;
        }
        // Swapped once more meanwhile: what came in now is judged in its turn, and not sent back again.
        let now = self.glance_in_archive(name).ok().flatten().as_ref().map(identity);
        now.is_none() || now == went
    }

    /// A tombstone that has stood at the place may have somebody who has it open: it becomes an entry that lingers, instead of one that is made anew or removed.
    fn renumber(&self, run: &RunId, entry: u64) {
        let name = Self::entry_name(run, entry);
        let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos());
        let stood = entry == 0
            && matches!(openat(&self.archive, name.as_str(), super::FILE, Mode::empty()), Ok(file) if is_tombstone(&file, run));
        if stood {
            let later = format!("{run}.{number}");
            let no_replace = RenameFlags::RENAME_NOREPLACE;
            if let Err(errno) =
                renameat2(&self.archive, name.as_str(), &self.archive, later.as_str(), no_replace)
            {
                tracing::warn!(
                    run = run.as_str(),
                    "a tombstone that has stood at its place keeps its name: {}",
                    errno.desc()
                );
            }
        }
    }

    /// What is in the archive is the user's, or was given to root by us, and is a plain file of one name.
    pub(super) fn foreign_in_archive(&self, stat: &FileStat) -> Option<&'static str> {
        let plain = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        let taken_over = stat.st_uid == 0 && stat.st_gid == 0;
        if plain && taken_over && stat.st_nlink == 1 { None } else { self.foreign(stat) }
    }

    /// Opens an entry that can be the user's mail; `None`: there is none, or what had come in under its name before a death was none and is out of the way now.
    pub(super) fn open_believed(&self, run: &RunId, name: &str, flags: OFlag) -> Result<Option<OwnedFd>> {
        // Looked at before it is opened, so that nothing is opened that is no plain file. Nobody but us can change what the name leads to.
        let Some(stat) = self.glance_in_archive(name)? else { return Ok(None) };
        if let Some(what) = self.foreign_in_archive(&stat) {
            let tombstone = match self.at_path()? {
                AtPath::File(file, standing) if is_tombstone(&file, run) => Some(identity(&standing)),
                _ => None,
            };
            let said = self.expel(run, name, what, tombstone);
            tracing::error!(run = run.as_str(), "{said}");
            if name == Self::entry_name(run, 0) {
                self.renumber(run, 0);
            }
            return Ok(None);
        }
        let file =
            openat(&self.archive, name, flags, Mode::empty()).map_err(self.in_archive("open", name))?;
        let opened = fstat(&file).map_err(self.in_archive("look at", name))?;
        Ok((identity(&opened) == identity(&stat)).then_some(file))
    }
}

#[cfg(test)]
mod tests;
