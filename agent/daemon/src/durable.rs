//! Small files that must survive a power failure: records and holds.
//!
//! A reader sees the old file or the new one, never a mixture, and once [`Shelf::put`] has returned the new one is there after any crash:
//! written beside its place, synced, renamed, folder synced. The folder is root's own (0700), so its entries may be named by path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Prefix of files that are being written. What a crash leaves of them is nobody's.
const UNFINISHED: &str = ".tmp-";

/// A folder of small durable files.
#[derive(Debug)]
pub struct Shelf {
    path: PathBuf,
    folder: File,
    counter: AtomicU64,
    /// What could not be removed, on a disk that gave errors.
    left: Mutex<Vec<PathBuf>>,
}

impl Shelf {
    /// Opens `path`, making it (0700) if it is missing, and removes what a crash left unfinished in it.
    ///
    /// # Errors
    /// If the folder cannot be made, opened or synced.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => sync_folder_of(&path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
            .open(&path)?;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { path, folder, counter: AtomicU64::new(0), left: Mutex::default() })
    }

    /// Path of the entry `name`, for messages and for reading.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Names of all entries; those that are no UTF-8 come with their replacement characters and will not be found.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes or replaces the entry `name` (0600). On return it is on the disk.
    ///
    /// # Errors
    /// If anything fails; then the old entry, or none, is still in place.
    pub fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.path.join(format!("{UNFINISHED}{count}"));
        let written =
            write_synced(&unfinished, content).and_then(|()| fs::rename(&unfinished, self.path_of(name)));
        if let Err(error) = written {
            // The first error is the one to tell.
            self.left().push(unfinished);
            self.clear_up();
            return Err(error);
        }
        self.clear_up();
        self.folder.sync_all()
    }

    /// Removes the entry `name`; one that is not there is fine.
    ///
    /// # Errors
    /// If it cannot be removed or the folder not be synced.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path_of(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.clear_up();
                self.folder.sync_all()
            }
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        // A list of names; nothing in it is ever half done.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what earlier failures have left, if the disk is well again; else the next start does.
    fn clear_up(&self) {
        self.left()
            .retain(|path| fs::remove_file(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound));
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_was_put_is_there_and_what_a_crash_left_is_not() {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(root.path().join("runs")).unwrap();
        shelf.put("a", b"one").unwrap();
        shelf.put("a", b"two").unwrap();
        fs::write(root.path().join("runs/.tmp-7"), b"half").unwrap();
        drop(shelf);
        let shelf = Shelf::open(root.path().join("runs")).unwrap();
        assert_eq!(shelf.names().unwrap(), ["a"]);
        assert_eq!(fs::read(shelf.path_of("a")).unwrap(), b"two");
        assert!(!root.path().join("runs/.tmp-7").exists());
        shelf.remove("a").unwrap();
        shelf.remove("a").unwrap();
        assert!(shelf.names().unwrap().is_empty());
    }

    #[test]
    fn a_failed_put_leaves_the_old_file_and_no_rubbish() {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(root.path().join("runs")).unwrap();
        fs::create_dir_all(root.path().join("runs/a/inside")).unwrap();
        assert!(shelf.put("a", b"x").is_err(), "a folder cannot be replaced by a file");
        assert_eq!(fs::read_dir(root.path().join("runs")).unwrap().count(), 1);
    }
}
