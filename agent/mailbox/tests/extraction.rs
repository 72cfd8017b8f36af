//! New mail comes out of what stands at the old place, once, and nothing else does.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::extract::{ArchiveEntry, Begin, Extracted, FlagMerge, extract};
use mailready_mailbox::tombstone::{self, TOMBSTONE_LEN};
use mailready_mailbox::{Error, RunId};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use support::{FROM, Place, files, mail};

const ENTRY: ArchiveEntry = ArchiveEntry { position: 0, number: 3 };

struct Drain {
    place: Place,
    run: RunId,
}

impl Drain {
    fn new(file: &[u8]) -> Self {
        Drain { place: Place::new(file), run: RunId::generate().unwrap() }
    }

    fn folder(&self) -> PathBuf {
        self.place.dir.path().join("drain")
    }

    fn extract(&self, begin: Begin<'_>) -> (Extracted, Vec<Vec<u8>>, Vec<String>) {
        let folder = self.folder();
        std::fs::create_dir(&folder).unwrap();
        let file = self.place.mbox();
        let to = file.metadata().unwrap().len();
        let drain = File::open(&folder).unwrap();
        let path = self.place.mbox_path();
        let done =
            extract(file.as_fd(), &path, begin, to, drain.as_fd(), &self.run, ENTRY, &support::rules())
                .unwrap();
        let (bytes, names) = files(&folder);
        assert_eq!(done.messages, bytes.len() as u64);
        assert_eq!(done.to, to);
        (done, bytes, names)
    }
}

/// A committed Maildir of `mbox`, with marker and receipt, in the place's work folder.
fn committed(mbox: &[u8]) -> (Place, PathBuf) {
    let place = Place::new(mbox);
    let (mut stage, path) = place.stage().unwrap();
    stage.seal().unwrap();
    (place, path)
}

fn by_content(maildir: &Path, file: &[u8]) -> (Extracted, Vec<Vec<u8>>) {
    let handle = File::open(maildir).unwrap();
    let drain = Drain::new(file);
    let (done, bytes, _) =
        drain.extract(Begin::ByContent { maildir: handle.as_fd(), folder: handle.as_fd(), source: "INBOX" });
    (done, bytes)
}

const OLD: &str = "From good@example.org Fri Nov  9 22:33:52 2001\nX-IMAPbase: 7 0000000003\nX-UID: 1\nStatus: RO\n\nfirst\n\n\
                   From good@example.org Fri Nov  9 22:33:52 2001\nX-UID: 2\nStatus: O\n\nsame\n\n\
                   From good@example.org Fri Nov  9 22:33:52 2001\nX-UID: 3\nStatus: O\n\nsame\n\n";

#[test]
fn mail_behind_a_tombstone_is_new_whatever_it_says() {
    let drain = Drain::new(&[]);
    let mut file = tombstone::text(&drain.run);
    file.extend_from_slice(
        format!("\n{FROM}A: 1\nStatus: RO\nX-IMAP: 1 2\n\nx\n\n\n{FROM}A: 1\n\nx\n").as_bytes(),
    );
    drain.place.put(&file);
    let (done, bytes, names) = drain.extract(Begin::At(TOMBSTONE_LEN));
    assert_eq!(bytes, [b"A: 1\n\nx\n\n".to_vec(), b"A: 1\n\nx".to_vec()]);
    assert!(names[0].ends_with(":2,S") && !names[1].contains(':'), "{names:?}");
    assert!(names.iter().all(|n| n.contains("E3.") && n.contains(&drain.run.as_str()[17..])), "{names:?}");
    assert_eq!((done.from, done.merges), (TOMBSTONE_LEN, vec![]));
}

#[test]
fn nothing_behind_a_tombstone_is_nothing() {
    let drain = Drain::new(&[]);
    drain.place.put(&tombstone::text(&drain.run));
    let (done, bytes, _) = drain.extract(Begin::At(TOMBSTONE_LEN));
    assert_eq!((done.messages, bytes.len()), (0, 0));
}

#[test]
fn bytes_without_a_from_line_are_a_message_and_blank_lines_are_none() {
    let drain = Drain::new(format!("\n\r\n\nlost words\nStatus: RO\n\n{FROM}\nx\n").as_bytes());
    let (_, bytes, names) = drain.extract(Begin::At(0));
    assert_eq!(bytes, [b"lost words\nStatus: RO\n".to_vec(), b"\nx".to_vec()]);
    assert!(!names[0].contains(':'));
    let drain = Drain::new(b"half a messa");
    assert_eq!(drain.extract(Begin::At(0)).1, [b"half a messa".to_vec()]);
    let drain = Drain::new(b"\n\r\n\n");
    assert_eq!(drain.extract(Begin::At(0)).1, Vec::<Vec<u8>>::new());
}

#[test]
fn the_converted_file_gives_what_was_added_to_it() {
    let (_place, maildir) = committed(OLD.as_bytes());
    let late = format!("{OLD}{FROM}late: 1\n\nx\n");
    let (done, bytes) = by_content(&maildir, late.as_bytes());
    assert_eq!((done.from, bytes), (OLD.len() as u64, vec![b"late: 1\n\nx".to_vec()]));
    assert_eq!(by_content(&maildir, OLD.as_bytes()).0.messages, 0);
}

#[test]
fn any_tombstone_at_the_beginning_is_seen() {
    let (_place, maildir) = committed(OLD.as_bytes());
    let mut file = tombstone::text(&RunId::generate().unwrap());
    file.extend_from_slice(FROM.as_bytes());
    file.extend_from_slice(b"\nx\n");
    let (done, bytes) = by_content(&maildir, &file);
    assert_eq!((done.from, bytes), (TOMBSTONE_LEN, vec![b"\nx".to_vec()]));
}

#[test]
fn a_file_that_reappeared_gives_unknown_mail_and_changed_flags_only() {
    let (_place, maildir) = committed(OLD.as_bytes());
    // A reader wrote it back: the first message has another flag, "same" is there three times, one mail is new.
    let same = format!("{FROM}\nsame\n\n");
    let file = format!("{FROM}Status: RO\nX-Status: F\n\nfirst\n\n{same}{same}{FROM}\nnew\n\n{same}");
    let (done, bytes) = by_content(&maildir, file.as_bytes());
    let expected: Vec<Vec<u8>> = vec![b"\nnew\n".to_vec(), b"\nsame\n".to_vec()];
    assert_eq!(bytes, expected, "the third of the same is new mail");
    let file = support::receipt(&maildir)[0].file.clone();
    assert_eq!(done.merges, [FlagMerge { uid: 1, file, flags: "FS".into() }]);
}

#[test]
fn a_file_that_holds_less_than_was_converted_expunges_nothing() {
    let (_place, maildir) = committed(OLD.as_bytes());
    let (done, bytes) = by_content(&maildir, format!("{FROM}Status: RO\n\nfirst\n\n").as_bytes());
    assert_eq!((done.messages, bytes.len(), done.merges), (0, 0, vec![]));
}

#[test]
fn the_pseudo_message_of_a_file_that_reappeared_is_no_mail() {
    let (_place, maildir) = committed(OLD.as_bytes());
    let (_, bytes) =
        by_content(&maildir, format!("{FROM}X-IMAP: 7 0000000003\n\ninternal\n\n{FROM}\nnew\n").as_bytes());
    assert_eq!(bytes, [b"\nnew".to_vec()]);
}

#[test]
fn an_end_beyond_the_file_is_an_error() {
    let drain = Drain::new(FROM.as_bytes());
    std::fs::create_dir(drain.folder()).unwrap();
    let (file, folder) = (drain.place.mbox(), File::open(drain.folder()).unwrap());
    let path = drain.place.mbox_path();
    let error = extract(
        file.as_fd(),
        &path,
        Begin::At(0),
        1000,
        folder.as_fd(),
        &drain.run,
        ENTRY,
        &support::rules(),
    );
    assert!(matches!(error, Err(Error::Changed { .. })));
}

#[test]
fn large_mail_is_extracted_whole_and_known_large_mail_leaves_nothing() {
    let body = "line\n".repeat(600_000);
    let mbox = format!("{FROM}A: 1\n\n{body}\n");
    let (_place, maildir) = committed(mbox.as_bytes());
    let (done, _) = by_content(&maildir, format!("\n{mbox}").as_bytes());
    assert_eq!(done.messages, 0);
    let (_, bytes) = by_content(&maildir, mbox.replace("A: 1", "B: 2").as_bytes());
    assert_eq!(bytes.len(), 1);
    assert_eq!(bytes[0].len(), 6 + body.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn extraction_gives_the_messages_that_a_stage_would(
        bits in proptest::collection::vec(proptest::sample::select(vec![
            FROM, "\n", "\r\n", "A: 1\n", "Status: RO\n", "Content-Length: 4\n", "body\n", "body", "From "]), 0..20),
    ) {
        let mbox = [FROM, &bits.concat()].concat().into_bytes();
        let (_place, path) = committed(&mbox);
        let staged: Vec<Vec<u8>> = mail(&path).into_iter().map(|m| m.bytes).collect();
        prop_assert_eq!(Drain::new(&mbox).extract(Begin::At(0)).1, staged);
    }

    #[test]
    fn no_byte_of_new_mail_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        // Without From_ lines all of it is one message, but for line ends around it.
        let text: Vec<u8> = bytes.into_iter().map(|b| if b == b'F' { b'f' } else { b }).collect();
        let (_, out, _) = Drain::new(&text).extract(Begin::At(0));
        let mut lead = &text[..];
        while let Some(rest) = lead.strip_prefix(b"\n").or_else(|| lead.strip_prefix(b"\r\n")) {
            lead = rest;
        }
        let expected = lead.strip_suffix(b"\n").map_or(lead, |t| t.strip_suffix(b"\r").unwrap_or(t));
        prop_assert_eq!(out.concat(), expected.to_vec());
    }
}
