//! What Dovecot tells of the user's mailboxes: `doveadm -f tab mailbox status`, unparsed as the agent got it.
//!
//! A line of names, then a line a mailbox. Where several instances were asked, their outputs follow each other. A mailbox that could not be opened has no
//! line. Names are those that clients see: with the namespace's prefix and separator.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use mailready_mailbox::Summary;
use mailready_mailbox::layout::INBOX;
use nix::errno::Errno;

use crate::file::errno_of;
use crate::job::Job;

/// Told output is read up to here; 2000 mailboxes are 200 KB.
const AT_MOST: usize = 64 << 20;

/// What is told of one mailbox, as far as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToldBox {
    pub(crate) messages: Option<u64>,
    recent: Option<u64>,
    unseen: Option<u64>,
    pub(crate) uid_next: Option<u32>,
    pub(crate) uid_validity: Option<u32>,
    pub(crate) highest_modseq: Option<u64>,
    pub(crate) guid: Option<[u8; 16]>,
}

impl ToldBox {
    /// Messages before the first that is \Recent.
    pub(crate) fn not_recent(&self) -> Option<u64> {
        self.messages?.checked_sub(self.recent?)
    }

    /// Whether Dovecot's index knows of every message in this mailbox, and of no other; and of \Seen as the mbox has it, which is what it lacks first where a
    /// session died between writing the one and the other.
    pub(crate) fn is_exactly(&self, staged: &Summary) -> bool {
        let told = (self.messages, self.unseen, self.uid_next, self.uid_validity);
        let here = (staged.messages, staged.unseen, staged.uid_next, staged.uid_validity);
        told == (Some(here.0), Some(here.1), Some(here.2), Some(here.3))
    }

    /// Whether this mailbox is what Dovecot told, or that and nothing but mail that came after it was told.
    pub(crate) fn agrees_with(&self, staged: &Summary) -> bool {
        let came = match self.messages {
            Some(messages) => staged.messages.checked_sub(messages),
            None => Some(0),
        };
        let uids = match self.uid_next {
            Some(uid_next) => staged.uid_next.checked_sub(uid_next).map(u64::from),
            None => came,
        };
        came.is_some() && came == uids && self.uid_validity.is_none_or(|v| v == staged.uid_validity)
    }
}

/// What is told of all mailboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    boxes: HashMap<String, ToldBox>,
}

impl Told {
    /// Reads what the agent has handed over.
    pub(crate) fn read(file: OwnedFd, job: &Job) -> nix::Result<Self> {
        Ok(Self::parse(&read_all(file)?, job))
    }

    /// Whether anything was told at all.
    pub(crate) fn is_given(&self) -> bool {
        !self.boxes.is_empty()
    }

    pub(crate) fn of(&self, name: &str) -> ToldBox {
        self.find(name).cloned().unwrap_or_default()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&ToldBox> {
        self.boxes.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.boxes.keys().map(String::as_str)
    }

    pub(crate) fn parse(text: &[u8], job: &Job) -> Self {
        let mut boxes = HashMap::new();
        let mut columns: Vec<&str> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let fields: Vec<&str> = line.split('\t').collect();
            // A mailbox called "mailbox" has numbers behind its name.
            if fields.first() == Some(&"mailbox") && fields.contains(&"messages") {
                columns = fields;
                continue;
            }
            if fields.len() != columns.len() {
                continue;
            }
            let field = |name| columns.iter().position(|column| *column == name).map(|at| fields[at]);
            let Some(name) = field("mailbox").and_then(|name| source_name(name, job)) else { continue };
            let number = |name| field(name).and_then(|text| text.parse::<u64>().ok());
            let uid = |name| number(name).and_then(|number| u32::try_from(number).ok()).filter(|n| *n != 0);
            let told = ToldBox {
                messages: number("messages"),
                recent: number("recent"),
                unseen: number("unseen"),
                uid_next: uid("uidnext"),
                uid_validity: uid("uidvalidity"),
                highest_modseq: number("highestmodseq").filter(|modseq| *modseq != 0),
                guid: field("guid").and_then(guid),
            };
            boxes.insert(name, told);
        }
        Self { boxes }
    }
}

/// All of a file, wherever its offset stands: the agent has written it through the same description.
pub(crate) fn read_all(file: OwnedFd) -> nix::Result<Vec<u8>> {
    let file = File::from(file);
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while bytes.len() < AT_MOST {
        match file.read_at(&mut piece, bytes.len() as u64) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno_of(&error)),
        }
    }
    Err(Errno::EFBIG)
}

/// The source's name for what clients call it; `None` for a mailbox of another namespace.
pub(crate) fn source_name(seen: &str, job: &Job) -> Option<String> {
    if seen.eq_ignore_ascii_case(INBOX) {
        return Some(INBOX.to_owned());
    }
    let name = seen.strip_prefix(&job.prefix)?;
    Some(match job.separator {
        '/' => name.to_owned(),
        separator => name.replace(separator, "/"),
    })
}

/// 32 hex digits.
fn guid(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::job;

    const NAMES: &str = "mailbox\tmessages\trecent\tuidnext\tuidvalidity\thighestmodseq\tguid\n";

    #[test]
    fn each_mailbox_has_its_line_under_the_name_that_we_know_it_by() {
        let text = format!(
            "{NAMES}INBOX\t60\t3\t70\t1000\t501\t00112233445566778899aabbccddeeff\nlists/däb x\t0\t0\t1\t7\t0\t-\nbroken\t1\n\u{0}"
        );
        let told = Told::parse(text.as_bytes(), &job());
        let inbox = told.of("INBOX");
        assert_eq!(
            (inbox.not_recent(), inbox.uid_next, inbox.highest_modseq),
            (Some(57), Some(70), Some(501))
        );
        assert_eq!(inbox.guid.unwrap()[..3], [0, 0x11, 0x22]);
        let other = told.of("lists/däb x");
        assert_eq!((other.messages, other.uid_validity, other.guid), (Some(0), Some(7), None));
        assert_eq!(told.names().count(), 2);
        assert!(!Told::parse(b"", &job()).is_given());
    }

    #[test]
    fn prefix_and_separator_of_the_namespace_are_taken_off() {
        let job = Job { prefix: "INBOX.".into(), separator: '.', ..job() };
        let text = format!(
            "{NAMES}INBOX.a.b\t1\t1\t2\t7\t1\t-\nother\t1\t1\t2\t7\t1\t-\n{NAMES}Inbox\t2\t3\t4\t5\t6\t7\n"
        );
        let told = Told::parse(text.as_bytes(), &job);
        let mut names: Vec<&str> = told.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["INBOX", "a/b"]);
        assert_eq!(told.of("INBOX").not_recent(), None, "more recent ones than messages");
    }

    #[test]
    fn mail_that_came_later_explains_a_difference_and_nothing_else_does() {
        let told =
            ToldBox { messages: Some(5), uid_next: Some(9), uid_validity: Some(7), ..ToldBox::default() };
        let staged = |messages, uid_next, uid_validity| Summary {
            messages,
            unseen: 0,
            length: 0,
            hash: [0; 32],
            uid_validity,
            uid_next,
            last_message: 0,
        };
        assert!(told.agrees_with(&staged(5, 9, 7)));
        assert!(told.agrees_with(&staged(7, 11, 7)), "two came");
        assert!(!told.agrees_with(&staged(5, 10, 7)), "a UID is used up");
        assert!(!told.agrees_with(&staged(4, 9, 7)), "one is missing");
        assert!(!told.agrees_with(&staged(5, 9, 8)), "another UIDVALIDITY");
        assert!(ToldBox::default().agrees_with(&staged(4, 9, 7)));
    }
}
