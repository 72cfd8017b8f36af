//! From the agent.

use super::{Frame, Garbled, SIZE, only};

/// From the agent. "fd" is the one descriptor that comes along with the packet.
///
/// A *told* descriptor is a memfd with what `doveadm` printed about this user, unparsed: it is the user's data, so it is parsed with the user's rights. Where several
/// instances of Dovecot were asked, their outputs follow each other, each with its own line of names. No descriptor: what was told last still holds.
///
/// | purpose | job's fd | orders and their answers |
/// |---|---|---|
/// | `convert` | the spool | `Stage` → `Staged`, (`Spool`), `Refresh` → `Staged`, (`ProofPrepare` → `CheckPrepared`, `ProofMbox`, `ProofStage`, `ProofBoxes`, `ProofDone` → `Obeyed`), `Confirm` → `Confirmed` or `Changed`, `Commit` → `Committed`, `Release` → `Done` |
/// | `drain` | none | `Probe` → `Probed`, `Refresh` → `Staged`, `Confirm` → `Confirmed` or `Changed`, `SetAside` → `Committed`, `Stands` → `Obeyed`, `Extract` → `Extracted`, `DrainFolders` → `Drained`, `Forgotten` and `Discard` (no answer), `LetGo` → `Drained`, `TakeStray` → `Drained`, `Release` → `Done` |
/// | `rollback` | the back file, empty, open for reading and writing | `Probe` → `Probed`, (`Spool`), `BackStage` → `BackStaged`, `BackMark` → `Obeyed`, `BackConfirm` → `BackConfirmed` or `Changed`, `Withdraw` → `Withdrawn`, `BackFolders` → `BackPlaced`, `BackRest` → `BackPlaced`, `BackDone` → `Done` |
/// | `verify` | the original spool | `CheckPrepare` → `CheckPrepared`, `CheckCompare` → `Checked`, `Release` → `Done` |
///
/// Any of them may be answered by `Progress` (any number of times before the answer), or once and for all by `Blocked` or `Failed`, after which the worker ends. `Abort` and `Leave` are never answered:
/// what is not committed is undone and the worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Write the stage: the spool whose descriptor came with the job, and every folder. fd: told, the output of
    /// `doveadm -f tab mailbox status 'messages recent uidnext uidvalidity highestmodseq guid' '*'`.
    Stage,
    /// Look again and bring up to date what has changed; folders that have come are staged, those that are gone leave the stage. Lets go of all locks. fd: told, as for `Stage`.
    /// For `drain` only the looks at Dovecot's indexes are taken.
    Refresh,
    /// `convert`: the spool is another file now: fd; to be followed by `Refresh`. `rollback`: the original spool, whose From_ lines are taken again: fd; to be given before `BackStage`, and optional.
    Spool,
    /// The spool is locked: lock the folders and Dovecot's index logs, compare with the last look and with what was told, take what has been appended.
    Confirm,
    /// Seal the stage and put it in place, then set the folders aside.
    Commit,
    /// Set aside those folders that a committed run did not come to; to be given after `Confirmed`, under the locks that it holds. Any number of times.
    SetAside,
    /// Drop all locks and end.
    Release,
    /// Undo what is not committed and end.
    Abort,
    /// The same, but what was staged is kept for the next attempt (`convert`).
    Leave,
    /// Remove stages that were kept for a next attempt (`drain`; no answer).
    Discard,
    /// Extract and deliver the new mail of an archive entry of the spool: fd.
    Extract {
        /// N of `RUNID.N`.
        entry: u64,
        /// Where new mail begins, if the agent knows.
        from: Option<u64>,
    },
    /// Carry over what has come to the folders' old places. Any number of times.
    DrainFolders {
        /// The originals were removed on purpose: that one is not there does not mean that its folder was never set aside.
        let_go: bool,
    },
    /// Is the Maildir of this run in its place? `Blocked` if not. Changes nothing.
    Stands,
    /// The user was rolled back: append the mail of a Maildir that a deliverer made anew at the Maildir's path to the spool, which the agent has locked (fd). Without a descriptor: say how many messages there are, as `left`.
    TakeStray,
    /// The retention is over: remove the folders' originals, and what of mboxes was rotated out later. Only what is drained and what nobody has open; what that is not true of is counted as left.
    LetGo,
    /// Say where the mail is. Removes a stage that was left over, if it was not committed, and dotlocks of folders whose process is dead.
    Probe,
    /// The entry is gone from the archive folder: its position need not be remembered any more.
    Forgotten {
        /// N of `RUNID.N`.
        entry: u64,
    },
    /// Write every box as an mbox, the inbox into the job's descriptor, and read them back; again: only those that have changed since. Lets go of all locks. fd: told, the output of
    /// `doveadm -f tab fetch 'mailbox uid flags' ALL`, or none.
    BackStage,
    /// Put the mark `rolling-back` into the work folder: from now on logins ask and wait.
    BackMark,
    /// Lock every box and Dovecot's index logs, and compare with the last look.
    BackConfirm,
    /// Take the Maildir out of its place: the commit point of a rollback.
    Withdraw,
    /// Add late mail of the withdrawn Maildir to what was written, exchange the folders with their tombstones, and put the index files back. Any number of times, also after a probe that said `withdrawn`, and then
    /// everything is written again first.
    BackFolders,
    /// The file at the spool's place, locked by the agent (fd): add what stands behind our tombstone in it to the back file.
    BackRest,
    /// The spool is in its place: remove what a finished rollback leaves (mark, file at the Maildir's path), and end.
    BackDone,
    /// Lay the originals out as Dovecot reads them, below `WORK/check-RUNID`: the job's descriptor up to the converted length, and the folders that were set aside. The agent then runs, as the user
    /// (uid, gid, no `-u`), with the environment `HOME` and `USER` set, `doveadm -c WORK/check-RUNID/dovecot.conf` with the arguments [`crate::CHECK_ARGUMENTS`].
    CheckPrepare,
    /// Compare what that prints (fd: a pipe or a file) with the receipts and with the Maildir.
    CheckCompare,
    /// Lay out copies of the mboxes (`WORK/proof-RUNID/mbox/inbox` and `mbox/root/`) and of the stage (`WORK/proof-RUNID/stage/`) for Dovecot to read. Holds no lock.
    ProofPrepare,
    /// What Dovecot shows of the mboxes' copies. fd: a pipe, the output of `doveadm` with [`crate::PROOF_ARGUMENTS`].
    ProofMbox,
    /// The same of the stage's copy.
    ProofStage,
    /// What it says of the stage's mailboxes (fd: told, as for `Stage`); with this the three are compared.
    ProofBoxes,
    /// Remove the copies.
    ProofDone,
}

impl Order {
    const FROM: u8 = 1;
    const LET_GO: u8 = 1;

    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; SIZE] {
        let frame = match *self {
            Self::Stage => Frame::new(1, []),
            Self::Refresh => Frame::new(2, []),
            Self::Spool => Frame::new(3, []),
            Self::Confirm => Frame::new(4, []),
            Self::Commit => Frame::new(5, []),
            Self::SetAside => Frame::new(6, []),
            Self::Release => Frame::new(7, []),
            Self::Abort => Frame::new(8, []),
            Self::Extract { entry, from: Some(from) } => Frame::new(9, [entry, from]).flagged(Self::FROM),
            Self::Extract { entry, from: None } => Frame::new(9, [entry]),
            Self::DrainFolders { let_go: false } => Frame::new(10, []),
            Self::DrainFolders { let_go: true } => Frame::new(10, []).flagged(Self::LET_GO),
            Self::Probe => Frame::new(11, []),
            Self::Forgotten { entry } => Frame::new(12, [entry]),
            Self::BackStage => Frame::new(13, []),
            Self::BackMark => Frame::new(14, []),
            Self::BackConfirm => Frame::new(15, []),
            Self::Withdraw => Frame::new(16, []),
            Self::BackFolders => Frame::new(17, []),
            Self::BackRest => Frame::new(18, []),
            Self::BackDone => Frame::new(19, []),
            Self::CheckPrepare => Frame::new(20, []),
            Self::CheckCompare => Frame::new(21, []),
            Self::Stands => Frame::new(22, []),
            Self::LetGo => Frame::new(23, []),
            Self::TakeStray => Frame::new(24, []),
            Self::ProofPrepare => Frame::new(25, []),
            Self::ProofMbox => Frame::new(26, []),
            Self::ProofStage => Frame::new(27, []),
            Self::ProofBoxes => Frame::new(28, []),
            Self::ProofDone => Frame::new(29, []),
            Self::Leave => Frame::new(30, []),
            Self::Discard => Frame::new(31, []),
        };
        frame.bytes()
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Garbled`] for anything but what [`Order::encode`] makes.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        let Frame { kind, flags, numbers: [a, b, ..], .. } = Frame::read(packet)?;
        let order = match kind {
            1 => Self::Stage,
            2 => Self::Refresh,
            3 => Self::Spool,
            4 => Self::Confirm,
            5 => Self::Commit,
            6 => Self::SetAside,
            7 => Self::Release,
            8 => Self::Abort,
            9 => Self::Extract { entry: a, from: (flags == Self::FROM).then_some(b) },
            10 => Self::DrainFolders { let_go: flags == Self::LET_GO },
            11 => Self::Probe,
            12 => Self::Forgotten { entry: a },
            13 => Self::BackStage,
            14 => Self::BackMark,
            15 => Self::BackConfirm,
            16 => Self::Withdraw,
            17 => Self::BackFolders,
            18 => Self::BackRest,
            19 => Self::BackDone,
            20 => Self::CheckPrepare,
            21 => Self::CheckCompare,
            22 => Self::Stands,
            23 => Self::LetGo,
            24 => Self::TakeStray,
            25 => Self::ProofPrepare,
            26 => Self::ProofMbox,
            27 => Self::ProofStage,
            28 => Self::ProofBoxes,
            29 => Self::ProofDone,
            30 => Self::Leave,
            31 => Self::Discard,
            _ => return Err(Garbled),
        };
        only(order, order.encode(), packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_back_as_it_went() {
        let mut seen = Vec::new();
        for kind in 0..=u8::MAX {
            let mut packet = [0; SIZE];
            packet[0] = kind;
            let Ok(order) = Order::decode(&packet) else { continue };
            assert_eq!(Order::decode(&order.encode()), Ok(order));
            seen.push(kind);
        }
        assert_eq!(seen, (1..=31).collect::<Vec<u8>>());
        for order in [
            Order::Extract { entry: 3, from: None },
            Order::Extract { entry: u64::MAX, from: Some(0) },
            Order::Forgotten { entry: 4 },
            Order::DrainFolders { let_go: true },
        ] {
            assert_eq!(Order::decode(&order.encode()), Ok(order));
        }
    }

    #[test]
    fn nothing_rides_along() {
        for at in 1..SIZE {
            let mut packet = Order::Commit.encode();
            packet[at] = 1;
            assert_eq!(Order::decode(&packet), Err(Garbled), "byte {at}");
        }
        assert_eq!(Order::decode(&[]), Err(Garbled));
        assert_eq!(Order::decode(&[7; SIZE]), Err(Garbled));
    }
}
