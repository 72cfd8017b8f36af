//! Empty files in a home that is an mbox root at the same time.
//!
//! Dovecot shows every one of them as an empty mailbox, and some are: a client has made them. What the others are nobody can tell, so none is touched. But clients go on seeing an empty mailbox of that name, with
//! the numbers that Dovecot told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mailready_mailbox::{Layout, index};
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::fsync;

use crate::file::{self, FOLDER};
use crate::folders::Folder;
use crate::look;
use crate::staging::Staging;
use crate::told::ToldBox;
use crate::wire::{Block, Step};
use crate::{Stop, Task, note};

/// More than these are no mailboxes that a person has made.
const AT_MOST: usize = 500;

/// Makes the mailboxes of all empty files that Dovecot told of, in the stage.
pub(crate) fn make(staging: &Staging<'_>) -> Result<(), Stop> {
    let told = staging.empties.iter().filter_map(|empty| Some((empty, staging.told.find(&empty.name)?)));
    for (empty, told) in told.take(AT_MOST) {
        match staging.task.job.layout.directory(&empty.name) {
            Ok(directory) => make_one(staging.task, staging.tree.folder(), &directory, empty, told)?,
            // It has held mail once.
            Err(why) if told.uid_next.is_some_and(|next| next > 1) => {
                note(&format!("the empty folder {:?}: {why}", empty.name));
                return Err(Stop::blocked(Block::Names, 0));
            }
            // That the layout cannot name some file is no reason to hold back everything else.
            Err(_) => {}
        }
    }
    Ok(())
}

fn make_one(
    task: Task<'_>,
    root: BorrowedFd<'_>,
    directory: &str,
    empty: &Folder,
    told: &ToldBox,
) -> Result<(), Stop> {
    let failed = Stop::failed(Step::Stage);
    let (Some(validity), Some(next)) = (told.uid_validity, told.uid_next) else { return Ok(()) };
    let make = || {
        let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
        for level in directory.split('/') {
            folder = make_folder(&folder, level)?;
        }
        for name in ["tmp", "new", "cur"] {
            make_folder(&folder, name)?;
        }
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        if task.job.layout == Layout::MaildirPlusPlus {
            file::write_small(folder.as_fd(), "maildirfolder", b"", private)?;
        }
        let guid = told.guid.map(|guid| format!(" G{:032x}", u128::from_be_bytes(guid))).unwrap_or_default();
        let list = format!("3 V{validity} N{next}{guid}\n");
        file::write_small(folder.as_fd(), "dovecot-uidlist", list.as_bytes(), private)?;
        fsync(&folder).map(|()| folder)
    };
    let folder = make().map_err(&failed)?;
    match look::index_folder(task.place.index(), Some(&empty.path)).map_err(&failed)? {
        Some(index) => {
            index::carry(index.as_fd(), folder.as_fd()).map(drop).map_err(Stop::engine(Step::Stage))
        }
        None => Ok(()),
    }
}

fn make_folder(above: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    match mkdirat(above, name, Mode::S_IRWXU) {
        Ok(()) => fsync(above)?,
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    openat(above, name, FOLDER, Mode::empty())
}
