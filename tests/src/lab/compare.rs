//! The exact comparison of two dumps: every difference is told, the counts first, because a walk over two lists side by side
//! hides what is missing at the end of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};

use super::dump::{Drop3, Dump, Folder, Listed, Message};

/// All differences between what was shown before and what is shown after; none is what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences(Vec<String>);

/// What counts as a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Everything.
    Exact,
    /// All but what only Dovecot's index can hold: MODSEQs, and the keywords of a folder that has more of them than a Maildir
    /// has letters. That is how a Maildir must look when its index was lost.
    WithoutIndex,
    /// All but mod-sequences, which every mailbox counts for itself: two mailboxes with the same mail.
    Twins,
}

/// So many keywords can a Maildir name without Dovecot's index.
const LETTERS: usize = 26;

impl Differences {
    /// Compares two dumps of one account.
    #[must_use]
    pub fn between(before: &Dump, after: &Dump) -> Self {
        Self::judged(before, after, Strictness::Exact)
    }

    /// As [`Self::between`], as strictly as asked for.
    #[must_use]
    pub fn judged(before: &Dump, after: &Dump, strictness: Strictness) -> Self {
        let mut all = Self::default();
        // A name that could not be opened may be anything now: Dovecot lists a namespace's prefix as a mailbox, refuses to open
        // it as an mbox, and shows the inbox once more when that is a Maildir.
        let count = |dump: &Dump| -> Vec<usize> {
            let folders = dump.folders.iter().filter(|folder| !before.refused.contains_key(&folder.name));
            folders.map(|folder| folder.messages.len()).collect()
        };
        all.compare("messages in each folder", &count(before), &count(after));
        all.compare("POP3: messages", &before.pop3.messages.len(), &after.pop3.messages.len());
        all.compare("capabilities", &before.capabilities, &after.capabilities);
        all.compare("NAMESPACE", &before.namespace, &after.namespace);
        // What is no mailbox stays where it is, in the old tree; nobody could open it, and nobody sees it any more.
        let gone = |entry: &&Listed| {
            before.refused.contains_key(&entry.name) && after.list.iter().all(|new| new.name != entry.name)
        };
        let old: Vec<Listed> = before.list.iter().filter(|entry| !gone(entry)).cloned().collect();
        all.listed("LIST", &old, &after.list);
        all.listed("LSUB", &before.subscribed, &after.subscribed);
        for (name, reason) in after.refused.iter().filter(|(name, _)| !before.refused.contains_key(*name)) {
            all.0.push(format!("{}: cannot be opened any more: {reason}", String::from_utf8_lossy(name)));
        }
        for old in &before.folders {
            // A folder that is missing has been told by LIST.
            if let Some(new) = after.folders.iter().find(|folder| folder.name == old.name) {
                all.folder(old, new, strictness);
            }
        }
        all.pop3(&before.pop3, &after.pop3);
        all
    }

    /// Compares two states of one folder.
    #[must_use]
    pub fn between_folders(before: &Folder, after: &Folder) -> Self {
        Self::judged_folders(before, after, Strictness::Exact)
    }

    /// As [`Self::between_folders`], as strictly as asked for.
    #[must_use]
    pub fn judged_folders(before: &Folder, after: &Folder, strictness: Strictness) -> Self {
        let mut all = Self::default();
        all.folder(before, after, strictness);
        all
    }

    /// Whether everything is the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One text each.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.0
    }

    fn compare<T: PartialEq + Debug + ?Sized>(&mut self, what: &str, before: &T, after: &T) {
        if before != after {
            self.0.push(format!("{what}: {before:?} became {after:?}"));
        }
    }

    /// LIST or LSUB, name by name; an account has each name once.
    fn listed(&mut self, command: &str, old: &[Listed], new: &[Listed]) {
        self.compare(&format!("{command}: lines"), &old.len(), &new.len());
        let by_name = |list: &[Listed]| -> BTreeMap<Vec<u8>, Listed> {
            list.iter().map(|entry| (entry.name.clone(), entry.clone())).collect()
        };
        let (old, new) = (by_name(old), by_name(new));
        for (name, before) in &old {
            let what = format!("{command} {:?}", String::from_utf8_lossy(name));
            let Some(after) = new.get(name) else {
                self.0.push(format!("{what}: gone"));
                continue;
            };
            self.compare(&format!("{what}: separator"), &before.separator, &after.separator);
            self.compare(&format!("{what}: attributes"), &before.attributes, &after.attributes);
        }
        for name in new.keys().filter(|name| !old.contains_key(*name)) {
            self.0.push(format!("{command} {:?}: was not there before", String::from_utf8_lossy(name)));
        }
    }

    fn folder(&mut self, old: &Folder, new: &Folder, strictness: Strictness) {
        let name = String::from_utf8_lossy(&old.name).into_owned();
        self.compare(&format!("{name}: EXISTS"), &old.exists, &new.exists);
        self.compare(&format!("{name}: RECENT"), &old.recent, &new.recent);
        self.compare(&format!("{name}: UIDVALIDITY"), &old.uidvalidity, &new.uidvalidity);
        self.compare(&format!("{name}: UIDNEXT"), &old.uidnext, &new.uidnext);
        self.compare(&format!("{name}: UNSEEN"), &old.unseen, &new.unseen);
        if strictness == Strictness::Exact {
            self.compare(&format!("{name}: HIGHESTMODSEQ"), &old.highestmodseq, &new.highestmodseq);
            self.compare(&format!("{name}: STATUS"), &old.status, &new.status);
        }
        // The name of a keyword that no message has comes and goes with Dovecot's notes, on an mbox already.
        let used: BTreeSet<_> = old.messages.iter().flat_map(|message| &message.flags).collect();
        let lost = beyond_letters(old, strictness);
        let needed = old.flags.iter().filter(|flag| flag.starts_with('\\') || (used.contains(flag) && !lost));
        for flag in needed.filter(|flag| !new.flags.contains(*flag)) {
            self.0.push(format!("{name}: FLAGS lacks {flag}"));
        }
        for flag in new.flags.iter().filter(|flag| !old.flags.contains(*flag)) {
            self.0.push(format!("{name}: FLAGS has {flag}, which was not there before"));
        }
        self.messages(&name, old, &new.messages, strictness);
        self.guids(&name, &old.messages, &new.messages);
    }

    fn messages(&mut self, folder: &str, old: &Folder, new: &[Message], strictness: Strictness) {
        let lost = beyond_letters(old, strictness);
        let shown = |message: &Message| -> BTreeSet<String> {
            message.flags.iter().filter(|flag| !lost || flag.starts_with('\\')).cloned().collect()
        };
        let old = old.messages.as_slice();
        self.compare(&format!("{folder}: messages fetched"), &old.len(), &new.len());
        let order = |messages: &[Message]| messages.iter().map(|message| message.uid).collect::<Vec<_>>();
        self.compare(&format!("{folder}: UIDs in their order"), &order(old), &order(new));
        let by_uid = |messages: &[Message]| -> BTreeMap<u64, Message> {
            messages.iter().map(|message| (message.uid, message.clone())).collect()
        };
        let (old, new) = (by_uid(old), by_uid(new));
        for (uid, before) in &old {
            let what = format!("{folder} UID {uid}");
            let Some(after) = new.get(uid) else {
                self.0.push(format!("{what}: gone"));
                continue;
            };
            self.compare(&format!("{what}: flags"), &shown(before), &shown(after));
            // An hour that the clocks show twice: an mbox says the local time alone, Dovecot's notes may have known which it was.
            let twice =
                strictness == Strictness::WithoutIndex && wall_clock(&before.date) == wall_clock(&after.date);
            if !twice {
                self.compare(&format!("{what}: INTERNALDATE"), &before.date, &after.date);
            }
            // Dovecot's notes on an mbox are wrong by a byte now and then; who has lost them is told the truth.
            let corrected = strictness == Strictness::WithoutIndex
                && before.size != before.body.len() as u64
                && after.size == after.body.len() as u64;
            if !corrected {
                self.compare(&format!("{what}: RFC822.SIZE"), &before.size, &after.size);
            }
            self.bytes(&format!("{what}: BODY[]"), &before.body, &after.body);
            self.compare(&format!("{what}: ENVELOPE"), &before.envelope, &after.envelope);
            self.compare(&format!("{what}: BODYSTRUCTURE"), &before.structure, &after.structure);
            if strictness == Strictness::Exact {
                self.compare(&format!("{what}: MODSEQ"), &before.modseq, &after.modseq);
            }
        }
        for uid in new.keys().filter(|uid| !old.contains_key(uid)) {
            self.0.push(format!("{folder} UID {uid}: was not there before"));
        }
    }

    /// X-GUID, where both dumps have it. To an mbox it is a hash of some header fields, so that different messages may have
    /// the same. The first of them keeps it; what becomes of the others is [`guids_of_several`]'s business.
    fn guids(&mut self, folder: &str, old: &[Message], new: &[Message]) {
        let new: BTreeMap<_, _> = new.iter().map(|message| (message.uid, &message.guid)).collect();
        let mut seen = BTreeSet::new();
        for message in old {
            let (Some(was), Some(Some(is))) = (&message.guid, new.get(&message.uid)) else { continue };
            if seen.insert(was) {
                self.compare(&format!("{folder} UID {}: X-GUID", message.uid), was, is);
            }
        }
    }

    fn pop3(&mut self, old: &Drop3, new: &Drop3) {
        self.compare("POP3 STAT", &old.stat, &new.stat);
        self.compare("POP3 LIST", &old.list, &new.list);
        self.compare("POP3 UIDL: lines", &old.uidl.len(), &new.uidl.len());
        for (before, after) in old.uidl.iter().zip(&new.uidl) {
            self.compare("POP3 UIDL", before, after);
        }
        // The counts were compared first; what stands at the same number must be the same.
        for (number, (before, after)) in old.messages.iter().zip(&new.messages).enumerate() {
            self.bytes(&format!("POP3 RETR {}", number + 1), before, after);
        }
        for (number, (before, after)) in old.tops.iter().zip(&new.tops).enumerate() {
            self.bytes(&format!("POP3 TOP {}", number + 1), before, after);
        }
    }

    fn bytes(&mut self, what: &str, before: &[u8], after: &[u8]) {
        if before == after {
            return;
        }
        let at = before.iter().zip(after).take_while(|(a, b)| a == b).count();
        let around = |bytes: &[u8]| {
            let from = at.saturating_sub(20).min(bytes.len());
            let to = (at + 20).min(bytes.len());
            String::from_utf8_lossy(&bytes[from..to]).escape_debug().to_string()
        };
        self.0.push(format!(
            "{what}: {} bytes became {}, different from byte {at} on: \"{}\" became \"{}\"",
            before.len(),
            after.len(),
            around(before),
            around(after),
        ));
    }
}

/// ` 7-Feb-2009 04:05:06 +0100` without the zone.
fn wall_clock(date: &str) -> &str {
    date.rsplit_once(' ').map_or(date, |(clock, _)| clock)
}

/// Whether the folder's keywords cannot all be kept: there are more than letters, and no index is left.
fn beyond_letters(folder: &Folder, strictness: Strictness) -> bool {
    strictness == Strictness::WithoutIndex && folder.keywords() > LETTERS
}

/// Messages of one folder that have the X-GUID of another one: a dsync takes the one for a copy of the other, and throws its
/// content away. None is right for a Maildir; an mbox cannot help it.
#[must_use]
pub fn guids_of_several(dump: &Dump) -> Vec<String> {
    let mut found = Vec::new();
    for folder in &dump.folders {
        let mut seen = BTreeMap::new();
        for message in &folder.messages {
            let Some(guid) = &message.guid else { continue };
            if let Some(first) = seen.insert(guid, message.uid) {
                let name = String::from_utf8_lossy(&folder.name);
                found.push(format!("{name} UID {first} and {}: X-GUID {guid}", message.uid));
            }
        }
    }
    found
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} differences", self.0.len())?;
        self.0.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(uids: &[u64]) -> Folder {
        let messages = uids
            .iter()
            .map(|&uid| Message {
                uid,
                flags: BTreeSet::from(["\\Seen".into()]),
                date: "today".into(),
                size: 5,
                envelope: String::new(),
                structure: String::new(),
                modseq: 3,
                guid: Some(format!("guid of {uid}")),
                body: b"hello".to_vec(),
            })
            .collect();
        let exists = uids.len() as u64;
        Folder {
            name: b"INBOX".to_vec(),
            exists,
            uidvalidity: 7,
            highestmodseq: 9,
            messages,
            ..Folder::default()
        }
    }

    #[test]
    fn the_same_has_no_difference() {
        assert_eq!(Differences::between_folders(&folder(&[1, 2]), &folder(&[1, 2])), Differences::default());
    }

    #[test]
    fn a_message_missing_at_the_end_is_told_count_first() {
        let found = Differences::between_folders(&folder(&[1, 2]), &folder(&[1]));
        assert_eq!(found.all().len(), 4, "{found}");
        assert!(found.all()[0].contains("EXISTS: 2 became 1"));
        assert!(found.all()[3].contains("UID 2: gone"));
    }

    #[test]
    fn every_fact_of_a_message_counts() {
        let before = folder(&[1]);
        let changes: [fn(&mut Message); 7] = [
            |m| m.body[4] = b'x',
            |m| m.size += 1,
            |m| m.date.push('!'),
            |m| m.flags.clear(),
            |m| m.uid += 1,
            |m| m.modseq += 1,
            |m| m.guid = Some("another".into()),
        ];
        for change in changes {
            let mut after = before.clone();
            change(&mut after.messages[0]);
            assert!(!Differences::between_folders(&before, &after).is_empty());
        }
    }

    #[test]
    fn a_guid_of_several_messages_stays_with_the_first() {
        let guids = |guids: [&str; 3]| {
            let mut folder = folder(&[1, 2, 3]);
            for (message, guid) in folder.messages.iter_mut().zip(guids) {
                message.guid = Some(guid.into());
            }
            folder
        };
        let before = guids(["same", "same", "other"]);
        assert!(Differences::between_folders(&before, &guids(["same", "new", "other"])).is_empty());
        let taken = Differences::between_folders(&before, &guids(["new", "same", "other"]));
        assert_eq!(taken.all().len(), 1, "{taken}");
    }

    #[test]
    fn without_the_index_modseqs_do_not_count() {
        let before = folder(&[1]);
        let mut after = before.clone();
        after.highestmodseq = 8;
        assert_eq!(Differences::between_folders(&before, &after).all().len(), 1);
        let mut lenient = Differences::default();
        lenient.folder(&before, &after, Strictness::WithoutIndex);
        assert!(lenient.is_empty());
    }
}
