//! Mail for tests and for the demo: an mbox as a deliverer and years of use leave it, made from a seed, the same for every run.

/// A small generator of numbers (splitmix64): the same seed gives the same mail on every machine and in every version.
pub struct Seeded(u64);

impl Seeded {
    /// Begins at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        // The remainder of a length fits into an index.
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }
}

const PEOPLE: [&str; 8] = [
    "Ada Byron <ada@engine.example>",
    "Grace Hopper <hopper@navy.example>",
    "\"Dijkstra, E. W.\" <ewd@tue.example>",
    "=?UTF-8?Q?J=C3=BCrgen_Gro=C3=9F?= <juergen@uni.example>",
    "root@mail.example.org (Cron Daemon)",
    "Margaret Hamilton <mh@draper.example>",
    "newsletter@shop.example",
    "Ken <ken@bell.example>",
];

const SUBJECTS: [&str; 8] = [
    "Minutes of Tuesday's meeting",
    "Re: printer on the second floor",
    "=?UTF-8?B?TWl0dGFnZXNzZW4gYW0gRG9ubmVyc3RhZz8=?=",
    "[list] Re: [list] which editor?",
    "Cron <root@mail> /usr/local/bin/backup",
    "Your order has been sent",
    "Fwd: photos of the garden",
    "exam dates, room 217",
];

const LINES: [&str; 10] = [
    "Thank you for the quick answer.",
    "I have attached the figures for last quarter; the second table is the one that matters.",
    ">From what I hear, the move is planned for spring.",
    "> On Monday you wrote that the key is at the porter's.",
    "Mit freundlichen Gr=C3=BC=C3=9Fen",
    "",
    "-- ",
    "See https://www.example.org/a/very/long/address/that/goes/on?and=on&and=on for the rest.",
    ".",
    "\tindented with a tab, trailing blanks  ",
];

/// `count` messages as Postfix would have delivered them over the years, read by Dovecot or never read.
#[must_use]
pub fn mbox(seed: u64, count: u32) -> Vec<u8> {
    let mut random = Seeded::new(seed);
    let mut mbox = Vec::new();
    for number in 0..count {
        message(&mut mbox, &mut random, number, count, true);
    }
    mbox
}

/// `count` messages that no client has seen yet.
#[must_use]
pub fn unread(seed: u64, count: u32) -> Vec<u8> {
    let mut random = Seeded::new(seed);
    let mut mbox = Vec::new();
    for number in 0..count {
        message(&mut mbox, &mut random, number, count, false);
    }
    mbox
}

fn message(mbox: &mut Vec<u8>, random: &mut Seeded, number: u32, count: u32, used: bool) {
    let sender = random.one(&PEOPLE);
    let subject = random.one(&SUBJECTS);
    let (month, day) = (random.one(&["Jan", "Mar", "Jun", "Oct"]), 1 + random.below(28));
    let year = 2005 + number * 20 / count.max(1);
    let time = format!("{:02}:{:02}:{:02}", random.below(24), random.below(60), random.below(60));
    let address =
        sender.split_once('<').map_or("root@mail.example.org", |(_, rest)| rest.trim_end_matches('>'));
    let mut head = format!(
        "From {address}  Mon {month} {day:>2} {time} {year}\n\
         Return-Path: <{address}>\nX-Original-To: demo\nDelivered-To: demo@mail.example.org\n\
         Received: by mail.example.org (Postfix, from userid 0)\n\tid {:08X}; Mon, {day} {month} {year} {time} +0000\n\
         From: {sender}\nTo: demo@mail.example.org\nSubject: {subject}\n\
         Date: Mon, {day} {month} {year} {time} +0000\nMessage-ID: <{number}.{:x}@mail.example.org>\n",
        random.number() >> 32,
        random.number(),
    );
    // The older the mail, the surer it has been read.
    if used && random.below(u64::from(count)) >= u64::from(number / 2) {
        head.push_str("Status: RO\n");
        head.push_str(random.one(&["", "", "X-Status: A\n", "X-Status: F\n", "X-Status: AF\n"]));
    }
    mbox.extend_from_slice(head.as_bytes());
    match random.below(8) {
        0 => attachment(mbox, random),
        1 => latin1(mbox),
        _ => {
            mbox.extend_from_slice(b"Content-Type: text/plain; charset=us-ascii\n\n");
            text(mbox, random);
        }
    }
    mbox.push(b'\n');
}

fn text(mbox: &mut Vec<u8>, random: &mut Seeded) {
    for _ in 0..=random.below(30) {
        mbox.extend_from_slice(random.one(&LINES).as_bytes());
        mbox.push(b'\n');
    }
}

fn latin1(mbox: &mut Vec<u8>) {
    mbox.extend_from_slice(
        b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\n",
    );
    mbox.extend_from_slice(b"Sch\xf6ne Gr\xfc\xdfe aus K\xf6ln\n");
}

fn attachment(mbox: &mut Vec<u8>, random: &mut Seeded) {
    mbox.extend_from_slice(
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=_part\"\n\n--=_part\n\n",
    );
    text(mbox, random);
    mbox.extend_from_slice(b"--=_part\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n");
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for _ in 0..20 + random.below(200) {
        for _ in 0..76 {
            mbox.push(ALPHABET[(random.number() % 64) as usize]);
        }
        mbox.push(b'\n');
    }
    mbox.extend_from_slice(b"--=_part--\n");
}

/// Messages that converters are known to get wrong, each with the reason in its subject.
#[must_use]
pub fn awkward() -> Vec<u8> {
    let a_line = format!("\n{}\n\n", "x".repeat(100_000));
    let messages: [(&str, &str, &[u8]); 16] = [
        ("quoted From", "", b"\n>From here\n>>From there\n\n"),
        ("no blank line before the next", "", b"\nlast line\n"),
        ("headers only, not even an empty line", "", b""),
        ("empty body", "", b"\n\n"),
        ("the same twice", "Message-ID: <twice@example.org>\n", b"\ntwice\n\n"),
        ("the same twice", "Message-ID: <twice@example.org>\n", b"\ntwice\n\n"),
        ("the same id, another body", "Message-ID: <twice@example.org>\n", b"\nnot twice\n\n"),
        ("carriage returns", "X-Test: a\r\n", b"\none\r\ntwo\rthree\r\n\n"),
        ("a null byte", "", b"\nbefore\0after\n\n"),
        (
            "a true length",
            "Content-Length: 57\n",
            b"\nFrom bob@example.org Mon Jan  5 10:00:00 2026\ninside it\n\n\n",
        ),
        ("a false length", "Content-Length: 9999\n", b"\nshort\n\n"),
        ("blank lines at the end", "", b"\nx\n\n\n\n\n"),
        ("folded metadata", "X-Keywords:\n  old\n  words\nStatus: O\n", b"\nx\n\n"),
        ("a long line", "", a_line.as_bytes()),
        ("From inside a line", "", b"\nit says From ann@example.org Tue Feb  3 04:05:06 2009\n\n"),
        ("no end of line at the end", "", b"\nx"),
    ];
    // Zones that Dovecot reads in a way of its own (formats of the From_ line), each with the time it makes of it.
    let zones = ["2009", "2009 +0530", "+0300 2009", "MET 2009", "2009 remote from host"];
    let mut mbox = Vec::new();
    for (number, (subject, head, body)) in messages.into_iter().enumerate() {
        let zone = zones[number % zones.len()];
        let head = format!("From ann@example.org Tue Feb  3 04:05:06 {zone}\nSubject: {subject}\n{head}");
        mbox.extend_from_slice(head.as_bytes());
        mbox.extend_from_slice(body);
    }
    mbox
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mail() {
        assert_eq!(mbox(7, 20), mbox(7, 20));
        assert_ne!(mbox(7, 20), mbox(8, 20));
    }

    #[test]
    fn as_many_messages_as_asked_for() {
        let mbox = mbox(7, 50);
        let separators = mbox.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"From ")).count();
        assert_eq!(separators, 50);
    }
}
