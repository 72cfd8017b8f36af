//! One file, no agent: `mailready convert-file MBOX MAILDIR`.
//!
//! The mbox stays as it is; what appears is the Maildir, complete or not at all: it is made in a hidden folder beside its place,
//! synced, read back, and renamed. Whatever goes wrong before that, the hidden folder is removed.

use crate::locks::Locks;
use crate::verify::{ReadFrom, read_back};
use crate::{
    Error, Known, Layout, OnProgress, Result, Rules, RunId, Server, Source, Stage, Summary, SyncHow, Tree,
    dir,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Settings of [`convert_file`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose rules.
    pub rules: Rules,
    /// How long to try for the mbox's locks.
    pub lock_wait: Duration,
}

impl Default for Options {
    /// Dovecot, this machine's time zone, ten seconds.
    fn default() -> Self {
        let rules = Rules { server: crate::Server::Dovecot, zone: crate::Zone::local() };
        Options { rules, lock_wait: Duration::from_secs(10) }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// What the Maildir holds.
    pub summary: Summary,
    /// Whether the dotlock was taken too (not where the folder does not let us).
    pub dotlock: bool,
}

/// Converts `mbox` into a new Maildir at `maildir`; the mbox stays as it is.
///
/// Takes the mbox's locks, stages beside the target, syncs, reads back, and commits by one rename that replaces nothing.
/// On an error there is neither a Maildir nor a stage.
pub fn convert_file(
    mbox: &Path,
    maildir: &Path,
    options: &Options,
    progress: OnProgress<'_>,
) -> Result<Converted> {
    let target = Target::new(maildir)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(mbox, flags, Mode::empty()).map(File::from).map_err(Error::io("open", mbox))?;
    let source =
        Source { name: "INBOX".into(), path: std::path::absolute(mbox).unwrap_or_else(|_| mbox.to_owned()) };
    crate::stage::length_of(file.as_fd(), &source.path)?;
    let run = RunId::generate()?;
    let locks = Locks::take(&file, mbox, &run, options.lock_wait)?;

    let hidden = Hidden::create(&target.parent, &run)?;
    let mut tree = Tree::create(hidden.folder.as_fd(), &run, Layout::default(), SyncHow::SyncFs)?;
    tree.write_box(0, file.as_fd(), &source, &Known::default(), &options.rules, progress)?;
    if options.rules.server == Server::Dovecot {
        tree.get_mut(0).map_or(Ok(()), Stage::recent_without_index)?;
    }
    let summary = tree.get(0).map(Stage::summary).cloned().ok_or(Error::Cancelled)?;
    let root = tree.folder().try_clone_to_owned().map_err(Error::io("keep open", "the stage"))?;
    // While the disk is busy with all this, it is read back from where the kernel has it: the mbox stays, so what has to be found
    // here are mistakes of ours. That the disk has it is what `syncfs` says.
    let (sealed, compared) = std::thread::scope(|scope| {
        let sealing = scope.spawn(|| tree.seal());
        let compared = read_back(root.as_fd(), ReadFrom::Kernel, &mut |_| ControlFlow::Continue(()));
        (sealing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), compared)
    });
    compared?;
    sealed?;
    let name = Tree::name(&run);
    renameat2(&hidden.folder, name.as_str(), &target.parent, target.name, RenameFlags::RENAME_NOREPLACE)
        .map_err(|e| match e {
            Errno::EEXIST => Error::Exists { path: maildir.to_owned() },
            e => Error::io("commit", maildir)(e),
        })?;
    dir::sync(&target.parent, maildir)?;
    Ok(Converted { summary, dotlock: locks.has_dotlock() })
}

/// Where the Maildir is going to be. Nothing may be there, not even an empty folder.
struct Target<'p> {
    parent: OwnedFd,
    name: &'p str,
}

impl<'p> Target<'p> {
    fn new(maildir: &'p Path) -> Result<Self> {
        let name = maildir
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| Error::io("make a Maildir of the name", maildir)(Errno::EINVAL))?;
        let parent = maildir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(Error::io("open folder", parent))?;
        if dir::exists(&parent, name)? {
            return Err(Error::Exists { path: maildir.to_owned() });
        }
        Ok(Target { parent, name })
    }
}

/// The hidden folder beside the target; removed when dropped, with whatever is in it by then.
struct Hidden<'p> {
    parent: &'p OwnedFd,
    name: String,
    folder: OwnedFd,
}

impl<'p> Hidden<'p> {
    fn create(parent: &'p OwnedFd, run: &RunId) -> Result<Self> {
        let name = format!(".mailready-{run}");
        let folder = dir::create(parent, &name)?;
        Ok(Hidden { parent, name, folder })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // On success it is empty. Otherwise there is an error on its way that matters more than what this one says.
        if unlinkat(self.parent, self.name.as_str(), UnlinkatFlags::RemoveDir).is_err() {
            let _ = dir::remove_tree(self.parent, &self.name);
        }
    }
}
