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
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Syncer {
    pub(crate) fn new(how: SyncHow) -> Self {
        if how == SyncHow::SyncFs {
            return Syncer { queue: None, threads: Vec::new() };
        }
        let (queue, files) = sync_channel(QUEUE);
        let files = Arc::new(Mutex::new(files));
        let threads = (0..THREADS)
            .map(|_| {
                let files = Arc::clone(&files);
                std::thread::spawn(move || work(&files))
            })
            .collect();
        Syncer { queue: Some(queue), threads }
    }

    /// A message file is complete.
    pub(crate) fn take(&mut self, file: File) -> Result<()> {
        match &self.queue {
            // All threads have ended, each with an error.
            Some(queue) if queue.send(file).is_err() => self.close(),
            _ => Ok(()),
        }
    }

    /// Waits until all files taken are durable, but for their names in folders.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.queue = None;
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
