//! The writing half of a stage: files, uidlist and receipt.
//!
//! It runs in a thread of its own while the other half reads and splits: creating files is the larger part of the work and all of it
//! is the kernel's, finding out what is in them is ours.

use crate::content::Content;
use crate::durable::Syncer;
use crate::line_file::LineFile;
use crate::names::Namer;
use crate::stage::file_name;
use crate::{Result, dir, receipt, uidlist};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::Receiver;

/// A stage's folders and lists.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) folder: OwnedFd,
    pub(crate) cur: OwnedFd,
    pub(crate) new: OwnedFd,
    pub(crate) tmp: OwnedFd,
    pub(crate) receipt: LineFile,
    pub(crate) uidlist: LineFile,
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
    pub(crate) flags: String,
    pub(crate) home: Home,
    pub(crate) content: Content,
}

impl Output {
    /// Makes the Maildir `name` below `work`, which must not exist.
    pub(crate) fn create(work: BorrowedFd<'_>, name: &str, namer: Namer) -> Result<Self> {
        let folder = dir::create(work, name)?;
        let (cur, new, tmp) =
            (dir::create(&folder, "cur")?, dir::create(&folder, "new")?, dir::create(&folder, "tmp")?);
        let receipt = LineFile::create(folder.as_fd(), receipt::NAME)?;
        let uidlist = LineFile::create(folder.as_fd(), uidlist::NAME)?;
        Ok(Output { folder, cur, new, tmp, receipt, uidlist, namer, last: None })
    }

    /// Carries out orders until there are no more.
    pub(crate) fn work(&mut self, batches: &Receiver<Vec<Order>>, syncer: &mut Syncer) -> Result<()> {
        for order in batches.iter().flatten() {
            match order {
                Order::UidlistHead(line) => self.uidlist.write(&line)?,
                Order::Message(message) => self.write(message, syncer)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, message: Message, syncer: &mut Syncer) -> Result<()> {
        let Message { number, offset, length, date, uid, flags, home, content } = message;
        let measure = content.measure();
        let mut base = String::with_capacity(112);
        self.namer.base(&mut base, number, measure.size, measure.virtual_size);
        let name = file_name(&base, home == Home::Cur, &flags);
        let file = content.store(self.tmp.as_fd(), self.home(home), &name, date)?;
        syncer.take(file)?;
        self.last = Some(Written { home, name, receipt: self.receipt.len(), uidlist: self.uidlist.len() });
        self.uidlist.write_with(|text| uidlist::line(text, uid, &base))?;
        let entry =
            receipt::Entry { offset, length, hash: *measure.hash.as_bytes(), uid, flags, date, file: base };
        self.receipt.write_with(|text| entry.write(text))?;
        Ok(())
    }

    fn home(&self, home: Home) -> BorrowedFd<'_> {
        match home {
            Home::Cur => self.cur.as_fd(),
            Home::New => self.new.as_fd(),
        }
    }

    /// Moves a message to the folder it belongs in, if it is in the other one.
    pub(crate) fn move_home(&mut self, entry: &receipt::Entry, home: Home) -> Result<()> {
        let name = |home| file_name(&entry.file, home == Home::Cur, &entry.flags);
        let (other, wanted) = (if home == Home::Cur { Home::New } else { Home::Cur }, name(home));
        dir::move_if_there((self.home(other), &name(other)), (self.home(home), &wanted))?;
        if let Some(last) = self.last.as_mut().filter(|last| last.name == name(other)) {
            (last.home, last.name) = (home, wanted);
        }
        Ok(())
    }

    /// Takes the last message back, if one was written.
    pub(crate) fn take_back_last(&mut self) -> Result<()> {
        let Some(last) = self.last.take() else { return Ok(()) };
        dir::unlink(self.home(last.home), &last.name)?;
        self.receipt.cut(last.receipt)?;
        self.uidlist.cut(last.uidlist)
    }
}
