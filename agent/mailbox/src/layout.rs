//! Where each mailbox lies in the tree of a Maildir, and what it is called there.
//!
//! A name is UTF-8 with `/` between its levels, as clients see it with the separator `/`. On disk each level is modified UTF-7, in the
//! mbox tree as in the Maildir tree; INBOX is the root itself.
//!
//! The two layouts keep different names. Maildir++ puts all levels into one file name, with `.` between them: no level can have a
//! `.`, and all of them together have to fit into 255 bytes. With LAYOUT=fs each level is a folder of its own, in which a mailbox
//! has cur/, new/ and tmp/ beside its children: no child can be called that, nor in the root like a file of Dovecot's or ours.
//! What cannot be kept is refused with the reason: a name that changes is a mailbox that clients have lost.

use crate::{Error, Result, dir, mutf7};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

/// The name of the inbox.
pub const INBOX: &str = "INBOX";

/// How the mailboxes of a Maildir lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `a/b` is the folder `.a.b` in the root, with an empty file `maildirfolder`.
    #[default]
    MaildirPlusPlus,
    /// `LAYOUT=fs`: `a/b` is the folder `a/b` below the root.
    Fs,
}

/// Why a layout cannot keep a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unkeepable {
    /// Maildir++ has `.` between the levels.
    Dot,
    /// A level without a name, or one that leads elsewhere: `.` and `..`.
    NoName,
    /// No client could ever open it, nor could it afterwards: Dovecot takes a name with `~` in front for none.
    Unreachable,
    /// A level called as what a mailbox's own folder holds: `cur`, `new`, `tmp`, or a file of Dovecot's or ours.
    Reserved,
    /// Longer than a file name can be.
    TooLong,
    /// It is the inbox's own name, in whatever case.
    Inbox,
}

impl fmt::Display for Unkeepable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unkeepable::Dot => {
                "Maildir++ cannot keep a `.` in a folder name; set layout = \"fs\" or rename the folder"
            }
            Unkeepable::NoName => "a part of the name is empty, or leads elsewhere; rename the folder",
            Unkeepable::Unreachable => "no mail client can open a folder of that name; rename the folder",
            Unkeepable::Reserved => {
                "a Maildir has files of its own by that name; set layout = \"maildir++\" or rename the folder"
            }
            Unkeepable::TooLong => {
                "the name is longer than a file name can be; set layout = \"fs\" or rename the folder"
            }
            Unkeepable::Inbox => "only the inbox can have that name; rename the folder",
        })
    }
}

/// Longest file name of the file systems that hold mail.
const FILE_NAME_MAX: usize = 255;

impl Layout {
    /// The folder of a mailbox, relative to the root and without a `/` at either end; the empty string is the root itself.
    pub fn directory(self, name: &str) -> Result<String, Unkeepable> {
        if name == INBOX {
            return Ok(String::new());
        }
        if name.eq_ignore_ascii_case(INBOX) {
            return Err(Unkeepable::Inbox);
        }
        let mut directory = String::with_capacity(name.len() + 1);
        for (depth, level) in name.split('/').enumerate() {
            // A NUL would end the name early wherever it is looked up.
            if level.contains('\0') {
                return Err(Unkeepable::NoName);
            }
            let disk = mutf7::encode(level);
            self.check(depth, &disk)?;
            directory.push_str(match self {
                Layout::MaildirPlusPlus => ".",
                Layout::Fs if depth == 0 => "",
                Layout::Fs => "/",
            });
            directory.push_str(&disk);
        }
        match self {
            Layout::MaildirPlusPlus if directory.len() > FILE_NAME_MAX => Err(Unkeepable::TooLong),
            _ => Ok(directory),
        }
    }

    fn check(self, depth: usize, disk: &str) -> Result<(), Unkeepable> {
        if matches!(disk, "" | "." | "..") {
            return Err(Unkeepable::NoName);
        }
        if depth == 0 && disk.starts_with('~') {
            return Err(Unkeepable::Unreachable);
        }
        if disk.len() > FILE_NAME_MAX {
            return Err(Unkeepable::TooLong);
        }
        match self {
            Layout::MaildirPlusPlus if disk.contains('.') => Err(Unkeepable::Dot),
            Layout::MaildirPlusPlus => Ok(()),
            Layout::Fs if matches!(disk, "cur" | "new" | "tmp") => Err(Unkeepable::Reserved),
            Layout::Fs if depth == 0 && is_file_of_the_root(disk) => Err(Unkeepable::Reserved),
            Layout::Fs => Ok(()),
        }
    }

    /// The name of the mailbox in a folder, the other way round. `None`: no client can reach a mailbox there.
    pub fn name(self, directory: &[u8]) -> Option<String> {
        if directory.is_empty() {
            return Some(INBOX.to_owned());
        }
        let whole = directory;
        let (directory, between) = match self {
            Layout::MaildirPlusPlus => (directory.strip_prefix(b".")?, b'.'),
            Layout::Fs => (directory, b'/'),
        };
        let levels: Option<Vec<String>> = directory.split(|b| *b == between).map(level_name).collect();
        let name = levels?.join("/");
        // What does not lead back here is somewhere else.
        (self.directory(&name).ok()?.as_bytes() == whole).then_some(name)
    }

    /// Opens a mailbox's folder below the root of a Maildir; no link is followed. A name that the layout cannot keep is not there.
    pub fn open(self, root: impl AsFd, name: &str) -> Result<OwnedFd> {
        let not_there = |_| Error::io("open folder", name)(nix::errno::Errno::ENOENT);
        dir::open_below(root, &self.directory(name).map_err(not_there)?)
    }
}

/// Names in the root of a Maildir with LAYOUT=fs that are no mailboxes.
fn is_file_of_the_root(disk: &str) -> bool {
    disk == "subscriptions"
        || ["dovecot", "mailready-", "maildir"].iter().any(|begin| disk.starts_with(begin))
}

/// The UTF-8 name of one level as it stands on disk, in an mbox tree or in a Maildir. `None`: Dovecot lists it and then cannot open it, so
/// no client has ever reached it.
pub fn level_name(disk: &[u8]) -> Option<String> {
    mutf7::decode(disk).filter(|name| !name.contains('/'))
}

/// The UTF-8 name of the mailbox that lies at `path` below an mbox root; `path` as it stands on disk, without a `/` in front. `None`: no client
/// can reach it, since Dovecot refuses the name that it lists it by.
pub fn mbox_name(path: &[u8]) -> Option<String> {
    let levels: Option<Vec<String>> = path.split(|b| *b == b'/').map(level_name).collect();
    let name = levels?.join("/");
    // The inbox's own name, in whatever case, is the inbox, which is elsewhere. Other rules depend on no layout.
    let unreachable =
        name.eq_ignore_ascii_case(INBOX) || name.starts_with('~') || name.split('/').any(str::is_empty);
    (!unreachable).then_some(name)
}

/// The form on disk of one level of a name.
pub fn level_on_disk(name: &str) -> String {
    mutf7::encode(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Layout; 2] = [Layout::MaildirPlusPlus, Layout::Fs];

    #[test]
    fn folders_are_where_dovecot_looks_for_them() {
        for (name, plus_plus, fs) in [
            ("INBOX", "", ""),
            ("Sent", ".Sent", "Sent"),
            ("lists/debian/d-user", ".lists.debian.d-user", "lists/debian/d-user"),
            ("Entwürfe 2001", ".Entw&APw-rfe 2001", "Entw&APw-rfe 2001"),
            ("a&b/INBOX", ".a&-b.INBOX", "a&-b/INBOX"),
        ] {
            for (layout, directory) in [(Layout::MaildirPlusPlus, plus_plus), (Layout::Fs, fs)] {
                assert_eq!(layout.directory(name).as_deref(), Ok(directory));
                assert_eq!(layout.name(directory.as_bytes()).as_deref(), Some(name));
            }
        }
    }

    #[test]
    fn what_a_layout_cannot_keep_is_refused_with_the_reason() {
        use Unkeepable::*;
        let long = "x".repeat(256);
        let deep = ["y".repeat(100), "y".repeat(100), "y".repeat(100)].join("/");
        for (name, plus_plus, fs) in [
            ("sent.2001", Some(Dot), None),
            ("a/b.c", Some(Dot), None),
            (".hid", Some(Dot), None),
            ("~t", Some(Unreachable), Some(Unreachable)),
            ("a/~t", None, None),
            ("a//b", Some(NoName), Some(NoName)),
            ("/a", Some(NoName), Some(NoName)),
            ("a/", Some(NoName), Some(NoName)),
            ("", Some(NoName), Some(NoName)),
            ("a/..", Some(Dot), Some(NoName)),
            ("cur", None, Some(Reserved)),
            ("lists/tmp", None, Some(Reserved)),
            ("dovecot-uidlist", None, Some(Reserved)),
            ("mailready-marker", None, Some(Reserved)),
            ("subscriptions", None, Some(Reserved)),
            ("lists/subscriptions", None, None),
            ("Inbox", Some(Inbox), Some(Inbox)),
            (&long, Some(TooLong), Some(TooLong)),
            (&deep, Some(TooLong), None),
        ] {
            for (layout, why) in [(Layout::MaildirPlusPlus, plus_plus), (Layout::Fs, fs)] {
                // Two rules may refuse the same name; which of them says so first does not matter.
                assert_eq!(layout.directory(name).is_err(), why.is_some(), "{name} {layout:?}");
                if let (Err(got), Some(why)) = (layout.directory(name), why) {
                    assert!(got == why || matches!(got, NoName), "{name} {layout:?}: {got:?}");
                }
            }
        }
    }

    #[test]
    fn folders_that_no_name_leads_to_have_none() {
        for (layout, directory) in [
            (Layout::MaildirPlusPlus, &b"Sent"[..]),
            (Layout::MaildirPlusPlus, b"."),
            (Layout::MaildirPlusPlus, b".a..b"),
            (Layout::MaildirPlusPlus, b".a&b"),
            (Layout::MaildirPlusPlus, b".INBOX"),
            (Layout::MaildirPlusPlus, b".\xff"),
            (Layout::Fs, b"~t"),
            (Layout::Fs, b"a/cur"),
            (Layout::Fs, b"../x"),
            (Layout::Fs, b"inbox"),
        ] {
            assert_eq!(layout.name(directory), None, "{}", directory.escape_ascii());
        }
    }

    #[test]
    fn what_no_client_can_open_has_no_name() {
        for path in [&b"~t"[..], b"inbox", b"INBOX", b"a//b", b"", b"a/", b"a&b", b"\xc3\xbc", b"a/\xff"] {
            assert_eq!(mbox_name(path), None, "{}", path.escape_ascii());
        }
        for (path, name) in
            [(&b"a/~t"[..], "a/~t"), (b"INBOX/x", "INBOX/x"), (b"Entw&APw-rfe/.b", "Entwürfe/.b")]
        {
            assert_eq!(mbox_name(path).as_deref(), Some(name));
        }
    }

    fn names() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z./&~ üé日-]{1,12}",
            "[^\0]{1,8}",
            Just("INBOX/x".to_owned()),
            "(a|b|A|cur|INBOX|inbox)(/(a|b|new))?"
        ]
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(name in names()) {
            for layout in BOTH {
                if let Ok(directory) = layout.directory(&name) {
                    prop_assert_eq!(layout.name(directory.as_bytes()), Some(name.clone()));
                    prop_assert!(!directory.starts_with('/') && !directory.split('/').any(|level| level == ".."));
                }
            }
        }

        #[test]
        fn no_two_names_are_one_folder(a in names(), b in names()) {
            for layout in BOTH {
                if let (Ok(one), Ok(other)) = (layout.directory(&a), layout.directory(&b)) {
                    prop_assert_eq!(one == other, a == b);
                }
            }
        }
    }
}
