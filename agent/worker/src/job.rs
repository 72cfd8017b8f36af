//! The job: what a worker is told first, once, by the agent. Plain text fields, each ended by a NUL, in a fixed order.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

pub use mailready_mailbox::Layout;

use crate::wire::Garbled;

/// Longest job in bytes.
pub const MAX: usize = 64 * 1024;

/// Version of the fields below; agent and worker of one installation always agree, one left over from before an upgrade must not guess.
const VERSION: &str = "mailready-job 3";

/// What the worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Make a Maildir of the mboxes. The descriptor is the spool.
    Convert,
    /// Say where the mail is, finish what was begun, carry late mail over. No descriptor.
    Drain,
    /// Make mboxes of the Maildir again. The descriptor is the back file: empty, open for reading and writing.
    Rollback,
    /// Have Dovecot read the originals again and compare. The descriptor is the original spool.
    Verify,
}

impl Purpose {
    const WORDS: [(Self, &'static str); 4] = [
        (Self::Convert, "convert"),
        (Self::Drain, "drain"),
        (Self::Rollback, "rollback"),
        (Self::Verify, "verify"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        word(&Self::WORDS, &self)
    }
}

const LAYOUTS: [(Layout, &str); 2] = [(Layout::MaildirPlusPlus, "maildir++"), (Layout::Fs, "fs")];

fn word<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    words.iter().find(|(each, _)| each == value).map_or("", |(_, word)| word)
}

fn from_word<T: Copy>(words: &[(T, &'static str)], text: &[u8]) -> Result<T, Garbled> {
    words.iter().find(|(_, word)| word.as_bytes() == text).map(|(value, _)| *value).ok_or(Garbled)
}

/// The kinds of lock that the site's programs go by (`mail.locks`); the worker takes them on the folders, the agent on the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// `PATH.lock`.
    pub dotlock: bool,
    /// POSIX locks.
    pub fcntl: bool,
    /// BSD locks.
    pub flock: bool,
}

impl Locks {
    fn encode(self) -> String {
        let words = [(self.dotlock, "dotlock"), (self.fcntl, "fcntl"), (self.flock, "flock")];
        let words: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        words.join(",")
    }

    fn decode(text: &[u8]) -> Result<Self, Garbled> {
        let mut locks = Self::default();
        for word in text.split(|byte| *byte == b',').filter(|word| !word.is_empty()) {
            match word {
                b"dotlock" => locks.dotlock = true,
                b"fcntl" => locks.fcntl = true,
                b"flock" => locks.flock = true,
                _ => return Err(Garbled),
            }
        }
        Ok(locks)
    }
}

/// One mailbox and who it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What for.
    pub purpose: Purpose,
    /// Run id.
    pub run: String,
    /// Login name, for messages only.
    pub user: String,
    /// To become; never 0.
    pub uid: u32,
    /// To become.
    pub gid: u32,
    /// The home.
    pub home: PathBuf,
    /// Where the Maildir is or is going to be.
    pub maildir: PathBuf,
    /// The work folder.
    pub work: PathBuf,
    /// The spool's path, for the marker; the worker never opens it by name.
    pub inbox: PathBuf,
    /// Root of the mbox folders; empty if none. It may be a symbolic link; nothing below it may.
    pub folders: PathBuf,
    /// Where Dovecot keeps the mboxes' indexes (`INDEX=`); empty: at the root.
    pub index: PathBuf,
    /// Where Dovecot keeps `.subscriptions` (`CONTROL=`); empty: at the root.
    pub control: PathBuf,
    /// How mailboxes lie in the Maildir.
    pub layout: Layout,
    /// Prefix of the inbox namespace, `INBOX.` for instance; for names that Dovecot tells.
    pub prefix: String,
    /// Separator that clients see; for names that Dovecot tells.
    pub separator: char,
    /// Locks to take on the folders.
    pub locks: Locks,
    /// `pop3_uidl_format` if what it gives for a message hangs on the message's GUID (`%g`), so that it has to be kept; else empty.
    pub uidl: String,
    /// `pop3_reuse_xuidl`: a header X-UIDL goes before that format.
    pub reuse_xuidl: bool,
    /// `TZ` of the mail server; empty = the machine's.
    pub timezone: String,
    /// Per cent of the disk, and of the user's share of it, that stay free (`keep.reserve`).
    pub reserve: u8,
}

impl Job {
    /// As it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let reserve = self.reserve.to_string();
        let (separator, locks) = (self.separator.to_string(), self.locks.encode());
        let texts = [
            VERSION,
            self.purpose.word(),
            &self.run,
            &self.user,
            &uid,
            &gid,
            word(&LAYOUTS, &self.layout),
            &self.prefix,
            &separator,
            &locks,
            &self.uidl,
            if self.reuse_xuidl { "1" } else { "0" },
            &self.timezone,
            &reserve,
        ];
        let paths =
            [&self.home, &self.maildir, &self.work, &self.inbox, &self.folders, &self.index, &self.control];
        let fields = texts
            .iter()
            .map(|text| text.as_bytes())
            .chain(paths.iter().map(|path| path.as_os_str().as_bytes()));
        for field in fields {
            out.extend_from_slice(field);
            out.push(0);
        }
        out
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Garbled`] for a job of another version, with fields missing or over, or for user 0.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        let fields: Vec<&[u8]> = packet.strip_suffix(&[0]).ok_or(Garbled)?.split(|byte| *byte == 0).collect();
        let [
            version,
            purpose,
            run,
            user,
            uid,
            gid,
            layout,
            prefix,
            separator,
            locks,
            uidl,
            reuse_xuidl,
            timezone,
            reserve,
            ref paths @ ..,
        ] = fields[..]
        else {
            return Err(Garbled);
        };
        let [home, maildir, work, inbox, folders, index, control] = paths[..] else { return Err(Garbled) };
        if version != VERSION.as_bytes() {
            return Err(Garbled);
        }
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).map_err(|_| Garbled);
        let number = |field: &[u8]| text(field)?.parse::<u32>().map_err(|_| Garbled);
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(field.to_vec()));
        let separator = text(separator)?;
        let uid = number(uid)?;
        if uid == 0 {
            return Err(Garbled);
        }
        Ok(Self {
            purpose: from_word(&Purpose::WORDS, purpose)?,
            run: text(run)?,
            user: text(user)?,
            uid,
            gid: number(gid)?,
            home: path(home),
            maildir: path(maildir),
            work: path(work),
            inbox: path(inbox),
            folders: path(folders),
            index: path(index),
            control: path(control),
            layout: from_word(&LAYOUTS, layout)?,
            prefix: text(prefix)?,
            separator: separator.parse().map_err(|_| Garbled)?,
            locks: Locks::decode(locks)?,
            uidl: text(uidl)?,
            reuse_xuidl: match reuse_xuidl {
                b"0" => false,
                b"1" => true,
                _ => return Err(Garbled),
            },
            timezone: text(timezone)?,
            reserve: text(reserve)?.parse().map_err(|_| Garbled)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn job() -> Job {
        Job {
            purpose: Purpose::Convert,
            run: "20260102T030405Z-0123456789abcdef".into(),
            user: "ann".into(),
            uid: 1001,
            gid: 1001,
            home: "/home/ann".into(),
            maildir: "/home/ann/Maildir".into(),
            work: "/home/ann/.mailready".into(),
            inbox: "/var/mail/ann".into(),
            folders: PathBuf::new(),
            index: PathBuf::new(),
            control: PathBuf::new(),
            layout: Layout::MaildirPlusPlus,
            prefix: String::new(),
            separator: '/',
            locks: Locks { dotlock: true, fcntl: true, flock: false },
            uidl: String::new(),
            reuse_xuidl: false,
            timezone: String::new(),
            reserve: 5,
        }
    }

    #[test]
    fn comes_back_as_it_went() {
        assert_eq!(Job::decode(&job().encode()), Ok(job()));
        let other = Job {
            purpose: Purpose::Rollback,
            folders: "/home/ann/mail".into(),
            index: "/var/index/ann".into(),
            layout: Layout::Fs,
            prefix: "INBOX.".into(),
            separator: '.',
            locks: Locks { dotlock: false, fcntl: false, flock: true },
            uidl: "%g".into(),
            reuse_xuidl: true,
            timezone: "Europe/Berlin".into(),
            reserve: 100,
            ..job()
        };
        assert_eq!(Job::decode(&other.encode()), Ok(other));
    }

    #[test]
    fn user_0_and_cut_or_foreign_jobs_are_refused() {
        assert_eq!(Job::decode(&Job { uid: 0, ..job() }.encode()), Err(Garbled));
        let whole = job().encode();
        for cut in 0..whole.len() {
            // A cut that ends exactly before the last NUL's field separator still misses a field.
            assert_eq!(Job::decode(&whole[..cut]), Err(Garbled), "cut at {cut}");
        }
        let mut newer = whole.clone();
        newer[14] = b'4';
        assert_eq!(Job::decode(&newer), Err(Garbled));
    }
}
