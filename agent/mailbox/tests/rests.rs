//! A stage that takes what arrives later is the stage that would have been made then.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::{Error, Layout, RunId, SyncHow, Tree};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use support::{FROM, Place, mail};

/// The uidlist without what no two stages have in common: the mailbox's GUID and the names.
fn ids(maildir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(maildir.join("dovecot-uidlist")).unwrap();
    text.lines().skip(1).map(|line| line.split_once(" :").unwrap().0.to_owned()).collect()
}

/// Stages `mbox` up to each of `ends` in turn, then wholly; compares with one stage of everything.
fn in_steps(mbox: &[u8], ends: &[usize]) -> Result<(), TestCaseError> {
    let Ok(whole) = Place::new(mbox).stage().map(|(mut stage, path)| {
        let marker = stage.seal().unwrap();
        let keywords = std::fs::read_to_string(path.join("dovecot-keywords")).ok();
        (mail(&path), marker.sources[0].clone(), keywords, ids(&path))
    }) else {
        return Ok(());
    };
    let place = Place::new(&mbox[..ends[0]]);
    let Ok((mut stage, path)) = place.stage() else { return Ok(()) };
    for end in ends.iter().copied().chain([mbox.len()]) {
        place.put(&mbox[..end]);
        stage.append_rest(place.mbox().as_fd(), &mut |_| ControlFlow::Continue(())).unwrap();
        prop_assert_eq!(stage.summary().length, end as u64);
    }
    prop_assert!(stage.prefix_holds(place.mbox().as_fd(), &mut |_| ControlFlow::Continue(())).unwrap());
    let source = stage.seal().unwrap().sources[0].clone();
    mailready_mailbox::verify::verify(stage.folder().unwrap().as_fd(), &mut |_| ControlFlow::Continue(()))
        .unwrap();
    prop_assert_eq!(mail(&path), whole.0);
    prop_assert_eq!((source.hash, source.messages, source.uid_validity, source.uid_next), {
        let s = &whole.1;
        (s.hash, s.messages, s.uid_validity, s.uid_next)
    });
    prop_assert_eq!(std::fs::read_to_string(path.join("dovecot-keywords")).ok(), whole.2);
    prop_assert_eq!(ids(&path), whole.3);
    Ok(())
}

#[test]
fn what_follows_changes_how_the_last_message_ends() {
    let second = format!("\n{FROM}B: 2\n\ny\n");
    for first in [
        format!("{FROM}A: 1\n\nx"),
        format!("{FROM}A: 1\n\nx\n"),
        format!("{FROM}A: 1\n\nx\n\n"),
        FROM.into(),
    ] {
        let mbox = format!("{first}{second}");
        in_steps(mbox.as_bytes(), &[first.len()]).unwrap();
        in_steps(mbox.as_bytes(), &[first.len(), first.len() + 1, first.len() + 30]).unwrap();
    }
}

#[test]
fn a_mailbox_that_was_empty_takes_all_it_is_from_its_first_mail() {
    let mbox = format!("{FROM}X-IMAPbase: 99 0000000005 k\nX-UID: 3\nX-Keywords: k\n\nx\n");
    in_steps(mbox.as_bytes(), &[0]).unwrap();
}

#[test]
fn a_mailbox_of_only_the_pseudo_message_takes_mail() {
    let pseudo = format!("{FROM}X-IMAP: 99 0000000005\n\nx\n");
    in_steps(format!("{pseudo}\n{FROM}\nmail\n").as_bytes(), &[pseudo.len()]).unwrap();
}

#[test]
fn an_mbox_that_shrank_or_was_rewritten_is_noticed() {
    let mbox = format!("{FROM}A: 1\n\nx\n");
    let place = Place::new(mbox.as_bytes());
    let (mut stage, _) = place.stage().unwrap();
    place.put(&mbox.as_bytes()[..mbox.len() - 1]);
    let error = stage.append_rest(place.mbox().as_fd(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    place.put(mbox.replace('x', "y").as_bytes());
    assert!(!stage.prefix_holds(place.mbox().as_fd(), &mut |_| ControlFlow::Continue(())).unwrap());
}

#[test]
fn the_rest_costs_the_rest_and_not_the_mailbox() {
    let many = format!("{FROM}A: 1\n\n{}\n", "x".repeat(1000)).repeat(5000);
    let place = Place::new(many.as_bytes());
    let (mut stage, _) = place.stage().unwrap();
    place.put(format!("{many}{FROM}B: 2\n\ny\n").as_bytes());
    let (mut calls, mut first) = (0, u64::MAX);
    stage
        .append_rest(place.mbox().as_fd(), &mut |progress| {
            (calls, first) = (calls + 1, first.min(progress.bytes));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(calls, 2, "the last message again and the new one");
    assert!(first > 4_900_000);
    assert_eq!(stage.summary().messages, 5001);
}

#[test]
fn a_stop_leaves_no_mailbox_behind() {
    let place = Place::new(format!("{FROM}A: 1\n\nx\n\n{FROM}B: 2\n\ny\n").as_bytes());
    let run = RunId::generate().unwrap();
    let mut tree = Tree::create(place.work().as_fd(), &run, Layout::default(), SyncHow::PerFile).unwrap();
    let (mbox, known) = (place.mbox(), mailready_mailbox::Known::default());
    let error = tree
        .write_box(0, mbox.as_fd(), &place.source(), &known, &support::rules(), &mut |_| {
            ControlFlow::Break(())
        })
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    let left = std::fs::read_dir(place.work_path().join(Tree::name(&run))).unwrap().count();
    assert_eq!((left, tree.boxes().count()), (0, 0));
    Tree::remove(place.work().as_fd(), &run).unwrap();
}

#[test]
fn two_stages_of_one_run_are_refused_and_the_first_one_stays() {
    let place = Place::new(FROM.as_bytes());
    let run = RunId::generate().unwrap();
    let first = place.stage_as(&run, SyncHow::PerFile).unwrap();
    assert!(matches!(place.stage_as(&run, SyncHow::PerFile), Err(Error::Exists { .. })));
    assert_eq!(first.summary().messages, 1);
    assert!(place.work_path().join(Tree::name(&run)).join("dovecot-uidlist").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mail_in_any_portions_gives_the_same_maildir(
        bits in proptest::collection::vec(proptest::sample::select(vec![
            FROM, "\n", "\r\n", "A: 1\n", "X-IMAPbase: 5 0000000010 k l\n", "X-UID: 7\n", "X-UID: 9\n", "Status: O\n",
            "X-Keywords: l\n", "Date: d\n", "Received: r\n", "Content-Length: 4\n", "Content-Length: 54\n", "body\n", "body", "From "]), 1..24),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
    ) {
        let mbox = [FROM, &bits.concat()].concat().into_bytes();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| FROM.len() + cut.index(mbox.len() + 1 - FROM.len())).collect();
        ends.sort_unstable();
        in_steps(&mbox, &ends)?;
    }
}
