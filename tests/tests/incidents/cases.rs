//! The mailboxes that others have come to grief over, each as small as it can be. Every one is converted by the engine alone, where
//! a test says what must come of it, and shown by Dovecot before and after, where nothing may differ.

/// A mailbox, by the name of its incident.
pub type Case = (&'static str, fn() -> Vec<u8>);

/// All of them.
pub const ALL: [Case; 22] = [
    ("sentence", sentence),
    ("noblank", no_blank_line),
    ("mozilla", mozilla),
    ("falselength", false_length),
    ("truelength", true_length),
    ("dos", dos),
    ("quotedhead", quoted_line_in_header),
    ("quoted", quoted_lines),
    ("blanks", trailing_blanks),
    ("longhead", long_header),
    ("odd", odd_bytes),
    ("folded", folded_header),
    ("cutoff", cut_off),
    ("sameheads", same_headers),
    ("twins", identical),
    ("headless", headless),
    ("subject", subject_of_the_pseudo_message),
    ("pseudo", pseudo_message),
    ("unread", old_and_unread),
    ("flags", flags),
    ("keywords", keywords),
    ("numbers", numbers),
];

/// A From_ line of that minute.
fn from(minute: u32) -> String {
    format!("From ada@engine.example Mon Jan  5 10:{minute:02}:00 2026\n")
}

/// A message, with a blank line behind it as deliverers leave one.
fn message(minute: u32, head: &str, body: &str) -> String {
    format!("{}{head}\n{body}\n", from(minute))
}

pub fn sentence() -> Vec<u8> {
    let body = "Dear all,\n\nFrom now on we meet in room 217.\n\nFrom Monday 10:00 to Friday 12:30 it is free.\nFrom \n";
    [message(1, "Subject: rooms\n", body), message(2, "Subject: next\n", "x\n")].concat().into_bytes()
}

pub fn no_blank_line() -> Vec<u8> {
    let one = format!("{}Subject: one\n\nlast line\n", from(1));
    [one, message(2, "Subject: two\n", "x\n")].concat().into_bytes()
}

pub fn mozilla() -> Vec<u8> {
    let one = "From - Sat Apr  6 20:13:31 2013\nX-Mozilla-Status: 0001\nSubject: one\n\nx\n\n";
    let two = "From - Sun Apr  7 20:13:31 2013\nX-Mozilla-Status: 0001\nSubject: two\n\ny\n\n";
    [one, two].concat().into_bytes()
}

pub fn false_length() -> Vec<u8> {
    let beyond = message(1, "Subject: one\nContent-Length: 400\n", "short\n");
    let within = message(2, "Subject: two\nContent-Length: 3\n", "longer than three\n");
    [beyond, within, message(3, "Subject: three\n", "x\n")].concat().into_bytes()
}

pub fn true_length() -> Vec<u8> {
    let body = format!("forwarded:\n\n{}Subject: inside\n\nnot a message\n", from(9));
    let head = format!("Subject: one\nContent-Length: {}\n", body.len());
    [message(1, &head, &body), message(2, "Subject: two\n", "x\n")].concat().into_bytes()
}

pub fn dos() -> Vec<u8> {
    let text =
        [message(1, "Subject: one\nX-Test: a\n", "x\ny\n"), message(2, "Subject: two\n", "z\n")].concat();
    text.replace('\n', "\r\n").into_bytes()
}

pub fn quoted_line_in_header() -> Vec<u8> {
    let head = format!("X-Mozilla-Status: 0011\n>{}Subject: one\n", from(7));
    [message(1, &head, "x\n"), message(2, "Subject: two\n", "y\n")].concat().into_bytes()
}

pub fn quoted_lines() -> Vec<u8> {
    message(1, "Subject: one\n", ">From here\n>>From there\n> From afar\n").into_bytes()
}

pub fn trailing_blanks() -> Vec<u8> {
    message(1, "Subject: one \nContent-Type: application/zip; \nX-Empty: \nX-Tab:\t\n", "x \n").into_bytes()
}

pub fn long_header() -> Vec<u8> {
    let one_line = format!("References: {}\n", "<0123456789@list.example> ".repeat(1000).trim_end());
    let folded = format!("X-Folded: a{}\n", "\n\t<0123456789@list.example>".repeat(1000));
    message(1, &format!("{one_line}Subject: one\n{folded}"), "x\n").into_bytes()
}

pub fn odd_bytes() -> Vec<u8> {
    let mut mbox = message(1, "Subject: one\r two\n", "one\rtwo\r\rthree\nfour\r\n").into_bytes();
    mbox.extend_from_slice(from(2).as_bytes());
    mbox.extend_from_slice(b"Subject: K\xf6ln\nno colon here\n\nbefore\0after \xff\xfe \xc3(\n\n");
    mbox
}

pub fn folded_header() -> Vec<u8> {
    let folded = "Return-Path:\n <bounces@list.example>\nSubject:\n\tone\n";
    [message(1, folded, "x\n"), message(2, "Subject:two\n", "y\n")].concat().into_bytes()
}

pub fn cut_off() -> Vec<u8> {
    [message(1, "Subject: one\n", "x\n"), format!("{}Subject: two\n\nno end", from(2))].concat().into_bytes()
}

pub fn same_headers() -> Vec<u8> {
    let head = "From: quota@mail.example\nSubject: quota warning\nDate: Mon, 05 Jan 2026 10:00:00 +0000\n\
                Message-ID: <quota@mail.example>\n";
    let bodies = ["Your mailbox is 80% full.\n", "Your mailbox is 90% full.\n", "Your mailbox is full.\n"];
    (1..).zip(bodies).map(|(minute, body)| message(minute, head, body)).collect::<String>().into_bytes()
}

pub fn identical() -> Vec<u8> {
    let once = message(1, "Subject: twin\nMessage-ID: <twin@mail.example>\n", "the same\n");
    once.repeat(3).into_bytes()
}

pub fn headless() -> Vec<u8> {
    let without = format!("{}\nno header at all\n\n", from(1));
    let other = format!("{}\nnone here either\n\n", from(2));
    let only = format!("{}Subject: only headers\n\n\n", from(3));
    [without, other, only, message(4, "Subject: four\n", "x\n")].concat().into_bytes()
}

/// The subject of UW imapd's pseudo message, which anybody may write.
pub const PSEUDO: &str = "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA";

pub fn subject_of_the_pseudo_message() -> Vec<u8> {
    let question = message(1, &format!("From: ada@engine.example\nSubject: {PSEUDO}\n"), "What is this?\n");
    [question, message(2, "Subject: two\n", "x\n")].concat().into_bytes()
}

pub fn pseudo_message() -> Vec<u8> {
    let head = format!(
        "Date: 05 Jan 2026 10:00:00 +0000\nFrom: Mail System Internal Data <MAILER-DAEMON@mail.example>\n\
         Subject: {PSEUDO}\nX-IMAP: 1136467200 0000000012 work\nStatus: RO\n"
    );
    let body = "This text is part of the internal format of your mail folder, and is not\na real message.\n";
    let mail = message(2, "Subject: one\nStatus: RO\nX-Keywords: work\nX-UID: 12\n", "x\n");
    [message(1, &head, body), mail].concat().into_bytes()
}

pub fn old_and_unread() -> Vec<u8> {
    let heads = ["Subject: new\n", "Subject: old\nStatus: O\n", "Subject: read\nStatus: RO\n"];
    // As in life, what is new came last.
    (1..)
        .zip(heads.iter().rev())
        .map(|(minute, head)| message(minute, head, "x\n"))
        .collect::<String>()
        .into_bytes()
}

pub fn flags() -> Vec<u8> {
    let heads = [
        "Subject: answered\nStatus: RO\nX-Status: A\n",
        "Subject: flagged\nStatus: RO\nX-Status: F\n",
        "Subject: draft\nStatus: RO\nX-Status: T\n",
        "Subject: deleted\nStatus: RO\nX-Status: D\n",
        "Subject: all\nX-Status: AFTD\nStatus: RO\n",
        "Subject: none\nStatus: O\nX-Status: \n",
    ];
    (1..).zip(heads).map(|(minute, head)| message(minute, head, "x\n")).collect::<String>().into_bytes()
}

pub fn keywords() -> Vec<u8> {
    let head = "X-IMAPbase: 1136467200 0000000002 $Forwarded NonJunk $label1\nSubject: one\nStatus: RO\n\
                X-Keywords: NonJunk $label1\nX-UID: 1\n";
    let two = "Subject: two\nStatus: RO\nX-Keywords: $Forwarded\nX-UID: 2\n";
    [message(1, head, "x\n"), message(2, two, "y\n")].concat().into_bytes()
}

pub fn numbers() -> Vec<u8> {
    // 3 to 5 and 8 have been deleted, and so has the last that there was, 120.
    let head = "X-IMAPbase: 1136467200 0000000120\nSubject: two\nStatus: RO\nX-UID: 2\n";
    let rest =
        [6, 7, 9].map(|uid| message(uid, &format!("Subject: {uid}\nStatus: RO\nX-UID: {uid}\n"), "x\n"));
    [message(2, head, "x\n"), rest.concat()].concat().into_bytes()
}
