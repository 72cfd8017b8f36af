//! Holds made at run time: `STATE/holds/USER`, as laid down in ARCHITECTURE.md. Those under configuration management are in the file
//! `users.hold`.
//!
//! A hold that cannot be read still holds: the error is on the side of leaving the mail alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::durable::Shelf;
use crate::users::Name;

/// One hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Login name or uid of whoever made it.
    pub by: String,
    /// Unix seconds.
    pub since: u64,
    /// Unix seconds; None: until it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// What whoever made it said about it.
    #[serde(default)]
    pub why: String,
}

impl Hold {
    /// Whether it holds at a time in unix seconds.
    pub fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A hold file, or their folder, that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct HoldError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
}

/// All holds made at run time.
#[derive(Debug)]
pub struct Holds {
    shelf: Shelf,
    writing: Mutex<()>,
    index: Mutex<BTreeMap<String, Hold>>,
}

impl Holds {
    /// Opens `STATE/holds` and reads all of it. A file that cannot be read counts as a hold for ever, and is returned beside it.
    ///
    /// # Errors
    /// If the folder itself cannot be made or read.
    pub fn open(state: &Path) -> Result<(Self, Vec<HoldError>), HoldError> {
        let path = state.join("holds");
        let of_folder = |error: io::Error| HoldError { path: path.clone(), what: error.to_string() };
        let shelf = Shelf::open(path.clone()).map_err(of_folder)?;
        let mut index = BTreeMap::new();
        let mut errors = Vec::new();
        for name in shelf.names().map_err(of_folder)? {
            let file = shelf.path_of(&name);
            let read = fs::read_to_string(&file)
                .map_err(|error| error.to_string())
                .and_then(|text| toml::from_str(&text).map_err(|error| format!("not a hold: {error}")));
            let hold = read.unwrap_or_else(|what| {
                let why = format!("{} cannot be read", file.display());
                errors.push(HoldError { path: file, what });
                Hold { by: "mailready".into(), since: 0, until: None, why }
            });
            index.insert(name, hold);
        }
        Ok((Self { shelf, writing: Mutex::new(()), index: Mutex::new(index) }, errors))
    }

    /// Makes or replaces a user's hold. Blocks for a sync.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, user: &Name, hold: &Hold) -> io::Result<()> {
        let text = toml::to_string(hold).map_err(io::Error::other)?;
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelf.put(user.as_str(), text.as_bytes())?;
        self.index().insert(user.as_str().to_owned(), hold.clone());
        Ok(())
    }

    /// Ends a user's hold; false if there was none. Blocks for a sync.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn remove(&self, user: &Name) -> io::Result<bool> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelf.remove(user.as_str())?;
        Ok(self.index().remove(user.as_str()).is_some())
    }

    /// The hold of a user at a time in unix seconds.
    pub fn of(&self, user: &str, now: u64) -> Option<Hold> {
        self.index().get(user).filter(|hold| hold.holds(now)).cloned()
    }

    /// All users with a hold at a time in unix seconds.
    pub fn users(&self, now: u64) -> Vec<String> {
        self.index().iter().filter(|(_, hold)| hold.holds(now)).map(|(user, _)| user.clone()).collect()
    }

    fn index(&self) -> MutexGuard<'_, BTreeMap<String, Hold>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_hold_survives_a_restart_and_ends_at_its_time() {
        let root = tempfile::tempdir().unwrap();
        let (holds, errors) = Holds::open(root.path()).unwrap();
        assert!(errors.is_empty());
        let ann = Name::new(b"ann").unwrap();
        let hold = Hold { by: "root".into(), since: 5, until: Some(10), why: "exam \"week\"".into() };
        holds.put(&ann, &hold).unwrap();
        let (holds, errors) = Holds::open(root.path()).unwrap();
        assert!(errors.is_empty());
        assert_eq!(holds.of("ann", 9), Some(hold));
        assert_eq!(holds.of("ann", 10), None);
        assert_eq!(holds.users(9), ["ann"]);
        assert!(holds.remove(&ann).unwrap());
        assert!(!holds.remove(&ann).unwrap());
        assert_eq!(Holds::open(root.path()).unwrap().0.of("ann", 9), None);
    }

    #[test]
    fn a_hold_that_cannot_be_read_holds() {
        let root = tempfile::tempdir().unwrap();
        drop(Holds::open(root.path()).unwrap());
        fs::write(root.path().join("holds/bob"), "by = ").unwrap();
        let (holds, errors) = Holds::open(root.path()).unwrap();
        assert_eq!(errors.len(), 1);
        assert!(holds.of("bob", 9).unwrap().why.contains("holds/bob"));
    }
}
