//! From_ lines, splitting, and what the messages of a mailbox say.

use mailready_mailbox::Server;
use mailready_mailbox::fuzzing::{self, Mailbox};

#[path = "../../../agent/mailbox/tests/support/naive.rs"]
mod naive_splitter;

/// Larger than every line that the grammars look at, smaller than most inputs.
const SMALL_WINDOW: usize = 700;
const LARGE_WINDOW: usize = 1 << 20;

/// The grammar looks no farther than it says, and what it takes is a date.
pub fn from_line(data: &[u8]) {
    let line_end = data.iter().position(|b| *b == b'\n').map_or(data.len(), |i| i + 1);
    let near = &data[..data.len().min(line_end + fuzzing::LOOK_AHEAD)];
    assert_eq!(fuzzing::from_line(data), fuzzing::from_line(near), "it looks farther than it says");

    let line = [b"From ", &data[..line_end]].concat();
    let taken = fuzzing::from_line_right(&line, true);
    if let Some(date) = taken {
        assert!((0..253_402_300_800 + 86_400 * 2).contains(&date) || date > -86_400 * 2, "{date}");
    }
    // What qpopper takes UW takes, too, but for the CR that is part of the line for one and not for the other.
    if fuzzing::from_line_right(&line, false).is_some() && !line.ends_with(b"\r\n") {
        assert!(taken.is_some());
    }
}

pub fn split(data: &[u8]) {
    let Some(mailbox) = in_any_window(Server::Dovecot, data) else { return };
    offsets_add_up(&mailbox, data, |gap| gap == b"\n" || gap == b"\r\n");
    for message in mailbox.messages.iter().filter(|_| !data.contains(&0)) {
        super::headers::nothing_hidden_is_shown(&message.bytes);
    }
}

pub fn uw(data: &[u8]) {
    let Some(mailbox) = in_any_window(Server::Uw, data) else { return };
    offsets_add_up(&mailbox, data, |gap| matches!(gap, b"" | b"\n" | b"\r\n"));
    for message in &mailbox.messages {
        assert!(!message.bytes.contains(&b'\r'), "a CR is no text for UW");
    }
}

pub fn qpopper(data: &[u8]) {
    let Some(mailbox) = in_any_window(Server::Qpopper, data) else { return };
    offsets_add_up(&mailbox, data, |gap| gap.is_empty());
    for message in &mailbox.messages {
        let Some(uidl) = &message.uidl else { continue };
        assert!((1..=70).contains(&uidl.len()) && uidl.bytes().all(|b| b.is_ascii_graphic()), "{uidl:?}");
        let line = format!("X-UIDL: {uidl}\n");
        assert!(
            message.bytes.windows(line.len()).any(|w| w == line.as_bytes()),
            "the client is not sent {uidl}"
        );
    }
}

/// Mailboxes made of words, against a splitter that was written without a look at ours.
pub fn naive(data: &[u8]) {
    const WORDS: [&str; 28] = [
        "From good@example.org Fri Nov  9 22:33:52 2001\n",
        "\nFrom good@example.org Fri Nov  9 22:33:52 2001\n",
        "From good@example.org Fri Nov  9 22:33:52 2001\r\n",
        "From bad line\n",
        ">From good@example.org Fri Nov  9 22:33:52 2001\n",
        "Subject: s\n",
        "Status: RO\n",
        "X-UID: 4\r\n",
        "X-Status\t: A\n",
        "x-imapbase: 1 2\n",
        "X-IMAP\n",
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
        ":",
        "F",
        "From ",
    ];
    let words = data.iter().take(200).map(|b| WORDS[usize::from(*b) % WORDS.len()]);
    let mbox: Vec<u8> = words.flat_map(str::bytes).collect();
    let ours = fuzzing::read(Server::Dovecot, &mbox, SMALL_WINDOW);
    match naive_splitter::messages(&mbox) {
        Some(expected) => {
            let ours: Vec<_> = ours.expect("both take it").messages.into_iter().map(|m| m.bytes).collect();
            assert_eq!(ours.len(), expected.len(), "{}", mbox.escape_ascii());
            assert_eq!(ours, expected, "{}", mbox.escape_ascii());
        }
        None => assert!(ours.is_err(), "{}", mbox.escape_ascii()),
    }
}

/// UIDs grow, and none is as large as the next one.
pub fn meta(data: &[u8]) {
    for server in [Server::Dovecot, Server::Uw, Server::Qpopper] {
        let Ok(mailbox) = fuzzing::read(server, data, LARGE_WINDOW) else { continue };
        let mut last = 0;
        for (i, message) in mailbox.messages.iter().enumerate() {
            assert!(message.pseudo || message.uid != 0);
            assert!(!message.pseudo || i == 0, "only the first can be no message");
            if !message.pseudo {
                assert!(message.uid > last && message.uid < mailbox.uid_next, "{last}, {}", message.uid);
                last = message.uid;
            }
            assert!(message.flags.bytes().all(|b| b"DFRST".contains(&b)), "{}", message.flags);
            assert!(message.flags.bytes().is_sorted(), "{}", message.flags);
            assert!(message.keywords.iter().all(|place| usize::from(*place) < mailbox.keywords.len()));
        }
        assert!(mailbox.keywords.iter().all(|word| !word.is_empty() && !word.contains([' ', '\n', '\r'])));
    }
}

/// The mailbox, the same through windows of two sizes; `None` if it is none.
fn in_any_window(server: Server, data: &[u8]) -> Option<Mailbox> {
    // To UW and qpopper a line larger than the window is no separator, so the small one has to be larger than that.
    let longest = data.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap_or(0);
    let small = SMALL_WINDOW.max(longest + fuzzing::LOOK_AHEAD + 16);
    match (fuzzing::read(server, data, small), fuzzing::read(server, data, LARGE_WINDOW)) {
        (Ok(small), Ok(large)) => {
            assert_eq!(small, large, "the size of the window shows");
            assert_eq!(large.hash, fuzzing::hash(data));
            Some(large)
        }
        (Err(small), Err(large)) => {
            assert_eq!(small.to_string(), large.to_string());
            None
        }
        (small, large) => panic!("{small:?} and {large:?}"),
    }
}

/// Every byte belongs to a message or to what separates two.
fn offsets_add_up(mailbox: &Mailbox, data: &[u8], is_separator: impl Fn(&[u8]) -> bool) {
    let mut at = mailbox.messages.first().map_or(data.len(), |first| first.offset as usize);
    assert!(data[..at].iter().all(|b| b" \t\r\n".contains(b)), "only blanks stand in front");
    for (i, message) in mailbox.messages.iter().enumerate() {
        assert_eq!(message.offset as usize, at);
        assert!(data[at..].starts_with(b"From "));
        let end = message.end as usize;
        let behind = mailbox.messages.get(i + 1).map_or(data.len(), |next| next.offset as usize);
        assert!(at < end && end <= behind, "{at}, {end}, {behind}");
        let gap = &data[end..behind];
        assert!(is_separator(gap) || (behind == data.len() && gap.is_empty()), "{gap:?}");
        at = behind;
    }
    assert_eq!(at, data.len());
}
