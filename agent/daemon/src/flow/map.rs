//! The derived map `STATE/userdb`, by which Dovecot's LDA and LMTP find the Maildirs of converted users.
//!
//! Wholly derived from the archive records and replaced by rename, so it can be rebuilt at any moment; while it is missing, LDA and LMTP defer at the tombstone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::records::{Layout, Phase, Record};

/// Its name in the state folder.
pub(super) const NAME: &str = "userdb";

/// A user that only the map has, and its mail: what Dovecot says of it tells whether it reads the map.
pub(super) const PROBE: &str = "mailready-probe";
pub(super) const PROBE_MAIL: &str = "maildir:/nonexistent";

/// Writes the map anew.
pub(super) fn write<'a>(state: &Path, records: impl Iterator<Item = &'a Record>) -> io::Result<()> {
    // A name has one line: of two accounts that had it one after the other, the later one's.
    let mut latest: HashMap<&str, &Record> = HashMap::new();
    for record in records.filter(|record| record.phase == Phase::Converted) {
        let known = latest.entry(&record.user).or_insert(record);
        if (known.sequence, known.started) < (record.sequence, record.started) {
            *known = record;
        }
    }
    let mut lines: Vec<String> = latest.into_values().filter_map(line).collect();
    lines.sort_unstable();
    lines.insert(0, format!("{PROBE}:::::::userdb_mail={PROBE_MAIL}\n"));
    // Readable by all: Dovecot's auth process has a user of its own, and the map says no more than where a home is.
    replace(state, NAME, 0o644, lines.concat().as_bytes())
}

/// Replaces a file of the state folder: the old one or the new one is there, whatever happens.
pub(super) fn replace(state: &Path, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let unfinished = state.join(format!(".tmp-{name}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    std::fs::rename(&unfinished, state.join(name))?;
    File::open(state)?.sync_all()
}

/// One user's line; none for names and paths that the format cannot hold.
fn line(record: &Record) -> Option<String> {
    let maildir = record.maildir.to_str()?;
    let plain = |text: &str| !text.contains([':', '\n', ' ', '\t']) && !text.chars().any(char::is_control);
    if !plain(&record.user) || !plain(maildir) {
        tracing::error!(user = ?record.user, "this user cannot be in the map; LDA and LMTP defer its mail");
        return None;
    }
    let mut line = String::new();
    let layout = match record.served.layout {
        Layout::MaildirPlusPlus => "",
        Layout::Fs => ":LAYOUT=fs",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(line, "{}:::::::userdb_mail=maildir:{maildir}{layout}", record.user);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{INBOX, RECORD_VERSION, Served, SourceRecord};

    fn record(user: &str, phase: Phase, layout: Layout) -> Record {
        Record {
            version: RECORD_VERSION,
            run: "20260101T000000Z-0123456789abcdef".into(),
            user: user.into(),
            uid: 1000,
            gid: 1000,
            phase,
            maildir: format!("/home/{user}/Maildir").into(),
            work: format!("/home/{user}/.mailready").into(),
            archive: "/var/mail/.mailready".into(),
            started: 1,
            sequence: 0,
            home: format!("/home/{user}").into(),
            boxes: 1,
            served: Served { layout, ..Served::default() },
            kept: Default::default(),
            tombstone_taken: 0,
            source: vec![SourceRecord {
                name: INBOX.into(),
                path: format!("/var/mail/{user}").into(),
                dev: 1,
                ino: 2,
                length: 3,
            }],
        }
    }

    #[test]
    fn it_names_those_who_are_on_maildir_and_their_layout() {
        let state = tempfile::tempdir().unwrap();
        let records = [
            record("bob", Phase::Converted, Layout::Fs),
            record("ann", Phase::Converted, Layout::MaildirPlusPlus),
            record("cy", Phase::RollingBack, Layout::Fs),
            record("dee", Phase::Undone, Layout::Fs),
            record("ev:il", Phase::Converted, Layout::Fs),
        ];
        write(state.path(), records.iter()).unwrap();
        let text = std::fs::read_to_string(state.path().join(NAME)).unwrap();
        assert_eq!(
            text,
            "mailready-probe:::::::userdb_mail=maildir:/nonexistent\nann:::::::userdb_mail=maildir:/home/ann/Maildir\nbob:::::::userdb_mail=maildir:/home/bob/Maildir:LAYOUT=fs\n"
        );
    }
}
