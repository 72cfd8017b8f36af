//! Letters: messages as they come in, before any deliverer has put them into a mailbox, ordinary ones and those that converters
//! are known to get wrong.

use crate::lab::mail::Seeded;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Envelope sender.
    pub sender: &'static str,
    /// What an mbox's separator says: `Tue Feb  3 04:05:06`.
    pub day: String,
    /// The year that belongs to it.
    pub year: u32,
    /// Header and body. Lines end as the sender's program ended them.
    pub bytes: Vec<u8>,
}

const SENDERS: [&str; 4] =
    ["ada@engine.example", "bounce-17=ann=example.org@list.example", "MAILER-DAEMON", "j.weiss@uni.example"];

/// Days and times: some that the clocks of central Europe show twice or never, the leap day, the last second of 32 bits.
const MOMENTS: [(&str, u32); 12] = [
    ("Tue Feb  3 04:05:06", 2009),
    ("Sun Mar 29 02:30:00", 2026),
    ("Sun Oct 26 02:30:00", 2025),
    ("Sun Oct 26 01:59:59", 2025),
    ("Sun Mar 29 03:00:00", 2026),
    ("Thu Feb 29 23:59:59", 2024),
    ("Sat Jul 12 12:00:00", 2014),
    ("Fri Jan  1 00:00:00", 1999),
    ("Tue Jan 19 03:14:07", 2038),
    ("Mon Sep 17 22:33:52", 2001),
    ("Wed Dec 31 23:30:00", 2008),
    ("Sat May  9 09:08:07", 2020),
];

impl Letter {
    /// The next letter: mostly an ordinary one, every third one odd.
    pub fn next(random: &mut Seeded, serial: u64) -> Self {
        let (day, year) = MOMENTS[pick(random, MOMENTS.len())];
        let sender = SENDERS[pick(random, SENDERS.len())];
        let bytes = if random.below(3) > 0 { ordinary(random, serial) } else { odd(random, serial) };
        Self { sender, day: day.into(), year, bytes }
    }
}

/// What Dovecot 2.3.19 takes in for an mbox and then stumbles over itself: it writes lines that are separators as they are and
/// damages them when it rewrites the mbox later, and it drops metadata of others and goes on saying the size with them.
const STUMBLES: [&str; 8] =
    ["from ", "content-length:", "status:", "x-imap:", "x-imapbase:", "x-keywords:", "x-status:", "x-uid:"];

impl Letter {
    /// Whether it can be saved through Dovecot, so that what clients see of it is one and the same each time they look. Other
    /// deliverers write it in any case.
    #[must_use]
    pub fn suits_dovecot(&self) -> bool {
        self.bytes.split(|byte| *byte == b'\n').all(|line| {
            let line = String::from_utf8_lossy(line).to_ascii_lowercase();
            !STUMBLES.iter().any(|start| line.starts_with(start))
        })
    }
}

/// An index below `len`.
pub(super) fn pick(random: &mut Seeded, len: usize) -> usize {
    // A remainder of a length fits into an index.
    usize::try_from(random.below(len as u64)).unwrap_or(0)
}

fn head(serial: u64, subject: &str) -> String {
    format!(
        "Received: from relay.example (relay.example [192.0.2.{}])\n\tby mail.example.org (Postfix) with ESMTP id {serial:08X}\n\
         \tfor <ann@example.org>; Tue,  3 Feb 2009 04:05:06 +0100\n\
         From: Ada Byron <ada@engine.example>\nTo: ann@example.org\nSubject: {subject}\n\
         Date: Tue, 3 Feb 2009 04:05:06 +0100\nMessage-ID: <{serial}@engine.example>\n",
        serial % 250,
    )
}

fn ordinary(random: &mut Seeded, serial: u64) -> Vec<u8> {
    let mut letter = head(serial, &format!("letter {serial}"));
    letter.push_str("MIME-Version: 1.0\n");
    match random.below(4) {
        0 => {
            letter.push_str("Content-Type: multipart/mixed; boundary=\"=-b\"\n\n--=-b\nContent-Type: text/plain\n\nhello\n");
            letter.push_str("--=-b\nContent-Type: message/rfc822\n\nSubject: inner\nStatus: RO\nX-UID: 7\n\ninner body\n--=-b--\n");
        }
        1 => letter.push_str("Content-Type: text/html; charset=utf-8\n\n<p>Gr\u{fc}\u{df}e</p>\n"),
        _ => letter.push_str("\nhello\n"),
    }
    for line in 0..random.below(12) {
        letter.push_str(&format!("line {line} of {serial}\n"));
    }
    letter.into_bytes()
}

/// One of the letters that something is the matter with.
fn odd(random: &mut Seeded, serial: u64) -> Vec<u8> {
    let all = ODD.len();
    let mut letter = ODD[pick(random, all)](serial);
    if letter.len() < 3 {
        // Nothing at all is no message to any deliverer.
        letter = b"\nx\n".to_vec();
    }
    letter
}

fn with(serial: u64, subject: &str, rest: &[u8]) -> Vec<u8> {
    [head(serial, subject).as_bytes(), rest].concat()
}

type Odd = fn(u64) -> Vec<u8>;

const ODD: [Odd; 24] = [
    |n| {
        with(
            n,
            "lines that look like separators",
            b"\nFrom bob@example.org Mon Jan  5 10:00:00 2026\n>From ann\n>>From eve\nFrom here on\n",
        )
    },
    |n| with(n, "empty body", b"\n"),
    |n| with(n, "header only", b""),
    |_| b"\nno header at all\n".to_vec(),
    |_| {
        b"Subject: the same twice\nMessage-ID: <twice@example.org>\nDate: Tue, 3 Feb 2009 04:05:06 +0100\n\ntwice\n".to_vec()
    },
    |_| {
        b"Subject: the same twice\nMessage-ID: <twice@example.org>\nDate: Tue, 3 Feb 2009 04:05:06 +0100\n\ntwice\n".to_vec()
    },
    |n| {
        format!("Subject: draft {n}\nMessage-ID: <twice@example.org>\nDate: Tue, 3 Feb 2009 04:05:06 +0100\n\nedited {n}\n").into_bytes()
    },
    |n| format!("Subject: a draft without an identity {n}\n\nversion {n}\n").into_bytes(),
    |n| with(n, "null bytes", b"\nbefore\0after\n\0\n"),
    |n| with(n, "8 bits", b"X-\xfc: \xe4\xf6\n\nSch\xf6ne Gr\xfc\xdfe\n\xff\xfe\n"),
    |n| {
        with(
            n,
            "line ends of all kinds",
            b"X-Folded: a\r\n\tb\r\nX-Test: c\r\n\r\none\r\ntwo\rthree\r\n\nfour\n\r\n",
        )
    },
    |n| crlf(&with(n, "CRLF", b"\nall lines\nwith CRLF\n")),
    |n| with(n, "blank lines at the end", b"\nx\n\n\n\n\n"),
    |n| with(n, "no end of line at the end", b"\nx"),
    |n| with(n, "a long line", &[b"\n".as_slice(), &b"x".repeat(70_000), b"\n"].concat()),
    |n| {
        with(
            n,
            "metadata of another mailbox",
            b"Status: RO\nX-Status: AF\nX-UID: 4711\nX-Keywords: other words\nContent-Length: 99999\n\nx\n",
        )
    },
    |n| {
        with(
            n,
            "folded metadata",
            b"X-Keywords:\n  old\n  words\nsTaTuS:\n R\nX-UIDL: <x-uidl-of-another>\n\nx\n",
        )
    },
    |n| with(n, "metadata in the body", b"\nStatus: RO\nX-UID: 1\nX-IMAPbase: 1 1\n"),
    |n| {
        with(
            n,
            "a true length",
            b"Content-Length: 51\n\nFrom bob@example.org Mon Jan  5 10:00:00 2026\ninside",
        )
    },
    |n| with(n, "a false length", b"Content-Length: 3\n\nlonger than said\n"),
    |n| with(n, "a line that is no header\n(no colon)", b"\nx\n"),
    |n| {
        with(n, "two of each", b"Subject: again\nDelivered-To: one@example.org\nDelivered-To: two@example.org\nReceived: from a by b\n\nx\n")
    },
    |n| {
        with(
            n,
            "over a kilobyte",
            &[b"\n".as_slice(), &b"0123456789abcdef0123456789abcde\n".repeat(64)].concat(),
        )
    },
    |n| with(n, "dots", b"\n.\n..\n.x\n"),
];

/// CRLF for each LF; a line without end stays so.
pub(super) fn crlf(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .flat_map(|line| match line.strip_suffix(b"\n") {
            Some(text) => [text, b"\r\n"].concat(),
            None => line.to_vec(),
        })
        .collect()
}
