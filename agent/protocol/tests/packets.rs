//! Packets: what is said is what is read, and no bytes at all make the reader fail.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use mailready_protocol::{
    Answer, AnswerError, Kind, NameError, PACKET_MAX, Phase, Progress, Reason, Request, RequestError,
    Service, Source, User, Wait,
};
use proptest::prelude::*;

fn name(min: usize, max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255u8, min..=max)
}

fn requests() -> impl Strategy<Value = Request> {
    (
        prop_oneof![Just(Kind::Arrival), Just(Kind::Lease)],
        prop::sample::select(Source::ALL.to_vec()),
        prop_oneof![Just(Phase::None), Just(Phase::Account), Just(Phase::Session)],
        name(1, User::MAX),
        name(0, Service::MAX),
        any::<u32>(),
    )
        .prop_map(|(kind, source, phase, user, service, ms)| Request {
            kind,
            source,
            phase,
            user: User::new(&user).unwrap(),
            service: Service::new(&service).unwrap(),
            wait: Wait::new(Duration::from_millis(ms.into())),
        })
}

fn answers() -> impl Strategy<Value = Answer> {
    let reasons = || any::<u8>().prop_map(Reason::from_code);
    prop_oneof![
        Just(Answer::Taken),
        Just(Answer::Ready),
        (any::<u32>(), any::<u32>()).prop_map(|(done, total)| Answer::Wait(Progress { done, total })),
        reasons().prop_map(Answer::Stay),
        reasons().prop_map(Answer::Refused),
    ]
}

proptest! {
    #[test]
    fn a_request_that_is_said_is_read(request in requests()) {
        let packet = request.encode();
        prop_assert!(packet.len() <= PACKET_MAX);
        prop_assert_eq!(Request::decode(&packet), Ok(request));
    }

    #[test]
    fn an_answer_that_is_said_is_read(answer in answers()) {
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn any_bytes_are_survived_and_what_is_read_is_said_the_same_way(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(request) = Request::decode(&bytes) {
            prop_assert_eq!(request.encode(), bytes.clone());
        }
        let _ = Answer::decode(&bytes);
    }

    /// Bytes at random hardly ever get past the magic; these begin as a true packet and have one byte changed.
    #[test]
    fn a_byte_changed_is_noticed_or_means_something_else(request in requests(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut packet = request.encode();
        let at = at.index(packet.len());
        let was = std::mem::replace(&mut packet[at], to);
        match Request::decode(&packet) {
            Ok(other) => prop_assert!((other == request) == (was == to)),
            Err(error) => prop_assert!(was != to && !error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_packet_that_is_cut_or_followed_by_more_is_refused(request in requests(), at in any::<prop::sample::Index>()) {
        let mut packet = request.encode();
        let cut = &packet[..at.index(packet.len())];
        prop_assert!(matches!(Request::decode(cut), Err(RequestError::Short { .. })), "{:?}", cut);
        packet.push(1);
        prop_assert!(matches!(Request::decode(&packet), Err(RequestError::Long { .. })), "{:?}", packet);
    }
}

/// The bytes of the format as `ARCHITECTURE.md` has them: another program may be written after that page.
#[test]
fn the_bytes_are_those_of_the_architecture_page() {
    let request = Request {
        kind: Kind::Lease,
        source: Source::Dovecot,
        phase: Phase::None,
        user: User::new(b"ann").unwrap(),
        service: Service::new(b"imap").unwrap(),
        wait: Wait::new(Duration::from_secs(20)),
    };
    assert_eq!(request.encode(), b"MR\x01\x02\x05\x00\x00\x00\x20\x4e\x00\x00\x03\x00\x04\x00annimap");
    let wait = Answer::Wait(Progress { done: 258, total: 1 << 24 });
    assert_eq!(wait.encode(), *b"MR\x01\x02\x00\x00\x00\x00\x02\x01\x00\x00\x00\x00\x00\x01");
    assert_eq!(
        Answer::Stay(Reason::Held).encode(),
        *b"MR\x01\x04\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    );
    let numbers = Source::ALL.map(|source| (source as u8, source.name()));
    assert_eq!(
        numbers,
        [(1, "pam"), (2, "ppp"), (3, "radius"), (4, "logind"), (5, "dovecot"), (6, "script")]
    );
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let good = Request {
        kind: Kind::Arrival,
        source: Source::Pam,
        phase: Phase::Account,
        user: User::new(b"ann").unwrap(),
        service: Service::new(b"sshd").unwrap(),
        wait: Wait::NONE,
    }
    .encode();
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        Request::decode(&packet).unwrap_err()
    };
    let unknown = |field, at, value| RequestError::Unknown { field, at, value };
    assert_eq!(with(0, b'm'), RequestError::Magic);
    assert_eq!(with(2, 2), RequestError::Version(2));
    assert_eq!(with(3, 3), unknown("kind", 3, 3));
    assert_eq!(with(4, 0), unknown("source", 4, 0));
    assert_eq!(with(5, 3), unknown("phase", 5, 3));
    assert_eq!(with(7, 1), unknown("zero", 7, 1));
    assert_eq!(with(17, 0), RequestError::User(NameError::Nul { at: 1 }));
    assert_eq!(with(20, 0), RequestError::Service(NameError::Nul { at: 1 }));
    assert_eq!(with(12, 2), RequestError::Long { len: 23, need: 22 });
    assert_eq!(Request::decode(b""), Err(RequestError::Short { len: 0, need: 16 }));

    let mut nobody = good.clone();
    nobody[12] = 0;
    nobody.drain(16..19);
    assert_eq!(Request::decode(&nobody), Err(RequestError::User(NameError::Empty)));

    // Lengths that fit the packet and no name: the longest packet that the system lets through is far larger.
    let mut long = good[..12].to_vec();
    long.extend([0, 1, 65, 0]);
    long.extend([b'x'; 256 + 65]);
    let too_long = NameError::TooLong { len: 256, max: 255 };
    assert_eq!(Request::decode(&long), Err(RequestError::User(too_long)));
}

#[test]
fn what_is_wrong_with_an_answer_is_named() {
    let with = |at: usize, value: u8| {
        let mut packet = Answer::Ready.encode();
        packet[at] = value;
        Answer::decode(&packet)
    };
    assert_eq!(with(1, 0), Err(AnswerError::Magic));
    assert_eq!(with(2, 9), Err(AnswerError::Version(9)));
    assert_eq!(with(3, 6), Err(AnswerError::Unknown { field: "kind", at: 3, value: 6 }));
    assert_eq!(with(4, 1), Err(AnswerError::Unknown { field: "reason", at: 4, value: 1 }));
    assert_eq!(with(5, 7), Err(AnswerError::Unknown { field: "zero", at: 5, value: 7 }));
    assert_eq!(with(8, 7), Ok(Answer::Ready));
    assert_eq!(Answer::decode(&[0; 15]), Err(AnswerError::Length(15)));
    assert_eq!(Answer::decode(&[0; 17]), Err(AnswerError::Length(17)));
}

#[test]
fn a_reason_of_a_newer_agent_is_no_error() {
    let mut packet = Answer::Stay(Reason::Held).encode();
    packet[4] = 200;
    let answer = Answer::decode(&packet).unwrap();
    assert_eq!(answer, Answer::Stay(Reason::Other(200)));
    assert_eq!(answer.to_string(), "stay reason-200");
}

#[test]
fn every_answer_is_one_word_and_what_belongs_to_it() {
    for code in 0..=255 {
        let text = Answer::Stay(Reason::from_code(code)).to_string();
        assert_eq!(text.split(' ').count(), 2, "{text:?}");
    }
    assert_eq!(Answer::Wait(Progress { done: 3, total: 9 }).to_string(), "wait 3/9");
    assert_eq!(Answer::Wait(Progress { done: 3, total: 0 }).to_string(), "wait 3");
    assert_eq!(Answer::Refused(Reason::NotAllowed).to_string(), "refused not-allowed");
}

#[test]
fn names_of_users_are_shown_without_their_control_bytes() {
    let user = User::new(b"a\x1b[2J\nb\xff").unwrap();
    assert_eq!(user.to_string(), "a\\x1b[2J\\nb\\xff");
}

#[test]
fn a_wait_is_rounded_up_so_that_a_short_one_is_not_none() {
    assert_eq!(Wait::new(Duration::ZERO), Wait::NONE);
    assert_eq!(Wait::new(Duration::from_nanos(1)).duration(), Duration::from_millis(1));
    assert_eq!(Wait::new(Duration::MAX).duration(), Duration::from_millis(u32::MAX.into()));
}
