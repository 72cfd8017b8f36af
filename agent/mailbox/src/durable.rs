//! How message files reach the disk.
//!
//! One `syncfs` at the end is fastest by far, but waits for everybody's dirty pages, which on a busy disk may take minutes: right
//! for `convert-file`, wrong while a client waits. There each file is synced by itself, by a few threads while others are
//! written: a journal commits many files at once if they ask together.

use crate::{Error, Result, SyncHow, dir};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Threads that wait for the disk. They use no processor.
const THREADS: usize = 8;
/// Files written and not yet synced: few descriptors.
const QUEUE: usize = 64;

/// Takes written files and makes them durable, each by itself; with [`SyncHow::SyncFs`] it only closes them.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// `None`: nobody is there to sync.
    queue: Option<SyncSender<File>>,
    /// For the threads that are still to be started; nobody else may keep it, or a queue whose threads have all ended would take files.
    files: Option<Arc<Mutex<Receiver<File>>>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Syncer {
    pub(crate) fn new(how: SyncHow) -> Self {
        let (queue, files) = sync_channel(QUEUE);
        let queue = (how == SyncHow::PerFile).then_some(queue);
        Syncer { queue, files: Some(Arc::new(Mutex::new(files))), threads: Vec::new() }
    }

    /// A file or folder is complete.
    pub(crate) fn take(&mut self, file: impl Into<File>) -> Result<()> {
        let Some(queue) = &self.queue else { return Ok(()) };
        // Most mailboxes of a tree have few files, and need few threads.
        if let Some(files) = self.files.take() {
            if self.threads.len() + 1 < THREADS {
                self.files = Some(Arc::clone(&files));
            }
            self.threads.push(std::thread::spawn(move || work(&files)));
        }
        match queue.send(file.into()) {
            Ok(()) => Ok(()),
            // All threads have ended, each with an error.
            Err(_) => self.close(),
        }
    }

    /// Waits until all files taken are durable, but for their names in folders.
    pub(crate) fn close(&mut self) -> Result<()> {
        (self.queue, self.files) = (None, None);
        self.threads.drain(..).try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

fn work(files: &Mutex<Receiver<File>>) -> Result<()> {
    loop {
        // The lock is held while waiting: exactly one waits at the queue, the others behind it.
        let next = files.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(file) => dir::sync(&file, "a message file")?,
            Err(_) => return Ok(()),
        }
    }
}

/// Everything on the file system of `folder` becomes durable.
pub(crate) fn sync_file_system(folder: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::syncfs(folder).map_err(Error::io("sync the file system of", "the stage"))
}
