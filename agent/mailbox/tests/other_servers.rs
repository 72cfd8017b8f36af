//! Mailboxes that other servers have written (`origins/README`): what Dovecot shows of them now, and what those servers showed.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

use mailready_mailbox::convert_file::{Options, convert_file};
use mailready_mailbox::{Rules, Server, Zone};
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn origins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/origins")
}

/// What a conversion by the rules of this server makes of an mbox, in the form of the files in `origins`.
fn shown(mbox: &Path, server: Server) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("mbox");
    std::fs::copy(mbox, &copy).unwrap();
    let maildir = scratch.path().join("Maildir");
    let rules = Rules { server, zone: Zone::named("CET-1").unwrap() };
    let options = Options { rules, lock_wait: Duration::ZERO };
    let done = convert_file(&copy, &maildir, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(std::fs::read(mbox).unwrap(), std::fs::read(&copy).unwrap(), "the mbox stays as it is");

    // Only what the first message says counts; else UIDVALIDITY is the present second, and UW's identifiers are made of it.
    let first =
        String::from_utf8_lossy(&std::fs::read(mbox).unwrap()).split("\nFrom ").next().unwrap().to_owned();
    let says = first.contains("\nX-IMAP") && server != Server::Qpopper;
    let validity = if says { done.summary.uid_validity.to_string() } else { "-".into() };
    let mut text = format!("{validity}\t{}\n", done.summary.uid_next);
    let keywords = keywords(&maildir);
    let files = files(&maildir);
    let list = std::fs::read_to_string(maildir.join("dovecot-uidlist")).unwrap();
    for line in list.lines().skip(1) {
        let (fields, base) = line.split_once(" :").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let uidl = fields[1..].iter().find_map(|field| field.strip_prefix('P'));
        let uidl = uidl.filter(|_| says || server == Server::Qpopper).unwrap_or("-");
        let (path, letters, recent) = &files[base];
        let mut flags: Vec<char> = letters.chars().filter(char::is_ascii_uppercase).collect();
        flags.extend(recent.then_some('!'));
        flags.sort_unstable();
        let mut words: Vec<&str> =
            letters.chars().filter_map(|c| keywords.get(&c).map(String::as_str)).collect();
        words.sort_unstable();
        let flags = [vec![flags.into_iter().collect::<String>().as_str()], words].concat().join(" ");
        let date = std::fs::metadata(path).unwrap().mtime();
        let bytes = std::fs::read(path).unwrap();
        // IMAP and POP3 end each line with CRLF, however it is stored.
        let mut bytes = bytes.escape_ascii().to_string().replace("\\r\\n", "\\n");
        if server == Server::Dovecot {
            // IMAP has no way to send a NUL in a literal, and Dovecot sends this instead.
            bytes = bytes.replace("\\x00", "\\x80");
        }
        writeln!(text, "{}\t{flags}\t{date}\t{uidl}\t{bytes}", fields[0]).unwrap();
    }
    text
}

fn keywords(maildir: &Path) -> HashMap<char, String> {
    let text = std::fs::read_to_string(maildir.join("dovecot-keywords")).unwrap_or_default();
    let line = |line: &str| {
        let (letter, word) = line.split_once(' ').unwrap();
        (char::from(b'a' + letter.parse::<u8>().unwrap()), word.to_owned())
    };
    text.lines().map(line).collect()
}

/// Path, letters and whether it is \Recent, by base name.
fn files(maildir: &Path) -> HashMap<String, (PathBuf, String, bool)> {
    let mut files = HashMap::new();
    for folder in ["cur", "new"] {
        for entry in std::fs::read_dir(maildir.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let (base, letters) = name.split_once(":2,").unwrap_or((&name, ""));
            files.insert(base.to_owned(), (entry.path(), letters.to_owned(), folder == "new"));
        }
    }
    files
}

fn check(suffix: &str, server: Server, expected: usize) {
    let mut compared = 0;
    for entry in std::fs::read_dir(origins()).unwrap() {
        let golden = entry.unwrap().path();
        if golden.extension().is_some_and(|extension| extension == suffix) {
            let was = std::fs::read_to_string(&golden).unwrap();
            assert_eq!(shown(&golden.with_extension("mbox"), server), was, "{}", golden.display());
            compared += 1;
        }
    }
    assert_eq!(compared, expected);
}

#[test]
fn what_dovecot_shows_of_other_servers_mailboxes_is_what_the_maildir_holds() {
    check("dovecot", Server::Dovecot, 14);
}

#[test]
fn what_uw_showed_is_what_the_maildir_holds() {
    check("uw", Server::Uw, 5);
}

#[test]
fn what_qpopper_sent_is_what_the_maildir_holds() {
    check("qpopper", Server::Qpopper, 1);
}
