//! All mailboxes of a user in one tree: each where its layout has it, each by itself, all of them sealed by one marker.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::error::BlockReason;
use mailready_mailbox::layout::Unkeepable;
use mailready_mailbox::verify::verify;
use mailready_mailbox::{Error, Known, Layout, Result, RunId, Source, SyncHow, Tree, Uidl, index, validity};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use support::{FROM, go_on, mail, rules};

/// A tree below a scratch folder, and mboxes to fill it with.
struct Forest {
    dir: tempfile::TempDir,
    tree: Tree,
    root: PathBuf,
}

impl Forest {
    fn new(layout: Layout, sync: SyncHow) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId::generate().unwrap();
        let tree = Tree::create(File::open(dir.path()).unwrap().as_fd(), &run, layout, sync).unwrap();
        let root = dir.path().join(Tree::name(&run));
        Forest { dir, tree, root }
    }

    fn write_known(&mut self, position: usize, name: &str, mbox: &str, known: &Known) -> Result<()> {
        let path = self.dir.path().join(format!("mbox-{position}"));
        std::fs::write(&path, mbox).unwrap();
        let file = File::open(&path).unwrap();
        let source = Source { name: name.into(), path };
        self.tree.write_box(position, file.as_fd(), &source, known, &rules(), &mut go_on)
    }

    fn write(&mut self, position: usize, name: &str, mbox: &str) {
        self.write_known(position, name, mbox, &Known::default()).unwrap();
    }

    fn append(&mut self, position: usize, more: &str) {
        use std::io::Write;
        let path = self.dir.path().join(format!("mbox-{position}"));
        File::options().append(true).open(&path).unwrap().write_all(more.as_bytes()).unwrap();
        let file = File::open(&path).unwrap();
        self.tree.get_mut(position).unwrap().append_rest(file.as_fd(), &mut go_on).unwrap();
    }

    fn bodies(&self, directory: &str) -> Vec<String> {
        let mail = mail(&self.root.join(directory));
        mail.into_iter().map(|m| String::from_utf8(m.bytes).unwrap()).collect()
    }

    fn index_folder(&self, files: &[(&str, &str)]) -> File {
        let folder = self.dir.path().join("index");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        File::open(folder).unwrap()
    }
}

/// Two messages.
fn two(word: &str) -> String {
    format!("{FROM}Status: RO\n\n{word} 1\n\n{FROM}\n{word} 2\n")
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_mailbox_is_where_its_layout_has_it() {
    for (layout, nested, twin) in
        [(Layout::MaildirPlusPlus, ".a.b c.ü", ".Sent"), (Layout::Fs, "a/b c/&APw-", "Sent")]
    {
        let nested = &nested.replace('ü', "&APw-");
        for sync in [SyncHow::PerFile, SyncHow::SyncFs] {
            let mut forest = Forest::new(layout, sync);
            // In any order: a level may be made before, with or after what is below it.
            forest.write(2, "a/b c/ü", &two("nested"));
            forest.write(0, "INBOX", &two("inbox"));
            forest.write(3, "sent", "");
            forest.write(1, "Sent", &two("sent"));
            assert_eq!(forest.tree.verify(&mut go_on).unwrap().messages, 6);
            let marker = forest.tree.seal().unwrap();
            let sources: Vec<_> = marker.sources.iter().map(|s| (s.name.as_str(), s.messages)).collect();
            assert_eq!(sources, [("INBOX", 2), ("Sent", 2), ("a/b c/ü", 2), ("sent", 0)]);
            assert_eq!(forest.bodies(""), ["\ninbox 1\n", "\ninbox 2"]);
            assert_eq!(forest.bodies(nested), ["\nnested 1\n", "\nnested 2"]);
            assert_eq!(forest.bodies(twin), ["\nsent 1\n", "\nsent 2"]);
            let signed = |folder: &str| forest.root.join(folder).join("maildirfolder").exists();
            assert_eq!((signed(nested), signed("")), (layout == Layout::MaildirPlusPlus, false));
            let root = File::open(&forest.root).unwrap();
            let read_back = |name| verify(layout.open(&root, name).unwrap().as_fd(), &mut go_on);
            let there: u64 = sources.iter().map(|(name, _)| read_back(name).unwrap().messages).sum();
            assert_eq!(there, 6);
            std::fs::remove_file(
                std::fs::read_dir(forest.root.join(nested).join("new"))
                    .unwrap()
                    .next()
                    .unwrap()
                    .unwrap()
                    .path(),
            )
            .unwrap();
            assert!(matches!(read_back("a/b c/ü"), Err(Error::Damaged { .. })));
        }
    }
}

#[test]
fn a_mailbox_is_written_again_without_a_trace_of_its_first_form() {
    for layout in [Layout::MaildirPlusPlus, Layout::Fs] {
        let mut forest = Forest::new(layout, SyncHow::PerFile);
        let keywords = format!("{FROM}X-IMAPbase: 5 9 k\nX-Keywords: k\n\nold\n");
        forest.write(0, "INBOX", &keywords);
        forest.write(1, "a/b", &two("below"));
        forest.write(2, "a", &keywords);
        let index = forest.index_folder(&[("dovecot.index.log", "log")]);
        for position in [0, 2] {
            assert!(forest.tree.carry_index(position, index.as_fd()).unwrap());
            forest.write(position, ["INBOX", "", "a"][position], &two("fresh"));
            assert!(!forest.tree.get(position).unwrap().has_index());
        }
        forest.tree.seal().unwrap();
        for directory in ["", &layout.directory("a").unwrap()] {
            assert_eq!(forest.bodies(directory), ["\nfresh 1\n", "\nfresh 2"]);
            let left = names(&forest.root.join(directory));
            assert!(!left.contains("dovecot-keywords") && !left.contains("dovecot.index.log"), "{left:?}");
        }
        assert_eq!(forest.bodies(&layout.directory("a/b").unwrap()).len(), 2, "its child is another mailbox");
    }
}

#[test]
fn no_two_message_files_of_a_tree_have_one_name() {
    let mut forest = Forest::new(Layout::Fs, SyncHow::PerFile);
    for (position, name) in ["INBOX", "a", "b"].into_iter().enumerate() {
        forest.write(position, name, &two("same"));
    }
    forest.write(1, "a", &two("same"));
    let files: Vec<String> = ["", "a", "b"]
        .iter()
        .flat_map(|folder| support::receipt(&forest.root.join(folder)))
        .map(|entry| entry.file)
        .collect();
    assert_eq!((files.len(), files.iter().collect::<BTreeSet<_>>().len()), (6, 6));
}

#[test]
fn a_folder_that_vanished_leaves_nothing_and_those_behind_it_move_up() {
    for layout in [Layout::MaildirPlusPlus, Layout::Fs] {
        let mut forest = Forest::new(layout, SyncHow::PerFile);
        for (position, name) in ["INBOX", "a", "b/c", "d"].into_iter().enumerate() {
            forest.write(position, name, &two(name));
        }
        // With LAYOUT=fs its level goes with the last mailbox below it, and no earlier.
        forest.write(4, "l/one", "");
        forest.write(5, "l/m/two", "");
        forest.tree.remove_box(5).unwrap();
        assert_eq!(forest.root.join("l").exists(), layout == Layout::Fs);
        assert!(!forest.root.join("l/m").exists());
        forest.tree.remove_box(4).unwrap();
        assert!(!forest.root.join("l").exists());
        forest.tree.remove_box(1).unwrap();
        forest.tree.renumber(|source| ["INBOX", "b/c", "d"].iter().position(|name| *name == source.name));
        let marker = forest.tree.seal().unwrap();
        assert_eq!(marker.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["INBOX", "b/c", "d"]);
        assert!(!forest.root.join(layout.directory("a").unwrap()).exists());
        assert_eq!(forest.bodies(&layout.directory("b/c").unwrap()), ["\nb/c 1\n", "\nb/c 2"]);
    }
}

#[test]
fn a_mailbox_takes_its_rest_long_after_others_were_written() {
    let mut forest = Forest::new(Layout::Fs, SyncHow::PerFile);
    for (position, name) in ["INBOX", "a", "b"].into_iter().enumerate() {
        forest.write(position, name, &two(name));
    }
    forest.append(1, &format!("\n{FROM}\na 3\n"));
    forest.append(1, &format!("\n{FROM}\na 4\n"));
    forest.append(0, &format!("\n{FROM}\nINBOX 3\n"));
    forest.tree.seal().unwrap();
    assert_eq!(forest.bodies("a"), ["\na 1\n", "\na 2\n", "\na 3\n", "\na 4"]);
    assert_eq!(forest.bodies("").len(), 3);
    assert_eq!(forest.bodies("b").len(), 2);
}

/// A user may have thousands of folders, and a process 1024 descriptors.
#[test]
fn mailboxes_hold_no_descriptor_once_they_are_written() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut forest = Forest::new(Layout::MaildirPlusPlus, SyncHow::SyncFs);
    forest.write(0, "INBOX", "");
    let before = open();
    for position in 1..40 {
        forest.write(position, &format!("f{position}"), &two("x"));
    }
    // Other tests of this program run beside this one.
    assert!(open() < before + 30, "{before} descriptors have become {}", open());
}

#[test]
fn what_a_layout_cannot_keep_is_refused_with_name_and_reason() {
    let mut forest = Forest::new(Layout::MaildirPlusPlus, SyncHow::PerFile);
    match forest.write_known(1, "sent.2001", "", &Known::default()) {
        Err(Error::Blocked { reason: BlockReason::Name { name, why: Unkeepable::Dot }, .. }) => {
            assert_eq!(name, "sent.2001");
        }
        other => panic!("{other:?}"),
    }
    let level = Source { name: "empty".into(), path: "/mail/empty".into() };
    let reason = forest.tree.directory(&level).unwrap_err();
    assert!(matches!(reason, Error::Blocked { reason: BlockReason::EmptyLevel, .. }), "{reason}");
    let mut forest = Forest::new(Layout::Fs, SyncHow::PerFile);
    forest.tree.directory(&Source { name: "empty/deep".into(), ..level }).unwrap();
    forest.write(0, "INBOX", "");
    forest.write(1, "sent.2001", "");
    forest.tree.seal().unwrap();
    assert_eq!(names(&forest.root.join("empty/deep")), BTreeSet::new());
    assert!(forest.root.join("sent.2001/cur").exists());
}

#[test]
fn an_mbox_that_is_none_leaves_nothing_of_it() {
    let mut forest = Forest::new(Layout::Fs, SyncHow::PerFile);
    forest.write(0, "INBOX", &two("inbox"));
    let error = forest.write_known(1, "notes", "no mail\n", &Known::default()).unwrap_err();
    assert!(matches!(error, Error::NotMbox { offset: 0, .. }), "{error}");
    assert!(forest.tree.get(1).is_none());
    assert_eq!(names(&forest.root.join("notes")), BTreeSet::new());
    assert_eq!(forest.tree.seal().unwrap().sources.len(), 1);
}

#[test]
fn the_index_is_carried_over_byte_for_byte_and_an_older_copy_goes() {
    let mut forest = Forest::new(Layout::MaildirPlusPlus, SyncHow::PerFile);
    forest.write(0, "INBOX", &two("x"));
    let (log, old, cache) = ("dovecot.index.log", "dovecot.index.log.2", "dovecot.index.cache");
    let first = [(log, "one"), (old, "older"), (cache, "cached"), ("dovecot.index", "index"), ("else", "no")];
    let folder = forest.index_folder(&first);
    assert!(forest.tree.carry_index(0, folder.as_fd()).unwrap());
    for name in index::FILES {
        let expected = first.iter().find(|(n, _)| *n == name).unwrap().1;
        assert_eq!(std::fs::read_to_string(forest.root.join(name)).unwrap(), expected);
    }
    let folder = forest.index_folder(&[(log, "two"), (cache, "")]);
    assert!(forest.tree.carry_index(0, folder.as_fd()).unwrap());
    assert_eq!(std::fs::read_to_string(forest.root.join(log)).unwrap(), "two");
    assert_eq!(std::fs::read_to_string(forest.root.join(cache)).unwrap(), "");
    assert!(!forest.root.join(old).exists() && !forest.root.join("dovecot.index").exists());
    assert!(!forest.root.join("else").exists());
    // Without a log there is no index, and none is left.
    let folder = forest.index_folder(&[(cache, "cached")]);
    assert!(!forest.tree.carry_index(0, folder.as_fd()).unwrap());
    assert!(!forest.root.join(log).exists() && !forest.root.join(cache).exists());
}

#[test]
fn keywords_beyond_26_need_the_index_until_the_seal() {
    let list: String = (0..40).map(|i| format!(" k{i}")).collect();
    let mbox =
        format!("{FROM}X-IMAPbase: 1 9{list}\nX-Keywords:{list}\n\nx\n\n{FROM}X-Keywords: k39 k2\n\ny\n");
    let mut forest = Forest::new(Layout::MaildirPlusPlus, SyncHow::PerFile);
    let known = Known { index: true, ..Known::default() };
    forest.write_known(0, "INBOX", &mbox, &known).unwrap();
    let flags: Vec<String> = mail(&forest.root).into_iter().map(|m| m.flags).collect();
    assert_eq!(flags, ["abcdefghijklmnopqrstuvwxyz", "c"]);
    let listed = std::fs::read_to_string(forest.root.join("dovecot-keywords")).unwrap();
    assert_eq!((listed.lines().count(), listed.lines().last()), (26, Some("25 k25")));
    let error = forest.tree.seal().unwrap_err();
    assert!(matches!(error, Error::Blocked { reason: BlockReason::TooManyKeywords(40), .. }), "{error}");
    let folder = forest.index_folder(&[("dovecot.index.log", "log")]);
    forest.tree.carry_index(0, folder.as_fd()).unwrap();
    forest.tree.drop_index(0).unwrap();
    assert!(forest.tree.seal().is_err());
    forest.tree.carry_index(0, folder.as_fd()).unwrap();
    forest.tree.seal().unwrap();
}

/// UIDs, GUIDs and POP3 identifiers of a uidlist.
fn ids(folder: &Path) -> (String, Vec<String>) {
    let text = std::fs::read_to_string(folder.join("dovecot-uidlist")).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.map(|line| line.split_once(" :").unwrap().0.to_owned()).collect())
}

#[test]
fn messages_keep_the_ids_that_they_were_shown_by() {
    let received = "Received: from x by y;\n\tThu\nMessage-ID: <behind@it>\n";
    let mbox = format!(
        "{FROM}{received}\na\n\n{FROM}Subject: no such header\n\nb\n\n{FROM}X-UIDL: own\n\nc\n\n{FROM}{received}\nd\n"
    );
    // md5sum of "from x by y;\tThu" and of nothing.
    let (first, none) = ("2b235c7f218d270c4ee9400dfca97ff9", "d41d8cd98f00b204e9800998ecf8427e");
    let mut forest = Forest::new(Layout::Fs, SyncHow::PerFile);
    let known = Known {
        mailbox_guid: Some([0xab; 16]),
        uid_validity: Some(7),
        uidl: Uidl::parse("%v.%g", true),
        ..Known::default()
    };
    forest.write_known(0, "INBOX", &mbox, &known).unwrap();
    let (head, lines) = ids(&forest.root);
    assert_eq!(head, format!("3 V7 N2 G{}", "ab".repeat(16)));
    assert_eq!(
        lines,
        [
            format!("1 G{first} P7.{first}"),
            format!("2 G{none} P7.{none}"),
            "3".to_owned(),
            format!("4 P7.{first}"),
        ]
    );
    // What is taken back and read again, or comes later, does not get a GUID that is given away.
    forest.append(0, &format!("\n{FROM}{received}\ne\n\n{FROM}Date: x\n\nf\n"));
    let later = ids(&forest.root).1;
    assert_eq!(later[..4], lines[..4]);
    assert_eq!(later[4], format!("5 P7.{first}"));
    assert!(later[5].starts_with("6 G9dd4e461268c8034f5c8564e155c67a6 P7."), "{}", later[5]);
    verify(File::open(&forest.root).unwrap().as_fd(), &mut go_on).unwrap();
    // The last one is the first of its kind: it keeps its GUID when it is read again.
    forest.append(0, &format!("\n{FROM}Subject: g\n\ng\n"));
    assert_eq!(ids(&forest.root).1[..6], later[..]);
}

#[test]
fn a_new_mailbox_is_going_to_get_a_uidvalidity_that_none_has_had() {
    let mut forest = Forest::new(Layout::Fs, SyncHow::PerFile);
    forest.write(0, "INBOX", &format!("{FROM}X-IMAPbase: 4000000000 9\n\nx\n"));
    forest.write(1, "a", &format!("{FROM}X-IMAPbase: 4000000002 9\n\nx\n"));
    forest.tree.uid_validity_given(4_000_000_001);
    forest.tree.seal().unwrap();
    assert_eq!(validity::highest(File::open(&forest.root).unwrap().as_fd()).unwrap(), 4_000_000_002);
}
