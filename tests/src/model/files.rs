//! Mail files, folders, and what a power cut leaves of them.
//!
//! The spool (with the archive folder) and the home (work folder, stage, Maildir) are two file systems. Each is a
//! journal of states: what processes see is the last one, what a power cut leaves is any one since the last sync, and
//! the two choose independently. Names live in the journal; the bytes of a file do not: a deliverer syncs the file that
//! it appended to before it acknowledges, and that says nothing about the names around it. The bytes that *we* write
//! are `dirty` until we sync them: a journalled file system may keep a rename and lose what the renamed file held.

/// Index of a mail file: what `st_ino` is for a real one.
pub type Ino = u8;

/// Index of a message. Two messages may have the same bytes ([`super::spec::Spec::bytes`]).
pub type Msg = u8;

/// A message as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Item {
    /// Which message.
    pub msg: Msg,
    /// A flag that a client has stored.
    pub flag: bool,
    /// Only the first half has been written yet.
    pub half: bool,
}

impl Item {
    /// A whole message without a flag.
    pub fn new(msg: Msg) -> Item {
        Item { msg, flag: false, half: false }
    }
}

/// What stands at the top of a mail file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MailFile {
    /// Begins with the tombstone's two lines instead of a From_ line.
    pub tombstone: bool,
    /// The messages, oldest first; offsets are counted in messages.
    pub items: Vec<Item>,
    /// Written by us and not synced: a power cut leaves an empty file.
    pub dirty: bool,
}

impl MailFile {
    /// An mbox, durable.
    pub fn mbox(items: Vec<Item>) -> MailFile {
        MailFile { tombstone: false, items, dirty: false }
    }

    /// A tombstone with nothing behind it.
    pub fn new_tombstone(dirty: bool) -> MailFile {
        MailFile { tombstone: true, items: Vec::new(), dirty }
    }

    /// Whatever was appended is synced by who appended it, and with it what stood before.
    pub fn append(&mut self, item: Item) {
        self.items.push(item);
        self.dirty = false;
    }

    /// A tombstone with nothing behind it.
    pub fn is_bare_tombstone(&self) -> bool {
        self.tombstone && self.items.is_empty()
    }
}

/// The spool folder and the archive folder: which name leads to which file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Spool {
    /// `/var/mail/USER`.
    pub place: Option<Ino>,
    /// `RUNID.N`, by N.
    pub entries: Vec<Option<Ino>>,
}

impl Spool {
    /// The file under `RUNID.n`.
    pub fn entry(&self, n: u8) -> Option<Ino> {
        self.entries.get(usize::from(n)).copied().flatten()
    }

    /// Sets or removes `RUNID.n`.
    pub fn set_entry(&mut self, n: u8, ino: Option<Ino>) {
        let n = usize::from(n);
        if self.entries.len() <= n {
            self.entries.resize(n + 1, None);
        }
        self.entries[n] = ino;
        while self.entries.last() == Some(&None) {
            self.entries.pop();
        }
    }

    /// The entries that exist.
    pub fn present(&self) -> impl Iterator<Item = (u8, Ino)> + '_ {
        (0u8..).zip(&self.entries).filter_map(|(n, ino)| ino.map(|ino| (n, ino)))
    }
}

/// The stage, or the Maildir it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dir {
    /// Messages that the conversion put here.
    pub mails: Vec<Item>,
    /// Messages that came since: drained, or delivered straight into it.
    pub late: Vec<Item>,
    /// The marker and receipt: exactly the bytes of the mbox that this folder holds.
    pub marker: Option<Vec<Item>>,
    /// Written and not synced: a power cut leaves names without contents.
    pub dirty: bool,
}

impl Dir {
    /// A stage that holds `items`.
    pub fn stage(items: &[Item], dirty: bool) -> Dir {
        Dir { mails: items.to_vec(), late: Vec::new(), marker: None, dirty }
    }

    /// Every message in it.
    pub fn all(&self) -> impl Iterator<Item = &Item> {
        self.mails.iter().chain(&self.late)
    }

    /// Puts a message that came later, in a canonical order so that equal folders are equal states.
    pub fn take_late(&mut self, item: Item) {
        self.late.push(item);
        self.late.sort_unstable();
    }
}

/// `drain-RUNID.N.tmp` or `drain-RUNID.N.TO`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Drain {
    /// N.
    pub entry: u8,
    /// TO: everything of the entry below this offset is durable here or already delivered.
    pub to: u8,
    /// False: still the temporary name, which says nothing.
    pub published: bool,
    /// Not yet moved to `new/`.
    pub mails: Vec<Item>,
    /// What came out of an mbox, by its bytes: a reader may have read it there and write it back.
    pub known: Vec<Item>,
    /// As [`Dir::dirty`].
    pub dirty: bool,
}

/// The user's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Home {
    /// `~/.mailready/stage-RUNID`.
    pub stage: Option<Dir>,
    /// `~/Maildir`.
    pub maildir: Option<Dir>,
    /// The drain folders, by entry.
    pub drains: Vec<Drain>,
    /// `~/.mailready/rolling-back`.
    pub rolling_back: bool,
    /// A plain file stands where the Maildir was.
    pub barred: bool,
    /// The Maildir that a rollback renamed away.
    pub withdrawn: Option<Dir>,
}

impl Home {
    /// The Maildir stands at its place and is ours: what post-login, deliverers and recovery test.
    pub fn marked(&self) -> bool {
        self.maildir.as_ref().is_some_and(|dir| dir.marker.is_some())
    }

    /// The published position in an archive entry.
    pub fn position(&self, entry: u8) -> Option<u8> {
        self.drains.iter().find(|drain| drain.entry == entry && drain.published).map(|drain| drain.to)
    }

    /// Contents that were never synced are gone, the names that lead to them are not.
    fn tear(&mut self) {
        for dir in [&mut self.stage, &mut self.maildir, &mut self.withdrawn].into_iter().flatten() {
            if dir.dirty {
                dir.marker = None;
                dir.mails.iter_mut().for_each(|item| item.half = true);
                dir.dirty = false;
            }
        }
        for drain in &mut self.drains {
            if drain.dirty {
                drain.mails.iter_mut().for_each(|item| item.half = true);
                drain.dirty = false;
            }
        }
    }
}

/// A file system: the state that processes see, and the ones a power cut may leave instead.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Journal<T> {
    now: T,
    unsynced: Vec<T>,
}

impl<T: Clone + PartialEq> Journal<T> {
    /// A file system whose present state is durable.
    pub fn new(now: T) -> Journal<T> {
        Journal { now, unsynced: Vec::new() }
    }

    /// What processes see.
    pub fn now(&self) -> &T {
        &self.now
    }

    /// A change that is seen at once and durable only after [`Journal::sync`].
    pub fn change(&mut self, change: impl FnOnce(&mut T)) {
        let before = self.now.clone();
        change(&mut self.now);
        if self.now != before && self.unsynced.last() != Some(&before) {
            self.unsynced.push(before);
        }
    }

    /// A change of contents, not of names: it is in every state that a power cut may leave.
    pub fn everywhere(&mut self, mut change: impl FnMut(&mut T)) {
        self.unsynced.iter_mut().for_each(&mut change);
        change(&mut self.now);
    }

    /// What is seen is durable from here on.
    pub fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// Nothing would be lost by a power cut.
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// How many states a power cut may leave.
    pub fn outcomes(&self) -> usize {
        self.unsynced.len() + 1
    }

    /// A power cut that leaves the state `kept`; the last is what was seen.
    pub fn cut(&mut self, kept: usize) {
        if let Some(state) = self.unsynced.get(kept) {
            self.now = state.clone();
        }
        self.unsynced.clear();
    }
}

impl Journal<Home> {
    /// A power cut of the home: unsynced contents are torn as well.
    pub fn cut_and_tear(&mut self, kept: usize) {
        self.cut(kept);
        self.now.tear();
    }
}
