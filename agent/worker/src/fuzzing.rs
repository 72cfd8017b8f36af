//! What fuzz targets need to see of the worker's inside (`tests/fuzz`). Not part of its interface.

use std::path::PathBuf;

use crate::job::{Job, Layout, Locks, Purpose};
use crate::told::Told;

/// The mailboxes that doveadm's output tells of, in a namespace with this prefix and separator.
pub fn told_names(text: &[u8], prefix: &str, separator: char) -> Vec<String> {
    let job = Job {
        purpose: Purpose::Convert,
        run: String::new(),
        user: String::new(),
        uid: 1,
        gid: 1,
        home: PathBuf::new(),
        maildir: PathBuf::new(),
        work: PathBuf::new(),
        inbox: PathBuf::new(),
        folders: PathBuf::new(),
        index: PathBuf::new(),
        control: PathBuf::new(),
        layout: Layout::MaildirPlusPlus,
        prefix: prefix.to_owned(),
        separator,
        locks: Locks::default(),
        uidl: String::new(),
        reuse_xuidl: false,
        timezone: String::new(),
        reserve: 0,
    };
    Told::parse(text, &job).names().map(str::to_owned).collect()
}
