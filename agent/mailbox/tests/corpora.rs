//! Real mailboxes: as many messages as Dovecot shows, and a refusal where it refuses.
//!
//! `MAILREADY_CORPORA` names a folder with a `MANIFEST.tsv` whose columns `repo`, `path` and `dovecot_2.3.19_msgs` say what
//! Dovecot 2.3.19 answered for each file. Without it the test is skipped, and says so.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

use mailready_mailbox::convert_file::{Options, convert_file};
use mailready_mailbox::{Error, Rules, Server, Zone};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

#[test]
fn every_file_of_the_corpora_is_split_as_dovecot_splits_it() {
    let Some(corpora) = std::env::var_os("MAILREADY_CORPORA") else {
        eprintln!("SKIPPED: MAILREADY_CORPORA is not set, so no real mailboxes were compared");
        return;
    };
    let corpora = Path::new(&corpora);
    let manifest = std::fs::read_to_string(corpora.join("MANIFEST.tsv")).unwrap();
    let mut lines = manifest.lines();
    let columns: HashMap<&str, usize> = lines.next().unwrap().split('\t').zip(0..).collect();
    let scratch = tempfile::tempdir().unwrap();
    let options =
        Options { rules: Rules { server: Server::Dovecot, zone: Zone::utc() }, lock_wait: Duration::ZERO };
    let (mut compared, mut refused, mut unknown) = (0, 0, 0);
    let mut wrong = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let path = corpora.join(fields[columns["repo"]].replace('/', "+")).join(fields[columns["path"]]);
        let dovecot = fields[columns["dovecot_2.3.19_msgs"]];
        let maildir = scratch.path().join("Maildir");
        let ours = convert_file(&path, &maildir, &options, &mut |_| ControlFlow::Continue(()));
        match (&ours, dovecot.parse::<u64>()) {
            (Ok(converted), Ok(messages)) if converted.summary.messages == messages => compared += 1,
            (Err(Error::NotMbox { .. }), _) if dovecot.starts_with("NO:") => refused += 1,
            (_, Err(_)) if dovecot == "-" => unknown += 1,
            _ => wrong.push(format!("{}: Dovecot {dovecot}, we {ours:?}", path.display())),
        }
        if maildir.exists() {
            std::fs::remove_dir_all(&maildir).unwrap();
        }
    }
    eprintln!("{compared} agree, {refused} refused by both, {unknown} unknown to Dovecot");
    assert!(compared > 0, "the manifest names no file that Dovecot reads");
    assert!(wrong.is_empty(), "{} files differ:\n{}", wrong.len(), wrong.join("\n"));
}
