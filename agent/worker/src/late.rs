//! Mail that somebody delivered into a Maildir whose commit a power cut took back.
//!
//! The rename of the stage was lost and the delivery was not: it is found in a stage that its run did not come to commit, and is kept in `WORK/late` for the next commit. Mail of the inbox lies there
//! itself, that of a folder in a directory named after the folder's own.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mailready_mailbox::{RunId, Tree};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::Stop;
use crate::file::{self, FOLDER};
use crate::place::Place;
use crate::wire::Step;

const LATE: &str = "late";

/// What a folder's name in there begins with; no message's name does.
const FOLDER_SIGN: &str = "=";

/// Mailboxes lie no deeper than this in a stage.
const DEPTH: usize = 64;

/// Keeps the files of a stage that its run did not make.
pub(crate) fn save(run: &RunId, place: &Place) -> Result<(), Stop> {
    save_all(run, place.work()).map_err(Stop::failed(Step::Abort))
}

fn save_all(run: &RunId, work: BorrowedFd<'_>) -> nix::Result<()> {
    let stage = match openat(work, Tree::name(run).as_str(), FOLDER, Mode::empty()) {
        Ok(stage) => stage,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    // As the engine names the messages of a stage: by the random half of the run id.
    let ours = format!("R{}", run.as_str().rsplit('-').next().unwrap_or_default());
    let mut waiting = vec![(stage, PathBuf::new(), 0)];
    while let Some((folder, path, depth)) = waiting.pop() {
        for name in file::names(folder.as_fd())? {
            let Ok(below) = openat(&folder, name.as_c_str(), FOLDER, Mode::empty()) else { continue };
            if name.as_c_str() == c"tmp" {
                continue;
            }
            if name.as_c_str() != c"new" && name.as_c_str() != c"cur" {
                if depth < DEPTH {
                    waiting.push((below, path.join(OsStr::from_bytes(name.to_bytes())), depth + 1));
                }
                continue;
            }
            for message in file::names(below.as_fd())? {
                if !message.to_string_lossy().contains(&ours) {
                    keep(work, &below, &message, &path)?;
                }
            }
        }
    }
    Ok(())
}

fn keep(work: BorrowedFd<'_>, from: &OwnedFd, message: &CStr, path: &Path) -> nix::Result<()> {
    let late = make_folder(work, LATE)?;
    let to = match path.as_os_str().is_empty() {
        true => late,
        false => make_folder(late.as_fd(), &encode(path))?,
    };
    renameat2(from, message, &to, message, RenameFlags::RENAME_NOREPLACE)?;
    fsync(&to)?;
    crate::note(
        "a message that was delivered into a Maildir whose commit was lost is kept for the next commit",
    );
    Ok(())
}

fn make_folder(above: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    match mkdirat(above, name, Mode::S_IRWXU) {
        Ok(()) => fsync(above)?,
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    openat(above, name, FOLDER, Mode::empty())
}

/// A relative path as one name; on disk names are printable ASCII, but nobody promises that.
fn encode(path: &Path) -> String {
    let mut name = FOLDER_SIGN.to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'!'..=b'~' if !b"/=".contains(byte) => name.push(char::from(*byte)),
            other => name.push_str(&format!("={other:02x}")),
        }
    }
    name
}

fn decode(name: &CStr) -> Option<PathBuf> {
    let mut rest = name.to_str().ok()?.strip_prefix(FOLDER_SIGN)?.bytes();
    let mut path = Vec::new();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                path.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => path.push(other),
        }
    }
    Some(PathBuf::from(OsStr::from_bytes(&path)))
}

/// Delivers what is kept.
pub(crate) fn deliver(place: &Place, maildir: BorrowedFd<'_>) -> Result<(), Stop> {
    deliver_all(place.work(), maildir).map_err(Stop::failed(Step::Deliver))
}

fn deliver_all(work: BorrowedFd<'_>, maildir: BorrowedFd<'_>) -> nix::Result<()> {
    let late = match openat(work, LATE, FOLDER, Mode::empty()) {
        Ok(late) => late,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for name in file::names(late.as_fd())? {
        if let Some(path) = decode(&name) {
            // A folder that is gone: its mail goes to the inbox rather than nowhere.
            let folder = file::folder_at(maildir, &path)?;
            let to = folder.as_ref().map_or(maildir, AsFd::as_fd);
            move_all(openat(&late, name.as_c_str(), FOLDER, Mode::empty())?, to)?;
            unlinkat(&late, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
        }
    }
    move_all(late, maildir)?;
    unlinkat(work, LATE, UnlinkatFlags::RemoveDir)
}

fn move_all(from: OwnedFd, mailbox: BorrowedFd<'_>) -> nix::Result<()> {
    let new = openat(mailbox, "new", FOLDER, Mode::empty())?;
    for name in file::names(from.as_fd())? {
        renameat2(&from, name.as_c_str(), &new, name.as_c_str(), RenameFlags::RENAME_NOREPLACE)?;
    }
    fsync(&new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn mail_in_a_lost_commit_goes_to_the_next_one_whichever_mailbox_it_was_for() {
        let (work, maildir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = RunId::generate().unwrap();
        let stage = work.path().join(Tree::name(&run));
        let ours = format!("1.M0Q0R{}.mailready,S=1,W=1", &run.as_str()[17..]);
        for folder in ["", ".Sent &AOQ-", "fs/deep"] {
            for sub in ["cur", "new", "tmp"] {
                fs::create_dir_all(stage.join(folder).join(sub)).unwrap();
            }
            fs::create_dir_all(maildir.path().join(folder).join("new")).unwrap();
            fs::write(stage.join(folder).join("new/theirs"), folder).unwrap();
            fs::write(stage.join(folder).join("cur").join(&ours), "ours").unwrap();
        }
        fs::remove_dir_all(maildir.path().join("fs")).unwrap();
        let open = |path: &Path| nix::fcntl::open(path, FOLDER, Mode::empty()).unwrap();
        save_all(&run, open(work.path()).as_fd()).unwrap();
        deliver_all(open(work.path()).as_fd(), open(maildir.path()).as_fd()).unwrap_err();
        // Both of one name and one of them for a folder that is gone: the second waits until the first has been taken in.
        fs::remove_file(maildir.path().join("new/theirs")).unwrap();
        deliver_all(open(work.path()).as_fd(), open(maildir.path()).as_fd()).unwrap();
        assert_eq!(fs::read_to_string(maildir.path().join(".Sent &AOQ-/new/theirs")).unwrap(), ".Sent &AOQ-");
        assert!(maildir.path().join("new/theirs").exists());
        assert!(!work.path().join(LATE).exists());
        assert_eq!(fs::read_dir(maildir.path().join("new")).unwrap().count(), 1);
    }
}
