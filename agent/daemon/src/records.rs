//! The archive records: the agent's own account of every conversion, and all that it must know across a crash.
//!
//! One file a run under `STATE/runs`, as laid down in ARCHITECTURE.md, and an index of them in memory. A record that cannot be read is never
//! guessed at and never overwritten: its file stays, its user (by name and by number, if they can still be read) is refused, and the log says what to do.
//! Where neither can be read, the disk still refuses: nobody whose spool begins with a tombstone, or who has a Maildir, is converted (`flow::convert`).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::account::MailboxKey;
use crate::durable::Shelf;

mod kept;
mod salvage;

pub use kept::{Kept, Originals};

/// The version of the format that this agent writes; it reads those before too: version 1 knew an inbox and no folders, version 2 no sequence, and kept originals for ever.
pub const RECORD_VERSION: u32 = 3;
const OLDEST_VERSION: u32 = 1;

/// Name of the source that every record has.
pub const INBOX: &str = "INBOX";

/// How far a run has come; a hint that spares a look at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// May be at any step; only the disk says which.
    Begun,
    /// The Maildir is the mail, the spool is set aside.
    Converted,
    /// On the way back to mbox; by the disk, the Maildir is the mail or the rollback goes on.
    RollingBack,
    /// Rolled back, or ended before its commit.
    Undone,
}

/// One conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Run id; also the name of the file.
    pub run: String,
    /// Login name at the time.
    pub user: String,
    /// Owner of the mailbox.
    pub uid: u32,
    /// Group of the mailbox's files.
    pub gid: u32,
    /// How far it has come.
    pub phase: Phase,
    /// Where the Maildir stands or is going to stand.
    pub maildir: PathBuf,
    /// The work folder.
    pub work: PathBuf,
    /// The archive folder that holds `RUNID.N`.
    pub archive: PathBuf,
    /// Unix seconds.
    pub started: u64,
    /// Orders the runs, whatever has been done to the clock: 1 more than any run had before. 0 in records from before version 3, which are ordered by `started`.
    #[serde(default)]
    pub sequence: u64,
    /// The home; empty in a record of version 1.
    #[serde(default)]
    pub home: PathBuf,
    /// Mailboxes in the Maildir, the inbox among them; 1 until the first stage stands.
    #[serde(default = "inbox_only")]
    pub boxes: u64,
    /// How the mboxes were served.
    #[serde(default)]
    pub served: Served,
    /// What has become of the originals.
    #[serde(default)]
    pub kept: Kept,
    /// Bytes of the old tombstone's file, and of the mail behind it, that a rollback has carried over before it took the file from the spool's place; what a late deliverer adds is behind them.
    #[serde(default)]
    pub tombstone_taken: u64,
    /// The mboxes that the agent sets aside itself: the inbox. Of the folders the marker in the Maildir tells.
    pub source: Vec<SourceRecord>,
}

/// How the mboxes of a user were served when the run began. All that comes after it, the way back included, goes by this and not by a configuration that may have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Served {
    /// Root of the mbox folders; empty: inbox only.
    pub folders: PathBuf,
    /// Where Dovecot kept its indexes; empty: in the root.
    pub index: PathBuf,
    /// Where Dovecot kept its control files; empty: in the root.
    pub control: PathBuf,
    /// How folders lie in the Maildir.
    pub layout: Layout,
    /// What clients saw before each folder's name.
    pub prefix: String,
    /// What clients saw between the levels of a name.
    pub separator: char,
    /// `pop3_uidl_format`, if identifiers are kept beside UIDs; else empty.
    pub uidl: String,
    /// `pop3_reuse_xuidl`: a header X-UIDL goes before that.
    pub reuse_xuidl: bool,
}

/// An inbox alone, as every record of version 1 has it.
impl Default for Served {
    fn default() -> Self {
        let nowhere = PathBuf::new;
        Self {
            folders: nowhere(),
            index: nowhere(),
            control: nowhere(),
            layout: Layout::default(),
            prefix: String::new(),
            separator: '/',
            uidl: String::new(),
            reuse_xuidl: false,
        }
    }
}

const fn inbox_only() -> u64 {
    1
}

/// How folders lie in a Maildir.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `.a.b`
    #[default]
    #[serde(rename = "maildir++")]
    MaildirPlusPlus,
    /// `a/b`
    #[serde(rename = "fs")]
    Fs,
}

impl From<mailready_config::Layout> for Layout {
    fn from(layout: mailready_config::Layout) -> Self {
        match layout {
            mailready_config::Layout::MaildirPlusPlus => Self::MaildirPlusPlus,
            mailready_config::Layout::Fs => Self::Fs,
        }
    }
}

/// One mbox of a conversion, as the last look saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// `INBOX`, or the folder's name in UTF-8.
    pub name: String,
    /// Where it stood.
    pub path: PathBuf,
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes converted.
    pub length: u64,
}

impl Record {
    /// What the mailbox is on disk: the uid and the path of the inbox.
    pub fn key(&self) -> MailboxKey {
        // A record without an inbox is refused when it is read or put, so the empty path is never a key that anybody asks for.
        let inbox = self.inbox().map(|source| source.path.clone()).unwrap_or_default();
        MailboxKey { uid: self.uid, inbox }
    }

    /// Whether the archive folder holds an original of this run, or may hold one.
    fn may_have_original(&self) -> bool {
        self.phase != Phase::Undone && self.kept.originals == Originals::Kept
    }

    /// Whether folders were converted beside the inbox.
    pub fn has_folders(&self) -> bool {
        self.boxes > 1
    }

    /// The inbox among the sources.
    pub fn inbox(&self) -> Option<&SourceRecord> {
        self.source.iter().find(|source| source.name == INBOX)
    }

    fn parse(text: &str, file_name: &str) -> Result<Self, Fault> {
        /// The little that every version is going to have.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let unreadable = |error: toml::de::Error| Fault::Unreadable(error.to_string());
        let head: Head = toml::from_str(text).map_err(unreadable)?;
        if !(OLDEST_VERSION..=RECORD_VERSION).contains(&head.version) {
            return Err(Fault::Version(head.version));
        }
        let mut record: Self = toml::from_str(text).map_err(unreadable)?;
        record.modernise();
        record.check().map_err(|what| Fault::Unreadable(what.to_owned()))?;
        if record.run != file_name {
            return Err(Fault::Unreadable(format!(
                "the file is named otherwise than its run, {}",
                record.run
            )));
        }
        Ok(record)
    }

    /// Makes a record of an earlier version one of this version.
    fn modernise(&mut self) {
        if self.version < 2 {
            // The default of mail.maildir, and what that version took for the home too.
            self.home = self.maildir.parent().map(PathBuf::from).unwrap_or_default();
        }
        self.version = RECORD_VERSION;
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version != RECORD_VERSION {
            return Err("not this agent's record version");
        }
        if !is_run_id(&self.run) {
            return Err("the run id is malformed");
        }
        if self.uid == 0 {
            return Err("root has no record");
        }
        match self.source.iter().filter(|source| source.name == INBOX).count() {
            1 => Ok(()),
            0 => Err("no source is the INBOX"),
            _ => Err("two sources are the INBOX"),
        }
    }
}

/// `YYYYMMDDThhmmssZ-` and 16 lower-case hex digits.
pub fn is_run_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 33
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            16 => *byte == b'-',
            0..=14 => byte.is_ascii_digit(),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Why a record is not used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It, or the folder, cannot be opened or read.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// Not the TOML that ARCHITECTURE.md lays down.
    #[error("not a record: {0}")]
    Unreadable(String),
    /// Written by a newer mailready.
    #[error(
        "record version {0}, and this agent reads up to version {RECORD_VERSION}: start the mailready that wrote it"
    )]
    Version(u32),
}

/// A record, or the folder of records, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct RecordError {
    /// The file or folder; it is left as it is.
    pub path: PathBuf,
    /// The user it was about, where that can still be read.
    pub user: Option<String>,
    /// And that user's number.
    pub uid: Option<u32>,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// All records: the files and an index of them.
#[derive(Debug)]
pub struct Records {
    shelf: Shelf,
    /// Taken around file and index together, so that they never disagree about who was last. It is held across a sync; the few workers that
    /// write records wait for the same disk anyway.
    writing: Mutex<()>,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    runs: BTreeMap<String, Arc<Record>>,
    latest: HashMap<MailboxKey, Arc<Record>>,
    /// Users whose record could not be read, with the reason; by name, since a number may have been cut off, and by number, since a name may have been changed.
    refused: HashMap<String, String>,
    refused_uids: HashMap<u32, String>,
    /// The highest sequence that was ever given out.
    sequence: u64,
}

impl Index {
    fn insert(&mut self, record: Arc<Record>) {
        let key = record.key();
        if self.latest.get(&key).is_none_or(|last| order(last) <= order(&record)) {
            self.latest.insert(key, Arc::clone(&record));
        }
        self.sequence = self.sequence.max(record.sequence);
        self.runs.insert(record.run.clone(), record);
    }

    fn remove(&mut self, run: &str) {
        let Some(gone) = self.runs.remove(run) else { return };
        let key = gone.key();
        self.latest.remove(&key);
        if let Some(last) =
            self.runs.values().filter(|record| record.key() == key).max_by_key(|record| order(record))
        {
            let last = Arc::clone(last);
            self.latest.insert(key, last);
        }
    }
}

/// By the sequence, which no clock can turn back; the rest is for records from before there was one.
fn order(record: &Record) -> (u64, u64, String) {
    (record.sequence, record.started, record.run.clone())
}

impl Records {
    /// Opens `STATE/runs` and reads all of it. The records that cannot be used are returned beside it; their users are refused.
    ///
    /// # Errors
    /// If the folder itself cannot be made or read, or the disk gives an error for a record.
    pub fn open(state: &Path) -> Result<(Self, Vec<RecordError>), RecordError> {
        let path = state.join("runs");
        let of_folder =
            |error| RecordError { path: path.clone(), user: None, uid: None, fault: Fault::Io(error) };
        let shelf = Shelf::open(path.clone()).map_err(of_folder)?;
        let names = shelf.names().map_err(of_folder)?;
        let mut index = Index::default();
        let mut errors = Vec::new();
        for name in names {
            let file = shelf.path_of(&name);
            let broken = |error: &io::Error| error.raw_os_error() == Some(nix::libc::EIO);
            let parsed = match fs::read(&file) {
                Ok(bytes) => String::from_utf8(bytes)
                    .map_err(|error| (Fault::Unreadable(error.to_string()), error.into_bytes()))
                    .and_then(|text| Record::parse(&text, &name).map_err(|fault| (fault, text.into_bytes()))),
                // A disk that gives errors says nothing about the record. Without it its user would be taken for one on mbox; a start that failed is tried again.
                Err(error) if broken(&error) => {
                    return Err(RecordError { path: file, user: None, uid: None, fault: Fault::Io(error) });
                }
                Err(error) => Err((Fault::Io(error), Vec::new())),
            };
            match parsed {
                Ok(record) => index.insert(Arc::new(record)),
                Err((fault, bytes)) => {
                    let salvage::About { user, uid } = salvage::about(&bytes);
                    let error = RecordError { path: file, user, uid, fault };
                    if let Some(user) = &error.user {
                        index.refused.insert(user.clone(), error.to_string());
                    }
                    if let Some(uid) = error.uid {
                        index.refused_uids.insert(uid, error.to_string());
                    }
                    errors.push(error);
                }
            }
        }
        Ok((Self { shelf, writing: Mutex::new(()), index: Mutex::new(index) }, errors))
    }

    /// Makes or replaces the record of a run. On return it is on the disk and in the index. Blocks for a sync.
    ///
    /// # Errors
    /// If it is no valid record, or cannot be written; then file and index are as before, or the disk has it and only the sync of the folder failed.
    pub fn put(&self, record: &Record) -> io::Result<()> {
        record.check().map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let text =
            toml::to_string(record).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelf
            .put(&record.run, text.as_bytes())
            .map_err(|error| in_path(&self.shelf.path_of(&record.run), error))?;
        self.index().insert(Arc::new(record.clone()));
        Ok(())
    }

    /// Removes the record of a run; one that is not there is fine. Blocks for a sync.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn remove(&self, run: &str) -> io::Result<()> {
        if !is_run_id(run) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the run id is malformed"));
        }
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelf.remove(run).map_err(|error| in_path(&self.shelf.path_of(run), error))?;
        self.index().remove(run);
        Ok(())
    }

    /// The last run of a mailbox.
    pub fn latest(&self, key: &MailboxKey) -> Option<Arc<Record>> {
        self.index().latest.get(key).cloned()
    }

    /// How many mailboxes have their original in this archive folder, or may have.
    pub fn with_originals_in(&self, archive: &Path) -> usize {
        let all = self.all();
        all.iter().filter(|record| record.archive == archive && record.may_have_original()).count()
    }

    /// The record of a run.
    pub fn get(&self, run: &str) -> Option<Arc<Record>> {
        self.index().runs.get(run).cloned()
    }

    /// All records, by run id, which is by time.
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.index().runs.values().cloned().collect()
    }

    /// Why this user is refused: a record about them could not be read at the start.
    pub fn refused(&self, user: &str, uid: u32) -> Option<String> {
        let index = self.index();
        index.refused.get(user).or_else(|| index.refused_uids.get(&uid)).cloned()
    }

    /// A sequence for a new run: higher than that of any run before it.
    pub fn next_sequence(&self) -> u64 {
        let mut index = self.index();
        index.sequence += 1;
        index.sequence
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // Nothing in here panics half way, and the agent aborts on a panic anyway.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
