//! The writing half of a stage: files, uidlist and receipt.
//!
//! It runs in a thread of its own while the other half reads and splits: creating files is the larger part of the work and all of it
//! is the kernel's, finding out what is in them is ours.

use crate::content::Content;
use crate::durable::Syncer;
use crate::line_file::LineFile;
use crate::names::Namer;
use crate::salvage::Salvage;
use crate::stage::file_name;
use crate::{Result, dir, keywords, receipt, uidlist};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::Receiver;

/// The folders and lists of a mailbox while it is written.
#[derive(Debug)]
pub(crate) struct Output {
    homes: Homes,
    pub(crate) tmp: OwnedFd,
    receipt: LineFile,
    pub(crate) uidlist: LineFile,
    namer: Namer,
    last: Option<Written>,
}

/// What is left of an [`Output`] in between: no descriptor, since there may be thousands of mailboxes.
#[derive(Debug)]
pub(crate) struct Closed {
    receipt: u64,
    uidlist: u64,
    namer: Namer,
    last: Option<Written>,
}

/// The last message's file, and where its lines begin.
#[derive(Debug)]
struct Written {
    home: Home,
    name: String,
    receipt: u64,
    uidlist: u64,
}

/// In which of the Maildir's folders a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Cur,
    New,
}

/// The two folders of a mailbox that hold mail.
#[derive(Debug)]
pub(crate) struct Homes {
    cur: OwnedFd,
    new: OwnedFd,
}

/// What the reading half hands over, in the order of the mbox.
pub(crate) enum Order {
    /// The uidlist's first line.
    UidlistHead(String),
    /// A message.
    Message(Message),
}

/// A message as it was read.
pub(crate) struct Message {
    /// Number of the message, from 0.
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) date: i64,
    pub(crate) uid: u32,
    pub(crate) ids: uidlist::Ids,
    pub(crate) flags: String,
    pub(crate) home: Home,
    pub(crate) content: Content,
}

/// What makes a folder a mailbox.
const FOLDERS: [&str; 3] = ["cur", "new", "tmp"];

impl Output {
    /// Makes a mailbox of `folder`, which must not be one.
    pub(crate) fn create(folder: BorrowedFd<'_>, namer: Namer) -> Result<Self> {
        for name in FOLDERS {
            dir::create(folder, name)?;
        }
        let receipt = LineFile::create(folder, receipt::NAME)?;
        let uidlist = LineFile::create(folder, uidlist::NAME)?;
        let tmp = dir::open(folder, "tmp")?;
        Ok(Output { homes: Homes::open(folder)?, tmp, receipt, uidlist, namer, last: None })
    }

    /// Goes on with one.
    pub(crate) fn open(folder: BorrowedFd<'_>, closed: Closed) -> Result<Self> {
        let Closed { receipt, uidlist, namer, last } = closed;
        Ok(Output {
            homes: Homes::open(folder)?,
            tmp: dir::open(folder, "tmp")?,
            receipt: LineFile::open(folder, receipt::NAME, receipt)?,
            uidlist: LineFile::open(folder, uidlist::NAME, uidlist)?,
            namer,
            last,
        })
    }

    /// Hands the kernel what is still in memory, and the syncer what has changed.
    pub(crate) fn close(self, syncer: &Syncer) -> Result<Closed> {
        let closed = Closed {
            receipt: self.receipt.len(),
            uidlist: self.uidlist.len(),
            namer: self.namer,
            last: self.last,
        };
        syncer.take(self.receipt.close()?);
        syncer.take(self.uidlist.close()?);
        for folder in [self.homes.cur, self.homes.new, self.tmp] {
            syncer.take(folder);
        }
        Ok(closed)
    }

    /// Begins the receipt.
    pub(crate) fn receipt_head(&mut self, line: &str) -> Result<()> {
        self.receipt.write(line)
    }

    /// Carries out orders until there are no more.
    pub(crate) fn work(
        &mut self,
        batches: &Receiver<Vec<Order>>,
        syncer: &Syncer,
        salvage: &Salvage,
    ) -> Result<()> {
        for order in batches.iter().flatten() {
            match order {
                Order::UidlistHead(line) => self.uidlist.write(&line)?,
                Order::Message(message) => self.write(message, syncer, salvage)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, message: Message, syncer: &Syncer, salvage: &Salvage) -> Result<()> {
        let Message { number, offset, length, date, uid, ids, flags, home, mut content } = message;
        let measure = content.measure();
        let mut base = String::with_capacity(112);
        self.namer.base(&mut base, number, measure.size, measure.virtual_size);
        let name = file_name(&base, home == Home::Cur, &flags);
        let folder = self.homes.of(home);
        let file = match content.find(salvage, &measure, folder, &name) {
            Some(file) => file,
            None => content.store(self.tmp.as_fd(), folder, &name)?,
        };
        dir::set_time(&file, &name, date)?;
        syncer.take(file);
        self.last = Some(Written { home, name, receipt: self.receipt.len(), uidlist: self.uidlist.len() });
        self.uidlist.write_with(|text| uidlist::line(text, uid, &ids, &base))?;
        let entry =
            receipt::Entry { offset, length, hash: *measure.hash.as_bytes(), uid, flags, date, file: base };
        self.receipt.write_with(|text| entry.write(text))?;
        Ok(())
    }

    /// Takes the last message back, if one was written.
    pub(crate) fn take_back_last(&mut self) -> Result<()> {
        let Some(last) = self.last.take() else { return Ok(()) };
        dir::unlink(self.homes.of(last.home), &last.name)?;
        self.receipt.cut(last.receipt)?;
        self.uidlist.cut(last.uidlist)
    }
}

impl Closed {
    /// Moves a message to the folder it belongs in, if it is in the other one.
    pub(crate) fn move_home(&mut self, homes: &Homes, entry: &receipt::Entry, home: Home) -> Result<()> {
        let name = |home| file_name(&entry.file, home == Home::Cur, &entry.flags);
        let (other, wanted) = (if home == Home::Cur { Home::New } else { Home::Cur }, name(home));
        dir::move_if_there((homes.of(other), &name(other)), (homes.of(home), &wanted))?;
        if let Some(last) = self.last.as_mut().filter(|last| last.name == name(other)) {
            (last.home, last.name) = (home, wanted);
        }
        Ok(())
    }
}

impl Homes {
    pub(crate) fn open(folder: BorrowedFd<'_>) -> Result<Self> {
        Ok(Homes { cur: dir::open(folder, "cur")?, new: dir::open(folder, "new")? })
    }

    fn of(&self, home: Home) -> BorrowedFd<'_> {
        match home {
            Home::Cur => self.cur.as_fd(),
            Home::New => self.new.as_fd(),
        }
    }

    /// Hands both to the syncer.
    pub(crate) fn close(self, syncer: &Syncer) {
        syncer.take(self.cur);
        syncer.take(self.new);
    }
}

/// Makes a folder that was a mailbox of ours a mere folder again: a file that is not of the mailbox stays.
pub(crate) fn clear(folder: BorrowedFd<'_>) -> Result<()> {
    for name in FOLDERS {
        dir::remove_tree(folder, name)?;
    }
    for name in [receipt::NAME, uidlist::NAME, keywords::NAME] {
        dir::unlink_if_there(folder, name)?;
    }
    Ok(())
}
