//! One mailbox of a Maildir, as its server leaves it after use: which messages there are, with which UIDs and flags.
//!
//! The files are the mail; `dovecot-uidlist` says which UID a file has. A record without a file is an expunged message; a file
//! without a record is new mail that no client has seen, and gets the UID that Dovecot would give it. Nothing is locked and nothing
//! is opened but the lists: of each message the name of its file is held, some 80 bytes.

use super::NotForMbox;
use super::file_name;
use crate::window::read_at;
use crate::{Error, Result, dir};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const UIDLIST: &str = "dovecot-uidlist";
const KEYWORDS: &str = "dovecot-keywords";
/// No line of a uidlist is longer: a UIDL and a file name.
const LINE_MAX: u64 = 64 << 10;
/// Letters, and so keywords, that a file name can have.
const LETTERS: usize = 26;

/// See the module's text.
pub(super) struct Maildir {
    /// `None`: no server has ever opened it.
    pub(super) uid_validity: Option<u32>,
    /// Lowest UID that is free.
    pub(super) uid_next: u32,
    /// Lowest UID that no record and no head of a list has ever named: files from here on are unlisted.
    pub(super) unlisted_from: u32,
    /// Keywords by their letters.
    pub(super) keywords: Vec<Option<String>>,
    /// Fingerprint of all that was read.
    pub(super) state: [u8; 32],
    names: Vec<u8>,
    /// In the order of their UIDs.
    files: Vec<Found>,
}

/// A message file.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// Its name begins here in `Maildir::names`.
    start: usize,
    length: u16,
    in_new: bool,
    /// 0 until it has one.
    uid: u32,
}

/// A message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mail<'m> {
    pub(super) uid: u32,
    /// The whole name of its file.
    pub(super) name: &'m [u8],
    /// It lies in `new/`: no session has claimed it.
    pub(super) in_new: bool,
}

impl Maildir {
    /// Reads the lists and the names.
    pub(super) fn read(folder: BorrowedFd<'_>, path: &Path) -> Result<Maildir> {
        let mut maildir = Maildir {
            uid_validity: None,
            uid_next: 1,
            unlisted_from: 1,
            keywords: vec![None; LETTERS],
            state: [0; 32],
            names: Vec::new(),
            files: Vec::new(),
        };
        let mut state = blake3::Hasher::new();
        // new/ first: a file that moves to cur/ meanwhile is found twice, not missed.
        maildir.list(folder, "new", true)?;
        maildir.list(folder, "cur", false)?;
        maildir.sort_by_base();
        for file in &maildir.files {
            state.update(&[u8::from(file.in_new)]).update(name_of(&maildir.names, file)).update(b"\n");
        }
        if let Some(text) = read_list(folder, KEYWORDS)? {
            state.update(&text);
            maildir.read_keywords(&text);
        }
        if let Some(file) = dir::find_file(folder, UIDLIST)? {
            let mut lines = Lines { input: BufReader::new(file), line: Vec::new(), number: 0, state };
            maildir.read_uidlist(&mut lines)?;
            state = lines.state;
        }
        maildir.give_uids(path)?;
        maildir.state = *state.finalize().as_bytes();
        Ok(maildir)
    }

    /// Messages.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// In the order of their UIDs.
    pub(super) fn mail(&self) -> impl Iterator<Item = Mail<'_>> {
        self.files.iter().map(|f| Mail { uid: f.uid, name: name_of(&self.names, f), in_new: f.in_new })
    }

    /// Those that no list knows, and so no client.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = Mail<'_>> {
        self.mail().filter(|mail| mail.uid >= self.unlisted_from)
    }

    /// The keyword of a letter. Dovecot has this name for one whose list was lost.
    pub(super) fn keyword(&self, letter: usize) -> String {
        self.keywords.get(letter).cloned().flatten().unwrap_or_else(|| format!("unknown-{letter}"))
    }

    fn list(&mut self, folder: BorrowedFd<'_>, name: &str, in_new: bool) -> Result<()> {
        let listed = dir::open(folder, name)?;
        dir::for_each_name(&listed, name, |file| {
            if file_name::is_message(file) {
                // File names have at most 255 bytes.
                let length = file.len() as u16;
                self.files.push(Found { start: self.names.len(), length, in_new, uid: 0 });
                self.names.extend_from_slice(file);
            }
        })
    }

    /// By base name; of a file that was found twice while it moved, the one in cur/ stays.
    fn sort_by_base(&mut self) {
        let names = &self.names;
        let key = |f: &Found| (file_name::base(name_of(names, f)), f.in_new, name_of(names, f));
        self.files.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    }

    fn read_keywords(&mut self, text: &[u8]) {
        for line in String::from_utf8_lossy(text).lines() {
            let Some((letter, name)) = line.split_once(' ') else { continue };
            let place = letter.parse().ok().and_then(|letter: usize| self.keywords.get_mut(letter));
            if let Some(place) = place.filter(|_| !name.is_empty()) {
                *place = Some(name.to_owned());
            }
        }
    }

    /// Version 3 and, of other servers, version 1. What Dovecot would call broken, and then rebuild with a new UIDVALIDITY, is an
    /// error: the mailbox has to be mended first.
    fn read_uidlist(&mut self, lines: &mut Lines) -> Result<()> {
        let head = lines.next()?.map(<[u8]>::to_vec).unwrap_or_default();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut fields = head.split(' ');
        let version = fields.next().unwrap_or_default();
        let (validity, next) = match version {
            "3" => {
                let field =
                    |letter| head.split(' ').skip(1).find_map(|f| f.strip_prefix(letter)?.parse().ok());
                (field('V'), field('N'))
            }
            "1" => (fields.next().and_then(|f| f.parse().ok()), fields.next().and_then(|f| f.parse().ok())),
            _ => return Err(lines.damaged("no head of version 3 or 1")),
        };
        let (Some(validity @ 1..), Some(next @ 1..)) = (validity, next) else {
            return Err(lines.damaged("no UIDVALIDITY, or no next UID"));
        };
        self.uid_validity = Some(validity);
        let mut last = 0;
        while let Some(line) = lines.next()? {
            let record = if version == "3" { record_of_3(line) } else { record_of_1(line) };
            let Some((uid, base)) = record.filter(|(uid, _)| (last + 1..u32::MAX).contains(uid)) else {
                return Err(lines.damaged("no record with a UID above the one before"));
            };
            last = uid;
            if let Some(found) = find(&self.names, &self.files, file_name::base(base)) {
                self.files[found].uid = uid;
            }
        }
        self.uid_next = next.max(last + 1);
        Ok(())
    }

    /// UIDs for what has none, and everything in the order of UIDs.
    fn give_uids(&mut self, path: &Path) -> Result<()> {
        self.unlisted_from = self.uid_next;
        let names = &self.names;
        self.files.sort_by(|a, b| match (a.uid, b.uid) {
            (0, 0) => file_name::order(name_of(names, a), name_of(names, b)),
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            (a, b) => a.cmp(&b),
        });
        for file in self.files.iter_mut().filter(|file| file.uid == 0) {
            if self.uid_next == u32::MAX {
                let reason = NotForMbox::UidsUsedUp;
                return Err(Error::NotForMbox { path: path.to_owned(), uid: 0, reason });
            }
            file.uid = self.uid_next;
            self.uid_next += 1;
        }
        Ok(())
    }
}

fn name_of<'n>(names: &'n [u8], file: &Found) -> &'n [u8] {
    &names[file.start..file.start + usize::from(file.length)]
}

/// The file of a base name that has no UID yet. `files` are in the order of their base names.
fn find(names: &[u8], files: &[Found], base: &[u8]) -> Option<usize> {
    let of = |f: &Found| file_name::base(name_of(names, f));
    let first = files.partition_point(|f| of(f) < base);
    files.get(first).filter(|f| of(f) == base && f.uid == 0).map(|_| first)
}

/// `UID FIELD... :NAME`.
fn record_of_3(line: &[u8]) -> Option<(u32, &[u8])> {
    let colon = memchr::memmem::find(line, b" :")?;
    let uid = line[..colon].split(|b| *b == b' ').next()?;
    Some((std::str::from_utf8(uid).ok()?.parse().ok()?, &line[colon + 2..]))
}

/// `UID NAME`.
fn record_of_1(line: &[u8]) -> Option<(u32, &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    Some((std::str::from_utf8(&line[..space]).ok()?.parse().ok()?, &line[space + 1..]))
}

/// A small file as a whole, if it is there.
fn read_list(folder: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(file) = dir::find_file(folder, name)? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(LINE_MAX).read_to_end(&mut text).map_err(Error::io("read", name))?;
    Ok(Some(text))
}

/// The lines of a uidlist, which also go into the fingerprint.
struct Lines {
    input: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    state: blake3::Hasher,
}

impl Lines {
    /// A last line without end is one that is being written: it does not count yet.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.input.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.line);
        read.map_err(Error::io("read", UIDLIST))?;
        self.number += 1;
        self.state.update(&self.line);
        if self.line.len() as u64 == LINE_MAX {
            return Err(self.damaged("a line without end"));
        }
        Ok(self.line.strip_suffix(b"\n"))
    }

    fn damaged(&self, why: &str) -> Error {
        Error::Damaged { path: UIDLIST.into(), at: self.number, why: why.into() }
    }
}

/// The two folders that hold the messages.
pub(super) struct Homes {
    cur: OwnedFd,
    new: OwnedFd,
}

impl Homes {
    pub(super) fn open(folder: BorrowedFd<'_>) -> Result<Self> {
        Ok(Homes { cur: dir::open(folder, "cur")?, new: dir::open(folder, "new")? })
    }

    /// A message's file. Its name changes with its flags: not there is [`Error::Changed`].
    pub(super) fn open_mail(&self, mail: &Mail<'_>) -> Result<MailFile> {
        let home = if mail.in_new { &self.new } else { &self.cur };
        MailFile::open(home.as_fd(), mail.name)
    }
}

/// A message file.
pub(super) struct MailFile {
    file: File,
    pub(super) size: u64,
    /// INTERNALDATE.
    pub(super) date: i64,
    /// For errors.
    pub(super) name: PathBuf,
}

impl MailFile {
    pub(super) fn open(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Self> {
        let path = || PathBuf::from(OsStr::from_bytes(name));
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => {
                return Err(Error::Changed { path: path(), offset: 0, why: "a reader moved or removed it" });
            }
            Err(e) => return Err(Error::io("open", path())(e)),
        };
        let stat = fstat(&file).map_err(Error::io("look at", path()))?;
        let regular = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if !regular {
            return Err(Error::Damaged { path: path(), at: 0, why: "it is no regular file".into() });
        }
        Ok(MailFile { file, size, date: stat.st_mtime, name: path() })
    }

    /// Fills `into` from an offset on, as far as the file reaches.
    pub(super) fn read_at(&self, into: &mut [u8], at: u64) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let n = read_at(self.file.as_fd(), &mut into[done..], at + done as u64);
            match n.map_err(Error::io("read", &self.name))? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// Hands over the bytes of a range, all of which have to be there, in pieces no larger than `chunk`.
    pub(super) fn copy(
        &self,
        range: Range<u64>,
        chunk: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(chunk.len());
            let n = self.read_at(&mut chunk[..want], at)?;
            if n < want {
                let why = "it became shorter";
                return Err(Error::Changed { path: self.name.clone(), offset: at + n as u64, why });
            }
            each(&chunk[..n])?;
            at += n as u64;
        }
        Ok(())
    }
}
