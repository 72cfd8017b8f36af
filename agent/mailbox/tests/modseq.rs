//! What clients were shown as HIGHESTMODSEQ is carried into the Maildir, as the last word before the seal has it.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use std::num::NonZeroU64;

use support::{FROM, Place};

/// `initial_modseq` of the index log that a sealed stage has.
fn initial_modseq(told: &[Option<u64>]) -> Option<u64> {
    let place = Place::new(format!("{FROM}Subject: a\n\nbody\n").as_bytes());
    let (mut stage, path) = place.stage().unwrap();
    for highest in told {
        stage.set_highest_modseq(highest.and_then(NonZeroU64::new));
    }
    stage.seal().unwrap();
    match std::fs::read(path.join("dovecot.index.log")) {
        Ok(log) => Some(u64::from_ne_bytes(log[24..32].try_into().unwrap())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_index_begins_above_what_clients_have_seen() {
    let begin = initial_modseq(&[Some(500), Some(700)]).unwrap();
    assert!((700..700 + (1 << 30)).contains(&begin), "{begin}");
}

#[test]
fn without_an_index_there_is_nothing_to_carry_over() {
    assert_eq!(initial_modseq(&[]), None);
    assert_eq!(initial_modseq(&[Some(500), None]), None);
}
