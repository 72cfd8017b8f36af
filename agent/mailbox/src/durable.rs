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
/// Files written and not yet synced: what a crash of this process costs nobody, and few descriptors.
const QUEUE: usize = 64;

/// Takes written files and makes them durable.
#[derive(Debug)]
pub(crate) enum Syncer {
    /// All together at the end.
    AtEnd,
    /// One by one; dropped files are synced by then or their error is kept.
    Pool {
        /// `None` once it is closed.
        queue: Option<SyncSender<File>>,
        threads: Vec<JoinHandle<Result<()>>>,
    },
}

impl Syncer {
    pub(crate) fn new(how: SyncHow) -> Self {
        match how {
            SyncHow::SyncFs => Syncer::AtEnd,
            SyncHow::PerFile => {
                let (queue, files) = sync_channel(QUEUE);
                let files = Arc::new(Mutex::new(files));
                let threads = (0..THREADS)
                    .map(|_| {
                        let files = Arc::clone(&files);
                        std::thread::spawn(move || work(&files))
                    })
                    .collect();
                Syncer::Pool { queue: Some(queue), threads }
            }
        }
    }

    /// A message file is complete.
    pub(crate) fn take(&mut self, file: File) -> Result<()> {
        if let Syncer::Pool { queue: Some(queue), .. } = self
            && queue.send(file).is_err()
        {
            // All threads have ended, each with an error.
            return self.finish_pool();
        }
        Ok(())
    }

    /// Everything taken is durable after this; `folder` says on which file system. New names in folders are not part of it where
    /// each file is synced by itself.
    pub(crate) fn finish(&mut self, folder: BorrowedFd<'_>) -> Result<()> {
        match self {
            Syncer::AtEnd => {
                nix::unistd::syncfs(folder).map_err(Error::io("sync the file system of", "the stage"))
            }
            Syncer::Pool { .. } => self.finish_pool(),
        }
    }

    fn finish_pool(&mut self) -> Result<()> {
        let Syncer::Pool { queue, threads } = self else { return Ok(()) };
        *queue = None;
        threads.drain(..).try_for_each(|thread| match thread.join() {
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
