//! From a Maildir to an mbox: what Dovecot would show is the same, or the mailbox is refused.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::Error;
use mailready_mailbox::back::{NotForMbox, Told, Way, Written, append_files};
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use support::{FROM, FROM_DATE, Mail, Place, go_on, mail, naive, rules};

/// A Maildir as Dovecot leaves it, made by hand.
struct Box {
    dir: tempfile::TempDir,
}

impl Box {
    fn new(uidlist: &str, keywords: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["cur", "new", "tmp"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("dovecot-uidlist"), uidlist).unwrap();
        std::fs::write(dir.path().join("dovecot-keywords"), keywords).unwrap();
        Box { dir }
    }

    /// All messages listed, in cur/, with UIDs from 1 on.
    fn of(messages: &[&[u8]]) -> Self {
        let lines: String = (1..=messages.len()).map(|n| format!("{n} :{n}.x\n")).collect();
        let this = Box::new(&format!("3 V7 N{} G00\n{lines}", messages.len() + 1), "");
        for (i, message) in messages.iter().enumerate() {
            this.put(&format!("cur/{}.x:2,", i + 1), message);
        }
        this
    }

    fn put(&self, name: &str, message: &[u8]) {
        let mut file = File::create(self.dir.path().join(name)).unwrap();
        file.write_all(message).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(FROM_DATE as u64)).unwrap();
    }

    fn folder(&self) -> File {
        File::open(self.dir.path()).unwrap()
    }

    fn mbox_path(&self) -> PathBuf {
        self.dir.path().join("mbox")
    }

    /// Writes the mbox and reads it back.
    fn back_as(&self, told: Option<&Told>) -> Result<(Vec<u8>, Written), Error> {
        let (folder, rules) = (self.folder(), rules());
        let told = told.map(|told| (told, "INBOX"));
        let way = Way { folder: folder.as_fd(), path: Path::new("box"), original: None, told, rules: &rules };
        let mbox = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(self.mbox_path())
            .unwrap();
        let written = way.write(mbox.as_fd(), &mut go_on)?;
        assert_eq!(&way.state().unwrap(), written.state());
        let verified = way.verify(mbox.as_fd(), &written, &mut go_on).unwrap();
        assert_eq!(verified.messages, written.messages());
        let bytes = std::fs::read(self.mbox_path()).unwrap();
        assert_eq!(
            (bytes.len() as u64, *blake3::hash(&bytes).as_bytes()),
            (written.length(), written.hash())
        );
        Ok((bytes, written))
    }

    fn back(&self) -> Result<Vec<u8>, Error> {
        self.back_as(None).map(|(bytes, _)| bytes)
    }

    fn refused(&self) -> (u32, NotForMbox) {
        match self.back() {
            Err(Error::NotForMbox { uid, reason, .. }) => (uid, reason),
            other => panic!("{other:?}"),
        }
    }
}

fn told(text: &str) -> Told {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Told::read(file).unwrap()
}

/// What a conversion of that mbox shows.
fn seen(mbox: &[u8]) -> Vec<Mail> {
    let place = Place::new(mbox);
    let (mut stage, folder) = place.stage().unwrap();
    stage.seal().unwrap();
    mail(&folder)
}

fn bodies(mbox: &[u8]) -> Vec<Vec<u8>> {
    seen(mbox).into_iter().map(|mail| mail.bytes).collect()
}

/// As an mbox shows it: without CRs at the ends of header lines.
fn without_header_crs(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = message;
    while let Some(lf) = rest.iter().position(|b| *b == b'\n') {
        let line = rest[..lf].strip_suffix(b"\r").unwrap_or(&rest[..lf]);
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = &rest[lf + 1..];
        if line.is_empty() {
            break;
        }
    }
    [out, rest.to_vec()].concat()
}

const HIDDEN: [&str; 7] =
    ["content-length", "status", "x-imap", "x-imapbase", "x-keywords", "x-status", "x-uid"];

/// Whether a message has anything that an mbox cannot hold, said once more and only as far as the generator goes.
fn cannot_be_held(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&without_header_crs(message)).into_owned();
    let (header, complete) = match text.split_once("\n\n") {
        Some((header, _)) => (format!("{header}\n"), true),
        None => (text.clone(), text.is_empty() || text.starts_with('\n') || text.ends_with('\n')),
    };
    let header = if text.starts_with('\n') { String::new() } else { header };
    let mut lines = header.split('\n');
    let first = lines.next().unwrap_or("");
    let hides = |line: &str| {
        let name =
            line.split_once(':').map(|(name, _)| name.trim_end_matches([' ', '\t']).to_ascii_lowercase());
        name.is_some_and(|name| HIDDEN.contains(&name.as_str()))
    };
    // Dovecot shows nothing of a name from a NUL on.
    let nul = |line: &str| {
        line.split_once(':').is_some_and(|(name, _)| name.trim_end_matches([' ', '\t']).contains('\0'))
    };
    let hides = |line: &str| nul(line) || hides(line);
    let mut hidden = hides(first);
    for line in lines {
        let continued = line.starts_with([' ', '\t']);
        hidden |= !continued && hides(line);
    }
    let body = text.split_once("\n\n").map_or("", |(_, body)| body);
    let body = text.strip_prefix('\n').unwrap_or(body);
    let from_line_first = body.starts_with("From good@") && body.contains('\n');
    hidden || header.contains("\nFrom good@") || !complete || from_line_first
}

/// A message that prints as text.
#[derive(Clone, PartialEq)]
struct Text(Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

fn texts(messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<Text> {
    messages.into_iter().map(Text).collect()
}

fn hostile() -> impl Strategy<Value = Text> {
    let bit = proptest::sample::select(vec![
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\0",
        " ",
        "\t",
        FROM,
        FROM,
        "From ",
        "From x\n",
        ">From good@x\n",
        "A: b\n",
        "Subject: hello\n",
        "Status: RO\n",
        "status : x\n",
        "X-UID: 5\n",
        "Content-Length: 3\n",
        "X-IMAP: 1 1\n",
        "Statuses: x\n",
        "body\n",
        "text",
        "From bad@x",
        "\nFrom ",
        "Return-Path: <good@b>\n",
        "-----\n",
    ]);
    let long = prop_oneof![9 => Just(0usize), 1 => 900usize..1100];
    let begin = prop_oneof![Just(""), Just("A: b\n\n"), Just("A: b\nC: d\n\n")];
    (begin, proptest::collection::vec(bit, 0..14), long, any::<bool>()).prop_map(|(begin, bits, long, lf)| {
        let mut message = begin.as_bytes().to_vec();
        message.extend_from_slice(bits.concat().as_bytes());
        message.extend(std::iter::repeat_n(b'x', long));
        if lf {
            message.push(b'\n');
        }
        Text(message)
    })
}

proptest! {
    #[test]
    fn whatever_is_not_refused_reads_the_same(messages in proptest::collection::vec(hostile(), 1..5)) {
        let refused = messages.iter().position(|m| cannot_be_held(&m.0));
        let slices: Vec<&[u8]> = messages.iter().map(|m| &m.0[..]).collect();
        match (Box::of(&slices).back(), refused) {
            (Err(Error::NotForMbox { uid, .. }), Some(first)) => prop_assert_eq!(uid as usize, first + 1),
            (Ok(mbox), None) => {
                let expected = texts(messages.iter().map(|m| without_header_crs(&m.0)));
                prop_assert_eq!(texts(bodies(&mbox)), expected.clone());
                // The oracle knows one sender only.
                let text: Vec<u8> = replace(&mbox, b"From MAILER-DAEMON  ", b"From good@example.org ");
                prop_assert_eq!(naive::messages(&text).map(texts), Some(expected));
            }
            (got, refused) => prop_assert!(false, "{refused:?}: {:?}", got.map(Text)),
        }
    }

    #[test]
    fn mail_that_nobody_has_seen_is_never_refused_and_keeps_its_lines(message in hostile()) {
        let this = Box::new("3 V7 N1 G00\n", "");
        let Text(message) = message;
        this.put("new/1.x", &message);
        let shown = bodies(&this.back().unwrap());
        prop_assert_eq!(shown.len(), 1);
        let mended = without_header_crs(&message);
        if !cannot_be_held(&message) {
            prop_assert_eq!(&shown[0], &mended);
        }
        // Nothing but headers of the mbox's own, CRs at line ends and names with a NUL are taken away, and nothing but `>` and a last line end added.
        let quoted = replace(&shown[0], b">From ", b"From ");
        let lines = |text: &[u8]| text.split(|b| *b == b'\n').map(without_crs).collect::<Vec<_>>();
        let there = lines(&replace(&mended, b">From ", b"From "));
        let value = |line: &[u8]| line.iter().position(|b| *b == b':').map_or(Vec::new(), |at| line[at..].to_vec());
        let kept = |line: &Vec<u8>| {
            let same = |old: &Vec<u8>| old == line || (old.contains(&0) && old.ends_with(&value(line)));
            line.is_empty() || there.iter().any(same)
        };
        prop_assert!(lines(&quoted).iter().all(kept), "{:?}", Text(shown[0].clone()));
    }
}

fn without_crs(line: &[u8]) -> Vec<u8> {
    let crs = line.iter().rev().take_while(|b| **b == b'\r').count();
    line[..line.len() - crs].to_vec()
}

fn replace(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(what) {
            out.extend_from_slice(by);
            rest = behind;
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

#[test]
fn the_mbox_looks_as_dovecot_would_have_written_it() {
    let this = Box::new("3 V1234567890 N30 G00\n4 :1.a,S=3\n17 P0042 :2.b\n19 :gone\n", "0 work\n1 $Junk\n");
    this.put("cur/1.a,S=3:2,FRSab", b"Return-Path: <x@y>\nA: b\n\nhi\n");
    this.put("new/2.b:2,T", b"B: c\n\nhi\nFrom good@example.org Fri Nov  9 22:33:52 2001\n");
    let room = " ".repeat(50);
    let expected = format!(
        "From x@y  Fri Nov  9 22:33:52 2001\nReturn-Path: <x@y>\nA: b\nX-IMAPbase: 1234567890 0000000029 work $Junk\n\
         X-UID: 4{room}\nStatus: RO\nX-Status: AF\nX-Keywords: work $Junk\n\nhi\n\n\
         From MAILER-DAEMON  Fri Nov  9 22:33:52 2001\nB: c\nX-UID: 17{room}\nX-Status: D\nContent-Length: 50\n\nhi\n\
         From good@example.org Fri Nov  9 22:33:52 2001\n\n"
    );
    assert_eq!(String::from_utf8(this.back().unwrap()).unwrap(), expected);
}

#[test]
fn new_files_get_the_uids_that_dovecot_would_give_them_and_lost_ones_none() {
    let this = Box::new("3 V7 N5 G00\n2 :1.a\n3 :1.lost\n7 :1.b\n", "");
    for name in ["cur/1.a:2,S", "new/1.b", "new/30.M20.c", "new/30.M9.d", "cur/4.e:2,"] {
        this.put(name, format!("Name: {name}\n\n").as_bytes());
    }
    let (mbox, written) = this.back_as(None).unwrap();
    assert_eq!((written.uid_next(), written.uid_validity(), written.messages()), (11, 7, 5));
    let seen: Vec<(u32, bool, Vec<u8>)> =
        seen(&mbox).into_iter().map(|m| (m.uid, m.in_cur, m.bytes)).collect();
    let expected = [
        (2, true, "cur/1.a:2,S"),
        (7, false, "new/1.b"),
        (8, true, "cur/4.e:2,"),
        (9, false, "new/30.M9.d"),
        (10, false, "new/30.M20.c"),
    ];
    assert_eq!(seen, expected.map(|(uid, cur, name)| (uid, cur, format!("Name: {name}\n\n").into_bytes())));
}

#[test]
fn couriers_uidlist_is_read_too_and_a_broken_one_is_not_believed() {
    let this = Box::new("1 9 6\n5 1.a\n", "");
    this.put("cur/1.a:2,", b"A: b\n\n");
    let (mbox, written) = this.back_as(None).unwrap();
    assert_eq!((seen(&mbox)[0].uid, written.uid_validity(), written.uid_next()), (5, 9, 6));
    for broken in [
        "",
        "4 V7 N2\n",
        "3 V0 N2 G00\n",
        "3 V7 G00\n",
        "3 V7 N2 G00\n2 :a\n2 :b\n",
        "3 V7 N2 G00\nx :a\n",
        "3 V7 N2 G00\n0 :a\n",
    ] {
        let this = Box::new(broken, "");
        assert!(matches!(this.back(), Err(Error::Damaged { .. })), "{broken:?}");
    }
    // A record that is just being written.
    let this = Box::new("3 V7 N2 G00\n1 :1.a\n2 :1", "");
    this.put("cur/1.a:2,", b"A: b\n\n");
    assert_eq!(seen(&this.back().unwrap())[0].uid, 1);
}

#[test]
fn what_an_mbox_cannot_hold_is_refused_with_its_uid_and_reason() {
    let good: &[u8] = b"A: b\n\nfine\n";
    let with_from = format!("A: b\n{FROM}C: d\n\n");
    let from_first = format!("A: b\n\n{FROM}");
    for (message, reason) in [
        (&b"A: b\nSTATUS: RO\n\n"[..], NotForMbox::HiddenHeader("Status")),
        (b"x-imapbase : 1 1\n", NotForMbox::HiddenHeader("X-IMAPbase")),
        (with_from.as_bytes(), NotForMbox::FromLineInHeader),
        (b"A: b\nC: d", NotForMbox::HeaderCutOff),
        (from_first.as_bytes(), NotForMbox::FromLineFirst),
        (b"A: b\nC\0d: e\n\n", NotForMbox::NulInName),
    ] {
        assert_eq!(Box::of(&[good, message, good]).refused(), (2, reason));
    }
    let this = Box::of(&[good]);
    let file = File::options().write(true).open(this.dir.path().join("cur/1.x:2,")).unwrap();
    file.set_modified(UNIX_EPOCH - Duration::from_secs(1)).unwrap();
    assert_eq!(this.refused(), (1, NotForMbox::Date(-1)));
    let this = Box::new("3 V7 N2 G00\n1 :1.x\n", "0 a(b\n");
    this.put("cur/1.x:2,", good);
    assert!(this.back().is_ok(), "nobody has that keyword");
    std::fs::rename(this.dir.path().join("cur/1.x:2,"), this.dir.path().join("cur/1.x:2,a")).unwrap();
    assert_eq!(this.refused(), (1, NotForMbox::Keyword("a(b".into())));
}

#[test]
fn odd_messages_read_the_same() {
    let header = "A".repeat(70_000);
    let body = "b\r\n".repeat(400_000);
    let odd: Vec<Vec<u8>> = [
        "",
        "\n",
        "\n\n\n",
        "A: b\n",
        "A: b\n\n",
        "A: b\n\nx",
        "A: b\n\nx\r",
        "A: b\n\nx\r\n",
        "A: b\n\nFrom ",
        "A: b\n\nx\nFrom ",
        " A: b\n C: d\n\nx\n",
        "text\nwithout\nheader\n",
        "A: b\n\n\0\0\n",
        "A: b\n\n\r",
        "A: b\r\nC: d\r\n\r\nx\r\n",
        FROM,
        "A: b\n\nx\nFrom good@x Fri Nov  9 22:33:52 2001",
        "A: b\n\r\r\nC: d\r\r\n\r\n\r\r\n",
        "\r\n\r",
        "\r\r\n",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([format!("{FROM}A: b\n\nx\n").into_bytes(), format!("A: {header}\n\n{body}").into_bytes()])
    .collect();
    for message in &odd {
        let mbox = Box::of(&[message, message]).back().unwrap();
        let expected = without_header_crs(message);
        assert!(
            bodies(&mbox) == [expected.clone(), expected],
            "{:?}",
            &message.escape_ascii().to_string().get(..80)
        );
    }
}

#[test]
fn an_empty_mailbox_keeps_its_numbers_and_keywords() {
    let this = Box::new("3 V1234567890 N77 G00\n", "0 work\n");
    let (mbox, written) = this.back_as(None).unwrap();
    assert_eq!((written.messages(), written.uid_next()), (0, 77));
    assert!(seen(&mbox).is_empty());
    let later = [&mbox[..], FROM.as_bytes(), b"A: b\n\nnew\n"].concat();
    let seen = seen(&later);
    assert_eq!((seen.len(), seen[0].uid, &seen[0].bytes[..]), (1, 77, &b"A: b\n\nnew"[..]));
}

#[test]
fn what_dovecot_tells_wins_over_file_names() {
    let keywords: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let this = Box::new("3 V7 N9 G00\n1 :1.a\n2 :2.b\n3 :3.c\n", "0 k0\n1 other\n");
    for (name, body) in [("cur/1.a:2,Sa", "1"), ("cur/2.b:2,S", "2"), ("cur/3.c:2,", "3"), ("new/4.d", "4")] {
        this.put(name, format!("A: {body}\n\n").as_bytes());
    }
    let told = told(&format!(
        "mailbox\tuid\tflags\nINBOX\t1\t\\Answered {}\nINBOX\t3\t\\Recent k1\n",
        keywords.join(" ")
    ));
    let (mbox, _) = this.back_as(Some(&told)).unwrap();
    let text = String::from_utf8(mbox).unwrap();
    assert!(
        text.contains(&format!("X-IMAPbase: 7 0000000009 k0 other {}\n", keywords[1..].join(" "))),
        "{text}"
    );
    assert!(text.contains(&format!("X-Keywords: {}\n", keywords.join(" "))));
    let place: Vec<(String, &str)> = text
        .split("From MAILER")
        .skip(1)
        .map(|m| {
            let own = m
                .lines()
                .filter(|l| l.starts_with("Status") || l.starts_with("X-Status"))
                .collect::<Vec<_>>()
                .join("|");
            (own, if m.contains("X-Keywords: k1\n") { "k1" } else { "" })
        })
        .collect();
    let expected = [("Status: O|X-Status: A", ""), ("Status: RO", ""), ("", "k1"), ("", "")];
    assert_eq!(place, expected.map(|(own, k)| (own.to_owned(), k)));
}

#[test]
fn late_mail_is_appended_mended_and_believed() {
    let this = Box::of(&[b"A: b\n\nfirst\n"]);
    this.put("new/5.early", b"A: e\n\nearly\n");
    let (_, mut written) = this.back_as(None).unwrap();
    this.put("new/4.late", b"A: c\nStatus: RO\n\nlate\n");
    let drain = tempfile::tempdir().unwrap();
    std::fs::write(drain.path().join("9.z:2,S"), b"A: z").unwrap();
    std::fs::write(drain.path().join("8.y"), format!("A: y\n{FROM}\n")).unwrap();
    let (folder, rules) = (this.folder(), rules());
    let way =
        Way { folder: folder.as_fd(), path: Path::new("box"), original: None, told: None, rules: &rules };
    let mbox = File::options().read(true).write(true).open(this.mbox_path()).unwrap();
    assert!(way.verify(mbox.as_fd(), &written, &mut go_on).is_err(), "what is late is missing");
    assert_eq!(
        append_files(
            File::open(drain.path()).unwrap().as_fd(),
            drain.path(),
            &rules,
            mbox.as_fd(),
            &mut written
        )
        .unwrap(),
        2
    );
    assert_eq!(way.append_late(mbox.as_fd(), &mut written).unwrap(), 1);
    assert_eq!(way.append_late(mbox.as_fd(), &mut written).unwrap(), 0, "once only");
    assert_eq!(
        (written.messages(), written.uid_next(), written.length()),
        (5, 6, mbox.metadata().unwrap().size())
    );
    assert_eq!(way.verify(mbox.as_fd(), &written, &mut go_on).unwrap().messages, 5);
    let seen: Vec<(u32, String, bool, Vec<u8>)> = seen(&std::fs::read(this.mbox_path()).unwrap())
        .into_iter()
        .map(|m| (m.uid, m.flags, m.in_cur, m.bytes))
        .collect();
    let quoted = format!("A: y\n>{FROM}\n");
    let expected = [
        (1, "", true, "A: b\n\nfirst\n"),
        (2, "", false, "A: e\n\nearly\n"),
        (3, "", false, &quoted),
        (4, "S", false, "A: z\n"),
        (5, "", false, "A: c\n\nlate\n"),
    ];
    assert_eq!(
        seen,
        expected.map(|(uid, flags, cur, text)| (uid, flags.into(), cur, text.as_bytes().to_vec()))
    );
}

#[test]
fn verify_finds_every_kind_of_difference() {
    let message: &[u8] = b"A: b\n\nsome text\n";
    let this = Box::of(&[message, message]);
    let (mbox, written) = this.back_as(None).unwrap();
    let (folder, rules) = (this.folder(), rules());
    let way =
        Way { folder: folder.as_fd(), path: Path::new("box"), original: None, told: None, rules: &rules };
    let check = |bytes: &[u8]| {
        std::fs::write(this.mbox_path(), bytes).unwrap();
        way.verify(File::open(this.mbox_path()).unwrap().as_fd(), &written, &mut go_on).map(drop)
    };
    check(&mbox).unwrap();
    for (what, by) in [
        ("some text", "same text"),
        ("X-UID: 2 ", "X-UID: 3 "),
        ("Status: O", "Status: R"),
        ("Status: O", "Statas: O"),
        ("22:33:52", "22:33:53"),
        ("A: b", "A: c"),
        ("X-IMAPbase: 7 0000000002", "X-IMAPbase: 8 0000000002"),
        ("X-IMAPbase: 7 0000000002", "X-IMAPbase: 7 0000000003"),
        ("\n\nFrom ", "\n \nFrom"),
    ] {
        let broken = replace(&mbox, what.as_bytes(), by.as_bytes());
        assert_ne!(broken, mbox, "{what}");
        assert!(check(&broken).is_err(), "{what} -> {by}");
    }
    assert!(check(&mbox[..mbox.len() - 1]).is_err());
    check(&mbox).unwrap();
    std::fs::rename(this.dir.path().join("cur/2.x:2,"), this.dir.path().join("cur/2.x:2,S")).unwrap();
    assert!(matches!(check(&mbox), Err(Error::Changed { .. })), "that is no damage");
    assert_ne!(&way.state().unwrap(), written.state());
}
