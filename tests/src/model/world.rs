//! The state of everything: disks, locks, the two processes, the actors around them.

use super::files::{Dir, Drain, Home, Ino, Item, Journal, MailFile, Spool};
use super::spec::Spec;
use super::step::Who;

/// The archive record, replaced by rename and synced with its folder: a power cut leaves it before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// No run known.
    None,
    /// Any step may have been taken.
    Begun,
    /// All steps of the conversion have been.
    Converted,
    /// The mailbox is an mbox, whatever this run did.
    Undone,
}

/// Who holds the spool's dotlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dotlock {
    /// A link to `RUNID.lock`, with the worker's pid in it.
    Ours,
    /// A deliverer's.
    Deliverer(u8),
}

/// What run is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Somebody died: look at the disk first.
    Recover,
    /// From mbox to Maildir.
    Convert,
    /// The Maildir is committed and the spool still an mbox.
    Forward,
    /// The spool is set aside; the rest of the roll-forward.
    Finish,
    /// Give up: the mbox stays the mail.
    Abort,
    /// Converted: drain whatever there is to drain.
    Drain,
    /// Back to mbox.
    Rollback,
    /// Nothing to do: the mailbox is an mbox.
    Idle,
}

/// Where a run stands: [`super::convert::sequence`] of the plan, `done` steps into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// Which plan.
    pub plan: Plan,
    /// The number of its steps already taken.
    pub done: u8,
}

impl At {
    /// The beginning of a plan.
    pub fn start(plan: Plan) -> At {
        At { plan, done: 0 }
    }
}

/// What the open file description of the spool carries. Agent and worker share it: it outlives either, not both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Hold {
    /// The file that was opened.
    pub ino: Option<Ino>,
    /// `F_OFD_SETLK`.
    pub lock: bool,
    /// `F_SETLEASE`.
    pub lease: bool,
    /// The kernel has broken the lease.
    pub broken: bool,
}

/// A change of the archive folder on which nothing may be built before it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsynced {
    /// An exchange.
    Rotate,
    /// An unlinked entry.
    Forget,
}

/// The agent: what it has in memory is gone when it dies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    /// Running.
    pub alive: bool,
    /// The gate is closed: logins get no answer.
    pub gate: bool,
    /// What it has changed in the archive folder and not synced yet.
    pub unsynced: Option<Unsynced>,
    /// The version of the server's index at the last look.
    pub index_seen: u8,
}

/// The worker of the present run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    /// Running, told what to do by the present agent.
    pub alive: bool,
    /// A worker whose agent has died: it goes on until it notices.
    pub orphan: Option<At>,
    /// The mbox as the last look saw it.
    pub look: Vec<Item>,
    /// The mbox as `confirm` saw it.
    pub taken: Vec<Item>,
    /// Dovecot's index logs are locked.
    pub index_locked: bool,
    /// Has published an extraction itself ([`super::truncate`] only).
    pub published: bool,
    /// Knows, or believes, that the source is cut ([`super::truncate`] only).
    pub cut: bool,
}

/// Where a deliverer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deliverer {
    /// Not begun.
    Idle,
    /// Has the dotlock, has opened nothing.
    Dotlocked,
    /// Has looked the path up and is not through with open: a lease makes it wait here.
    Opening(Ino),
    /// Has a descriptor.
    Opened(Ino),
    /// Has written the first half.
    Half(Ino),
    /// Has found the marker and delivers to the Maildir.
    ToMaildir,
    /// Acknowledged.
    Done,
}

impl Deliverer {
    /// The file it has a descriptor of.
    pub fn has_open(self) -> Option<Ino> {
        match self {
            Deliverer::Opened(ino) | Deliverer::Half(ino) => Some(ino),
            _ => None,
        }
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// Not logged in.
    Out,
    /// Decided for the mbox without an answer: the agent does not know it.
    Unanswered,
    /// Decided for the mbox because it was told `stay`.
    Stay,
    /// Decided for the Maildir: the marker was there.
    ToMaildir,
    /// Has selected the Maildir.
    InMaildir,
    /// Has selected the mbox: no descriptor need be open, the server works from its index.
    Selected {
        /// The file it saw.
        ino: Ino,
        /// Was told `stay`.
        stay: bool,
    },
}

/// Where a reader that writes back stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Has read nothing yet.
    Idle,
    /// Has read this from this file and closed it.
    Read {
        /// The file.
        ino: Ino,
        /// What it held.
        items: Vec<Item>,
    },
    /// Has opened the path again, to write in place.
    Opened {
        /// The file.
        ino: Ino,
        /// What will be written.
        items: Vec<Item>,
    },
    /// Through.
    Done,
}

/// Things that may never be seen, noted when they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// A client was shown fewer messages than there are: EXPUNGE, or 0 EXISTS.
    pub expunge: bool,
    /// A session that was told `stay` got NO.
    pub stay_broken: bool,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The mail files, by inode number.
    pub files: Vec<MailFile>,
    /// Spool folder and archive folder.
    pub spool: Journal<Spool>,
    /// The user's file system.
    pub home: Journal<Home>,
    /// The archive record.
    pub record: Record,
    /// The map names the Maildir.
    pub map: bool,
    /// The spool's dotlock.
    pub dotlock: Option<Dotlock>,
    /// Kernel lock and lease.
    pub hold: Hold,
    /// The agent.
    pub agent: Agent,
    /// The worker.
    pub worker: Worker,
    /// The present run.
    pub at: At,
    /// The deliverers.
    pub deliverers: Vec<Deliverer>,
    /// The session.
    pub session: Session,
    /// A flag is in the server's index and not yet in the mbox.
    pub index_pending: bool,
    /// Changes with every flag stored in the index.
    pub index_version: u8,
    /// The reader.
    pub reader: Reader,
    /// The rollback's account in the archive record.
    pub carried: Carried,
    /// Logins, kills, power cuts, lease breaks and vanishings still to come.
    pub left: Left,
    /// Clients and deliverers were told that these are safe: messages by bit.
    pub acked: u16,
    /// A flag on message 0 was acknowledged, and power has not failed since (servers do not sync flags).
    pub flag_acked: bool,
    /// What may never be seen.
    pub seen: Seen,
}

/// What a rollback has brought back into the mbox. Real ones are positions: in the old Maildir a file name, in an
/// archive entry an offset; here they are messages by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Carried {
    /// In the mbox for certain.
    pub done: u16,
    /// A longer copy of the mbox and what it adds: done if the copy stands at the place, else not.
    pub noted: Option<(Ino, u16)>,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Logins.
    pub logins: u8,
    /// Kills of one process.
    pub kills: u8,
    /// Power cuts.
    pub power_cuts: u8,
    /// Lease breaks.
    pub lease_breaks: u8,
    /// Removals of the tombstone.
    pub vanish: u8,
}

impl World {
    /// The mailbox of a scenario before anybody has done anything.
    pub fn new(spec: &Spec) -> World {
        let items: Vec<Item> = (0..spec.old).map(Item::new).collect();
        let mut world = World {
            files: vec![MailFile::mbox(items.clone())],
            spool: Journal::new(Spool { place: Some(0), entries: Vec::new() }),
            home: Journal::new(Home::default()),
            record: Record::None,
            map: false,
            dotlock: None,
            hold: Hold::default(),
            agent: Agent { alive: true, gate: false, unsynced: None, index_seen: 0 },
            worker: Worker {
                alive: true,
                orphan: None,
                look: Vec::new(),
                taken: Vec::new(),
                index_locked: false,
                published: false,
                cut: false,
            },
            at: At::start(Plan::Convert),
            deliverers: vec![Deliverer::Idle; spec.deliverers.len()],
            session: Session::Out,
            index_pending: false,
            index_version: 0,
            reader: if spec.write_back.is_some() { Reader::Idle } else { Reader::Done },
            carried: Carried::default(),
            left: Left {
                logins: spec.logins,
                kills: spec.kills,
                power_cuts: spec.power_cuts,
                lease_breaks: spec.lease_breaks,
                vanish: spec.vanish,
            },
            acked: (1 << spec.old) - 1,
            flag_acked: false,
            seen: Seen::default(),
        };
        if spec.converted {
            world.convert_quietly(items, spec.rollback);
        }
        world
    }

    /// The state after a conversion that nobody disturbed and the first drain of entry 0, which held nothing new.
    fn convert_quietly(&mut self, items: Vec<Item>, rollback: bool) {
        let to = u8::try_from(items.len()).unwrap_or(u8::MAX);
        let tombstone = self.create(MailFile::new_tombstone(false));
        let position =
            Drain { entry: 0, to, published: true, mails: Vec::new(), known: Vec::new(), dirty: false };
        let maildir = Dir { marker: Some(items.clone()), ..Dir::stage(&items, false) };
        self.spool = Journal::new(Spool { place: Some(tombstone), entries: vec![Some(0)] });
        self.home = Journal::new(Home { maildir: Some(maildir), drains: vec![position], ..Home::default() });
        self.record = Record::Converted;
        self.map = true;
        self.at = At::start(if rollback { Plan::Rollback } else { Plan::Drain });
    }

    /// The file at the path.
    pub fn at_place(&self) -> Option<&MailFile> {
        self.spool.now().place.map(|ino| self.file(ino))
    }

    /// A file by its number.
    pub fn file(&self, ino: Ino) -> &MailFile {
        &self.files[usize::from(ino)]
    }

    /// A file by its number.
    pub fn file_mut(&mut self, ino: Ino) -> &mut MailFile {
        &mut self.files[usize::from(ino)]
    }

    /// A new file.
    pub fn create(&mut self, file: MailFile) -> Ino {
        self.files.push(file);
        Ino::try_from(self.files.len() - 1).unwrap_or(Ino::MAX)
    }

    /// Somebody besides us has a descriptor of the file: a write lease is refused.
    pub fn opened_by_others(&self, ino: Ino) -> bool {
        self.deliverers.iter().any(|deliverer| deliverer.has_open() == Some(ino))
            || matches!(self.reader, Reader::Opened { ino: open, .. } if open == ino)
    }

    /// An open of the file waits.
    pub fn leased(&self, ino: Ino) -> bool {
        self.hold.lease && self.hold.ino == Some(ino)
    }

    /// A kernel lock on the file waits.
    pub fn locked(&self, ino: Ino) -> bool {
        self.hold.lock && self.hold.ino == Some(ino)
    }

    /// Drops everything that lives in the open file description, and the gate.
    pub fn let_go(&mut self) {
        self.hold = Hold::default();
        self.worker.index_locked = false;
        if self.dotlock == Some(Dotlock::Ours) {
            self.dotlock = None;
        }
        self.agent.gate = false;
    }

    /// A process can take a step of the present run.
    pub fn can_act(&self, who: Who) -> bool {
        match who {
            Who::Agent => self.agent.alive,
            Who::Worker => self.agent.alive && self.worker.alive,
        }
    }
}
