//! Mail that still comes to the folders' old places, carried over as the agent does it for the inbox.
//!
//! Whatever stands at a folder's place with anything behind our tombstone, or without one, is exchanged for a fresh tombstone: one atomic step, after which it is a file of `aside-RUNID` that nobody else
//! can name. Those files are drained under a lease, so that no deliverer is in the middle of a message, and a tombstone among them is removed once it is drained and nobody has it open.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mailready_mailbox::extract::ArchiveEntry;
use mailready_mailbox::layout::{self, Layout};
use mailready_mailbox::marker::{Marker, MarkerSource};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::fsync;

use crate::aside::{Aside, Entry, Kind, ORIGINAL};
use crate::extraction::{Extraction, Target};
use crate::file::{self, FOLDER};
use crate::folders;
use crate::judge;
use crate::lease::Lease;
use crate::locking::{Directories, Spot};
use crate::locks::{LockFile, Locked};
use crate::wire::{Report, Step};
use crate::{Stop, Task, note, step};

/// An entry is kept at least this long: a program that had found the file by its path just before the exchange may still be on its way to opening it.
const LINGER: Duration = Duration::from_secs(2);

/// What a pass did.
#[derive(Debug, Default)]
struct Drained {
    messages: u64,
    left: u64,
}

/// One pass over all folders. `let_go`: the originals were removed, so all folders were set aside.
pub(crate) fn drain(
    task: Task<'_>,
    maildir: &OwnedFd,
    marker: &Marker,
    let_go: bool,
) -> Result<Report, Stop> {
    let mut drained = Drained::default();
    let Some(root) = task.place.mail() else {
        return Ok(Report::Drained { messages: 0, left: 0, strangers: 0 });
    };
    let aside = Aside::create(task.place.work(), task.run).map_err(Stop::failed(Step::RotateFolder))?;
    let mut directories = Directories::default();
    let mut lock = None;
    for (position, source) in marker.sources.iter().enumerate().skip(1) {
        let path = folders::path_of(&source.name);
        // Not set aside yet: what stands there is the original, and the agent is told of it otherwise.
        if !let_go && !aside.holds_original(position).map_err(Stop::failed(Step::RotateFolder))? {
            continue;
        }
        let spot = directories.spot(root, &path).map_err(Stop::failed(Step::RotateFolder))?;
        if let Some(spot) = spot
            && !rotate(task, &aside, position, &spot, &mut lock)?
        {
            drained.left += 1;
        }
    }
    for entry in aside.entries().map_err(Stop::failed(Step::Extract))? {
        if let Some(source) = marker.sources.get(entry.position).filter(|_| entry.position > 0) {
            drain_entry(task, maildir, &aside, entry, source, &mut drained)?;
        }
    }
    if lock.is_some() {
        LockFile::remove(task.place.work(), task.run).map_err(Stop::failed(Step::UnlockFolders))?;
    }
    let Drained { messages, left } = drained;
    Ok(Report::Drained { messages, left, strangers: strangers(task, marker)? })
}

/// Exchanges what stands at a folder's place for a fresh tombstone, if there is anything new in it. False: somebody has it locked or open.
fn rotate(
    task: Task<'_>,
    aside: &Aside,
    position: usize,
    spot: &Spot,
    lock: &mut Option<LockFile>,
) -> Result<bool, Stop> {
    let failed = Stop::failed(Step::RotateFolder);
    let stat = match spot.glance().map_err(&failed)? {
        Some(stat) => stat,
        None => {
            // Somebody removed the tombstone. A deliverer would make a new mbox, which is drained, too, but a reader would see an empty one.
            let entry = aside.next_entry(position).map_err(&failed)?;
            aside.make_tombstone(entry, None).map_err(&failed)?;
            if aside.place(entry, spot.directory(), &spot.name).is_err() {
                aside.remove(entry).map_err(&failed)?;
                return Ok(false);
            }
            fsync(&*spot.directory).map_err(&failed)?;
            return Ok(true);
        }
    };
    if file::kind(&stat) != SFlag::S_IFREG {
        note(&format!(
            "something that is no file stands at the place of mailbox {position}, and is left alone"
        ));
        return Ok(true);
    }
    let Some(opened) = spot.open().map_err(&failed)? else { return Ok(false) };
    if Kind::of(opened.as_fd(), task.run).map_err(&failed)? == (Kind::Tombstone { behind: 0 }) {
        return Ok(true);
    }
    if lock.is_none() {
        let made = LockFile::create(task.place.work(), task.run, &task.place.host);
        *lock = Some(made.map_err(&failed)?);
    }
    let Some(lock) = lock else { return Ok(false) };
    let entry = aside.next_entry(position).map_err(&failed)?;
    aside.make_tombstone(entry, Some(&stat)).map_err(&failed)?;
    let opened_is = fstat(&opened).map_err(&failed)?;
    let locked =
        Locked::try_take(task.job.locks, lock, opened, &spot.directory, &spot.name).map_err(&failed)?;
    let still = spot.glance().map_err(&failed)?;
    let still = still.is_some_and(|now| (now.st_dev, now.st_ino) == (opened_is.st_dev, opened_is.st_ino));
    if locked.is_none() || !still {
        aside.remove(entry).map_err(&failed)?;
        return Ok(false);
    }
    step(Step::RotateFolder, task.run);
    aside.exchange(entry, spot.directory(), &spot.name).map_err(&failed)?;
    fsync(&*spot.directory).and_then(|()| aside.sync()).map_err(&failed)?;
    Ok(true)
}

/// Carries over what is new in one file that was set aside.
fn drain_entry(
    task: Task<'_>,
    maildir: &OwnedFd,
    aside: &Aside,
    entry: Entry,
    source: &MarkerSource,
    drained: &mut Drained,
) -> Result<(), Stop> {
    let failed = Stop::failed(Step::Extract);
    let Some(opened) = aside.open_entry(entry, OFlag::O_RDWR).map_err(&failed)? else { return Ok(()) };
    let kind = Kind::of(opened.as_fd(), task.run).map_err(&failed)?;
    let size = u64::try_from(fstat(&opened).map_err(&failed)?.st_size).unwrap_or(0);
    let extraction = Extraction::new(task, ArchiveEntry { position: entry.position, number: entry.made });
    let known = extraction.position()?.or((entry.made == ORIGINAL).then_some(source.length));
    // Its owner may have deleted the mailbox since: it is made again for mail, and never for none.
    let nothing_new = known.is_some_and(|known| size <= known) && !extraction.has_waiting()?;
    // An mbox, the original or one that had reappeared, is kept; of it only what comes later is of interest.
    if kind == Kind::Mbox && nothing_new {
        return Ok(());
    }
    // The tombstone that is going to stand for a folder that is not set aside yet.
    if entry.made == ORIGINAL && kind != Kind::Mbox {
        return Ok(());
    }
    let Some(lease) = Lease::try_take(opened).map_err(&failed)? else {
        drained.left += 1;
        return Ok(());
    };
    let file = lease
        .file()
        .try_clone_to_owned()
        .map_err(|error| Stop::errno(Step::Extract, file::errno_of(&error)))?;
    let to = if nothing_new {
        size
    } else {
        let mailbox = open_mailbox(task, maildir, source)?;
        let target = Target { maildir: maildir.as_fd(), folder: mailbox.as_fd(), source: &source.name };
        let (messages, to) = extraction.carry_over(&file, None, &target)?;
        drained.messages += messages;
        to
    };
    if kind == Kind::Mbox {
        return Ok(());
    }
    let size = u64::try_from(fstat(&file).map_err(&failed)?.st_size).unwrap_or(u64::MAX);
    if to < size || !lease.is_untouched() || !has_lingered(entry.made) {
        drained.left += 1;
        return Ok(());
    }
    // In this order: an entry that came back after a power cut, with its position gone, would be delivered again.
    step(Step::ForgetFolder, task.run);
    aside.remove(entry).and_then(|()| aside.sync()).map_err(Stop::failed(Step::ForgetFolder))?;
    extraction.forget()
}

/// The mailbox of a source; one that its owner has deleted since is made again, since there is mail for it.
fn open_mailbox(task: Task<'_>, maildir: &OwnedFd, source: &MarkerSource) -> Result<OwnedFd, Stop> {
    let layout = task.job.layout;
    let directory = layout.directory(&source.name).map_err(|_| Stop::errno(Step::Deliver, Errno::EINVAL))?;
    let make = || {
        let mut folder = openat(maildir, ".", FOLDER, Mode::empty())?;
        for level in directory.split('/') {
            make_level(&folder, level)?;
            folder = openat(&folder, level, FOLDER, Mode::empty())?;
        }
        for name in ["tmp", "new", "cur"] {
            make_level(&folder, name)?;
        }
        if layout == Layout::MaildirPlusPlus && file::glance(folder.as_fd(), "maildirfolder")?.is_none() {
            file::write_small(folder.as_fd(), "maildirfolder", b"", Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        Ok(folder)
    };
    make().map_err(Stop::failed(Step::Deliver))
}

fn make_level(above: &OwnedFd, name: &str) -> nix::Result<()> {
    match mkdirat(above, name, Mode::S_IRWXU) {
        Ok(()) => fsync(above),
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Mboxes that are below the mbox root now and were not when the user was converted.
fn strangers(task: Task<'_>, marker: &Marker) -> Result<u64, Stop> {
    // A home is much to go through once a minute, and most of it is no mail.
    if task.place.at_home()? {
        return Ok(0);
    }
    let found = judge::walk(task, None, HashSet::new(), false)?;
    let ours: HashSet<&str> = marker.sources.iter().map(|source| source.name.as_str()).collect();
    let strangers = found
        .folders
        .iter()
        .filter(|folder| !ours.contains(folder.name.as_str()) && folder.name != layout::INBOX);
    Ok(strangers
        .inspect(|folder| note(&format!("{:?} came after the conversion, and is left alone", folder.path)))
        .count() as u64)
}

/// Entries are numbered by the nanosecond of their making.
fn has_lingered(made: u64) -> bool {
    let made = UNIX_EPOCH + Duration::from_nanos(made);
    // A clock that was set back makes it wait for longer, never for less.
    SystemTime::now().duration_since(made).is_ok_and(|age| age > LINGER)
}
