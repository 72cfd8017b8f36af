//! The reading half of a pass: splits, filters and decides, and hands whole messages over to the writing half.

use crate::content::{Content, Reader};
use crate::error::BlockReason;
use crate::meta::{Folder, Meta, Position};
use crate::names::now;
use crate::output::{Home, Message, Order};
use crate::rules::LocalTime;
use crate::salvage::Salvage;
use crate::split::Splitter;
use crate::stage::Plan;
use crate::{Error, OnProgress, Progress, Result, keywords, run_id, uidlist};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::SyncSender;

/// What is handed over to the writing half at a time: few enough hand-overs that a busy machine, where each may have to wait for a
/// turn of the processor, does not count them; little enough to hold a few in memory.
const BATCH_MESSAGES: usize = 128;
const BATCH_BYTES: usize = 1 << 20;

/// Messages of a mailbox that can have a GUID of their own: to find out whether one is taken, those given away are held in memory.
const GUIDS: usize = 1 << 20;

/// GUIDs given away: a half of each. Where somebody has made two messages whose GUIDs agree in that half, the second goes without, as if
/// it were a copy.
#[derive(Debug, Default)]
pub(crate) struct Given(HashSet<u64>);

impl Given {
    /// `false`: it is given away already.
    pub(crate) fn take(&mut self, guid: &[u8; 16]) -> bool {
        let mut half = [0; 8];
        half.copy_from_slice(&guid[..8]);
        self.0.insert(u64::from_ne_bytes(half))
    }
}

/// The state before the last message: what it takes to read it again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) offset: u64,
    pub(crate) messages: u64,
    pub(crate) unseen: u64,
    pub(crate) position: Position,
    pub(crate) local_offset: i64,
}

/// What a pass moves on.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mailbox: Folder,
    pub(crate) keywords: keywords::Letters,
    /// `None` before the first message.
    pub(crate) last: Option<Last>,
    /// The zone's offset used last; see [`LocalTime`].
    pub(crate) local_offset: i64,
    /// Messages so far (the pseudo message is none).
    pub(crate) messages: u64,
    /// Of those, without \Seen.
    pub(crate) unseen: u64,
    /// Messages up to the last with `O` in its Status.
    pub(crate) old: u64,
    /// Some of those have none.
    pub(crate) new_before_old: bool,
    pub(crate) uid_validity: u32,
}

/// See the module's text.
pub(crate) struct Reading<'s> {
    plan: &'s Plan,
    state: &'s mut State,
    head_written: bool,
    guids: Given,
    orders: SyncSender<Vec<Order>>,
    batch: Vec<Order>,
    batch_bytes: usize,
    tmp: BorrowedFd<'s>,
    salvage: &'s Salvage,
}

impl<'s> Reading<'s> {
    /// `guids` are those that messages have already; `head_written`: the uidlist has its first line.
    pub(crate) fn new(
        plan: &'s Plan,
        state: &'s mut State,
        (head_written, guids): (bool, Given),
        orders: SyncSender<Vec<Order>>,
        (tmp, salvage): (BorrowedFd<'s>, &'s Salvage),
    ) -> Self {
        Reading { plan, state, head_written, guids, orders, batch: Vec::new(), batch_bytes: 0, tmp, salvage }
    }

    /// Reads to the end; returns the hash of all bytes of the mbox.
    pub(crate) fn run(
        &mut self,
        mut split: Splitter<'_>,
        progress: OnProgress<'_>,
    ) -> Result<blake3::Hasher> {
        let mut reader = Reader::new(self.plan.rules.server, self.tmp).with(self.salvage);
        let mut meta = Meta::default();
        let mut local = LocalTime::after(&self.plan.rules.zone, self.state.local_offset);
        while let Some(head) = split.next_message()? {
            self.state.last = Some(Last {
                offset: head.offset,
                messages: self.state.messages,
                unseen: self.state.unseen,
                position: self.state.mailbox.position(),
                local_offset: local.last_offset(),
            });
            let date = head.stamp.map_or(0, |stamp| stamp.unix_seconds(&mut local));
            self.state.mailbox.begin();
            meta.reset();
            let content = reader.read(&mut split, false, &mut |which, value| {
                self.state.mailbox.header(&mut meta, which, value);
                meta.content_length
            })?;
            self.state.mailbox.complete(&mut meta).map_err(|reason| self.blocked(reason))?;
            let extent = (head.offset, split.pos() - head.offset);
            self.hand_over(extent, date, &meta, content, &reader)?;
            let told = Progress { messages: self.state.messages, bytes: split.pos(), total: split.end() };
            if progress(told) == ControlFlow::Break(()) {
                return Err(Error::Cancelled);
            }
        }
        self.state.local_offset = local.last_offset();
        self.uidlist_head()?;
        self.flush()?;
        split.into_window().into_hasher()
    }

    fn hand_over(
        &mut self,
        (offset, length): (u64, u64),
        date: i64,
        meta: &Meta,
        content: Content,
        reader: &Reader<'_>,
    ) -> Result<()> {
        if meta.pseudo {
            return content.discard(self.tmp).map(drop);
        }
        self.uidlist_head()?;
        let mut flags: String = meta.flags.letters().collect();
        let state = &mut *self.state;
        let known = &self.plan.known;
        state
            .keywords
            .append(&mut flags, &meta.keywords, state.mailbox.keywords(), known.index)
            .map_err(|reason| self.blocked(reason))?;
        let number = self.state.messages;
        if meta.old {
            self.state.new_before_old |= self.state.old < number;
            self.state.old = number + 1;
        }
        let old = known.not_recent.map_or(meta.old, |not_recent| number < not_recent);
        let home = if old { Home::Cur } else { Home::New };
        let ids = self.ids(number, meta, reader);
        self.state.messages += 1;
        self.state.unseen += u64::from(!flags.contains('S'));
        self.order(Order::Message(Message {
            number,
            offset,
            length,
            date,
            uid: meta.uid,
            ids,
            flags,
            home,
            content,
        }))
    }

    /// What else the server knew the message by. A GUID is given away once: where two messages have one, a replication takes them for
    /// copies of each other (formats.md 9).
    fn ids(&mut self, number: u64, meta: &Meta, reader: &Reader<'_>) -> uidlist::Ids {
        let Some(who) = reader.fingerprint() else {
            return uidlist::Ids { guid: None, uidl: self.state.mailbox.uidl(meta, self.state.uid_validity) };
        };
        let free = number < GUIDS as u64 && self.guids.take(&who.md5);
        let uidl = self.plan.known.uidl.as_ref();
        uidlist::Ids {
            guid: free.then_some(who.md5),
            uidl: uidl.and_then(|uidl| uidl.of(meta.uid, self.state.uid_validity, &who.md5, who.has_x_uidl)),
        }
    }

    /// The uidlist's first line, as soon as UIDVALIDITY is known. Its UIDNEXT may be lower than the records: Dovecot goes by
    /// the higher (formats.md 3.4).
    fn uidlist_head(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.head_written, true) {
            return Ok(());
        }
        let mailbox = &mut self.state.mailbox;
        self.state.uid_validity = mailbox.uid_validity(i64::try_from(now()).unwrap_or(i64::MAX));
        let guid = match self.plan.known.mailbox_guid {
            Some(guid) => guid,
            None => run_id::random_bytes()?,
        };
        let uid_next = mailbox.uid_next();
        self.order(Order::UidlistHead(uidlist::head(self.state.uid_validity, uid_next, &guid)))
    }

    fn order(&mut self, order: Order) -> Result<()> {
        if let Order::Message(message) = &order {
            self.batch_bytes += message.content.held();
        }
        self.batch.push(order);
        if self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// If nobody takes it the writing half has failed, and its error is the one that counts.
    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        self.orders.send(std::mem::take(&mut self.batch)).map_err(|_| Error::Cancelled)
    }

    fn blocked(&self, reason: BlockReason) -> Error {
        Error::Blocked { path: self.plan.source.path.clone(), reason }
    }
}
