//! What went over the wire, by the server's own account: at the end of each session Dovecot logs how much of what it has sent.

use mailready_tests::lab::{Log, Result, eventually};

use super::account::FOR_THE_LAPTOP;

/// The sum of one or several sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sessions that have ended.
    pub sessions: usize,
    /// Headers of messages sent without the rest, by IMAP.
    pub headers: u64,
    /// Messages sent whole (or, by IMAP, in part).
    pub bodies: u64,
    /// Messages marked as deleted (IMAP).
    pub deleted: u64,
    /// Messages that were removed for good.
    pub expunged: u64,
    /// All bytes sent to the client by IMAP, answers and all.
    pub sent: u64,
}

impl Traffic {
    /// Whether no message and no part of one went in any direction.
    pub fn is_quiet(&self) -> bool {
        (self.headers, self.bodies, self.deleted, self.expunged) == (0, 0, 0, 0)
    }

    /// The traffic of all of the laptop's sessions that began after line `from` of Dovecot's log, waited for to the end of each.
    pub fn since(log: &Log, from: usize) -> Result<Self> {
        eventually(
            "Dovecot has told of the end of each session",
            || log.tail(),
            || Self::of(log.lines().iter().skip(from).map(|line| line.text.as_str())),
        )
    }

    /// `None` if there was no session, or one of them has not ended. Lines of other clients' sessions come in between, some late.
    fn of<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let address = format!("lip={FOR_THE_LAPTOP},");
        let begun = lines.clone().filter(|line| line.contains(" Login: ") && line.contains(&address));
        let sessions: Vec<&str> = begun.filter_map(|line| between(line, "session=<", ">")).collect();
        let mut sum = Self::default();
        for session in &sessions {
            let end = lines.clone().find(|line| {
                line.contains(&format!("<{session}>")) && (line.contains(" in=") || line.contains(" retr="))
            })?;
            sum.add(end);
        }
        (!sessions.is_empty()).then_some(sum)
    }

    /// `... in=93 out=1340 deleted=0 expunged=0 trashed=0 hdr_count=0 hdr_bytes=0 body_count=0 body_bytes=0` of IMAP, or
    /// `... top=10/1465, retr=0/0, del=0/10, size=1415` of POP3, where what stands before the stroke is the number.
    fn add(&mut self, line: &str) {
        let figure = |name: &str| -> u64 {
            let value = line.split_once(&format!(" {name}=")).map_or("", |(_, rest)| rest);
            let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
            digits.parse().unwrap_or(0)
        };
        self.sessions += 1;
        self.headers += figure("hdr_count");
        self.bodies += figure("body_count") + figure("top") + figure("retr");
        self.deleted += figure("deleted");
        self.expunged += figure("expunged") + figure("del");
        self.sent += figure("out");
    }
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    line.split_once(before)?.1.split(after).next()
}

#[test]
fn the_figures_of_both_protocols_are_added_up() {
    let lines = [
        "dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.2, mpid=9, session=<one>",
        "dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, mpid=7, session=<else>",
        "dovecot: imap(ann)<7><else>: Disconnected: Logged out in=1 out=2 deleted=9 expunged=9 trashed=0 hdr_count=9 hdr_bytes=9 body_count=9 body_bytes=9",
        "dovecot: pop3-login: Login: user=<ann>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.2, mpid=9, session=<two>",
        "dovecot: imap(ann)<9><one>: Disconnected: Logged out in=5 out=60 deleted=1 expunged=2 trashed=0 hdr_count=3 hdr_bytes=7 body_count=4 body_bytes=8",
        "dovecot: pop3(ann)<9><two>: Disconnected: Logged out top=10/1465, retr=20/30, del=5/10, size=1415",
    ];
    let sum = Traffic { sessions: 2, headers: 3, bodies: 34, deleted: 1, expunged: 7, sent: 60 };
    assert_eq!(Traffic::of(lines.into_iter()), Some(sum));
    assert_eq!(Traffic::of(lines[..5].iter().copied()), None, "one has not ended");
    assert_eq!(Traffic::of(lines[1..3].iter().copied()), None, "none has begun");
}
