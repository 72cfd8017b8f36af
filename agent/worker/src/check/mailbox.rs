//! One mailbox: Dovecot's reading of the original, the receipt, and the Maildir as it is now, side by side.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use mailready_mailbox::marker::Marker;
use mailready_mailbox::receipt;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::expunges;
use super::shown::Message;
use crate::file::{self, FILE, FOLDER};
use crate::wire::Step;
use crate::{Stop, Task, note};

/// What was found, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) same: u64,
    pub(super) gone: u64,
    pub(super) lost: u64,
    pub(super) damaged: u64,
    pub(super) unknown: u64,
    pub(super) unseen: u64,
}

pub(super) struct MailboxCheck {
    name: String,
    /// `None`: its owner has deleted the mailbox, receipt and all.
    there: Option<There>,
}

struct There {
    receipt: receipt::Reader,
    /// The line of the receipt that Dovecot has not come to yet.
    ahead: Option<receipt::Entry>,
    files: Files,
}

impl MailboxCheck {
    /// `None`: no mailbox of that name was converted.
    pub(super) fn open(
        task: Task<'_>,
        maildir: &OwnedFd,
        marker: &Marker,
        name: &str,
    ) -> Result<Option<Self>, Stop> {
        if marker.source(name).is_none() {
            return Ok(None);
        }
        let engine = Stop::engine(Step::CheckCompare);
        let Ok(folder) = task.job.layout.open(maildir, name) else {
            return Ok(Some(Self { name: name.to_owned(), there: None }));
        };
        let mut receipt = receipt::Reader::open(folder.as_fd()).map_err(&engine)?;
        let ahead = receipt.next_entry().map_err(&engine)?;
        let files = Files::list(&folder).map_err(Stop::failed(Step::CheckCompare))?;
        Ok(Some(Self { name: name.to_owned(), there: Some(There { receipt, ahead, files }) }))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next message that Dovecot shows of it; they come in the order of their UIDs, as the receipt's lines do.
    pub(super) fn compare(&mut self, shown: &Message, counts: &mut Counts) -> Result<(), Stop> {
        let Some(there) = &mut self.there else {
            counts.gone += 1;
            return Ok(());
        };
        there.skip_to(shown.uid, &self.name, counts)?;
        let Some(entry) = there.ahead.take_if(|entry| entry.uid == shown.uid) else {
            tell(&self.name, shown.uid, "is shown by Dovecot, and not in the receipt");
            counts.unknown += 1;
            return Ok(());
        };
        if (entry.hash, entry.date) != (shown.hash, shown.date) {
            tell(&self.name, shown.uid, "was read otherwise by Dovecot than by us");
            counts.unknown += 1;
            return there.step();
        }
        match there.files.look(&entry).map_err(Stop::failed(Step::CheckCompare))? {
            Found::Same => counts.same += 1,
            Found::Gone => counts.gone += 1,
            Found::Lost => {
                tell(&self.name, entry.uid, "has no file");
                counts.lost += 1;
            }
            Found::Damaged => {
                tell(&self.name, entry.uid, "has other bytes or another date");
                counts.damaged += 1;
            }
        }
        there.step()
    }

    /// Dovecot has shown all of it.
    pub(super) fn finish(self, counts: &mut Counts) -> Result<(), Stop> {
        match self.there {
            Some(mut there) => there.skip_to(u32::MAX, &self.name, counts),
            None => Ok(()),
        }
    }
}

impl There {
    /// Counts what Dovecot has passed over.
    fn skip_to(&mut self, uid: u32, name: &str, counts: &mut Counts) -> Result<(), Stop> {
        while let Some(entry) = self.ahead.take_if(|entry| entry.uid < uid) {
            tell(name, entry.uid, "is in the receipt, and Dovecot does not show it");
            counts.unseen += 1;
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.ahead = self.receipt.next_entry().map_err(Stop::engine(Step::CheckCompare))?;
        Ok(())
    }
}

fn tell(name: &str, uid: u32, what: &str) {
    note(&format!("{name:?}, UID {uid}: {what}"));
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Same,
    Gone,
    Lost,
    Damaged,
}

/// The message files of a mailbox, by a hash of their base names: flags and folder change, and a million names are much memory.
struct Files {
    folders: [OwnedFd; 2],
    hashes: RandomState,
    /// In cur/ (else in new/), and what stands behind the base name.
    here: HashMap<u64, (bool, Box<str>)>,
    /// UIDs that the uidlist has.
    listed: HashSet<u32>,
    /// UIDs whose expunge a client has asked for.
    expunged: HashSet<u32>,
}

impl Files {
    fn list(folder: &OwnedFd) -> nix::Result<Self> {
        let cur = openat(folder, "cur", FOLDER, Mode::empty())?;
        let new = openat(folder, "new", FOLDER, Mode::empty())?;
        let mut files = Self {
            folders: [new, cur],
            hashes: RandomState::new(),
            here: HashMap::new(),
            listed: listed(folder)?,
            expunged: expunges::requested(folder.as_fd())?,
        };
        files.list_again()?;
        Ok(files)
    }

    fn list_again(&mut self) -> nix::Result<()> {
        self.here.clear();
        for (in_cur, folder) in [false, true].into_iter().zip(&self.folders) {
            for name in file::names(folder.as_fd())? {
                let Ok(name) = name.to_str() else { continue };
                let base = name.find(":2,").map_or(name, |at| &name[..at]);
                self.here.insert(self.hashes.hash_one(base), (in_cur, name[base.len()..].into()));
            }
        }
        Ok(())
    }

    fn look(&mut self, entry: &receipt::Entry) -> nix::Result<Found> {
        // A client may have moved it since the folders were listed; once is enough to tell.
        for listed_again in [false, true] {
            if listed_again {
                self.list_again()?;
            }
            let Some((in_cur, behind)) = self.here.get(&self.hashes.hash_one(entry.file.as_str())) else {
                break;
            };
            let name = format!("{}{behind}", entry.file);
            match openat(
                &self.folders[usize::from(*in_cur)],
                name.as_str(),
                OFlag::O_RDONLY | FILE,
                Mode::empty(),
            ) {
                Ok(opened) => return compare(File::from(opened), entry),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        let expected = self.listed.contains(&entry.uid) && !self.expunged.contains(&entry.uid);
        Ok(if expected { Found::Lost } else { Found::Gone })
    }
}

fn compare(mut file: File, entry: &receipt::Entry) -> nix::Result<Found> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 256 << 10];
    let io = |error: std::io::Error| file::errno_of(&error);
    let date = file.metadata().map_err(io)?.mtime();
    loop {
        let got = file.read(&mut piece).map_err(io)?;
        if got == 0 {
            break;
        }
        hasher.update(&piece[..got]);
    }
    let same = *hasher.finalize().as_bytes() == entry.hash && date == entry.date;
    Ok(if same { Found::Same } else { Found::Damaged })
}

/// The UIDs that Dovecot's list has, whatever stands behind them.
fn listed(folder: &OwnedFd) -> nix::Result<HashSet<u32>> {
    let mut uids = HashSet::new();
    let list = match openat(folder, "dovecot-uidlist", OFlag::O_RDONLY | FILE, Mode::empty()) {
        Ok(list) => File::from(list),
        Err(Errno::ENOENT) => return Ok(uids),
        Err(errno) => return Err(errno),
    };
    // The first line is the head.
    for line in BufReader::new(list).split(b'\n').skip(1) {
        let line = line.map_err(|error| file::errno_of(&error))?;
        let uid = line
            .split(|byte| *byte == b' ')
            .next()
            .and_then(|uid| std::str::from_utf8(uid).ok()?.parse::<u32>().ok());
        uids.extend(uid);
    }
    Ok(uids)
}
