//! Every mailbox of the Maildir, written as an mbox and read back: the inbox into the file that the agent has made for it, the others into `WORK/back-RUNID/N`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mailready_mailbox::back::{self, Told, Way, Written};
use mailready_mailbox::layout::INBOX;
use mailready_mailbox::marker::Marker;
use mailready_mailbox::{Error, Progress};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fsync, ftruncate};

use super::back_name;
use crate::aside::{Aside, Entry, Kind};
use crate::channel::Channel;
use crate::file::{self, FILE, FOLDER, Identity};
use crate::folders;
use crate::look::IndexLook;
use crate::passing::Passing;
use crate::room::{self, Need};
use crate::wire::{Block, Report, Step};
use crate::{Stop, Task, note, step};

/// Attempts at a mailbox in which a client is at work.
const ATTEMPTS: usize = 5;

/// A file name has room for a lock's ending.
const LEVEL_MAX: usize = 255 - ".lock".len();

/// One mailbox, or a level that only holds others.
pub(super) struct BackBox {
    pub(super) name: String,
    /// Where its mbox goes below the mbox root; the inbox's is not there.
    pub(super) path: PathBuf,
    /// Its number among the sources of the conversion; `None`: it was made since.
    pub(super) position: Option<usize>,
    /// It holds messages, or could; false: only a directory in the mbox tree.
    pub(super) is_mailbox: bool,
    pub(super) written: Option<Written>,
    /// As it was when that was written.
    pub(super) index: IndexLook,
    /// The mbox is in its place.
    pub(super) placed: bool,
}

impl BackBox {
    pub(super) fn is_inbox(&self) -> bool {
        self.name == INBOX
    }
}

pub(super) struct Boxes<'a> {
    pub(super) task: Task<'a>,
    /// The file that the agent has made.
    pub(super) inbox: OwnedFd,
    /// The spool that was set aside.
    pub(super) original: Option<OwnedFd>,
    pub(super) told: Option<Told>,
    pub(super) boxes: Vec<BackBox>,
    /// The file at the spool's place, and up to where it was added.
    pub(super) rest: Option<(Identity, u64)>,
}

impl<'a> Boxes<'a> {
    pub(super) fn new(task: Task<'a>, inbox: OwnedFd) -> Self {
        Self { task, inbox, original: None, told: None, boxes: Vec::new(), rest: None }
    }

    /// `WORK/back-RUNID`, made if it is not there.
    pub(super) fn folder(&self) -> Result<OwnedFd, Stop> {
        let work = self.task.place.work();
        let name = back_name(self.task);
        let make = || {
            match mkdirat(work, name.as_str(), Mode::S_IRWXU) {
                Ok(()) => fsync(work)?,
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            openat(work, name.as_str(), FOLDER, Mode::empty())
        };
        make().map_err(Stop::failed(Step::BackStage))
    }

    pub(super) fn report(&self) -> Report {
        let written = || self.boxes.iter().filter_map(|each| each.written.as_ref());
        Report::BackStaged {
            messages: written().map(Written::messages).sum(),
            length: self.length(),
            largest: written().map(Written::length).max().unwrap_or(0),
            boxes: self.boxes.len() as u64,
        }
    }

    /// Bytes of the inbox's mbox.
    pub(super) fn length(&self) -> u64 {
        self.boxes.first().and_then(|inbox| inbox.written.as_ref()).map_or(0, Written::length)
    }

    /// Folders that are not in their place.
    pub(super) fn left(&self) -> u64 {
        self.boxes.iter().filter(|each| each.is_mailbox && !each.is_inbox() && !each.placed).count() as u64
    }

    /// By what the mboxes had when they were converted, on both disks.
    fn check_room(&self, marker: &Marker) -> Result<(), Stop> {
        let bytes = |inbox: bool| {
            let of = self.boxes.iter().filter(|each| each.is_inbox() == inbox && each.written.is_none());
            let lengths = of.filter_map(|each| Some(marker.sources.get(each.position?)?.length));
            Need { bytes: lengths.sum(), files: self.boxes.len() as u64 }
        };
        room::check(self.task, self.task.place.work(), bytes(false))?;
        room::check(self.task, self.inbox.as_fd(), bytes(true))
    }

    /// Writes every mailbox, or what has changed since it was written.
    pub(super) fn write(
        &mut self,
        maildir: &OwnedFd,
        marker: &Marker,
        channel: &mut Channel,
    ) -> Result<(), Stop> {
        step(Step::BackStage, self.task.run);
        let listed = list(self.task, maildir, marker)?;
        let same =
            |(new, old): (&BackBox, &BackBox)| new.name == old.name && new.is_mailbox == old.is_mailbox;
        if self.boxes.len() != listed.len() || !listed.iter().zip(&self.boxes).all(same) {
            self.boxes = listed;
        }
        super::put_back::check_places(self)?;
        self.check_room(marker)?;
        let mut passing = Passing::new(channel, 0);
        for number in 0..self.boxes.len() {
            self.write_one(number, maildir, &mut passing)?;
        }
        self.demote()?;
        fsync(self.folder()?).map_err(Stop::failed(Step::BackStage))
    }

    /// After a death: everything that is not in its place, from the withdrawn Maildir.
    pub(super) fn write_what_is_missing(
        &mut self,
        maildir: &OwnedFd,
        marker: &Marker,
        channel: &mut Channel,
    ) -> Result<(), Stop> {
        if !self.boxes.is_empty() {
            return Ok(());
        }
        step(Step::BackStage, self.task.run);
        self.boxes = list(self.task, maildir, marker)?;
        let folder = self.folder()?;
        for (number, each) in self.boxes.iter_mut().enumerate().filter(|(_, each)| !each.is_inbox()) {
            let written = openat(&folder, number.to_string().as_str(), OFlag::O_RDONLY | FILE, Mode::empty());
            // The tombstone that it was exchanged for.
            each.placed = match written {
                Ok(written) => {
                    let kind =
                        Kind::of(written.as_fd(), self.task.run).map_err(Stop::failed(Step::BackStage))?;
                    kind != Kind::Mbox
                }
                Err(_) => false,
            };
        }
        let mut passing = Passing::new(channel, 0);
        for number in 0..self.boxes.len() {
            self.write_one(number, maildir, &mut passing)?;
        }
        self.demote()?;
        fsync(&folder).map_err(Stop::failed(Step::BackStage))
    }

    /// In an mbox tree a name is a file or a directory: a mailbox that has others below it can only be the latter, and so must be empty.
    fn demote(&mut self) -> Result<(), Stop> {
        let names: Vec<String> = self.boxes.iter().map(|each| each.name.clone()).collect();
        for (number, each) in self.boxes.iter_mut().enumerate() {
            let below = format!("{}/", each.name);
            if each.is_inbox() || !each.is_mailbox || !names.iter().any(|name| name.starts_with(&below)) {
                continue;
            }
            if each.written.as_ref().is_some_and(|written| written.messages() > 0) {
                note(&format!(
                    "mailbox {number}, {:?}, has messages and mailboxes below it, which mbox files cannot have; move either",
                    each.name
                ));
                return Err(Stop::blocked(Block::MailWithChildren, number as u64));
            }
            each.is_mailbox = false;
        }
        Ok(())
    }

    /// The mailbox's own folder in the Maildir.
    pub(super) fn open(&self, number: usize, maildir: &OwnedFd) -> Result<OwnedFd, Stop> {
        let layout = self.task.job.layout;
        layout.open(maildir, &self.boxes[number].name).map_err(Stop::engine_at(Step::BackStage, number))
    }

    /// The file that its mbox is written to.
    pub(super) fn target(&self, number: usize) -> Result<OwnedFd, Stop> {
        let failed = Stop::failed(Step::BackStage);
        if self.boxes[number].is_inbox() {
            return self.inbox.try_clone().map_err(|error| failed(file::errno_of(&error)));
        }
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | FILE;
        openat(&self.folder()?, number.to_string().as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(failed)
    }

    /// What clients call it.
    fn seen_name(&self, number: usize) -> String {
        let (job, name) = (self.task.job, &self.boxes[number].name);
        match name.as_str() {
            INBOX => INBOX.to_owned(),
            name => format!("{}{}", job.prefix, name.replace('/', &job.separator.to_string())),
        }
    }

    /// Whether Dovecot has told of this mailbox's messages.
    pub(super) fn is_told(&self, number: usize) -> bool {
        self.told.as_ref().is_some_and(|told| told.has(&self.seen_name(number)))
    }

    /// Does something with the engine's view of one mailbox.
    pub(super) fn with_way<T>(
        &self,
        number: usize,
        folder: BorrowedFd<'_>,
        run: impl FnOnce(&Way<'_>) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, Stop> {
        let opened;
        let original = match self.boxes[number].position {
            Some(0) => self.original.as_ref(),
            Some(position) => {
                opened = self.open_original(position)?;
                opened.as_ref()
            }
            None => None,
        };
        let name = self.seen_name(number);
        let told = self.told.as_ref().filter(|told| told.has(&name)).map(|told| (told, name.as_str()));
        let path = Path::new(&self.boxes[number].name);
        let original = original.map(AsFd::as_fd);
        Ok(run(&Way { folder, path, original, told, rules: self.task.rules }))
    }

    fn open_original(&self, position: usize) -> Result<Option<OwnedFd>, Stop> {
        let open = || match Aside::open(self.task.place.work(), self.task.run)? {
            Some(aside) if aside.holds_original(position)? => {
                aside.open_entry(Entry::original(position), OFlag::O_RDONLY)
            }
            _ => Ok(None),
        };
        open().map_err(Stop::failed(Step::BackStage))
    }

    fn write_one(&mut self, number: usize, maildir: &OwnedFd, passing: &mut Passing<'_>) -> Result<(), Stop> {
        let each = &self.boxes[number];
        if !each.is_mailbox || each.placed {
            return Ok(());
        }
        let folder = self.open(number, maildir)?;
        let index = IndexLook::at(Some(folder.as_fd())).map_err(Stop::failed(Step::BackStage))?;
        let engine = |step| Stop::engine_at(step, number);
        if let Some(written) = &each.written {
            let state = self.with_way(number, folder.as_fd(), |way| way.state())?;
            if state.map_err(engine(Step::BackStage))? == *written.state() && each.index == index {
                return Ok(());
            }
        }
        let target = self.target(number)?;
        for _ in 0..ATTEMPTS {
            ftruncate(&target, 0).map_err(Stop::failed(Step::BackStage))?;
            let written = self.with_way(number, folder.as_fd(), |way| {
                way.write(target.as_fd(), &mut |progress| passing.on(progress))
            })?;
            let written = match written {
                Err(Error::Changed { .. }) => continue,
                other => other.map_err(engine(Step::BackStage))?,
            };
            step(Step::BackVerify, self.task.run);
            let verified = self.with_way(number, folder.as_fd(), |way| {
                way.verify(target.as_fd(), &written, &mut |now: Progress| {
                    passing.on(Progress { messages: 0, bytes: 0, total: now.total })
                })
            })?;
            match verified {
                // A client was faster between the two.
                Err(Error::Changed { .. }) => continue,
                other => other.map_err(engine(Step::BackVerify))?,
            };
            passing.add(written.messages(), written.length());
            let each = &mut self.boxes[number];
            (each.written, each.index) = (Some(written), index);
            return Ok(());
        }
        note(&format!("mailbox {number}, {:?}, keeps changing", self.boxes[number].name));
        Err(Stop::errno(Step::BackStage, Errno::EAGAIN))
    }
}

/// The mailboxes of a Maildir, and where each goes.
pub(super) fn list(task: Task<'_>, maildir: &OwnedFd, marker: &Marker) -> Result<Vec<BackBox>, Stop> {
    let listing = back::list(maildir.as_fd(), task.job.layout).map_err(Stop::engine(Step::BackStage))?;
    if listing.unnamed > 0 {
        note(&format!(
            "{} folders of the Maildir can be reached by no client, and stay in it",
            listing.unnamed
        ));
    }
    let mut boxes = Vec::with_capacity(listing.places.len());
    for (number, place) in listing.places.into_iter().enumerate() {
        let path = folders::path_of(&place.name);
        if place.name != INBOX && !fits_an_mbox_tree(&place.name, &path) {
            note(&format!("mailbox {number}, {:?}, has a name that no mbox file can have", place.name));
            return Err(Stop::blocked(Block::Names, number as u64));
        }
        let position = marker.sources.iter().position(|source| source.name == place.name);
        boxes.push(BackBox {
            name: place.name,
            path,
            position,
            is_mailbox: place.mailbox,
            written: None,
            index: IndexLook::default(),
            placed: false,
        });
    }
    Ok(boxes)
}

/// Whether Dovecot would show an mbox, or a directory, of that name.
fn fits_an_mbox_tree(name: &str, path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let reached = folders::directory_name(path).as_deref() == Some(name);
    let mut levels = path.iter().map(OsStrExt::as_bytes);
    let not_mail = |(depth, level): (usize, &[u8])| {
        std::ffi::CString::new(level).is_ok_and(|level| folders::not_mail(&level, depth))
    };
    let hidden_from_us = levels.clone().enumerate().any(not_mail);
    reached && !hidden_from_us && levels.all(|level| level.len() <= LEVEL_MAX)
}
