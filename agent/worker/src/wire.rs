//! What agent and worker say to each other: enumerated messages of one fixed size over a socketpair that keeps packets apart.
//!
//! The worker reads hostile mail with the user's rights, so whatever it says is hostile input: a message is 64 bytes, an unknown kind or
//! code is an error, numbers are only numbers, and the agent looks for itself before it acts on them. Descriptors travel from the agent to the
//! worker only. The one message of variable size is the [`Job`](crate::job::Job), from the agent.

use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Bytes of every message but the job.
pub const SIZE: usize = 64;

/// What Dovecot has told of what its index alone knows; all `None` where there is no index or no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Messages before the first that is \Recent.
    pub not_recent: Option<u64>,
    /// HIGHESTMODSEQ (RFC 7162), which is never 0.
    pub highest_modseq: Option<NonZeroU64>,
}

impl Told {
    /// This, and what is missing in it from `other`; of HIGHESTMODSEQ the higher one, since it never goes backwards.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            not_recent: self.not_recent.or(other.not_recent),
            highest_modseq: self.highest_modseq.max(other.highest_modseq),
        }
    }
}

/// From the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Write the stage from the spool whose descriptor came with the job.
    Stage(Told),
    /// Look again and bring the stage up to date; a descriptor comes along if the spool is another file now.
    Refresh(Told),
    /// The spool is locked: lock the index logs, compare with the last look, take what has been appended.
    Confirm,
    /// Seal the stage and put it in place.
    Commit,
    /// Drop the index locks and end.
    Release,
    /// Remove the stage and end.
    Abort,
    /// Extract and deliver the new mail of an archive entry, whose descriptor comes along.
    Extract {
        /// N of `RUNID.N`.
        entry: u64,
        /// Where new mail begins, if the agent knows.
        from: Option<u64>,
    },
    /// Say where the mail is: is there a Maildir with this run's marker? Removes a stage that was left over if not.
    Probe,
    /// The entry is gone from the archive folder: its position need not be remembered any more.
    Forgotten {
        /// N of `RUNID.N`.
        entry: u64,
    },
}

/// From the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Became the user, is in its sandbox, holds the work folder.
    Ready {
        /// Landlock and system-call filter are fully in force.
        sandboxed: bool,
        /// Dovecot keeps an index of this mbox.
        indexed: bool,
    },
    /// Still writing.
    Progress {
        /// Messages so far.
        messages: u64,
        /// Bytes of the mbox read so far.
        bytes: u64,
        /// Bytes of the mbox in all.
        total: u64,
    },
    /// The stage holds `length` bytes of the spool.
    Staged {
        /// Messages in the stage.
        messages: u64,
        /// Bytes of the spool they came from.
        length: u64,
        /// Dovecot keeps an index of this mbox, so that it may hold changes the file does not have yet.
        indexed: bool,
        /// How often the index has been found changed from one look to the next.
        index_changes: u64,
    },
    /// Under the locks it turned out that the spool is not what was staged; to be refreshed without locks.
    Changed,
    /// Under the locks the stage holds exactly these bytes of the spool.
    Confirmed {
        /// Messages in the stage.
        messages: u64,
        /// Bytes of the spool.
        length: u64,
    },
    /// The Maildir is in place and its folder synced.
    Committed,
    /// The order was carried out and the worker ends.
    Done,
    /// All mail of the entry below `to` is in the Maildir.
    Extracted {
        /// Messages delivered by this order.
        messages: u64,
        /// Offset up to which the entry is drained.
        to: u64,
    },
    /// The disk's answer to [`Order::Probe`].
    Probed {
        /// A Maildir with this run's marker is in place.
        committed: bool,
        /// Bytes of the spool that it holds, by its marker.
        length: u64,
    },
    /// Cannot be done until somebody mends it; nothing was changed.
    Blocked {
        /// What is in the way.
        block: Block,
        /// Offset in the mbox, error number or count, as the block says.
        detail: u64,
    },
    /// A system call failed where it should not; the stage is removed where possible.
    Failed {
        /// Where.
        step: Step,
        /// Error number, 0 if none.
        errno: u64,
    },
}

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word for programs and logs.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// From its code on the wire.
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|each| *each as u8 == code)
            }
        }
    };
}

codes! {
    /// What keeps a mailbox from being converted.
    Block {
        /// There is something at the Maildir's path already.
        MaildirExists = 1 "maildir-exists",
        /// The home is not there.
        HomeMissing = 2 "home-missing",
        /// The home, or the folder that is to hold the Maildir, is not the user's own.
        HomeForeign = 3 "home-foreign",
        /// Work folder and Maildir would lie on different mounts.
        OtherMount = 4 "other-mount",
        /// The work folder is a link, no folder, or another's.
        WorkForeign = 5 "work-foreign",
        /// The spool is no mbox by Dovecot's rules; detail: offset.
        NotMbox = 6 "not-mbox",
        /// More than 26 keywords.
        Keywords = 7 "keywords",
        /// There are mbox folders besides the inbox; detail: how many.
        Folders = 8 "folders",
        /// No room, no quota; detail: error number.
        NoRoom = 9 "no-room",
        /// A user-level conversion, drain or other work on this mailbox is under way elsewhere.
        WorkBusy = 10 "work-busy",
        /// The Maildir of a converted user is gone or has another run's marker.
        MaildirLost = 11 "maildir-lost",
        /// The file system cannot rename as is needed.
        NoRename = 12 "no-rename",
        /// A file system that is read-only.
        ReadOnly = 13 "read-only",
    }
}

codes! {
    /// The worker's steps, named as in ARCHITECTURE.md.
    Step {
        /// Becoming the user.
        Become = 1 "become",
        /// Landlock and system-call filter.
        Sandbox = 2 "sandbox",
        /// Opening home, work folder and so on.
        Open = 3 "open",
        /// Writing the stage.
        Stage = 4 "stage",
        /// Reading the stage back.
        Verify = 5 "verify",
        /// Bringing the stage up to date.
        Refresh = 6 "refresh",
        /// Comparing under the locks.
        Confirm = 7 "confirm",
        /// Syncing all of the stage.
        Seal = 8 "seal",
        /// The rename.
        Commit = 9 "commit",
        /// Syncing the rename.
        SyncCommit = 10 "sync_commit",
        /// Writing new mail into the drain folder.
        Extract = 11 "extract",
        /// Publishing the drain folder.
        Extracted = 12 "extracted",
        /// Moving messages to new/.
        Deliver = 13 "deliver",
        /// Syncing new/.
        Delivered = 14 "delivered",
        /// Removing the stage.
        Abort = 15 "abort",
        /// Looking at what is there.
        Probe = 16 "probe",
    }
}

/// A packet that is no message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Garbled;

impl std::fmt::Display for Garbled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a packet that is no message of this version")
    }
}

impl std::error::Error for Garbled {}

impl From<Garbled> for io::Error {
    fn from(value: Garbled) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, value)
    }
}

/// Layout of every message: kind, code, flag, zeros, then numbers.
struct Frame {
    kind: u8,
    code: u8,
    flag: bool,
    numbers: [u64; 3],
}

impl Frame {
    const fn new(kind: u8) -> Self {
        Self { kind, code: 0, flag: false, numbers: [0; 3] }
    }

    fn bytes(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        out[0] = self.kind;
        out[1] = self.code;
        out[2] = u8::from(self.flag);
        for (slot, number) in out[8..].chunks_exact_mut(8).zip(self.numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    fn read(packet: &[u8]) -> Result<Self, Garbled> {
        let packet: &[u8; SIZE] = packet.try_into().map_err(|_| Garbled)?;
        let mut numbers = [0; 3];
        for (number, slot) in numbers.iter_mut().zip(packet[8..].chunks_exact(8)) {
            *number = u64::from_le_bytes(slot.try_into().map_err(|_| Garbled)?);
        }
        if packet[2] > 1 || packet[3..8] != [0; 5] || packet[32..] != [0; 32] {
            return Err(Garbled);
        }
        Ok(Self { kind: packet[0], code: packet[1], flag: packet[2] == 1, numbers })
    }
}

impl Order {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut frame = Frame::new(match self {
            Self::Stage(_) => 1,
            Self::Refresh(_) => 2,
            Self::Confirm => 3,
            Self::Commit => 4,
            Self::Release => 5,
            Self::Abort => 6,
            Self::Extract { .. } => 7,
            Self::Probe => 8,
            Self::Forgotten { .. } => 9,
        });
        match *self {
            Self::Stage(Told { not_recent, highest_modseq })
            | Self::Refresh(Told { not_recent, highest_modseq }) => {
                frame.flag = not_recent.is_some();
                frame.numbers = [not_recent.unwrap_or(0), highest_modseq.map_or(0, NonZeroU64::get), 0];
            }
            Self::Extract { entry, from } => {
                frame.flag = from.is_some();
                frame.numbers = [entry, from.unwrap_or(0), 0];
            }
            Self::Forgotten { entry } => frame.numbers[0] = entry,
            _ => {}
        }
        frame.bytes()
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Garbled`] for anything but what [`Order::encode`] makes.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        let frame = Frame::read(packet)?;
        let told = Told {
            not_recent: frame.flag.then_some(frame.numbers[0]),
            highest_modseq: NonZeroU64::new(frame.numbers[1]),
        };
        Ok(match frame.kind {
            1 => Self::Stage(told),
            2 => Self::Refresh(told),
            3 => Self::Confirm,
            4 => Self::Commit,
            5 => Self::Release,
            6 => Self::Abort,
            7 => Self::Extract { entry: frame.numbers[0], from: frame.flag.then_some(frame.numbers[1]) },
            8 => Self::Probe,
            9 => Self::Forgotten { entry: frame.numbers[0] },
            _ => return Err(Garbled),
        })
    }
}

impl Report {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut frame = Frame::new(0);
        match *self {
            Self::Ready { sandboxed, indexed } => {
                (frame.kind, frame.flag, frame.numbers[0]) = (1, sandboxed, u64::from(indexed));
            }
            Self::Progress { messages, bytes, total } => {
                (frame.kind, frame.numbers) = (2, [messages, bytes, total])
            }
            Self::Staged { messages, length, indexed, index_changes } => {
                (frame.kind, frame.numbers, frame.flag) = (3, [messages, length, index_changes], indexed);
            }
            Self::Changed => frame.kind = 4,
            Self::Confirmed { messages, length } => (frame.kind, frame.numbers) = (5, [messages, length, 0]),
            Self::Committed => frame.kind = 6,
            Self::Done => frame.kind = 7,
            Self::Extracted { messages, to } => (frame.kind, frame.numbers) = (8, [messages, to, 0]),
            Self::Probed { committed, length } => {
                (frame.kind, frame.flag, frame.numbers) = (9, committed, [length, 0, 0])
            }
            Self::Blocked { block, detail } => {
                (frame.kind, frame.code, frame.numbers) = (10, block as u8, [detail, 0, 0])
            }
            Self::Failed { step, errno } => {
                (frame.kind, frame.code, frame.numbers) = (11, step as u8, [errno, 0, 0])
            }
        }
        frame.bytes()
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Garbled`] for anything but what [`Report::encode`] makes.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        let Frame { kind, code, flag, numbers: [a, b, c] } = Frame::read(packet)?;
        Ok(match kind {
            1 => Self::Ready { sandboxed: flag, indexed: a == 1 },
            2 => Self::Progress { messages: a, bytes: b, total: c },
            3 => Self::Staged { messages: a, length: b, indexed: flag, index_changes: c },
            4 => Self::Changed,
            5 => Self::Confirmed { messages: a, length: b },
            6 => Self::Committed,
            7 => Self::Done,
            8 => Self::Extracted { messages: a, to: b },
            9 => Self::Probed { committed: flag, length: a },
            10 => Self::Blocked { block: Block::from_code(code).ok_or(Garbled)?, detail: a },
            11 => Self::Failed { step: Step::from_code(code).ok_or(Garbled)?, errno: a },
            _ => return Err(Garbled),
        })
    }
}

/// Sends one packet, with at most one descriptor.
///
/// # Errors
/// What `sendmsg` says; a dead peer is `BrokenPipe`, never a signal.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let control: &[ControlMessage<'_>] = match &raw {
        Some(raw) => &[ControlMessage::ScmRights(raw)],
        None => &[],
    };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one packet of at most `buffer.len()` bytes and the descriptors that came with it; `Ok(None)` at the end.
///
/// # Errors
/// What `recvmsg` says; a longer packet is [`Garbled`].
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for us and nobody else knows their numbers.
            #[expect(unsafe_code, reason = "descriptors arrive as bare numbers")]
            fds.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Garbled.into());
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((message.bytes, fds.pop())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_and_report_comes_back_as_it_went() {
        let orders = [
            Order::Stage(Told::default()),
            Order::Stage(Told { not_recent: Some(0), highest_modseq: None }),
            Order::Refresh(Told { not_recent: None, highest_modseq: NonZeroU64::new(8) }),
            Order::Refresh(Told { not_recent: Some(7), highest_modseq: Some(NonZeroU64::MAX) }),
            Order::Confirm,
            Order::Commit,
            Order::Release,
            Order::Abort,
            Order::Extract { entry: 3, from: None },
            Order::Extract { entry: u64::MAX, from: Some(0) },
            Order::Probe,
            Order::Forgotten { entry: 4 },
        ];
        for order in orders {
            assert_eq!(Order::decode(&order.encode()), Ok(order));
        }
        let mut reports = vec![
            Report::Ready { sandboxed: true, indexed: true },
            Report::Progress { messages: 1, bytes: 2, total: 3 },
            Report::Staged { messages: 4, length: 5, indexed: true, index_changes: 6 },
            Report::Changed,
            Report::Confirmed { messages: 6, length: 7 },
            Report::Committed,
            Report::Done,
            Report::Extracted { messages: 8, to: 9 },
            Report::Probed { committed: true, length: 10 },
        ];
        reports.extend(Block::ALL.iter().map(|&block| Report::Blocked { block, detail: 11 }));
        reports.extend(Step::ALL.iter().map(|&step| Report::Failed { step, errno: 12 }));
        for report in reports {
            assert_eq!(Report::decode(&report.encode()), Ok(report));
        }
    }

    #[test]
    fn highestmodseq_never_goes_backwards_from_one_answer_to_the_next() {
        let told = |not_recent, modseq| Told { not_recent, highest_modseq: NonZeroU64::new(modseq) };
        assert_eq!(told(Some(3), 9).or(told(Some(5), 7)), told(Some(3), 9));
        assert_eq!(told(Some(3), 7).or(told(Some(5), 9)), told(Some(3), 9));
        assert_eq!(told(None, 0).or(told(Some(5), 9)), told(Some(5), 9));
        assert_eq!(told(Some(5), 9).or(Told::default()), told(Some(5), 9));
    }

    #[test]
    fn anything_else_is_garbled() {
        assert_eq!(Report::decode(&[]), Err(Garbled));
        assert_eq!(Report::decode(&[7; SIZE]), Err(Garbled));
        assert_eq!(Report::decode(&[0; SIZE]), Err(Garbled));
        let mut long = Report::Done.encode().to_vec();
        long.push(0);
        assert_eq!(Report::decode(&long), Err(Garbled));
        let mut unknown = Report::Blocked { block: Block::NotMbox, detail: 0 }.encode();
        unknown[1] = 200;
        assert_eq!(Report::decode(&unknown), Err(Garbled));
    }
}
