//! The list of subscribed folders, from the mbox tree to the Maildir and back (formats.md 3.5; subscription-file.c of Dovecot 2.3.19,
//! newsrc and mailboxlist code of UW's c-client).
//!
//! Dovecot knows two forms, in an mbox root (`.subscriptions`) as in a Maildir (`subscriptions`). Version 1 is plain names with the
//! storage's own separator, `/` or the `.` of Maildir++. Version 2 has the levels of a name separated by TAB and escaped, so that it
//! depends on no separator: which is why the new list is always version 2. In both, names are as on disk, in modified UTF-7.
//!
//! A subscription needs no folder: it outlives the folder it was made for, and clients show it. So a name whose folder is not there is
//! carried over like any other. Only one that the layout could not say back is left out, since clients would be shown a
//! subscription that nobody made.

use crate::layout::{INBOX, Layout};
use std::collections::HashSet;

const VERSION_2: &[u8] = b"V\t2\n\n";

/// Name of the list in the root of a Maildir.
pub const MAILDIR_NAME: &str = "subscriptions";
/// Name of the list in an mbox root (or below CONTROL=).
pub const MBOX_NAME: &str = ".subscriptions";

/// A list that was carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The new file: version 2.
    pub text: Vec<u8>,
    /// Names that the layout cannot say, as they stood in the old list.
    pub left_out: Vec<String>,
}

/// Turns the mbox root's list (either version) into that of the Maildir's root. A name that is there twice, or empty, is there once,
/// or not at all.
pub fn to_maildir(old: &[u8], layout: Layout) -> Carried {
    carry(&Lines::of(old, b'/'), layout)
}

/// Turns a Maildir's list (either version) into that of an mbox root.
pub fn to_mbox(old: &[u8], layout: Layout) -> Carried {
    let separator = match layout {
        Layout::MaildirPlusPlus => b'.',
        Layout::Fs => b'/',
    };
    // Below an mbox root each level is a file name of its own, as with LAYOUT=fs.
    carry(&Lines::of(old, separator), Layout::Fs)
}

/// Turns `~/.mailboxlist`, which UW imapd and Pine keep, into the list of the Maildir's root: plain names of files relative to the home
/// folder, a few with `~/` in front. Those below `folders`, the mbox root relative to the home folder (empty: the home folder
/// itself), are folders of ours; the others are no mail of this server's.
///
/// Dovecot does not read that file. It counts only where UW's server was the last one to serve the user.
pub fn from_mailboxlist(old: &[u8], folders: &str, layout: Layout) -> Carried {
    let folders = folders.trim_matches('/').as_bytes();
    let below = |line: &[u8]| -> Option<Vec<u8>> {
        let name = line.strip_prefix(b"~/").unwrap_or(line);
        if name.eq_ignore_ascii_case(INBOX.as_bytes()) {
            return Some(INBOX.into());
        }
        let name = if folders.is_empty() { name } else { name.strip_prefix(folders)?.strip_prefix(b"/")? };
        // `#driver.`, `{host}` and absolute paths are other stores; with `/` behind it, it is no mailbox.
        let elsewhere = matches!(name.first(), None | Some(b'#' | b'{' | b'/')) || name.ends_with(b"/");
        (!elsewhere).then(|| name.to_owned())
    };
    let names: Vec<Vec<u8>> = plain_lines(old).filter_map(below).collect();
    let lines = names.iter().map(Vec::as_slice).collect();
    carry(&Lines { lines, separator: b'/', version_2: false }, layout)
}

/// The lines of a list, and what separates the levels in them.
struct Lines<'a> {
    lines: Vec<&'a [u8]>,
    separator: u8,
    /// Levels are separated by TAB as well, and names are escaped.
    version_2: bool,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8], separator: u8) -> Self {
        let rest = text.strip_prefix(VERSION_2);
        let lines = plain_lines(rest.unwrap_or(text)).collect();
        Lines { lines, separator, version_2: rest.is_some() }
    }

    fn levels(&self, line: &[u8]) -> Vec<Vec<u8>> {
        let split = |name: &[u8]| -> Vec<Vec<u8>> {
            name.split(|b| *b == self.separator).map(<[u8]>::to_owned).collect()
        };
        match self.version_2 {
            true => line.split(|b| *b == b'\t').flat_map(|level| split(&unescape(level))).collect(),
            false => split(line),
        }
    }
}

fn plain_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).filter(|l| !l.is_empty())
}

fn carry(old: &Lines<'_>, layout: Layout) -> Carried {
    let mut carried = Carried { text: VERSION_2.to_vec(), left_out: Vec::new() };
    let mut seen = HashSet::new();
    for line in &old.lines {
        let levels = old.levels(line);
        if !can_say(&levels, layout) {
            carried.left_out.push(String::from_utf8_lossy(line).into_owned());
            continue;
        }
        let name: Vec<u8> = levels.iter().map(|level| escape(level)).collect::<Vec<_>>().join(&b'\t');
        if !name.is_empty() && seen.insert(name.clone()) {
            carried.text.extend_from_slice(&name);
            carried.text.push(b'\n');
        }
    }
    carried
}

/// Whether clients are going to be shown the same name. What the name of a folder may not be, that of a subscription may, as long as
/// it comes back as it is: nobody looks for the folder.
fn can_say(levels: &[Vec<u8>], layout: Layout) -> bool {
    let separators: &[u8] = match layout {
        Layout::MaildirPlusPlus => b"./",
        Layout::Fs => b"/",
    };
    levels.iter().all(|level| level.iter().all(|byte| !separators.contains(byte)))
}

fn escape(level: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(level.len());
    for &byte in level {
        match byte {
            1 => out.extend_from_slice(b"\x011"),
            b'\t' => out.extend_from_slice(b"\x01t"),
            b'\r' => out.extend_from_slice(b"\x01r"),
            b'\n' => out.extend_from_slice(b"\x01n"),
            0 => out.extend_from_slice(b"\x010"),
            _ => out.push(byte),
        }
    }
    out
}

fn unescape(level: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(level.len());
    let mut rest = level.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            1 => match rest.next() {
                Some(b'0') => 0,
                Some(b'1') => 1,
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(&other) => other,
                None => break,
            },
            _ => byte,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(carried: Carried) -> String {
        assert_eq!(carried.left_out, Vec::<String>::new());
        String::from_utf8(carried.text).unwrap()
    }

    #[test]
    fn both_versions_become_version_2() {
        let fs = Layout::Fs;
        assert_eq!(text(to_maildir(b"Sent\nlists/a.b\nlists/a.b\n\nx", fs)), "V\t2\n\nSent\nlists\ta.b\nx\n");
        assert_eq!(text(to_maildir(b"V\t2\n\nSent\nlists\ta.b\n", fs)), "V\t2\n\nSent\nlists\ta.b\n");
        assert_eq!(text(to_maildir(b"Entw&APw-rfe/a b\r\n", fs)), "V\t2\n\nEntw&APw-rfe\ta b\n");
        assert_eq!(text(to_maildir(b"", fs)), "V\t2\n\n");
    }

    #[test]
    fn what_a_layout_would_show_as_another_name_is_left_out_and_told() {
        let carried = to_maildir(b"gone.2001\nlists/x\nV\t2\nempty//level\n", Layout::MaildirPlusPlus);
        assert_eq!(carried.text, b"V\t2\n\nlists\tx\nV\x01t2\nempty\t\tlevel\n");
        assert_eq!(carried.left_out, ["gone.2001"]);
    }

    #[test]
    fn the_way_back_takes_the_layouts_own_separator_apart() {
        let plus_plus = Layout::MaildirPlusPlus;
        assert_eq!(text(to_mbox(b"lists.debian\nSent\n", plus_plus)), "V\t2\n\nlists\tdebian\nSent\n");
        assert_eq!(text(to_mbox(b"lists/a.b\n", Layout::Fs)), "V\t2\n\nlists\ta.b\n");
        assert_eq!(text(to_mbox(b"V\t2\n\nlists\tdebian\n", plus_plus)), "V\t2\n\nlists\tdebian\n");
    }

    #[test]
    fn of_a_mailboxlist_what_is_below_the_root_counts() {
        let list = b"INBOX\nmail/Sent\n~/mail/lists/x\nmailing\nnews/mail/no\n#mh/inbox\n{host}INBOX\nmail/\n/var/mail/x\n";
        let carried = from_mailboxlist(list, "mail", Layout::MaildirPlusPlus);
        assert_eq!(text(carried), "V\t2\n\nINBOX\nSent\nlists\tx\n");
        let home = text(from_mailboxlist(list, "", Layout::Fs));
        assert_eq!(home, "V\t2\n\nINBOX\nmail\tSent\nmail\tlists\tx\nmailing\nnews\tmail\tno\n");
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_list(names in proptest::collection::hash_set("[a-zA-Z &-]{1,6}(/[a-z ]{1,5}){0,2}", 0..6)) {
            let old: String = names.iter().map(|n| format!("{n}\n")).collect();
            for layout in [Layout::MaildirPlusPlus, Layout::Fs] {
                let there = text(to_maildir(old.as_bytes(), layout));
                let back = text(to_mbox(there.as_bytes(), layout));
                prop_assert_eq!(&there, &back);
                prop_assert_eq!(there.lines().count(), names.len() + 2);
            }
        }

        #[test]
        fn any_bytes_are_carried_or_told(old in proptest::collection::vec(any::<u8>(), 0..60)) {
            let there = to_maildir(&old, Layout::Fs);
            prop_assert!(there.text.starts_with(VERSION_2));
            prop_assert_eq!(to_mbox(&there.text, Layout::Fs).text, there.text);
        }
    }
}
