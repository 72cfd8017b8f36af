//! The exact comparison of two dumps: every difference is told, the counts first, because a walk over two lists side by side
//! hides what is missing at the end of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};

use super::dump::{Drop3, Dump, Folder, Message};

/// All differences between what was shown before and what is shown after; none is what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Compares two dumps of one account.
    #[must_use]
    pub fn between(before: &Dump, after: &Dump) -> Self {
        let mut all = Self::default();
        let count = |dump: &Dump| dump.folders.iter().map(|folder| folder.messages.len()).collect::<Vec<_>>();
        all.compare("messages in each folder", &count(before), &count(after));
        all.compare("POP3: messages", &before.pop3.messages.len(), &after.pop3.messages.len());
        all.compare("capabilities", &before.capabilities, &after.capabilities);
        all.compare("NAMESPACE", &before.namespace, &after.namespace);
        all.compare("LIST", &before.list, &after.list);
        all.compare("LSUB", &before.subscribed, &after.subscribed);
        for old in &before.folders {
            // A folder that is missing has been told by LIST.
            if let Some(new) = after.folders.iter().find(|folder| folder.name == old.name) {
                all.folder(old, new);
            }
        }
        all.pop3(&before.pop3, &after.pop3);
        all
    }

    /// Compares two states of one folder.
    #[must_use]
    pub fn between_folders(before: &Folder, after: &Folder) -> Self {
        let mut all = Self::default();
        all.folder(before, after);
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

    fn folder(&mut self, old: &Folder, new: &Folder) {
        let name = String::from_utf8_lossy(&old.name).into_owned();
        self.compare(&format!("{name}: EXISTS"), &old.exists, &new.exists);
        self.compare(&format!("{name}: RECENT"), &old.recent, &new.recent);
        self.compare(&format!("{name}: UIDVALIDITY"), &old.uidvalidity, &new.uidvalidity);
        self.compare(&format!("{name}: UIDNEXT"), &old.uidnext, &new.uidnext);
        self.compare(&format!("{name}: UNSEEN"), &old.unseen, &new.unseen);
        self.compare(&format!("{name}: STATUS"), &old.status, &new.status);
        if new.highestmodseq < old.highestmodseq {
            self.0.push(format!("{name}: HIGHESTMODSEQ {} fell to {}", old.highestmodseq, new.highestmodseq));
        }
        // A keyword that no message has may go from FLAGS: mbox lists every name it has ever seen, Maildir those in use.
        let used: BTreeSet<_> = old.messages.iter().flat_map(|message| &message.flags).collect();
        let needed: BTreeSet<_> =
            old.flags.iter().filter(|flag| flag.starts_with('\\') || used.contains(flag)).collect();
        for flag in needed {
            if !new.flags.contains(flag) {
                self.0.push(format!("{name}: FLAGS lacks {flag}"));
            }
        }
        self.messages(&name, &old.messages, &new.messages);
    }

    fn messages(&mut self, folder: &str, old: &[Message], new: &[Message]) {
        self.compare(&format!("{folder}: messages fetched"), &old.len(), &new.len());
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
            self.compare(&format!("{what}: flags"), &before.flags, &after.flags);
            self.compare(&format!("{what}: INTERNALDATE"), &before.date, &after.date);
            self.compare(&format!("{what}: RFC822.SIZE"), &before.size, &after.size);
            self.bytes(&format!("{what}: BODY[]"), &before.body, &after.body);
            self.compare(&format!("{what}: ENVELOPE"), &before.envelope, &after.envelope);
            self.compare(&format!("{what}: BODYSTRUCTURE"), &before.structure, &after.structure);
        }
        for uid in new.keys().filter(|uid| !old.contains_key(uid)) {
            self.0.push(format!("{folder} UID {uid}: was not there before"));
        }
    }

    fn pop3(&mut self, old: &Drop3, new: &Drop3) {
        self.compare("POP3 STAT", &old.stat, &new.stat);
        self.compare("POP3 LIST", &old.list, &new.list);
        self.compare("POP3 UIDL", &old.uidl, &new.uidl);
        // The counts were compared first; what stands at the same number must be the same.
        for (number, (before, after)) in old.messages.iter().zip(&new.messages).enumerate() {
            self.bytes(&format!("POP3 RETR {}", number + 1), before, after);
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
        assert_eq!(found.all().len(), 3, "{found}");
        assert!(found.all()[0].contains("EXISTS: 2 became 1"));
        assert!(found.all()[2].contains("UID 2: gone"));
    }

    #[test]
    fn every_fact_of_a_message_counts() {
        let before = folder(&[1]);
        let changes: [fn(&mut Message); 5] = [
            |m| m.body[4] = b'x',
            |m| m.size += 1,
            |m| m.date.push('!'),
            |m| m.flags.clear(),
            |m| m.uid += 1,
        ];
        for change in changes {
            let mut after = before.clone();
            change(&mut after.messages[0]);
            assert!(!Differences::between_folders(&before, &after).is_empty());
        }
    }

    #[test]
    fn modseq_may_rise_and_never_fall() {
        let before = folder(&[1]);
        let mut after = before.clone();
        after.highestmodseq = 10;
        assert!(Differences::between_folders(&before, &after).is_empty());
        after.highestmodseq = 8;
        assert_eq!(Differences::between_folders(&before, &after).all().len(), 1);
    }
}
