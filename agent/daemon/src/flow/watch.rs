//! Tells when something has come to an old place: inotify on the spool folders and on the archive folders.
//!
//! A hint and no more: after an overflow, and once a minute in any case, every converted mailbox is glanced at.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

pub(super) struct Watch {
    inotify: Inotify,
    folders: HashMap<WatchDescriptor, PathBuf>,
    watched: HashSet<PathBuf>,
}

/// What has happened since the last time.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Folder and name of each file that was written or has appeared.
    pub(super) files: HashSet<(PathBuf, OsString)>,
    /// Events were lost: look at everything.
    pub(super) everything: bool,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { inotify: Inotify::init()?, folders: HashMap::new(), watched: HashSet::new() })
    }

    /// Watches one more folder.
    pub(super) fn add(&mut self, folder: &Path) -> io::Result<()> {
        if !self.watched.contains(folder) {
            let mask = WatchMask::CLOSE_WRITE
                | WatchMask::MOVED_TO
                | WatchMask::MOVED_FROM
                | WatchMask::DELETE
                | WatchMask::ONLYDIR;
            let descriptor = self.inotify.watches().add(folder, mask)?;
            self.folders.insert(descriptor, folder.to_owned());
            self.watched.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Takes what has happened, without waiting.
    pub(super) fn changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut buffer = [0; 16 * 1024];
        loop {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changes,
                Err(error) => {
                    tracing::warn!("inotify: {error}");
                    changes.everything = true;
                    return changes;
                }
            };
            let mut any = false;
            for event in events {
                any = true;
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    changes.everything = true;
                }
                if event.mask.contains(EventMask::IGNORED) {
                    // The folder itself is gone or unmounted; it is watched again when it is next asked for.
                    if let Some(folder) = self.folders.remove(&event.wd) {
                        self.watched.remove(&folder);
                    }
                    changes.everything = true;
                } else if let (Some(folder), Some(name)) = (self.folders.get(&event.wd), event.name) {
                    changes.files.insert((folder.clone(), name.to_owned()));
                }
            }
            if !any {
                return changes;
            }
        }
    }
}
