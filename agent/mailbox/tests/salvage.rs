//! What a stage takes over from one that came to nothing: every file that holds what it would write, and never another one.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::salvage::kept_name;
use mailready_mailbox::verify::verify;
use mailready_mailbox::{Known, Layout, RunId, Source, SyncHow, Tree};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use support::{FROM, go_on, rules};

const LARGE: usize = 3 << 20;

struct Home(tempfile::TempDir);

/// A message file of a stage: which one it is on the disk, what it holds, its time, its name from the size on.
type Mail = BTreeMap<String, (u64, Vec<u8>, i64)>;

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn work(&self) -> File {
        File::open(self.0.path()).unwrap()
    }

    /// Stages a mailbox, with what was kept; gives the run and its files by number of the message.
    fn stage(&self, mbox: &str) -> (RunId, Mail) {
        let run = RunId::generate().unwrap();
        let mut tree =
            Tree::create(self.work().as_fd(), &run, Layout::MaildirPlusPlus, SyncHow::PerFile).unwrap();
        tree.take_from_kept().unwrap();
        self.write(&mut tree, mbox);
        let root = self.path(&Tree::name(&run));
        verify(File::open(&root).unwrap().as_fd(), &mut go_on).unwrap();
        let left_in_tmp = fs::read_dir(root.join("tmp")).unwrap().count();
        assert_eq!(left_in_tmp, 0);
        (run, files(&root))
    }

    fn write(&self, tree: &mut Tree, mbox: &str) {
        let path = self.path("mbox");
        fs::write(&path, mbox).unwrap();
        let source = Source { name: "INBOX".into(), path: path.clone() };
        let file = File::open(path).unwrap();
        tree.write_box(0, file.as_fd(), &source, &Known::default(), &rules(), &mut go_on).unwrap();
    }

    /// As good as removed; but the number of its inode is not given to another file.
    fn out_of_sight(&self, path: &Path) {
        let gone = self.path("gone");
        fs::create_dir_all(&gone).unwrap();
        fs::rename(path, gone.join(path.file_name().unwrap())).unwrap();
    }

    /// A stage that nobody needs any more, kept.
    fn kept(&self, mbox: &str) -> (PathBuf, Mail) {
        let (run, mail) = self.stage(mbox);
        Tree::keep(self.work().as_fd(), &run).unwrap();
        (self.path(&kept_name(&run)), mail)
    }
}

fn files(root: &Path) -> Mail {
    let mut mail = Mail::new();
    for home in ["cur", "new"] {
        for entry in fs::read_dir(root.join(home)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let number = name.split_once('Q').unwrap().1.split_once('R').unwrap().0.to_owned();
            let stat = entry.metadata().unwrap();
            let number = format!("{number:0>6}");
            mail.insert(number, (stat.ino(), fs::read(entry.path()).unwrap(), stat.mtime()));
        }
    }
    mail
}

fn message(number: usize, body: &str) -> String {
    format!("{FROM}Status: RO\nSubject: {number}\n\n{body}\n\n")
}

fn mbox(messages: usize) -> String {
    // All of one length: a file is never found by its size alone.
    (0..messages).map(|number| message(number, &format!("body {number:06}"))).collect()
}

fn large(seed: u8) -> String {
    let line: String = (0..60).map(|at| char::from(b'a' + (seed + at) % 26)).collect();
    message(900 + usize::from(seed), &vec![line.as_str(); LARGE / 61].join("\n"))
}

/// Files of `now` that are the very ones of `before`.
fn taken(before: &Mail, now: &Mail) -> usize {
    let inodes: Vec<u64> = before.values().map(|(inode, ..)| *inode).collect();
    now.values().filter(|(inode, ..)| inodes.contains(inode)).count()
}

/// What a stage is without any salvage.
fn contents(mbox: &str) -> Vec<(Vec<u8>, i64)> {
    let (_, mail) = Home::new().stage(mbox);
    mail.into_values().map(|(_, bytes, time)| (bytes, time)).collect()
}

#[track_caller]
fn same(mbox: &str, mail: Mail) {
    let mail: Vec<_> = mail.into_values().map(|(_, bytes, time)| (bytes, time)).collect();
    assert!(mail == contents(mbox), "a stage is the same, whatever it was made from");
}

#[test]
fn everything_that_is_still_wanted_is_taken_over_and_only_the_rest_is_written() {
    let home = Home::new();
    let (kept, before) = home.kept(&(mbox(300) + &large(1)));
    // An expunge, a message in front, appended ones, flags rewritten in place; a large one behind.
    let now = message(999, "in front") + &mbox(300).replace(&message(7, "body 000007"), "");
    let now = now.replacen("Status: RO", "Status: O", 40) + &large(1) + &message(400, "appended");
    let (_, mail) = home.stage(&now);
    assert_eq!((mail.len(), taken(&before, &mail)), (302, 300));
    same(&now, mail);
    assert_eq!(files(&kept).len(), 1, "what was expunged stays behind");
    Tree::remove_kept(home.work().as_fd()).unwrap();
    assert!(!kept.exists());
}

#[test]
fn a_stage_that_was_cut_off_anywhere_is_of_use_as_far_as_it_goes() {
    let home = Home::new();
    let (kept, before) = home.kept(&mbox(200));
    // Killed at nine tenths: lists cut off, the last files not there, one half written.
    let mut paths: Vec<PathBuf> =
        fs::read_dir(kept.join("cur")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.drain(180..).for_each(|path| home.out_of_sight(&path));
    File::options().write(true).open(&paths[179]).unwrap().set_len(5).unwrap();
    for list in ["mailready-receipt", "dovecot-uidlist"] {
        fs::write(kept.join(list), [0; 512]).unwrap();
    }
    let (_, mail) = home.stage(&mbox(200));
    assert_eq!(taken(&before, &mail), 179);
    same(&mbox(200), mail);
}

#[test]
fn equal_messages_take_a_file_each() {
    let home = Home::new();
    let twice = |n| [message(1, "same"), large(2)].concat().repeat(n);
    let (_, before) = home.kept(&twice(2));
    let (_, mail) = home.stage(&twice(3));
    assert_eq!((mail.len(), taken(&before, &mail)), (6, 4));
    same(&twice(3), mail);
}

#[test]
fn a_large_message_that_only_begins_like_one_is_written() {
    let home = Home::new();
    let one = large(3);
    let (_, before) = home.kept(&one);
    let longer = one.trim_end().to_owned() + "\nand more\n\n";
    let other = format!("{}X{}", &one[..LARGE - 1000], &one[LARGE - 999..]);
    let shorter = one[..LARGE - 5000].to_owned() + "\n\n";
    for now in [longer, other, shorter] {
        let (run, mail) = home.stage(&now);
        assert_eq!(taken(&before, &mail), 0);
        same(&now, mail);
        Tree::remove(home.work().as_fd(), &run).unwrap();
    }
    let (_, mail) = home.stage(&one);
    assert_eq!(taken(&before, &mail), 1);
}

/// The kept stage is the user's, and anybody's who has become that user.
#[test]
fn what_was_tampered_with_is_never_taken() {
    let home = Home::new();
    let (kept, before) = home.kept(&(mbox(12) + &large(4)));
    let mut paths: Vec<PathBuf> =
        fs::read_dir(kept.join("cur")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let elsewhere = home.path("elsewhere");
    let bytes = fs::read(&paths[0]).unwrap();
    // Other bytes of the same size and time; zeros as after a power cut; two messages exchanged (which is no tampering to us: each is what it is).
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&paths[0], &other).unwrap();
    fs::write(&paths[1], vec![0; bytes.len()]).unwrap();
    fs::rename(&paths[2], &elsewhere).unwrap();
    fs::rename(&paths[3], &paths[2]).unwrap();
    fs::rename(&elsewhere, &paths[3]).unwrap();
    // A link to what would be right, a second name of it, one that others may write, a fifo and a folder.
    fs::rename(&paths[4], home.path("right")).unwrap();
    symlink(home.path("right"), &paths[4]).unwrap();
    fs::hard_link(&paths[5], home.path("second name")).unwrap();
    fs::set_permissions(&paths[6], fs::Permissions::from_mode(0o666)).unwrap();
    home.out_of_sight(&paths[7]);
    nix::unistd::mkfifo(&paths[7], nix::sys::stat::Mode::S_IRUSR).unwrap();
    home.out_of_sight(&paths[8]);
    fs::create_dir(&paths[8]).unwrap();
    // The large one, changed in its end.
    let large_one = paths.iter().find(|path| fs::metadata(path).unwrap().len() > 1 << 20).unwrap().clone();
    let mut bytes = fs::read(&large_one).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&large_one, bytes).unwrap();
    // Folders that are links, and a kept stage that is one.
    fs::create_dir_all(home.path("other/cur")).unwrap();
    symlink(home.path("other"), kept.join(".linked")).unwrap();
    symlink(home.path("other"), home.path(&kept_name(&RunId::generate().unwrap()))).unwrap();
    let now = mbox(12) + &large(4);
    let (_, mail) = home.stage(&now);
    assert_eq!(taken(&before, &mail), 5, "2 and 3, and 9 to 11");
    same(&now, mail);
    assert!(home.path("right").exists() && home.path("second name").exists());
}

#[test]
fn a_mailbox_that_is_written_again_takes_over_what_it_had() {
    let home = Home::new();
    let run = RunId::generate().unwrap();
    let mut tree =
        Tree::create(home.work().as_fd(), &run, Layout::MaildirPlusPlus, SyncHow::PerFile).unwrap();
    let root = home.path(&Tree::name(&run));
    home.write(&mut tree, &(mbox(50) + &large(5)));
    let before = files(&root);
    let flagged = mbox(50).replace("Status: RO", "Status: O") + &large(5);
    home.write(&mut tree, &flagged);
    let after = files(&root);
    assert_eq!(taken(&before, &after), 51);
    verify(File::open(&root).unwrap().as_fd(), &mut go_on).unwrap();
    same(&flagged, after);
    let work: Vec<_> = fs::read_dir(home.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(work.len(), 2, "the stage and the mbox: {work:?}");
}
