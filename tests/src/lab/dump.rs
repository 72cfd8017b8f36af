//! Everything that a mail client can see of an account, taken without leaving a trace: folders are examined, not selected,
//! and bodies peeked at, so that even `\Recent` is the same for the next who looks.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{LabError, Result};
use super::imap::{Answer, Imap, Item, quoted};
use super::machine::{Machine, User};
use super::pop3::Pop3;

/// An account as IMAP and POP3 show it.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Capabilities after login.
    pub capabilities: BTreeSet<String>,
    /// NAMESPACE, as sent.
    pub namespace: String,
    /// `LIST "" *`, sorted by name.
    pub list: Vec<Listed>,
    /// `LSUB "" *`, sorted by name.
    pub subscribed: Vec<Listed>,
    /// One for each folder that can be selected, in the order of `list`.
    pub folders: Vec<Folder>,
    /// Names that LIST shows and the server does not open, with its reason: files in the mbox tree that are no mboxes.
    pub refused: BTreeMap<Vec<u8>, String>,
    /// What POP3 shows.
    pub pop3: Drop3,
}

/// A line of LIST or LSUB.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Name as sent (modified UTF-7).
    pub name: Vec<u8>,
    /// Hierarchy separator.
    pub separator: String,
    /// Attributes without those that say whether there are children or new mail: an mbox cannot have children and a Maildir
    /// can, so these differ between the formats by their nature (`\NoInferiors`, `\HasNoChildren`), and `\Marked` is a guess.
    pub attributes: BTreeSet<String>,
}

/// A folder.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// Name as sent.
    pub name: Vec<u8>,
    /// EXISTS.
    pub exists: u64,
    /// RECENT.
    pub recent: u64,
    /// FLAGS.
    pub flags: BTreeSet<String>,
    /// UIDVALIDITY.
    pub uidvalidity: u64,
    /// UIDNEXT.
    pub uidnext: u64,
    /// HIGHESTMODSEQ.
    pub highestmodseq: u64,
    /// UNSEEN: number of the first unseen message.
    pub unseen: Option<u64>,
    /// STATUS with all that it can be asked for, as sent.
    pub status: String,
    /// The messages, in the order of their numbers.
    pub messages: Vec<Message>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// UID.
    pub uid: u64,
    /// Flags and keywords, `\Recent` included.
    pub flags: BTreeSet<String>,
    /// INTERNALDATE, as sent.
    pub date: String,
    /// RFC822.SIZE.
    pub size: u64,
    /// ENVELOPE, as sent.
    pub envelope: String,
    /// BODYSTRUCTURE in lower case: for a plain 7-bit text Dovecot says `text/plain; charset=us-ascii` out of its cache and the
    /// header's own spelling (`TEXT/PLAIN`) without one, for one and the same file.
    pub structure: String,
    /// MODSEQ (RFC 7162).
    pub modseq: u64,
    /// X-GUID, if it was asked for: Dovecot's own identity of the message.
    pub guid: Option<String>,
    /// `BODY[]`.
    pub body: Vec<u8>,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At all that mail clients ask for.
    AsClients,
    /// At X-GUID besides. With an mbox, Dovecot notes in its index that it was asked once, and goes on computing it.
    WithGuids,
}

/// What POP3 shows ("maildrop" is its word for a mailbox).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drop3 {
    /// STAT: messages and bytes.
    pub stat: String,
    /// LIST, a line a message.
    pub list: Vec<String>,
    /// UIDL, a line a message.
    pub uidl: Vec<String>,
    /// RETR of each.
    pub messages: Vec<Vec<u8>>,
    /// TOP of each: its header and first lines.
    pub tops: Vec<Vec<u8>>,
}

/// So many lines of the body are asked for by TOP.
const TOP_LINES: u32 = 3;

impl Dump {
    /// Logs in by IMAP, then by POP3, and takes everything down.
    ///
    /// # Errors
    /// If a server refuses or breaks the protocol.
    pub fn take(machine: &Machine, user: &User) -> Result<Self> {
        Self::look(machine, user, Look::AsClients)
    }

    /// As [`Self::take`], looking as closely as asked for.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn look(machine: &Machine, user: &User, look: Look) -> Result<Self> {
        let mut imap = Imap::login(machine, &user.name, &user.password)?;
        let mut dump = Self::of_session(&mut imap, look)?;
        imap.logout()?;
        dump.pop3 = Drop3::take(machine, user)?;
        Ok(dump)
    }

    /// What an IMAP session, already logged in, sees; POP3 left empty.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn by_imap(imap: &mut Imap) -> Result<Self> {
        Self::of_session(imap, Look::AsClients)
    }

    fn of_session(imap: &mut Imap, look: Look) -> Result<Self> {
        // Else the first folder that is examined tells no HIGHESTMODSEQ, on some servers' indexes and not on others'.
        imap.ok("ENABLE CONDSTORE")?;
        let capability = imap.ok("CAPABILITY")?;
        let capabilities =
            untagged(&capability, "CAPABILITY").flatten().map(Item::text).collect::<BTreeSet<_>>();
        let namespace = imap.ok("NAMESPACE")?;
        let namespace =
            untagged(&namespace, "NAMESPACE").flatten().map(Item::text).collect::<Vec<_>>().join(" ");
        let list = listed(imap, "LIST")?;
        let subscribed = listed(imap, "LSUB")?;
        let (mut folders, mut refused) = (Vec::new(), BTreeMap::new());
        for entry in list.iter().filter(|entry| !entry.attributes.contains("\\Noselect")) {
            let probe = imap.command(&format!("STATUS {} (MESSAGES)", quoted(&entry.name)))?;
            if probe.status == "OK" {
                folders.push(Folder::look(imap, &entry.name, look)?);
            } else {
                refused.insert(entry.name.clone(), probe.text);
            }
        }
        Ok(Self { capabilities, namespace, list, subscribed, folders, refused, pop3: Drop3::default() })
    }

    /// The inbox.
    ///
    /// # Errors
    /// If LIST did not show one.
    pub fn inbox(&self) -> Result<&Folder> {
        let inbox = self.folders.iter().find(|folder| folder.name.eq_ignore_ascii_case(b"INBOX"));
        inbox.ok_or_else(|| LabError::Protocol { asked: "LIST".into(), got: "no INBOX".into() })
    }
}

/// The contents of all untagged responses of one kind: `* KIND ...`.
fn untagged<'a>(answer: &'a Answer, kind: &'a str) -> impl Iterator<Item = &'a [Item]> {
    answer.untagged.iter().filter(move |response| response[0].text() == kind).map(|response| &response[1..])
}

fn listed(imap: &mut Imap, command: &str) -> Result<Vec<Listed>> {
    let answer = imap.ok(&format!("{command} \"\" *"))?;
    let mut all = Vec::new();
    for response in untagged(&answer, command) {
        let [attributes, separator, name] = response else {
            return Err(LabError::Protocol { asked: command.into(), got: format!("{response:?}") });
        };
        let by_nature = ["\\NoInferiors", "\\HasChildren", "\\HasNoChildren", "\\Marked", "\\UnMarked"];
        let attributes = attributes
            .items()
            .iter()
            .map(Item::text)
            .filter(|attribute| !by_nature.iter().any(|known| known.eq_ignore_ascii_case(attribute)))
            .collect();
        let name = match name {
            Item::Bytes(bytes) => bytes.clone(),
            other => other.text().into_bytes(),
        };
        all.push(Listed { name, separator: separator.text(), attributes });
    }
    all.sort();
    Ok(all)
}

impl Folder {
    /// Examines one folder and fetches everything in it.
    ///
    /// # Errors
    /// As [`Dump::take`].
    pub fn take(imap: &mut Imap, name: &[u8]) -> Result<Self> {
        Self::look(imap, name, Look::AsClients)
    }

    /// As [`Self::take`], looking as closely as asked for.
    ///
    /// # Errors
    /// As [`Dump::take`].
    pub fn look(imap: &mut Imap, name: &[u8], look: Look) -> Result<Self> {
        let quoted = quoted(name);
        let guid = if look == Look::WithGuids { " X-GUID" } else { "" };
        let mut folder = Self { name: name.to_vec(), ..Self::default() };
        let examined = imap.ok(&format!("EXAMINE {quoted}"))?;
        folder.take_figures(&examined);
        if folder.exists > 0 {
            let fetched = imap.ok(&format!(
                "UID FETCH 1:* (UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE{guid} BODY.PEEK[])"
            ))?;
            for response in &fetched.untagged {
                if let [number, kind, facts] = response.as_slice()
                    && kind.text() == "FETCH"
                {
                    let message = Message::from(facts.items());
                    let in_order = number.text() == (folder.messages.len() + 1).to_string();
                    folder.messages.push(message.filter(|_| in_order).ok_or_else(|| LabError::Protocol {
                        asked: "FETCH".into(),
                        got: format!(
                            "an incomplete or unordered answer for message {}: {}",
                            number.text(),
                            facts.text()
                        ),
                    })?);
                }
            }
        }
        // Closes without expunging; EXAMINE could not anyway.
        imap.ok("CLOSE")?;
        // Afterwards, because Dovecot answers STATUS from its notes and takes in what has happened to an mbox at EXAMINE.
        let status = imap.ok(&format!(
            "STATUS {quoted} (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE{guid})"
        ))?;
        folder.status = untagged(&status, "STATUS").filter_map(<[Item]>::last).map(Item::text).collect();
        Ok(folder)
    }

    /// The number of keywords that it has names for.
    #[must_use]
    pub fn keywords(&self) -> usize {
        self.flags.iter().filter(|flag| !flag.starts_with('\\')).count()
    }

    fn take_figures(&mut self, examined: &Answer) {
        for response in &examined.untagged {
            let words: Vec<String> = response.iter().map(Item::text).collect();
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                [number, "EXISTS"] => self.exists = number.parse().unwrap_or(0),
                [number, "RECENT"] => self.recent = number.parse().unwrap_or(0),
                ["FLAGS", _] => self.flags = response[1].items().iter().map(Item::text).collect(),
                ["OK", text] => {
                    let code = text.trim_start_matches('[').split(']').next().unwrap_or("");
                    let (name, value) = code.split_once(' ').unwrap_or((code, ""));
                    match name {
                        "UIDVALIDITY" => self.uidvalidity = value.parse().unwrap_or(0),
                        "UIDNEXT" => self.uidnext = value.parse().unwrap_or(0),
                        "HIGHESTMODSEQ" => self.highestmodseq = value.parse().unwrap_or(0),
                        "UNSEEN" => self.unseen = value.parse().ok(),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}

impl Message {
    /// From the name-value pairs of a FETCH response; `None` if one is missing.
    fn from(facts: &[Item]) -> Option<Self> {
        let fact = |name: &str| {
            facts.chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone())
        };
        Some(Self {
            uid: fact("UID")?.text().parse().ok()?,
            flags: fact("FLAGS")?.items().iter().map(Item::text).collect(),
            date: fact("INTERNALDATE")?.text(),
            size: fact("RFC822.SIZE")?.text().parse().ok()?,
            envelope: fact("ENVELOPE")?.text(),
            structure: fact("BODYSTRUCTURE")?.text().to_ascii_lowercase(),
            modseq: fact("MODSEQ")?.items().first()?.text().parse().ok()?,
            guid: fact("X-GUID").map(|guid| guid.text()),
            body: match fact("BODY[]")? {
                Item::Bytes(bytes) => bytes,
                _ => return None,
            },
        })
    }
}

impl Drop3 {
    /// Logs in by POP3 and reads everything, deleting nothing.
    ///
    /// # Errors
    /// As [`Dump::take`].
    pub fn take(machine: &Machine, user: &User) -> Result<Self> {
        let mut pop3 = Pop3::login(machine, &user.name, &user.password)?;
        let stat = pop3.command("STAT")?;
        let table = |bytes: Vec<u8>| -> Vec<String> {
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
        };
        let list = table(pop3.lines("LIST")?);
        let uidl = table(pop3.lines("UIDL")?);
        let (mut messages, mut tops) = (Vec::new(), Vec::new());
        for number in 1..=list.len() {
            messages.push(pop3.lines(&format!("RETR {number}"))?);
            tops.push(pop3.lines(&format!("TOP {number} {TOP_LINES}"))?);
        }
        pop3.quit()?;
        Ok(Self { stat, list, uidl, messages, tops })
    }
}
