//! What one exploration is about: who takes part, how often things break, and what has been left out.

use super::files::Msg;
use super::step::Step;

/// How a deliverer goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Dotlock, open, kernel lock, append (Postfix, Exim, procmail, maildrop).
    Dotlock,
    /// Open, kernel lock, append to whatever was opened.
    Kernel,
    /// Open, kernel lock, then compare the inode with the path's and begin anew if it differs (Dovecot).
    KernelChecked,
    /// Open, write the first half, write the rest; no lock at all.
    Bare,
    /// Tests the marker: into the Maildir if it is there, else as [`Delivery::Dotlock`].
    Marker,
    /// Delivers to the Maildir's path whatever is there, and makes a Maildir where there is none.
    Maker,
}

/// A program that has read the mbox and writes it back with a changed flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteBack {
    /// Into the file that is at the path, if it is still the one that was read or a tombstone.
    InPlace,
    /// As a new file, renamed over the path.
    Rename,
}

/// What the agent or worker makes sure of within a step, or in which order; each can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// The record is written before the first lock is taken.
    RecordFirst,
    /// `stage` and `refresh` sync what they wrote.
    StageSync,
    /// `gate` waits for the sessions that were told `stay`.
    StayBinds,
    /// `gate` has the server write its pending flags out.
    GateFlush,
    /// `confirm` holds the server's index logs until `unlock`.
    IndexLock,
    /// `confirm` compares the index files with the last look.
    IndexUnchanged,
    /// The last look at the index comes before the flush of `gate`, not after: a flag stored between would be missed.
    IndexLookFirst,
    /// `confirm` compares the mbox with the last look.
    LookHolds,
    /// `confirm` takes the rest behind the last look.
    TakeRest,
    /// `confirm` compares the path's inode with the locked one.
    SameInode,
    /// `seal` only with the lease unbroken.
    LeaseUnbroken,
    /// `seal` syncs.
    SealSync,
    /// `tombstone` syncs before the tombstone can stand anywhere.
    TombstoneSync,
    /// `commit` does not replace an existing Maildir.
    NoReplace,
    /// The flock on the work folder: recovery waits for the end of the last run's worker.
    Flock,
    /// Recovery syncs both folders before it believes what it sees.
    RecoverySync,
    /// Recovery goes through gate, locks and `confirm` again before it sets the spool aside.
    RecoveryGate,
    /// No session is told `stay` before recovery has looked.
    LookBeforeStay,
    /// Recovery that finds a sealed stage with mail that its receipt does not have goes on with it instead of removing it.
    KeepStrays,
    /// `extract` of an mbox compares its head with the marker's hash; if it differs, all of it is matched with the receipt.
    HeadHash,
    /// `extract` matches a reappeared file with the receipt.
    Match,
    /// ... and with what has been drained from mboxes before.
    MatchDrained,
    /// `extract` of an mbox waits until all older ones are extracted: they may explain what it holds.
    OldestFirst,
    /// `extract` merges the flags of matched messages.
    MergeFlags,
    /// `rotate` needs the lease.
    RotateLease,
    /// `rotate` syncs before anything is extracted.
    RotateSync,
    /// `extract` needs a lease on the entry.
    ExtractLease,
    /// `extract` syncs what it wrote.
    ExtractSync,
    /// `extracted` comes before the first `deliver`.
    PublishFirst,
    /// `forget` needs the entry drained to its end.
    ForgetDrained,
    /// `forget` needs a lease on the entry.
    ForgetLease,
    /// `forget` comes long after `rotate`: nobody is still between looking the path up and opening it.
    ForgetLate,
    /// The position folder goes only after the archive folder has been synced.
    ForgetSync,
    /// The newest entry is never forgotten, so that no number is used twice.
    KeepNewest,
    /// An entry that was an mbox is never forgotten: neither the original nor a reappeared one.
    KeepMboxes,
    /// Rollback: the new mbox is synced before it is exchanged for what stands at the place.
    MboxSync,
    /// Rollback: a plain file takes the Maildir's place in the same exchange, so that nobody makes an empty one.
    MaildirTombstone,
    /// Rollback: the withdrawal is durable before the mbox stands at the place.
    WithdrawSync,
    /// Rollback: nobody has the file open that is exchanged for a longer copy.
    CarryLease,
    /// Rollback: the record notes the copy's inode, and what it adds, before the exchange.
    CarryNote,
    /// Rollback: the exchange is durable before what it adds counts as carried.
    CarrySync,
}

impl Guard {
    /// All guards.
    pub const ALL: &'static [Guard] = &[
        Guard::RecordFirst,
        Guard::StageSync,
        Guard::StayBinds,
        Guard::GateFlush,
        Guard::IndexLock,
        Guard::IndexUnchanged,
        Guard::IndexLookFirst,
        Guard::LookHolds,
        Guard::TakeRest,
        Guard::SameInode,
        Guard::LeaseUnbroken,
        Guard::SealSync,
        Guard::TombstoneSync,
        Guard::NoReplace,
        Guard::Flock,
        Guard::RecoverySync,
        Guard::RecoveryGate,
        Guard::LookBeforeStay,
        Guard::KeepStrays,
        Guard::HeadHash,
        Guard::Match,
        Guard::MatchDrained,
        Guard::OldestFirst,
        Guard::MergeFlags,
        Guard::RotateLease,
        Guard::RotateSync,
        Guard::ExtractLease,
        Guard::ExtractSync,
        Guard::PublishFirst,
        Guard::ForgetDrained,
        Guard::ForgetLease,
        Guard::ForgetLate,
        Guard::ForgetSync,
        Guard::KeepNewest,
        Guard::KeepMboxes,
        Guard::MboxSync,
        Guard::MaildirTombstone,
        Guard::WithdrawSync,
        Guard::CarryLease,
        Guard::CarryNote,
        Guard::CarrySync,
    ];
}

/// What has been taken out of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Omit {
    /// A step of the table.
    Step(Step),
    /// A condition within one.
    Guard(Guard),
}

/// How mail behind a tombstone is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drain {
    /// The protocol's way: the place is exchanged for a fresh tombstone.
    Rotation,
    /// What the design thought of first: extracted, published, then cut off the tombstone that stays at the place.
    Truncation {
        /// After a crash, bytes that equal what was extracted last are taken for not yet cut, and cut.
        cut_again: bool,
    },
}

/// One scenario: an initial mailbox, the actors around it, and the breakage allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// For reports.
    pub name: &'static str,
    /// Messages in the mbox at the beginning.
    pub old: u8,
    /// Begins after the conversion.
    pub converted: bool,
    /// How mail behind a tombstone is taken.
    pub drain: Drain,
    /// The deliverers; each brings one message.
    pub deliverers: Vec<Delivery>,
    /// The first deliverer's message has the same bytes as message 0, the second's as the first's.
    pub twins: bool,
    /// A session logs in this many times, and stores one flag each time it sees the mbox.
    pub logins: u8,
    /// Post-login may go without an answer: the session then decides unknown to the agent.
    pub unanswered: bool,
    /// A reader that writes back.
    pub write_back: Option<WriteBack>,
    /// An operator wants the mbox back.
    pub rollback: bool,
    /// Times that agent or worker are killed, each for itself.
    pub kills: u8,
    /// Times the machine loses power.
    pub power_cuts: u8,
    /// Times the kernel breaks a lease because somebody waited too long for it.
    pub lease_breaks: u8,
    /// Times somebody removes the tombstone.
    pub vanish: u8,
    /// What has been taken out.
    pub omit: Option<Omit>,
}

impl Spec {
    /// The same, converted already.
    pub fn quiet_maildir(name: &'static str, old: u8) -> Spec {
        Spec { converted: true, ..Spec::quiet(name, old) }
    }

    /// A quiet mailbox with `old` messages.
    pub fn quiet(name: &'static str, old: u8) -> Spec {
        Spec {
            name,
            old,
            converted: false,
            drain: Drain::Rotation,
            deliverers: Vec::new(),
            twins: false,
            logins: 0,
            unanswered: false,
            write_back: None,
            rollback: false,
            kills: 0,
            power_cuts: 0,
            lease_breaks: 0,
            vanish: 0,
            omit: None,
        }
    }

    /// The same with something taken out.
    pub fn without(&self, omit: Omit) -> Spec {
        Spec { omit: Some(omit), ..self.clone() }
    }

    /// The step is part of the protocol under test.
    pub fn takes(&self, step: Step) -> bool {
        self.omit != Some(Omit::Step(step))
    }

    /// The guard is part of the protocol under test.
    pub fn keeps(&self, guard: Guard) -> bool {
        self.omit != Some(Omit::Guard(guard))
    }

    /// The message that deliverer `who` brings.
    pub fn brought_by(&self, who: u8) -> Msg {
        self.old + who
    }

    /// What the bytes of a message are: twins cannot be told apart by them.
    pub fn bytes(&self, msg: Msg) -> u8 {
        if !self.twins || msg < self.old {
            msg
        } else if self.old > 0 {
            0
        } else {
            self.old
        }
    }
}
