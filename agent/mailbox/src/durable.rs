//! How files reach the disk.
//!
//! One `syncfs` at the end is fastest by far, but waits for everybody's dirty pages, which on a busy disk may take minutes: right
//! for `convert-file`, wrong while a client waits. There each file is synced by itself, by a few threads while others are
//! written: a journal commits many files at once if they ask together. The threads belong to the whole tree, so that a
//! user's many small folders are not waited for one by one.

use crate::{Error, Result, SyncHow, dir};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Threads that wait for the disk. They use no processor.
const THREADS: usize = 8;
/// Files written and not yet synced: few descriptors.
const QUEUE: usize = 64;

/// Takes written files and folders and makes them durable, each by itself; with [`SyncHow::SyncFs`] it only closes them.
///
/// Its threads end when it is dropped and their queue is empty.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// `None`: nobody is there to sync.
    queue: Option<SyncSender<File>>,
    /// For threads that are still to be started: they are when there is something to do.
    waiting: Mutex<Vec<Worker>>,
    state: Arc<Shared>,
}

#[derive(Debug)]
struct Worker {
    files: Arc<Mutex<Receiver<File>>>,
    state: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Taken and not yet durable.
    pending: usize,
    /// The first one, until somebody hears of it.
    error: Option<Error>,
}

impl Syncer {
    pub(crate) fn new(how: SyncHow) -> Self {
        let state = Arc::new(Shared::default());
        if how == SyncHow::SyncFs {
            return Syncer { queue: None, waiting: Mutex::default(), state };
        }
        let (queue, files) = sync_channel(QUEUE);
        let files = Arc::new(Mutex::new(files));
        let worker = || Worker { files: Arc::clone(&files), state: Arc::clone(&state) };
        let waiting = Mutex::new((0..THREADS).map(|_| worker()).collect());
        Syncer { queue: Some(queue), waiting, state }
    }

    /// A file or folder is complete. Waits where too many are under way.
    pub(crate) fn take(&self, file: impl Into<File>) {
        let Some(queue) = &self.queue else { return };
        if let Some(worker) = lock(&self.waiting).pop() {
            std::thread::spawn(move || worker.work());
        }
        lock(&self.state.state).pending += 1;
        if queue.send(file.into()).is_err() {
            // Cannot be: the receiver lives in the threads, and they end when this queue does.
            lock(&self.state.state).pending -= 1;
        }
    }

    /// Waits until everything taken is durable, but for names in folders that were not taken.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut state = lock(&self.state.state);
        while state.pending > 0 {
            state = self.state.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Worker {
    fn work(self) {
        loop {
            // The lock is held while waiting: exactly one waits at the queue, the others behind it.
            let next = lock(&self.files).recv();
            let Ok(file) = next else { return };
            let synced = dir::sync(&file, "a message file");
            drop(file);
            let mut state = lock(&self.state.state);
            state.pending -= 1;
            if let Err(e) = synced {
                state.error.get_or_insert(e);
            }
            if state.pending == 0 {
                self.state.idle.notify_all();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything on the file system of `folder` becomes durable.
pub(crate) fn sync_file_system(folder: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::syncfs(folder).map_err(Error::io("sync the file system of", "the stage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_and_what_follows_is_synced_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let syncer = Syncer::new(SyncHow::PerFile);
        syncer.wait().unwrap();
        for i in 0..300 {
            // A pipe cannot be synced.
            if i == 7 {
                syncer.take(nix::unistd::pipe().unwrap().0);
            }
            syncer.take(File::create(dir.path().join(i.to_string())).unwrap());
        }
        assert!(matches!(syncer.wait(), Err(Error::Io { doing: "sync", .. })));
        syncer.take(File::open(dir.path()).unwrap());
        syncer.wait().unwrap();
        Syncer::new(SyncHow::SyncFs).wait().unwrap();
    }
}
