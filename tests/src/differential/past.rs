//! A past: a mailbox as years of use leave it, lived through with the real servers, from a seed.

use crate::lab::mail::{self, Seeded};
use crate::lab::{Look, Result, User, quoted};

use super::deliverers::{Deliverer, append};
use super::letters::{Letter, pick};
use super::names::{self, wire};
use super::sessions::{self, End};
use super::stand::Stand;
use super::variation::Layout;

/// What to live through.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Where chance begins.
    pub seed: u64,
    /// Deliveries and sessions in turn, so many times.
    pub rounds: u64,
    /// Whether there are folders besides the inbox.
    pub folders: bool,
    /// How closely clients have looked.
    pub look: Look,
}

/// A folder that another server has left: the message that holds its numbers, which no client sees, and two of mail.
pub(super) const PSEUDO: &str = "From MAILER-DAEMON Mon Sep  3 10:00:00 2001
Date: 03 Sep 2001 10:00:00 +0200
From: Mail System Internal Data <MAILER-DAEMON@uni.example>
Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA
Message-ID: <999507600@uni.example>
X-IMAP: 0999507600 0000000042 old $NotJunk
Status: RO

This text is part of the internal format of your mail folder.

From ada@engine.example Tue Sep  4 11:00:00 2001 +0200
Subject: kept
Status: RO
X-Status: F
X-Keywords: $NotJunk old
X-UID: 17

kept

From ada@engine.example Tue Sep  4 12:00:00 2001 -0730
Subject: not seen
Status: O
X-UID: 42

not seen

";

/// A life going on.
struct Life<'a> {
    stand: &'a Stand,
    user: &'a User,
    random: Seeded,
    /// Wire names of all mboxes; the inbox first.
    boxes: Vec<String>,
    letters: u64,
}

impl Past {
    /// Lives it.
    ///
    /// # Errors
    /// If a server refuses what it should not.
    pub fn live(&self, stand: &Stand, user: &User) -> Result<()> {
        let mut life =
            Life { stand, user, random: Seeded::new(self.seed), boxes: vec!["INBOX".into()], letters: 0 };
        if self.folders {
            life.found()?;
        }
        for _ in 0..6 {
            life.deliver("INBOX")?;
        }
        for _ in 0..self.rounds {
            life.deliveries()?;
            life.use_it()?;
        }
        life.end(self.look)
    }
}

impl Life<'_> {
    fn clients(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| self.stand.variation.client_name(name)).collect()
    }

    /// Makes the folders: by a client, by a deliverer, by hand. And beside them what no mail client made.
    fn found(&mut self) -> Result<()> {
        let mut names: Vec<String> = names::PLAIN.iter().map(|name| wire(name)).collect();
        if self.stand.variation.layout == Layout::Fs {
            names.extend(names::WITH_DOTS.iter().map(|name| wire(name)));
        }
        let mut imap = self.stand.imap(self.user)?;
        for (number, name) in names.iter().enumerate() {
            let client = self.stand.variation.client_name(name);
            if number % 2 == 0 {
                imap.ok(&format!("CREATE {}", quoted(client.as_bytes())))?;
            } else {
                self.make_folder(name)?;
                let content = if name == "Trash" { PSEUDO.as_bytes() } else { b"" };
                append(&self.stand.machine, self.user, &self.stand.mbox(self.user, name), content)?;
            }
            if number % 3 == 0 {
                imap.ok(&format!("SUBSCRIBE {}", quoted(client.as_bytes())))?;
            }
        }
        // Users forget to unsubscribe from what they delete.
        let gone = quoted(self.stand.variation.client_name("lists/long ago").as_bytes());
        for command in ["CREATE", "SUBSCRIBE", "DELETE"] {
            imap.ok(&format!("{command} {gone}"))?;
        }
        imap.logout()?;
        self.boxes.extend(names);
        self.boxes.push("awkward".into());
        append(&self.stand.machine, self.user, &self.stand.mbox(self.user, "awkward"), &mail::awkward())?;
        let notes = format!("{}/lists/notes.txt", self.stand.root(self.user));
        append(&self.stand.machine, self.user, &notes, b"This is no mailbox.\n")?;
        if self.stand.variation.layout == Layout::Fs {
            self.make_folder("nothing/below/here")?;
        }
        Ok(())
    }

    /// The folders on the way to an mbox.
    fn make_folder(&self, name: &str) -> Result<()> {
        let (mbox, user) = (self.stand.mbox(self.user, name), self.user);
        let parent = mbox.rsplit_once('/').map_or("/", |(parent, _)| parent);
        self.stand.machine.run(
            "setpriv",
            [
                &format!("--reuid={}", user.uid),
                &format!("--regid={}", user.gid),
                "--clear-groups",
                "sh",
                "-c",
                "umask 077; mkdir -p \"$1\"",
                "sh",
                parent,
            ],
        )?;
        Ok(())
    }

    fn deliver(&mut self, name: &str) -> Result<()> {
        self.letters += 1;
        let letter = Letter::next(&mut self.random, self.letters);
        let deliverer = Deliverer::any(&mut self.random);
        deliverer.deliver(self.stand, self.user, name, &letter)
    }

    /// The mboxes that are used: one stays empty, one as it was found.
    fn busy(&self) -> Vec<String> {
        self.boxes.iter().filter(|name| !["empty", "awkward"].contains(&name.as_str())).cloned().collect()
    }

    fn any_box(&mut self) -> String {
        // Every other time the inbox.
        let busy = self.busy();
        let at = if self.random.below(2) == 0 { 0 } else { pick(&mut self.random, busy.len()) };
        busy[at].clone()
    }

    fn deliveries(&mut self) -> Result<()> {
        for _ in 0..3 + self.random.below(4) {
            let name = self.any_box();
            self.deliver(&name)?;
        }
        Ok(())
    }

    fn use_it(&mut self) -> Result<()> {
        let name = self.any_box();
        let folder = self.stand.variation.client_name(&name);
        let others = self.clients(&self.busy());
        let end = End::any(&mut self.random);
        sessions::imap(self.stand, self.user, &mut self.random, &folder, &others, end)?;
        if self.random.below(4) == 0 {
            sessions::pop3(self.stand, self.user, &mut self.random)?;
        }
        Ok(())
    }

    /// The last days before the conversion: the state in which it has to find everything.
    fn end(&mut self, look: Look) -> Result<()> {
        if self.boxes.iter().any(|name| name == "keywords") {
            for _ in 0..5 {
                self.deliver("keywords")?;
            }
            let name = self.stand.variation.client_name("keywords");
            sessions::many_keywords(self.stand, self.user, &name)?;
        }
        for name in self.busy().iter().step_by(4) {
            self.expunge_the_last(name)?;
        }
        sessions::visit_all(self.stand, self.user, look)?;
        for name in ["INBOX", "INBOX", "lists/rust"] {
            if self.boxes.iter().any(|known| known == name) {
                self.deliver(name)?;
            }
        }
        for name in self.clients(&self.boxes).iter().take(3) {
            sessions::killed_with_pending_flags(self.stand, self.user, name)?;
        }
        // And mail that nobody has seen yet, behind the flags that are written down nowhere but in the index.
        self.deliver("INBOX")?;
        let last =
            "From ada@engine.example Tue Feb  3 04:05:06 2009\nSubject: the disk was full\n\nno line end";
        let mbox = self.stand.mbox(self.user, "INBOX");
        append(&self.stand.machine, self.user, &mbox, last.as_bytes())
    }

    /// So that UIDNEXT is more than one above the last UID.
    fn expunge_the_last(&self, name: &str) -> Result<()> {
        let mut imap = self.stand.imap(self.user)?;
        let folder = self.stand.variation.client_name(name);
        imap.ok(&format!("SELECT {}", quoted(folder.as_bytes())))?;
        let answer = imap.command(r"STORE * +FLAGS.SILENT (\Deleted)")?;
        if answer.status == "OK" {
            imap.ok("EXPUNGE")?;
        }
        imap.logout()?;
        self.stand.sessions_end()
    }
}
