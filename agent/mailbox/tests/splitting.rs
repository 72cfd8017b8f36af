//! Messages are what Dovecot shows: by generated mailboxes against an oracle of its own, and by the cases that the rules are about.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::Error;
use proptest::prelude::*;
use support::{FROM, FROM_DATE, Mail, Place, mail, naive};

/// What a stage of these bytes holds.
fn staged(mbox: &[u8]) -> Result<Vec<Mail>, Error> {
    let place = Place::new(mbox);
    place.stage().map(|(mut stage, path)| {
        stage.seal().unwrap();
        mail(&path)
    })
}

fn bodies(mbox: &str) -> Vec<String> {
    staged(mbox.as_bytes()).unwrap().into_iter().map(|m| String::from_utf8(m.bytes).unwrap()).collect()
}

#[test]
fn the_line_end_before_a_from_line_belongs_to_it() {
    assert_eq!(bodies(&format!("{FROM}A: 1\n\nx\n\n{FROM}B: 2\n\ny\n")), ["A: 1\n\nx\n", "B: 2\n\ny"]);
    assert_eq!(bodies(&format!("{FROM}A: 1\n\nx\n{FROM}B: 2\n\ny\n\n")), ["A: 1\n\nx", "B: 2\n\ny\n"]);
    assert_eq!(bodies(&format!("{FROM}\nx")), ["\nx"], "without the last line end");
}

#[test]
fn crlf_is_dropped_in_headers_and_separators_and_kept_in_bodies() {
    let from = FROM.replace('\n', "\r\n");
    assert_eq!(
        bodies(&format!("{from}A: 1\r\n\r\nx\r\n\r\n{from}B: 2\r\n\r\ny\r\n")),
        ["A: 1\n\nx\r\n", "B: 2\n\ny"]
    );
}

#[test]
fn messages_may_be_headers_only_or_nothing_at_all() {
    assert_eq!(bodies(&format!("{FROM}A: 1\n{FROM}B: 2\n\n{FROM}\n{FROM}")), ["A: 1\n", "B: 2\n", "", ""]);
    assert_eq!(
        bodies(&format!("{FROM}{FROM}\nx\n")),
        [format!("{FROM}\nx")],
        "a From_ line under another is a header"
    );
}

#[test]
fn a_from_line_right_behind_an_empty_one_is_overlooked() {
    // Dovecot's scanner takes "From " and loses the byte behind it, here the next separator's line feed.
    assert_eq!(bodies(&format!("{FROM}\nx\nFrom \n{FROM}\ny\n")), [format!("\nx\nFrom \n{FROM}\ny")]);
}

#[test]
fn an_empty_file_is_an_empty_mailbox_and_others_are_refused_with_path_and_offset() {
    assert_eq!(bodies(""), [""; 0]);
    for bad in [
        "\n",
        "x",
        "\u{feff}From good@x",
        "From here to there\n\nx\n",
        &format!("\n{FROM}\nx\n"),
        FROM.trim_end(),
    ] {
        match staged(bad.as_bytes()) {
            Err(Error::NotMbox { offset: 0, path, .. }) => assert!(path.ends_with("mbox")),
            other => panic!("{bad:?}: {other:?}"),
        }
    }
}

#[test]
fn content_length_counts_only_where_it_lands_beyond_the_first_separator() {
    let inner = format!("x\n{FROM}y\n");
    let message = |length: usize| format!("{FROM}Content-Length: {length}\nA: 1\n\n{inner}\n{FROM}\nz\n");
    assert_eq!(bodies(&message(inner.len())), [format!("A: 1\n\n{inner}"), "\nz".into()]);
    for wrong in [0, 1, inner.len() - 1, inner.len() + 1, 1 << 40, usize::MAX] {
        assert_eq!(bodies(&message(wrong)).len(), 3, "{wrong}");
    }
    assert_eq!(
        bodies(&format!("{FROM}Content-Length: {}\n\n{inner}\n", inner.len())),
        [format!("\n{inner}")]
    );
}

#[test]
fn content_length_also_saves_a_body_that_begins_with_a_from_line() {
    let body = format!("{FROM}text\n");
    let mbox = format!("{FROM}A: 1\nContent-Length: {}\n\n{body}\n{FROM}\nz\n", body.len());
    assert_eq!(bodies(&mbox), [format!("A: 1\n\n{body}"), "\nz".into()]);
}

#[test]
fn nothing_is_unquoted_and_nuls_stay() {
    assert_eq!(bodies(&format!("{FROM}\n>From x\n>>From y\n\0\n")), ["\n>From x\n>>From y\n\0"]);
}

#[test]
fn flags_keywords_uids_and_dates_are_taken_over() {
    let mbox = format!(
        "{FROM}X-IMAPbase: 1234567890 0000000009 $Label1 Junk\nX-UID: 3\nStatus: RO\nX-Status: AF\nX-Keywords: junk\n\na\n\n\
         {FROM}X-UID: 5\nX-Status: D\n\nb\n\n{FROM}\nc\n"
    );
    let place = Place::new(mbox.as_bytes());
    let (mut stage, path) = place.stage().unwrap();
    let marker = stage.seal().unwrap();
    assert_eq!((marker.sources[0].uid_validity, marker.sources[0].uid_next), (1_234_567_890, 11));
    let mail = mail(&path);
    let seen: Vec<_> = mail.iter().map(|m| (m.uid, m.flags.as_str(), m.in_cur, m.date)).collect();
    assert_eq!(seen, [(3, "FRSb", true, FROM_DATE), (5, "T", false, FROM_DATE), (10, "", false, FROM_DATE)]);
    assert_eq!(std::fs::read_to_string(path.join("dovecot-keywords")).unwrap(), "0 $Label1\n1 Junk\n");
    let uidlist = std::fs::read_to_string(path.join("dovecot-uidlist")).unwrap();
    assert!(uidlist.starts_with("3 V1234567890 N10 G"), "{uidlist}");
}

#[test]
fn the_pseudo_message_is_no_mail() {
    let mbox = format!("{FROM}X-IMAP: 77 0000000020\nStatus: RO\n\ninternal\n\n{FROM}Status: O\n\na\n");
    let mail = staged(mbox.as_bytes()).unwrap();
    assert_eq!(mail.len(), 1);
    assert_eq!((mail[0].uid, mail[0].bytes.as_slice()), (21, &b"\na"[..]));
    assert_eq!(staged(format!("{FROM}X-IMAP: 77 0000000020\n\nonly\n").as_bytes()).unwrap(), []);
}

/// Found by the generator: the end cuts the line behind the Content-Length off, and that line completes it all the same.
#[test]
fn content_length_counts_though_the_end_cuts_the_line_behind_it_off() {
    let good = "From good@example.org Fri Nov  9 22:33:52 2001\r\n";
    let mbox = format!("{FROM}Content-Length: 54\nFrom bad line\n{good}body\n\n{good}");
    let ours: Vec<_> = staged(mbox.as_bytes()).unwrap().into_iter().map(|m| m.bytes).collect();
    assert_eq!(ours, naive::messages(mbox.as_bytes()).unwrap());
    assert_eq!(ours.len(), 2);
}

#[test]
fn more_keywords_in_use_than_letters_are_a_reason_and_leave_nothing() {
    let list: String = (0..27).map(|i| format!(" k{i}")).collect();
    let place = Place::new(format!("{FROM}X-IMAPbase: 1 9{list}\nX-Keywords:{list}\n\nx\n").as_bytes());
    let error = place.stage().unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    let trees = std::fs::read_dir(place.work_path()).unwrap();
    let left: usize = trees.map(|tree| std::fs::read_dir(tree.unwrap().path()).unwrap().count()).sum();
    assert_eq!(left, 0);
    // Listed, but not in use: no reason.
    let few = staged(format!("{FROM}X-IMAPbase: 1 9{list}\nX-Keywords: k26 k3\n\nx\n").as_bytes()).unwrap();
    assert_eq!(few[0].flags, "ab");
}

#[test]
fn a_message_larger_than_any_buffer_is_whole() {
    let line = "The quick brown fox jumps over the lazy dog\r\n";
    let body = line.repeat(200_000);
    let mbox = format!("{FROM}A: 1\n\n{body}\n{FROM}\nshort\n\n{FROM}\n{body}\n");
    let mail = staged(mbox.as_bytes()).unwrap();
    assert_eq!(mail.iter().map(|m| m.bytes.len()).collect::<Vec<_>>(), [6 + body.len(), 7, 1 + body.len()]);
    assert_eq!(mail[0].bytes[6..], *body.as_bytes());
}

#[test]
fn names_tell_exact_sizes() {
    let place = Place::new(format!("{FROM}A: 1\r\n\r\na\nb\r\nc\n\n{FROM}\nx\n").as_bytes());
    let (_stage, path) = place.stage().unwrap();
    let names: Vec<String> = support::receipt(&path).into_iter().map(|e| e.file).collect();
    // "A: 1\n\na\nb\r\nc\n" and "\nx": CRLF counts as it is, LF as CRLF.
    assert!(names[0].ends_with(",S=13,W=17"), "{names:?}");
    assert!(names[1].ends_with(",S=2,W=3"), "{names:?}");
}

/// Bits of mailboxes, right and wrong.
pub fn bits() -> impl Strategy<Value = Vec<u8>> {
    let bit = proptest::sample::select(vec![
        "From good@example.org Fri Nov  9 22:33:52 2001\n",
        "\nFrom good@example.org Fri Nov  9 22:33:52 2001\n",
        "From good@example.org Fri Nov  9 22:33:52 2001\r\n",
        "From bad line\n",
        ">From good@example.org Fri Nov  9 22:33:52 2001\n",
        "Subject: s\n",
        "Status: RO\n",
        "X-UID: 4\r\n",
        "X-Status\t: A\n",
        "Content-Length: 0\n",
        "Content-Length: 4\n",
        "Content-Length: 54\n",
        "Content-Length: 5 x\n",
        "X-Keywords: a\n",
        "\tfolded\n",
        "no colon\n",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "body\n",
        "body",
        "\0",
        "F",
        "From ",
    ]);
    proptest::collection::vec(bit, 0..24).prop_map(|bits| bits.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn generated_mailboxes_are_split_as_the_oracle_splits_them(tail in bits(), whole in any::<bool>()) {
        let mut mbox = if whole { FROM.as_bytes().to_vec() } else { Vec::new() };
        mbox.extend_from_slice(&tail);
        let ours = staged(&mbox).map(|mail| mail.into_iter().map(|m| m.bytes).collect::<Vec<_>>());
        match naive::messages(&mbox) {
            Some(expected) => prop_assert_eq!(ours.unwrap(), expected),
            None => {
                let refused = matches!(ours, Err(Error::NotMbox { .. }));
                prop_assert!(refused, "not refused: {:?}", ours);
            }
        }
    }

    #[test]
    fn any_bytes_are_mail_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for mbox in [bytes.clone(), [FROM.as_bytes(), &bytes].concat()] {
            if let Ok(mail) = staged(&mbox) {
                prop_assert!(mail.len() <= mbox.len());
            }
        }
    }
}
