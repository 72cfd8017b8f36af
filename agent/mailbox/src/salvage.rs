//! Message files of a stage that came to nothing, taken over by the next one instead of being written again.
//!
//! A stage whose run was killed, stopped or put off is kept in the work folder under another name ([`kept_name`]). The next run splits the mbox as ever and
//! finds for each message whether its file is there already. **Nothing of the old stage is believed.** Its lists may be missing, cut off or, after a power cut, full of
//! zeros, so they are not read at all; its files are the user's own and anybody's who has become that user. A file is taken if what it *holds* is what this run would write, byte for byte, which
//! is found out by reading it; its name only says which files are worth reading, by their size. From then on it is a file of the new stage like any other: synced, read back from disk with all others before the commit.
//!
//! The same way a mailbox that has to be written again (flags rewritten in place, mail expunged) takes over what it had.
//!
//! Taken means renamed: whatever dies when, a file is in one of the two stages, and no file ever has two names. What is no regular file, has another name besides, belongs to
//! somebody else or has another mode than ours is left where it is. An error is no error: then the message is written, as without all this.
//!
//! Messages that are not held in memory would be written before their hash is known. So they are compared as they come with the one file that begins as they do, and nothing is written as
//! long as they agree (`Twin`).

use crate::window::read_at;
use crate::{Error, Result, RunId, dir};
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{FileStat, fstat, fstatat};
use nix::unistd::geteuid;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the name of a kept stage begins with; the run id follows.
const KEPT: &str = "kept-";
/// Files that are remembered, of a hundred bytes or so each: more than any mailbox has.
const MOST_FILES: usize = 1 << 20;
/// Mailboxes lie no deeper.
const DEPTH: usize = 64;
/// Bytes by which a file of a message that cannot be held is found.
pub(crate) const BEGINNING: usize = 1 << 20;
/// Bytes that may be read in vain beyond those that were of use: then the old stage is of another mailbox, or made to keep us busy.
const IN_VAIN: u64 = 256 << 20;
/// Bytes read at a time.
const BUFFER: usize = 256 << 10;

/// The name in the work folder of the stage that a run has left.
pub fn kept_name(run: &RunId) -> String {
    format!("{KEPT}{run}")
}

/// The name in the work folder of a mailbox that is written again: pass number `pass` of its run.
pub(crate) fn put_away_name(run: &RunId, pass: u64) -> String {
    format!("{KEPT}{run}.{pass}")
}

/// Whether a name in the work folder is one of these.
pub fn is_kept_name(name: &str) -> bool {
    let run = name.strip_prefix(KEPT).map(|rest| rest.split_once('.').map_or(rest, |(run, _)| run));
    run.is_some_and(|run| RunId::parse(run).is_some())
}

/// The message files of kept stages. Both halves of a pass ask it.
#[derive(Debug, Default)]
pub(crate) struct Salvage(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    folders: Vec<Folder>,
    /// Not read yet, by size, in the order of their names, which is that of the messages.
    unread: HashMap<u64, VecDeque<Candidate>>,
    read: HashMap<[u8; 32], Vec<Candidate>>,
    /// Of more than [`BEGINNING`] bytes, in the order of their names; and those of which the beginning was read.
    large: VecDeque<Candidate>,
    begun: HashMap<[u8; 32], Vec<Candidate>>,
    files: usize,
    in_vain: u64,
    of_use: u64,
    /// The folder that was asked for last.
    open: Option<(usize, OwnedFd)>,
}

/// A `cur/` or `new/`.
#[derive(Debug)]
struct Folder {
    /// The kept stage.
    root: OwnedFd,
    path: String,
}

#[derive(Debug)]
struct Candidate {
    folder: usize,
    name: Box<str>,
    size: u64,
}

/// A file that begins as a message does that is being read.
#[derive(Debug)]
pub(crate) struct Twin {
    file: File,
    folder: OwnedFd,
    name: Box<str>,
    /// Its size.
    pub(crate) size: u64,
}

impl Salvage {
    /// Adds the files of a kept stage, or of anything that was one.
    pub(crate) fn add(&self, root: BorrowedFd<'_>) -> Result<()> {
        let mut files = self.lock();
        let mut waiting = vec![(String::new(), 0)];
        while let Some((path, depth)) = waiting.pop() {
            let folder = dir::open_below(root, &path)?;
            let mut names = Vec::new();
            dir::for_each_name(&folder, &path, |name| {
                names.extend(std::str::from_utf8(name).map(str::to_owned));
            })?;
            names.sort_unstable();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                match name.as_str() {
                    "tmp" => {}
                    "cur" | "new" => files.add_folder(root, below)?,
                    // Not a folder, or a link to one: nothing of ours.
                    _ if depth < DEPTH && dir::open(&folder, &name).is_ok() => {
                        waiting.push((below, depth + 1))
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Takes a file of this content over: it is `name` in `to` now, which must not exist.
    pub(crate) fn take(&self, hash: &[u8; 32], size: u64, to: BorrowedFd<'_>, name: &str) -> Option<File> {
        let mut files = self.lock();
        if let Some(found) = files.read.get_mut(hash).and_then(Vec::pop) {
            let file = files.open(&found)?;
            return files.move_to(&found, file, to, name);
        }
        while let Some(candidate) = files.unread.get_mut(&size).and_then(VecDeque::pop_front) {
            if files.in_vain > files.of_use + IN_VAIN {
                return None;
            }
            let Some(file) = files.open(&candidate) else { continue };
            let Some(found) = hash_of(&file, size) else { continue };
            if found == *hash {
                files.of_use += size;
                if let Some(file) = files.move_to(&candidate, file, to, name) {
                    return Some(file);
                }
            } else {
                files.in_vain += size;
                files.read.entry(found).or_default().push(candidate);
            }
        }
        None
    }

    /// A file that begins with these bytes, of which there are [`BEGINNING`] or more.
    pub(crate) fn twin(&self, begins: &[u8]) -> Option<Twin> {
        let beginning = begins.get(..BEGINNING)?;
        let mut files = self.lock();
        let hash = *blake3::hash(beginning).as_bytes();
        if let Some(found) = files.begun.get_mut(&hash).and_then(Vec::pop) {
            return files.twin(found, begins);
        }
        let mut buf = vec![0; BEGINNING];
        while let Some(candidate) = files.large.pop_front() {
            if files.in_vain > files.of_use + IN_VAIN {
                return None;
            }
            let Some(file) = files.open(&candidate) else { continue };
            if !read_exactly(&file, &mut buf, 0) {
                continue;
            }
            if buf == beginning {
                files.of_use += candidate.size;
                return files.twin(candidate, begins);
            }
            files.in_vain += BEGINNING as u64;
            files.begun.entry(*blake3::hash(&buf).as_bytes()).or_default().push(candidate);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn add_folder(&mut self, root: BorrowedFd<'_>, path: String) -> Result<()> {
        let folder = dir::open_below(root, &path)?;
        let mut names = Vec::new();
        dir::for_each_name(&folder, &path, |name| {
            names.extend(
                std::str::from_utf8(name).ok().and_then(|name| Some((name.to_owned(), size_in(name)?))),
            );
        })?;
        names.truncate(MOST_FILES.saturating_sub(self.files));
        names.sort_unstable();
        self.files += names.len();
        let number = self.folders.len();
        let root = root.try_clone_to_owned().map_err(Error::io("keep open", "a kept stage"))?;
        self.folders.push(Folder { root, path });
        for (name, size) in names {
            let candidate = Candidate { folder: number, name: name.into(), size };
            if size > BEGINNING as u64 {
                self.large.push_back(candidate);
            } else {
                self.unread.entry(size).or_default().push_back(candidate);
            }
        }
        Ok(())
    }

    fn folder(&mut self, number: usize) -> Option<BorrowedFd<'_>> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let folder = self.folders.get(number)?;
            self.open = Some((number, dir::open_below(&folder.root, &folder.path).ok()?));
        }
        self.open.as_ref().map(|(_, folder)| folder.as_fd())
    }

    /// The file, if it is one that a stage of ours could have.
    fn open(&mut self, candidate: &Candidate) -> Option<File> {
        let size = candidate.size;
        let file = dir::open_file(self.folder(candidate.folder)?, &candidate.name).ok()?;
        let stat = fstat(&file).ok()?;
        is_ours(&stat, size).then_some(file)
    }

    fn move_to(&mut self, found: &Candidate, file: File, to: BorrowedFd<'_>, name: &str) -> Option<File> {
        let folder = self.folder(found.folder)?;
        take_over(folder, &found.name, &file, to, name).then_some(file)
    }

    fn twin(&mut self, candidate: Candidate, begins: &[u8]) -> Option<Twin> {
        let file = self.open(&candidate)?;
        let folder = self.folder(candidate.folder)?.try_clone_to_owned().ok()?;
        let twin = Twin { file, folder, name: candidate.name, size: candidate.size };
        twin.goes_on(begins, 0).then_some(twin)
    }
}

impl Twin {
    /// Whether these bytes stand in it at `at`.
    pub(crate) fn goes_on(&self, bytes: &[u8], at: u64) -> bool {
        let mut buf = vec![0; BUFFER.min(bytes.len())];
        let mut at = at;
        bytes.chunks(BUFFER).all(|chunk| {
            let there = &mut buf[..chunk.len()];
            let same = read_exactly(&self.file, there, at) && there == chunk;
            at += chunk.len() as u64;
            same
        })
    }

    /// Copies its first bytes.
    pub(crate) fn copy(&self, length: u64, to: &mut File) -> Result<()> {
        use std::io::Write;
        let mut buf = vec![0; BUFFER];
        let mut at = 0;
        while at < length {
            let part = usize::try_from(length - at).map_or(BUFFER, |left| left.min(BUFFER));
            let n =
                read_at(self.file.as_fd(), &mut buf[..part], at).map_err(Error::io("read", &*self.name))?;
            if n == 0 {
                return Err(Error::io("read", &*self.name)(nix::errno::Errno::EIO));
            }
            to.write_all(&buf[..n]).map_err(Error::io("write", &*self.name))?;
            at += n as u64;
        }
        Ok(())
    }

    /// Takes it over: it is `name` in `to` now. `Err`: it is not what was read any more; the twin comes back.
    pub(crate) fn take(self, to: BorrowedFd<'_>, name: &str) -> std::result::Result<File, Twin> {
        if take_over(self.folder.as_fd(), &self.name, &self.file, to, name) {
            Ok(self.file)
        } else {
            Err(self)
        }
    }
}

/// Renames the file that was read. What stands under its name may be another one by now, and then that is what was renamed: it goes back where it was, and is none of ours.
fn take_over(from: BorrowedFd<'_>, old: &str, file: &File, to: BorrowedFd<'_>, new: &str) -> bool {
    if renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE).is_err() {
        return false;
    }
    let read = fstat(file).map(|stat| (stat.st_dev, stat.st_ino, stat.st_nlink));
    let moved = fstatat(to, new, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino, 1));
    if matches!((read, moved), (Ok(read), Ok(moved)) if read == moved) {
        return true;
    }
    // Fails only where somebody is at work with the user's rights; then the read-back stops this run.
    let _ = renameat2(to, new, from, old, RenameFlags::RENAME_NOREPLACE);
    false
}

fn is_ours(stat: &FileStat, size: u64) -> bool {
    use nix::libc::{S_IFMT, S_IFREG};
    let (regular, mode) = (stat.st_mode & S_IFMT == S_IFREG, stat.st_mode & 0o7777);
    regular
        && mode == 0o600
        && stat.st_nlink == 1
        && stat.st_uid == geteuid().as_raw()
        && u64::try_from(stat.st_size) == Ok(size)
}

/// The size that the name of a message file of ours tells.
fn size_in(name: &str) -> Option<u64> {
    let (_, rest) = name.split_once(".mailready,S=")?;
    rest.split_once(',')?.0.parse().ok()
}

fn hash_of(file: &File, size: u64) -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; usize::try_from(size).map_or(BUFFER, |size| size.clamp(1, BUFFER))];
    let mut at = 0;
    loop {
        let n = read_at(file.as_fd(), &mut buf, at).ok()?;
        if n == 0 {
            break;
        }
        hasher.update(&buf[..n]);
        at += n as u64;
        if at > size {
            return None;
        }
    }
    (at == size).then(|| *hasher.finalize().as_bytes())
}

fn read_exactly(file: &File, into: &mut [u8], at: u64) -> bool {
    let mut read = 0;
    while read < into.len() {
        match read_at(file.as_fd(), &mut into[read..], at + read as u64) {
            Ok(n) if n > 0 => read += n,
            _ => return false,
        }
    }
    true
}
