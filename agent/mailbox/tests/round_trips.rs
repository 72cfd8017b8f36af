//! There and back, and there again: what clients see stays the same, and after the first round so does every byte.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::Layout;
use mailready_mailbox::back::{Place as Listed, Way, list};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use support::{Mail, Place, go_on, mail, rules};

/// Messages as they are in use: with UIDs, flags and keywords, by several deliverers.
fn mbox() -> impl Strategy<Value = String> {
    let from = proptest::sample::select(vec![
        "From good@example.org Fri Nov  9 22:33:52 2001\n",
        "From good@x  Thu Jan  1 00:00:59 1970\n",
        "From MAILER-DAEMON Mon Jan 15 01:02:03 2024 +0530\n",
        "From good@uucp Fri Nov  9 22:33 2001 remote from there\n",
        "From \"good one\"@x Sun Feb 31 22:33:52 2038\n",
    ]);
    let header = proptest::sample::select(vec![
        "Subject: hello\n",
        "Return-Path: <back@x>\n",
        "Status: RO\n",
        "Status: O\n",
        "X-Status: AF\n",
        "X-Status: DT\n",
        "X-Keywords: work\n",
        "X-Keywords: $Junk work\n",
        "Received: by x\n\twith y\n",
        "no colon\n",
        "A: b\r\n",
        "X-UID: 1000\n",
    ]);
    let body = proptest::sample::select(vec![
        "",
        "\n",
        "text\n",
        "text",
        "\r\n",
        "\r",
        "\nFrom nobody\n",
        ">From x\n",
        "\0",
        "From me to you\n",
        "a line\n\n\n",
        "x\nFrom ",
    ]);
    let message =
        (from, proptest::collection::vec(header, 0..5), any::<bool>(), proptest::collection::vec(body, 0..4));
    proptest::collection::vec(message, 0..6).prop_map(|messages| {
        let mut mbox = String::new();
        for (i, (from, header, empty_line, body)) in messages.into_iter().enumerate() {
            mbox += from;
            if i == 0 {
                mbox += "X-IMAPbase: 12345 0000000999 $Junk work spare\n";
            }
            mbox += &header.concat();
            if empty_line {
                mbox += "\n";
                mbox += &body.concat();
            }
            mbox += "\n";
        }
        mbox
    })
}

/// What a conversion shows, and the mbox that is made of it again.
fn round(mbox: &[u8]) -> (Vec<Mail>, Vec<u8>) {
    let place = Place::new(mbox);
    let (mut stage, folder) = place.stage().unwrap();
    stage.seal().unwrap();
    let rules = rules();
    let (maildir, original) = (File::open(&folder).unwrap(), place.mbox());
    let way = Way {
        folder: maildir.as_fd(),
        path: &folder,
        original: Some(original.as_fd()),
        told: None,
        rules: &rules,
    };
    let back = place.dir.path().join("back");
    let file = File::options().create_new(true).read(true).write(true).open(&back).unwrap();
    let written = way.write(file.as_fd(), &mut go_on).unwrap();
    way.verify(file.as_fd(), &written, &mut go_on).unwrap();
    let numbers = (stage.summary().uid_validity, stage.summary().uid_next);
    assert_eq!((written.uid_validity(), written.uid_next()), numbers);
    let seen = mail(&folder);
    let keywords = std::fs::read_to_string(folder.join("dovecot-keywords")).unwrap_or_default();
    (
        seen.into_iter().map(|mail| Mail { flags: named(&mail.flags, &keywords), ..mail }).collect(),
        std::fs::read(back).unwrap(),
    )
}

/// Flags with the names of the keywords: letters may change from one Maildir to the next.
fn named(flags: &str, keywords: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    for letter in flags.chars() {
        let place = (letter as u32).wrapping_sub('a' as u32).to_string();
        let keyword = keywords.lines().find_map(|line| line.strip_prefix(&format!("{place} ")));
        names.push(keyword.map_or(letter.to_string(), str::to_owned));
    }
    names.sort();
    names.join(" ")
}

/// Each case makes some dozens of files durable.
fn a_few() -> ProptestConfig {
    ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(a_few())]

    #[test]
    fn three_rounds_show_the_same_and_settle_after_the_first(mbox in mbox()) {
        let (first, once) = round(mbox.as_bytes());
        let (second, twice) = round(&once);
        let (third, thrice) = round(&twice);
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(&second, &third);
        prop_assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice));
        prop_assert_eq!(twice, thrice);
    }
}

#[test]
fn the_original_from_lines_come_back_and_new_mail_gets_its_own() {
    let one = "From \"good one\"@x Fri Nov  9 22:33:52 2001 remote from there\nX-IMAPbase: 7 0000000002\nX-UID: 1\nStatus: O\n\nold\n\n";
    let two = "From a@b Fri Nov  9 22:33:52 2001 +0100\nX-UID: 2\nStatus: O\nReturn-Path: <not@this>\n\nold too\n\n";
    let (_, back) = round(format!("{one}{two}").as_bytes());
    let back = String::from_utf8(back).unwrap();
    let from_lines: Vec<&str> = back.lines().filter(|line| line.starts_with("From ")).collect();
    assert_eq!(
        from_lines,
        [
            "From \"good one\"@x Fri Nov  9 22:33:52 2001 remote from there",
            "From a@b Fri Nov  9 22:33:52 2001 +0100"
        ]
    );
}

#[test]
fn all_mailboxes_of_a_tree_are_found_in_both_layouts() {
    let find = |layout, dirs: &[&str]| {
        let root = tempfile::tempdir().unwrap();
        for dir in dirs {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        std::fs::write(root.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("cur", root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(Path::new("/"), root.path().join(".link")).unwrap();
        let listing = list(File::open(root.path()).unwrap().as_fd(), layout).unwrap();
        let of = |p: Listed| (p.name, p.directory, p.mailbox);
        (listing.places.into_iter().map(of).collect::<Vec<_>>(), listing.unnamed)
    };
    let owned = |places: &[(&str, &str, bool)]| -> Vec<(String, String, bool)> {
        places
            .iter()
            .map(|(name, directory, mailbox)| (name.to_string(), directory.to_string(), *mailbox))
            .collect()
    };
    let plus_plus = [
        "cur",
        ".a.b/cur",
        ".Entw&APw-rfe/cur",
        ".no",
        "plain/cur",
        "..DOVECOT-TRASHED/cur",
        ".x&y/cur",
        ".a/cur",
    ];
    let expected =
        [("INBOX", "", true), ("Entwürfe", ".Entw&APw-rfe", true), ("a", ".a", true), ("a/b", ".a.b", true)];
    assert_eq!(find(Layout::MaildirPlusPlus, &plus_plus), (owned(&expected), 1));
    let fs =
        ["cur", "new", "tmp", "a/b.c/cur", "Entw&APw-rfe/cur", ".hid/cur", "x&y/cur", "empty", "a/b.c/d/new"];
    let expected = [
        ("INBOX", "", true),
        ("Entwürfe", "Entw&APw-rfe", true),
        ("a", "a", false),
        ("a/b.c", "a/b.c", true),
        ("a/b.c/d", "a/b.c/d", false),
        ("empty", "empty", false),
    ];
    assert_eq!(find(Layout::Fs, &fs), (owned(&expected), 1));
}
