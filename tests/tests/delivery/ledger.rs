//! The senders' list of what was taken, and the comparison with what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mailready_tests::lab::{Imap, Item, LabError, Machine, Result, User, quoted};

/// The header that carries the id.
pub const HEADER: &str = "X-Ledger";

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whom it is for.
    pub user: String,
    /// When it was given to the deliverer.
    pub handed: Instant,
    /// What the deliverer said when it took it.
    pub said: String,
}

/// What every sender writes down.
#[derive(Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A deliverer has taken the message.
    pub fn taken(&self, id: &str, user: &str, handed: Instant, said: String) {
        let entry = Entry { user: user.to_owned(), handed, said };
        assert!(self.lock().insert(id.to_owned(), entry).is_none(), "an id is used once: {id}");
    }

    /// Everything so far.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.lock().clone()
    }

    /// How many messages were taken for one user.
    pub fn count(&self, user: &str) -> usize {
        self.lock().values().filter(|entry| entry.user == user).count()
    }

    fn ids(&self, user: &str) -> Vec<String> {
        let entries = self.lock();
        entries.iter().filter(|(_, entry)| entry.user == user).map(|(id, _)| id.clone()).collect()
    }

    /// Waits until IMAP shows exactly what was taken for this user, each message once, in whatever folder; a login each time, as arrivals
    /// have folders looked after. Nothing new may be on its way.
    ///
    /// # Errors
    /// What is missing, where it was found instead, and what is there more than once.
    pub fn settle(&self, machine: &Machine, user: &User, patience: Duration) -> Result<()> {
        let expected = self.ids(&user.name);
        let start = Instant::now();
        loop {
            let seen = by_imap(machine, user);
            if seen.as_ref().is_ok_and(|seen| *seen == expected) {
                break;
            }
            if start.elapsed() > patience {
                let got = match seen {
                    Ok(seen) => difference(machine, &expected, &seen),
                    Err(error) => error.to_string(),
                };
                let asked = format!("the mail of {}, each message once", user.name);
                return Err(LabError::Protocol { asked, got });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let held = in_files(machine, user)?;
        if held == expected {
            return Ok(());
        }
        let asked = format!("the files of {}, each message once", user.name);
        Err(LabError::Protocol { asked, got: difference(machine, &expected, &held) })
    }
}

/// A message with its id; some have lines that mbox writers have to quote.
pub fn message(id: &str, number: usize) -> Vec<u8> {
    let body = match number % 4 {
        0 => "From here on it is quoted.\n.\n..two dots\n".to_owned(),
        1 => "line\n".repeat(1 + number % 700),
        2 => String::new(),
        _ => "Grüße\n\nFrom eve@example.org Mon Jan  5 10:00:00 2026\nend\n".to_owned(),
    };
    format!("From: eve@mail.example.org\nTo: you\nSubject: {id}\n{HEADER}: {id}\n\n{body}").into_bytes()
}

/// The ids that IMAP shows, sorted, as often as it shows them.
fn by_imap(machine: &Machine, user: &User) -> Result<Vec<String>> {
    let mut imap = Imap::login(machine, &user.name, &user.password)?;
    let listed = imap.ok("LIST \"\" *")?;
    let mut names: BTreeSet<String> =
        listed.untagged.iter().filter_map(|response| Some(response.get(3)?.text())).collect();
    names.insert("INBOX".to_owned());
    let mut ids = Vec::new();
    for name in names {
        if imap.command(&format!("EXAMINE {}", quoted(name.as_bytes())))?.status != "OK" {
            // A parent of folders is no mailbox. One that is missing here is missing in the comparison.
            continue;
        }
        let fetched = imap.ok(&format!("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS ({HEADER})])"))?;
        ids.extend(fetched.untagged.iter().flatten().flat_map(ids_in_item));
    }
    imap.logout()?;
    ids.sort();
    Ok(ids)
}

fn ids_in_item(item: &Item) -> Vec<String> {
    match item {
        Item::List(items) => items.iter().flat_map(ids_in_item).collect(),
        Item::Bytes(bytes) => ids_in(bytes),
        Item::Atom(_) => Vec::new(),
    }
}

/// The ids in headers of a file.
fn ids_in(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let prefix = format!("{HEADER}: ");
    let id = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?;
        line.trim_end().strip_prefix(&prefix).map(str::to_owned)
    };
    lines.filter_map(id).collect()
}

/// The ids in those files that are the mail of a user: of the Maildir if it is there, else of the mboxes; and behind whatever else stands
/// at the places where a deliverer delivers.
fn in_files(machine: &Machine, user: &User) -> Result<Vec<String>> {
    let home = user.home();
    machine.inside(|| {
        let mut ids = Vec::new();
        for root in [format!("{home}/Maildir"), format!("{home}/mail"), user.spool()] {
            walk(Path::new(&root), &mut |path, bytes| {
                let name = path.to_string_lossy();
                if !name.contains("/tmp/") && !name.contains("/.imap/") {
                    ids.extend(ids_in(bytes));
                }
            });
        }
        ids.sort();
        ids
    })
}

/// Every file below a path; links are not followed.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path, &[u8])) {
    let Ok(stat) = fs::symlink_metadata(path) else { return };
    if stat.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), visit);
        }
    } else if stat.is_file()
        && let Ok(bytes) = fs::read(path)
    {
        visit(path, &bytes);
    }
}

/// What is missing, with all the places where it is instead, and what is there too often.
fn difference(machine: &Machine, expected: &[String], seen: &[String]) -> String {
    let mut count: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for id in expected {
        count.entry(id).or_default().0 += 1;
    }
    for id in seen {
        count.entry(id).or_default().1 += 1;
    }
    count.retain(|_, (expected, seen)| expected != seen);
    let wrong: BTreeSet<String> = count.keys().take(12).map(|id| (*id).to_owned()).collect();
    let places = machine.inside(|| places(&wrong)).unwrap_or_default();
    let mut text = format!("{} messages, {} expected", seen.len(), expected.len());
    for (id, (expected, seen)) in count.iter().take(12) {
        let _ = write!(
            text,
            "\n  {id}: {seen} times instead of {expected}; found in {}",
            places.get(*id).map(|found| found.join("\n---\n")).unwrap_or_default()
        );
    }
    text
}

fn places(ids: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for root in ["/home", "/var/mail", "/var/spool", "/var/lib/mailready"] {
        walk(Path::new(root), &mut |path, bytes| {
            for id in ids_in(bytes).into_iter().filter(|id| ids.contains(id)) {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1500)]).into_owned();
                found.entry(id).or_default().push(format!("{}: {text}", path.display()));
            }
        });
    }
    found
}
