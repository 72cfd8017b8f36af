//! Where a folder's mbox is kept after the commit, and what stands in its place.
//!
//! `WORK/aside-RUNID/N.0` is to the folder at position N what `RUNID.0` in the archive folder is to the inbox: until the exchange the tombstone that is going to stand at the place, after it the original.
//! `N.E`, E being nanoseconds, is what was rotated out later.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use mailready_mailbox::RunId;
use mailready_mailbox::tombstone::{self, TOMBSTONE_LEN};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::file::{self, FILE, FOLDER};

/// The originals' entry.
pub(crate) const ORIGINAL: u64 = 0;

/// One folder's file in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The folder's number in the marker; the inbox is 0 and never here.
    pub(crate) position: usize,
    /// 0 is the original.
    pub(crate) made: u64,
}

impl Entry {
    pub(crate) fn original(position: usize) -> Self {
        Self { position, made: ORIGINAL }
    }

    pub(crate) fn file_name(self) -> String {
        format!("{}.{}", self.position, self.made)
    }

    fn parse(name: &CStr) -> Option<Self> {
        let (position, made) = name.to_str().ok()?.split_once('.')?;
        let entry = Self { position: position.parse().ok()?, made: made.parse().ok()? };
        // One spelling each.
        (entry.file_name().as_bytes() == name.to_bytes()).then_some(entry)
    }
}

/// What a file of that folder, or at a folder's place, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This run's tombstone, with that many bytes behind it.
    Tombstone { behind: u64 },
    /// Anything else.
    Mbox,
}

impl Kind {
    pub(crate) fn of(file: BorrowedFd<'_>, run: &RunId) -> nix::Result<Self> {
        let mut head = [0; TOMBSTONE_LEN as usize];
        let read = nix::sys::uio::pread(file, &mut head, 0)?;
        let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
        Ok(match tombstone::recognise(&head[..read]) {
            Some(found) if found == *run => Self::Tombstone { behind: size.saturating_sub(TOMBSTONE_LEN) },
            _ => Self::Mbox,
        })
    }
}

/// The folder of a run's set-aside mboxes.
#[derive(Debug)]
pub(crate) struct Aside {
    folder: OwnedFd,
    run: RunId,
}

impl Aside {
    fn name(run: &RunId) -> String {
        format!("aside-{run}")
    }

    /// Opens it; `None`: there is none.
    pub(crate) fn open(work: BorrowedFd<'_>, run: &RunId) -> nix::Result<Option<Self>> {
        match openat(work, Self::name(run).as_str(), FOLDER, Mode::empty()) {
            Ok(folder) => Ok(Some(Self { folder, run: run.clone() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens it, and makes it if it is not there, durably.
    pub(crate) fn create(work: BorrowedFd<'_>, run: &RunId) -> nix::Result<Self> {
        match mkdirat(work, Self::name(run).as_str(), Mode::S_IRWXU) {
            Ok(()) => fsync(work)?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        Self::open(work, run)?.ok_or(Errno::ENOENT)
    }

    /// Removes it with the tombstones in it; to be used where there was no commit, so nothing else can be in it.
    pub(crate) fn remove_unused(work: BorrowedFd<'_>, run: &RunId) -> nix::Result<()> {
        let Some(aside) = Self::open(work, run)? else { return Ok(()) };
        for name in file::names(aside.folder())? {
            let is_ours = match openat(&aside.folder, name.as_c_str(), OFlag::O_RDONLY | FILE, Mode::empty())
            {
                Ok(opened) => Kind::of(opened.as_fd(), run)? == Kind::Tombstone { behind: 0 },
                Err(_) => false,
            };
            // A file that was being written is no tombstone yet.
            if is_ours || name.to_bytes().ends_with(b".new") {
                unlinkat(&aside.folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
        match unlinkat(work, Self::name(run).as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOTEMPTY) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(crate) fn sync(&self) -> nix::Result<()> {
        fsync(&self.folder)
    }

    /// A whole tombstone under the entry's name, synced but for its name; one that is there stays. Mode as the mbox at the place.
    pub(crate) fn make_tombstone(&self, entry: Entry, mbox: Option<&FileStat>) -> nix::Result<()> {
        let name = entry.file_name();
        if file::glance(self.folder(), &name)?.is_some() {
            return Ok(());
        }
        let unfinished = format!("{name}.new");
        let mode = mbox.map_or(0o600, |mbox| mbox.st_mode & 0o777);
        let made = file::write_small(
            self.folder(),
            &unfinished,
            &tombstone::text(&self.run),
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?;
        // Against the mask, which is ours and not that of whoever made the mbox.
        fchmod(&made, Mode::from_bits_truncate(mode))?;
        renameat2(
            &self.folder,
            unfinished.as_str(),
            &self.folder,
            name.as_str(),
            RenameFlags::RENAME_NOREPLACE,
        )
    }

    /// Takes a tombstone back that was not used.
    pub(crate) fn remove(&self, entry: Entry) -> nix::Result<()> {
        match unlinkat(&self.folder, entry.file_name().as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Opens an entry; `None`: there is none, or no plain file.
    pub(crate) fn open_entry(&self, entry: Entry, flags: OFlag) -> nix::Result<Option<OwnedFd>> {
        match openat(&self.folder, entry.file_name().as_str(), flags | FILE, Mode::empty()) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::ENOENT | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the original is here, rather than the tombstone that is to stand for it.
    pub(crate) fn holds_original(&self, position: usize) -> nix::Result<bool> {
        match self.open_entry(Entry::original(position), OFlag::O_RDONLY)? {
            Some(entry) => Ok(Kind::of(entry.as_fd(), &self.run)? == Kind::Mbox),
            None => Ok(false),
        }
    }

    /// Puts the entry at the place and takes what stands there: one atomic step.
    pub(crate) fn exchange(&self, entry: Entry, folder: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        renameat2(folder, name, &self.folder, entry.file_name().as_str(), RenameFlags::RENAME_EXCHANGE)
    }

    /// Puts the entry at a place where nothing is.
    pub(crate) fn place(&self, entry: Entry, folder: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        renameat2(&self.folder, entry.file_name().as_str(), folder, name, RenameFlags::RENAME_NOREPLACE)
    }

    /// All entries, by position and age.
    pub(crate) fn entries(&self) -> nix::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> =
            file::names(self.folder())?.iter().filter_map(|name| Entry::parse(name)).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    /// A name for a file that is rotated out now; later than all that are here.
    pub(crate) fn next_entry(&self, position: usize) -> nix::Result<Entry> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos());
        let last = self.entries()?.iter().map(|entry| entry.made).max().unwrap_or(0);
        let made = u64::try_from(now).unwrap_or(u64::MAX >> 2).max(last + 1);
        Ok(Entry { position, made })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run() -> RunId {
        RunId::generate().unwrap()
    }

    fn folder(path: &std::path::Path) -> OwnedFd {
        nix::fcntl::open(path, FOLDER, Mode::empty()).unwrap()
    }

    #[test]
    fn a_folder_is_set_aside_and_its_tombstone_stands_with_its_mode() {
        let (work, mail, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), run());
        let place = mail.path().join("Sent");
        fs::write(&place, "From a@b Thu Jan  1 10:00:00 2026\n\nx\n").unwrap();
        fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let (work, mail) = (folder(work.path()), folder(mail.path()));
        let aside = Aside::create(work.as_fd(), &run).unwrap();
        let stat = file::glance(mail.as_fd(), "Sent").unwrap().unwrap();
        aside.make_tombstone(Entry::original(3), Some(&stat)).unwrap();
        aside.make_tombstone(Entry::original(3), Some(&stat)).unwrap();
        assert!(!aside.holds_original(3).unwrap());
        aside.exchange(Entry::original(3), mail.as_fd(), c"Sent").unwrap();
        assert!(aside.holds_original(3).unwrap());
        assert_eq!(fs::read(&place).unwrap(), tombstone::text(&run));
        assert_eq!(
            fs::metadata(&place).unwrap().permissions(),
            std::os::unix::fs::PermissionsExt::from_mode(0o100640)
        );
        assert_eq!(aside.entries().unwrap(), [Entry::original(3)]);
        Aside::remove_unused(work.as_fd(), &run).unwrap();
        assert!(aside.holds_original(3).unwrap(), "an original is never removed");
    }

    #[test]
    fn what_was_never_used_goes_and_nothing_else() {
        let (work, run) = (tempfile::tempdir().unwrap(), run());
        let work = folder(work.path());
        let aside = Aside::create(work.as_fd(), &run).unwrap();
        aside.make_tombstone(Entry::original(1), None).unwrap();
        file::write_small(aside.folder(), "2.0.new", b"This mai", Mode::S_IRWXU).unwrap();
        Aside::remove_unused(work.as_fd(), &run).unwrap();
        assert!(Aside::open(work.as_fd(), &run).unwrap().is_none());
        Aside::remove_unused(work.as_fd(), &run).unwrap();
    }

    #[test]
    fn entries_are_known_by_one_spelling() {
        assert_eq!(Entry::parse(c"3.17"), Some(Entry { position: 3, made: 17 }));
        for name in [c"3", c"3.", c"03.17", c"3.+17", c"3.0.new", c"-1.0"] {
            assert_eq!(Entry::parse(name), None, "{name:?}");
        }
    }
}
