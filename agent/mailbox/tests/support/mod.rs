//! What the tests of the engine share: mailboxes in scratch folders, and a reader of what was made of them.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

pub mod naive;

use mailready_mailbox::marker::Marker;
use mailready_mailbox::receipt::{Entry, Reader};
use mailready_mailbox::{
    Known, Layout, Progress, Result, Rules, RunId, Server, Source, Stage, SyncHow, Tree, Zone,
};
use std::fs::File;
use std::ops::ControlFlow;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A From_ line that every grammar takes, and its INTERNALDATE.
pub const FROM: &str = "From good@example.org Fri Nov  9 22:33:52 2001\n";
pub const FROM_DATE: i64 = 1_005_345_232;

pub fn rules() -> Rules {
    Rules { server: Server::Dovecot, zone: Zone::utc() }
}

/// A mail as it lies in a Maildir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub uid: u32,
    pub flags: String,
    pub in_cur: bool,
    pub date: i64,
    pub bytes: Vec<u8>,
}

/// A progress callback that never stops anything.
pub fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A tree of INBOX alone.
#[derive(Debug)]
pub struct OneBox(pub Tree);

impl OneBox {
    pub fn seal(&mut self) -> Result<Marker> {
        self.0.seal()
    }
}

impl Deref for OneBox {
    type Target = Stage;
    fn deref(&self) -> &Stage {
        self.0.get(0).unwrap()
    }
}

impl DerefMut for OneBox {
    fn deref_mut(&mut self) -> &mut Stage {
        self.0.get_mut(0).unwrap()
    }
}

/// A mailbox in a scratch folder, with a work folder beside it.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new(mbox: &[u8]) -> Self {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.work_path()).unwrap();
        place.put(mbox);
        place
    }

    pub fn mbox_path(&self) -> PathBuf {
        self.dir.path().join("mbox")
    }

    pub fn work_path(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn put(&self, mbox: &[u8]) {
        std::fs::write(self.mbox_path(), mbox).unwrap();
    }

    pub fn mbox(&self) -> File {
        File::open(self.mbox_path()).unwrap()
    }

    pub fn work(&self) -> File {
        File::open(self.work_path()).unwrap()
    }

    pub fn source(&self) -> Source {
        Source { name: "INBOX".into(), path: self.mbox_path() }
    }

    pub fn stage_as(&self, run: &RunId, sync: SyncHow) -> Result<OneBox> {
        let mut tree = Tree::create(self.work().as_fd(), run, Layout::default(), sync)?;
        let known = Known { uid_validity: Some(7), ..Known::default() };
        let mbox = self.mbox();
        tree.write_box(0, mbox.as_fd(), &self.source(), &known, &rules(), &mut go_on)?;
        Ok(OneBox(tree))
    }

    /// A stage, sealed or not, and the folder it is in.
    pub fn stage(&self) -> Result<(OneBox, PathBuf)> {
        let run = RunId::generate().unwrap();
        // `syncfs` would wait for the whole machine in every one of thousands of cases.
        let stage = self.stage_as(&run, SyncHow::PerFile)?;
        Ok((stage, self.work_path().join(Tree::name(&run))))
    }
}

/// Every line of a Maildir's receipt.
pub fn receipt(maildir: &Path) -> Vec<Entry> {
    let mut reader = Reader::open(File::open(maildir).unwrap().as_fd()).unwrap();
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

/// All mail of a Maildir in the order of its UIDs, found by the receipt; there is no other.
pub fn mail(maildir: &Path) -> Vec<Mail> {
    let entries = receipt(maildir);
    let mail: Vec<Mail> = entries
        .into_iter()
        .map(|entry| {
            let with_flags = format!("{}:2,{}", entry.file, entry.flags);
            let candidates = [("cur", with_flags.clone()), ("new", with_flags), ("new", entry.file.clone())];
            let (folder, path) = candidates
                .into_iter()
                .map(|(folder, name)| (folder, maildir.join(folder).join(name)))
                .find(|(_, path)| path.exists())
                .unwrap_or_else(|| panic!("no file for {entry:?}"));
            let date = std::fs::metadata(&path).unwrap().mtime();
            assert_eq!(date, entry.date, "{}", path.display());
            let bytes = std::fs::read(path).unwrap();
            Mail { uid: entry.uid, flags: entry.flags, in_cur: folder == "cur", date, bytes }
        })
        .collect();
    let files: usize =
        ["cur", "new", "tmp"].iter().map(|d| std::fs::read_dir(maildir.join(d)).unwrap().count()).sum();
    assert_eq!(files, mail.len(), "files that no receipt names");
    mail
}

/// The bytes of the files in a folder, in the order of their names, and those names.
pub fn files(folder: &Path) -> (Vec<Vec<u8>>, Vec<String>) {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (names.iter().map(|n| std::fs::read(folder.join(n)).unwrap()).collect(), names)
}
