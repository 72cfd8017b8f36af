//! From the worker.

use super::{Block, Frame, Garbled, SIZE, Step, only};

/// From the worker. Which of them answers which order: see [`Order`](super::Order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Became the user, is in its sandbox, holds the work folder; for a conversion, has found nothing among the folders that is in the way.
    Ready {
        /// Landlock and system-call filter are fully in force.
        sandboxed: bool,
        /// Dovecot keeps an index of any of the mboxes.
        indexed: bool,
    },
    /// Still at it.
    Progress {
        /// Messages so far.
        messages: u64,
        /// Bytes read so far.
        bytes: u64,
        /// Bytes in all, as far as known.
        total: u64,
    },
    /// The stage holds every box as it was at the last look.
    Staged {
        /// Messages in the stage, all boxes.
        messages: u64,
        /// Bytes of the spool they came from.
        length: u64,
        /// Bytes of all mboxes.
        bytes: u64,
        /// Boxes, the inbox among them.
        boxes: u64,
        /// Files below the mbox root that are no mail and stay where they are.
        skipped: u64,
        /// Dovecot keeps an index of any of the mboxes, so that it may hold changes the files do not have yet.
        indexed: bool,
        /// How often an index has been found changed from one look to the next.
        index_changes: u64,
    },
    /// Under the locks it turned out that something is not what was staged, or a lock was not to be had; to be brought up to date without locks.
    Changed,
    /// Under the locks the stage holds exactly what is there.
    Confirmed {
        /// Messages in the stage, all boxes.
        messages: u64,
        /// Bytes of the spool.
        length: u64,
    },
    /// The Maildir is in place and its folder synced.
    Committed {
        /// Folders that could not be set aside yet: the run is unsettled until `SetAside` says 0.
        folders_left: u64,
    },
    /// The order was carried out; the worker waits for the next.
    Obeyed,
    /// The order was carried out and the worker ends.
    Done,
    /// All mail of the entry below `to` is in the Maildir.
    Extracted {
        /// Messages delivered by this order.
        messages: u64,
        /// Offset up to which the entry is drained.
        to: u64,
    },
    /// What had come to the folders' old places is in the Maildir.
    Drained {
        /// Messages delivered by this order.
        messages: u64,
        /// Places and files that somebody has open or locked: to be tried again.
        left: u64,
        /// Mboxes that appeared below the mbox root since the conversion; they stay where they are, and no client sees them.
        strangers: u64,
    },
    /// The disk's answer to [`Order::Probe`](super::Order::Probe).
    Probed {
        /// A Maildir with this run's marker is in place.
        committed: bool,
        /// A rollback has taken it out of its place: `withdrawn-RUNID` is in the work folder.
        withdrawn: bool,
        /// The mark `rolling-back` is in the work folder. One without `withdrawn` is of a rollback that did not come to its commit; to be removed by `Abort`, with purpose `rollback`.
        rolling_back: bool,
        /// Bytes of the spool that the Maildir holds, by its marker.
        length: u64,
        /// Folders that were converted beside the inbox.
        folders: u64,
        /// Of those, how many still stand at their old place, not set aside.
        folders_left: u64,
    },
    /// Every box is written as an mbox and has been read back.
    BackStaged {
        /// Messages, all boxes.
        messages: u64,
        /// Bytes of the inbox's mbox.
        length: u64,
        /// Bytes of the largest of them (deliverers have limits).
        largest: u64,
        /// Boxes, the inbox among them.
        boxes: u64,
    },
    /// Under the locks nothing has changed since.
    BackConfirmed {
        /// Messages, all boxes.
        messages: u64,
        /// Bytes of the inbox's mbox.
        length: u64,
    },
    /// The Maildir is out of its place and both folders are synced: the mbox is the mail.
    Withdrawn,
    /// What was asked to be put back is in its place.
    BackPlaced {
        /// Late messages that were added.
        messages: u64,
        /// Folders not in their place yet.
        folders_left: u64,
        /// Bytes of the back file now.
        length: u64,
    },
    /// The originals are laid out for Dovecot.
    CheckPrepared {
        /// Messages by the receipts.
        messages: u64,
        /// Mailboxes that are checked.
        boxes: u64,
        /// Mailboxes whose original is not there any more.
        missing: u64,
    },
    /// What the comparison found; messages, each counted once.
    Checked {
        /// Dovecot's reading of the original, the receipt and the Maildir agree.
        same: u64,
        /// Not in the Maildir and not in its uidlist: expunged since.
        gone: u64,
        /// In the uidlist, and there is no file.
        lost: u64,
        /// In the Maildir with other bytes or another date.
        damaged: u64,
        /// In the original as Dovecot reads it, and not in the receipt, or otherwise there.
        unknown: u64,
        /// In the receipt, and Dovecot did not show it.
        unseen: u64,
    },
    /// Cannot be done until somebody mends it; nothing was changed.
    Blocked {
        /// What is in the way.
        block: Block,
        /// Number of the mailbox, offset, UID, error number or count, as the block says.
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

/// The flags' bits, in the order of the fields.
fn bits<const N: usize>(flags: [bool; N]) -> u8 {
    flags.iter().enumerate().fold(0, |bits, (i, flag)| bits | u8::from(*flag) << i)
}

impl Report {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; SIZE] {
        let frame = match *self {
            Self::Ready { sandboxed, indexed } => Frame::new(1, []).flagged(bits([sandboxed, indexed])),
            Self::Progress { messages, bytes, total } => Frame::new(2, [messages, bytes, total]),
            Self::Staged { messages, length, bytes, boxes, skipped, indexed, index_changes } => {
                Frame::new(3, [messages, length, bytes, boxes, skipped, index_changes])
                    .flagged(bits([indexed]))
            }
            Self::Changed => Frame::new(4, []),
            Self::Confirmed { messages, length } => Frame::new(5, [messages, length]),
            Self::Committed { folders_left } => Frame::new(6, [folders_left]),
            Self::Obeyed => Frame::new(7, []),
            Self::Done => Frame::new(8, []),
            Self::Extracted { messages, to } => Frame::new(9, [messages, to]),
            Self::Drained { messages, left, strangers } => Frame::new(10, [messages, left, strangers]),
            Self::Probed { committed, withdrawn, rolling_back, length, folders, folders_left } => {
                Frame::new(11, [length, folders, folders_left]).flagged(bits([
                    committed,
                    withdrawn,
                    rolling_back,
                ]))
            }
            Self::BackStaged { messages, length, largest, boxes } => {
                Frame::new(12, [messages, length, largest, boxes])
            }
            Self::BackConfirmed { messages, length } => Frame::new(13, [messages, length]),
            Self::Withdrawn => Frame::new(14, []),
            Self::BackPlaced { messages, folders_left, length } => {
                Frame::new(15, [messages, folders_left, length])
            }
            Self::CheckPrepared { messages, boxes, missing } => Frame::new(16, [messages, boxes, missing]),
            Self::Checked { same, gone, lost, damaged, unknown, unseen } => {
                Frame::new(17, [same, gone, lost, damaged, unknown, unseen])
            }
            Self::Blocked { block, detail } => Frame::new(18, [detail]).coded(block as u8),
            Self::Failed { step, errno } => Frame::new(19, [errno]).coded(step as u8),
        };
        frame.bytes()
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Garbled`] for anything but what [`Report::encode`] makes.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        let Frame { kind, code, flags, numbers: [a, b, c, d, e, f, _] } = Frame::read(packet)?;
        let flag = |bit: u8| flags & 1 << bit != 0;
        let report = match kind {
            1 => Self::Ready { sandboxed: flag(0), indexed: flag(1) },
            2 => Self::Progress { messages: a, bytes: b, total: c },
            3 => Self::Staged {
                messages: a,
                length: b,
                bytes: c,
                boxes: d,
                skipped: e,
                indexed: flag(0),
                index_changes: f,
            },
            4 => Self::Changed,
            5 => Self::Confirmed { messages: a, length: b },
            6 => Self::Committed { folders_left: a },
            7 => Self::Obeyed,
            8 => Self::Done,
            9 => Self::Extracted { messages: a, to: b },
            10 => Self::Drained { messages: a, left: b, strangers: c },
            11 => Self::Probed {
                committed: flag(0),
                withdrawn: flag(1),
                rolling_back: flag(2),
                length: a,
                folders: b,
                folders_left: c,
            },
            12 => Self::BackStaged { messages: a, length: b, largest: c, boxes: d },
            13 => Self::BackConfirmed { messages: a, length: b },
            14 => Self::Withdrawn,
            15 => Self::BackPlaced { messages: a, folders_left: b, length: c },
            16 => Self::CheckPrepared { messages: a, boxes: b, missing: c },
            17 => Self::Checked { same: a, gone: b, lost: c, damaged: d, unknown: e, unseen: f },
            18 => Self::Blocked { block: Block::from_code(code).ok_or(Garbled)?, detail: a },
            19 => Self::Failed { step: Step::from_code(code).ok_or(Garbled)?, errno: a },
            _ => return Err(Garbled),
        };
        only(report, report.encode(), packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_comes_back_as_it_went() {
        let mut reports = vec![
            Report::Ready { sandboxed: true, indexed: false },
            Report::Ready { sandboxed: false, indexed: true },
            Report::Progress { messages: 1, bytes: 2, total: 3 },
            Report::Staged {
                messages: 4,
                length: 5,
                bytes: 6,
                boxes: 7,
                skipped: 8,
                indexed: true,
                index_changes: 9,
            },
            Report::Changed,
            Report::Confirmed { messages: 6, length: 7 },
            Report::Committed { folders_left: u64::MAX },
            Report::Obeyed,
            Report::Done,
            Report::Extracted { messages: 8, to: 9 },
            Report::Drained { messages: 1, left: 2, strangers: 3 },
            Report::Probed {
                committed: true,
                withdrawn: false,
                rolling_back: true,
                length: 10,
                folders: 11,
                folders_left: 12,
            },
            Report::BackStaged { messages: 1, length: 2, largest: 3, boxes: 4 },
            Report::BackConfirmed { messages: 1, length: 2 },
            Report::Withdrawn,
            Report::BackPlaced { messages: 1, folders_left: 2, length: 3 },
            Report::CheckPrepared { messages: 1, boxes: 2, missing: 3 },
            Report::Checked { same: 1, gone: 2, lost: 3, damaged: 4, unknown: 5, unseen: 6 },
        ];
        reports.extend(Block::ALL.iter().map(|&block| Report::Blocked { block, detail: 11 }));
        reports.extend(Step::ALL.iter().map(|&step| Report::Failed { step, errno: 12 }));
        for report in reports {
            assert_eq!(Report::decode(&report.encode()), Ok(report));
        }
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
        for at in 1..SIZE {
            let mut packet = Report::Changed.encode();
            packet[at] = 1;
            assert_eq!(Report::decode(&packet), Err(Garbled), "byte {at}");
        }
    }
}
