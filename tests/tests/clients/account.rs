//! The account that the clients look at: years of mail in an inbox and folders, a deliverer that knows nothing of mailready,
//! and a second client that uses the same mail from elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use mailready_tests::lab::{
    CONFIG, Daemon, Doing, Dump, Imap, Item, MAIL_GID, Machine, Result, Site, User, eventually,
};

/// The server's address by which the laptop reaches it, and nobody else: so its sessions are known in the log.
pub const FOR_THE_LAPTOP: &str = "127.0.0.2";

/// Letters that lie in the inbox at the beginning.
pub const LETTERS: u32 = 40;

/// Folders besides the inbox, as on disk (modified UTF-7), and how many letters each begins with.
pub const FOLDERS: [(&str, u32); 4] =
    [("Sent", 6), ("lists/Debian user", 8), ("Entw&APw-rfe", 3), ("empty", 0)];

/// What one client may know of a message and another has to show the same: folder and subject, each with the flags of every
/// message that is called so. Two of one name are two, and one too many.
pub type Contents = BTreeMap<(String, String), Vec<String>>;

/// Ann's account on a machine of its own.
pub struct Account {
    pub machine: Arc<Machine>,
    pub ann: User,
    dovecot: Option<Daemon>,
    agent: Option<Daemon>,
}

/// The subject of a letter; no other's subject contains it.
pub fn subject(number: u32) -> String {
    format!("letter {number:04}")
}

/// A letter of some length, so that one that travels can be seen in any count of bytes.
fn letter(folder: &str, number: u32) -> String {
    let line = format!("{folder} {number}: the quick brown fox jumps over the lazy dog.\n");
    format!(
        "From: Ada <ada@engine.example>\nTo: ann@mail.example.org\nSubject: {}\n\
         Date: Mon, 05 Jan 2026 {:02}:{:02}:00 +0000\nMessage-ID: <{number}.{}@engine.example>\n\n{}",
        subject(number),
        number / 60,
        number % 60,
        folder.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
        line.repeat(20 + number as usize % 7),
    )
}

fn mbox(folder: &str, letters: u32) -> Vec<u8> {
    let each = |number: u32| {
        let time = format!("{:02}:{:02}:00", number / 60, number % 60);
        format!("From ada@engine.example  Mon Jan  5 {time} 2026\n{}\n", letter(folder, number))
    };
    (1..=letters).map(each).collect::<String>().into_bytes()
}

impl Account {
    /// A site without mailready, on which ann has read and answered some of her mail; `None` where there can be no machines.
    pub fn set_up() -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Debian)?;
        let local = machine.read("/etc/dovecot/local.conf")?;
        // Two addresses of one host are two hosts to Dovecot, which then wants encryption.
        let listen = format!("listen = 127.0.0.1, {FOR_THE_LAPTOP}\ndisable_plaintext_auth = no\n");
        machine.write("/etc/dovecot/local.conf", &[&local, listen.as_bytes()].concat(), (0, 0), 0o644)?;
        let ann = machine.add_user("ann", "correct-horse", &mbox("INBOX", LETTERS))?;
        let root = format!("{}/mail", ann.home());
        machine.run("install", ["-d", "-o", "ann", "-g", "ann", &root, &format!("{root}/lists")])?;
        for (folder, letters) in FOLDERS {
            let owner = (ann.uid, ann.gid);
            machine.write(&format!("{root}/{folder}"), &mbox(folder, letters), owner, 0o600)?;
        }
        let dovecot = machine.start_dovecot()?;
        let account = Self { machine: Arc::new(machine), ann, dovecot: Some(dovecot), agent: None };
        let mut elsewhere = account.elsewhere()?;
        elsewhere.ok("SELECT INBOX")?;
        elsewhere.ok(r"STORE 1:30 +FLAGS (\Seen)")?;
        elsewhere.ok(r"STORE 2,7,11 +FLAGS (\Answered $Forwarded)")?;
        elsewhere.ok(r"STORE 5,7 +FLAGS (\Flagged)")?;
        for (folder, _) in FOLDERS {
            elsewhere.ok(&format!("SUBSCRIBE \"{folder}\""))?;
        }
        elsewhere.logout()?;
        Ok(Some(account))
    }

    /// Puts mailready on the site, the agent up. Nobody has logged in yet, so nothing has been converted.
    pub fn install_mailready(&mut self) -> Result<()> {
        if let Some(dovecot) = self.dovecot.take() {
            self.machine.stop_dovecot(&dovecot)?;
        }
        self.machine.install_mailready(Site::Debian)?;
        self.agent = Some(self.machine.start_agent(CONFIG)?);
        self.dovecot = Some(self.machine.start_dovecot()?);
        assert!(!self.is_converted()?, "nobody has come yet");
        Ok(())
    }

    /// Ends Dovecot, lets `work` happen, and starts it again.
    pub fn without_dovecot(&mut self, work: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        if let Some(dovecot) = self.dovecot.take() {
            self.machine.stop_dovecot(&dovecot)?;
        }
        work(self)?;
        self.dovecot = Some(self.machine.start_dovecot()?);
        Ok(())
    }

    /// Dovecot, which runs but for moments between two of its lives.
    pub fn dovecot(&self) -> &Daemon {
        self.dovecot.as_ref().unwrap()
    }

    /// The last lines of Dovecot and of the agent, for a failure's message.
    pub fn logs(&self) -> String {
        let tail = |daemon: &Option<Daemon>| daemon.as_ref().map(|d| d.log.tail()).unwrap_or_default();
        format!("Dovecot:\n{}agent:\n{}", tail(&self.dovecot), tail(&self.agent))
    }

    /// Has an operator compare the Maildir with the mailboxes that it was made of: what clients have done since is no difference.
    pub fn verifies(&self) -> Result<()> {
        self.machine.run("mailready", ["verify", &self.ann.name]).map(|_| ())
    }

    /// Has an operator undo the conversion.
    pub fn roll_back(&self) -> Result<()> {
        let said = self.machine.run("mailready", ["rollback", "--yes", &self.ann.name])?;
        assert!(!self.is_converted()?, "{said}\n{}", self.logs());
        Ok(())
    }

    /// Has an operator convert ann, who after a way back is not converted by her arrivals.
    pub fn convert_again(&self) -> Result<()> {
        let said = self.machine.run("mailready", ["convert", "--wait", &self.ann.name])?;
        assert!(self.is_converted()?, "{said}\n{}", self.logs());
        Ok(())
    }

    pub fn is_converted(&self) -> Result<bool> {
        self.machine.exists(&format!("{}/Maildir/mailready-marker", self.ann.home()))
    }

    /// Another client of ann's.
    pub fn elsewhere(&self) -> Result<Imap> {
        Imap::login(&self.machine, &self.ann.name, &self.ann.password)
    }

    /// Has a letter delivered by procmail, wherever it thinks that ann's inbox is, and waits until clients see it.
    pub fn deliver(&self, number: u32) -> Result<()> {
        let before = self.messages_in_inbox()?;
        let delivered =
            self.machine.output("/usr/bin/procmail", ["-d", "ann"], letter("INBOX", number).as_bytes())?;
        assert!(delivered.status.success(), "{}", String::from_utf8_lossy(&delivered.stderr));
        eventually(
            format!("letter {number} is in the inbox"),
            || self.logs(),
            || (self.messages_in_inbox().ok()? > before).then_some(()),
        )
    }

    fn messages_in_inbox(&self) -> Result<u64> {
        let mut elsewhere = self.elsewhere()?;
        let status = elsewhere.ok("STATUS INBOX (MESSAGES)")?;
        elsewhere.logout()?;
        let figures =
            status.untagged.iter().find(|line| line[0].text() == "STATUS").and_then(|line| line.last());
        Ok(figures.unwrap().items()[1].text().parse().unwrap())
    }

    /// Saves a letter in a folder from elsewhere, as a client does with what it has sent.
    pub fn save(&self, folder: &str, number: u32) -> Result<()> {
        let mut elsewhere = self.elsewhere()?;
        let crlf = letter(folder, number).replace('\n', "\r\n");
        elsewhere.append(folder.as_bytes(), r" (\Seen)", crlf.as_bytes())?;
        elsewhere.logout()
    }

    /// Makes a folder from elsewhere, subscribes to it, and saves a letter in it.
    pub fn make_folder(&self, folder: &str, number: u32) -> Result<()> {
        let mut elsewhere = self.elsewhere()?;
        elsewhere.ok(&format!("CREATE \"{folder}\""))?;
        elsewhere.ok(&format!("SUBSCRIBE \"{folder}\""))?;
        elsewhere.logout()?;
        self.save(folder, number)
    }

    /// Flags from elsewhere one letter of the inbox, and deletes another for good.
    pub fn use_elsewhere(&self, answered: u32, deleted: u32) -> Result<()> {
        let mut elsewhere = self.elsewhere()?;
        elsewhere.ok("SELECT INBOX")?;
        for (number, flags) in [(answered, r"\Answered"), (deleted, r"\Deleted")] {
            let found = elsewhere.ok(&format!("UID SEARCH SUBJECT \"{}\"", subject(number)))?;
            let uid = found.untagged.iter().find(|line| line[0].text() == "SEARCH").unwrap()[1].text();
            elsewhere.ok(&format!("UID STORE {uid} +FLAGS ({flags})"))?;
        }
        elsewhere.ok("EXPUNGE")?;
        elsewhere.logout()
    }

    /// Everything that IMAP and POP3 show.
    pub fn dump(&self) -> Result<Dump> {
        Dump::take(&self.machine, &self.ann)
    }

    /// What is in all folders, in the words of [`Contents`]: flags as letters of a Maildir.
    pub fn contents(&self) -> Result<Contents> {
        let mut elsewhere = self.elsewhere()?;
        let mut contents = Contents::new();
        let listed = elsewhere.ok("LIST \"\" *")?;
        let listed = listed.untagged.iter().filter(|line| line[0].text() == "LIST");
        for line in listed.filter(|line| !line[1].items().iter().any(|word| word.text() == r"\Noselect")) {
            let folder = line[3].text();
            elsewhere.ok(&format!("EXAMINE \"{folder}\""))?;
            // By UID: without messages, 1:* of numbers is an error and 1:* of UIDs is nothing.
            let fetched = elsewhere.ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")?;
            for response in
                fetched.untagged.iter().filter(|line| line.get(1).is_some_and(|w| w.text() == "FETCH"))
            {
                let facts = response[2].items();
                let Some(Item::Bytes(header)) = facts.last() else { panic!("no header in {facts:?}") };
                let subject = String::from_utf8_lossy(header).trim().replacen("Subject: ", "", 1);
                let flags = facts.iter().position(|fact| fact.text() == "FLAGS").unwrap() + 1;
                let flags = facts[flags].items().iter().map(Item::text);
                let flags: String = flags.filter_map(|flag| flag_letter(&flag)).collect();
                contents.entry((folder.clone(), subject)).or_default().push(sorted(&flags));
            }
            elsewhere.ok("CLOSE")?;
        }
        elsewhere.logout()?;
        Ok(contents)
    }

    /// Reads a file of the machine that is text.
    pub fn text(&self, path: &str) -> Result<String> {
        self.machine.inside(|| std::fs::read_to_string(path))?.doing(|| format!("read {path}"))
    }

    /// Replaces ann's file.
    pub fn replace(&self, path: &str, content: &str) -> Result<()> {
        self.machine.write(path, content.as_bytes(), (self.ann.uid, MAIL_GID), 0o600)
    }
}

fn flag_letter(flag: &str) -> Option<char> {
    match flag {
        r"\Draft" => Some('D'),
        r"\Flagged" => Some('F'),
        r"\Answered" => Some('R'),
        r"\Seen" => Some('S'),
        r"\Deleted" => Some('T'),
        _ => None,
    }
}

/// The letters of a word in their order.
pub fn sorted(letters: &str) -> String {
    let mut letters: Vec<char> = letters.chars().collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}
