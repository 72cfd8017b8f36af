//! The configuration as the programs use it. The keys are described in [`crate::KEYS`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Key, Rewrite, Template, Window};

/// All of mailready.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whom mailready may convert.
    pub users: Users,
    /// The agent's sockets and its own folder.
    pub agent: Agent,
    /// Where mail is, and where it goes.
    pub mail: Mail,
    /// The programs that read and deliver mail.
    pub site: Site,
    /// Which signs of a user count.
    pub arrival: Arrival,
    /// Users who are reading mail at the moment of the change.
    pub sessions: Sessions,
    /// Work ahead of the users' arrival.
    pub background: Background,
    /// How announced names become account names.
    pub names: Names,
    /// The listener for accounting packets.
    pub radius: Radius,
    /// How long originals stay.
    pub keep: Keep,
    /// Keys that a file sets and this version does nothing with yet, to be told to whoever set them.
    pub not_in_use_yet: Vec<&'static Key>,
}

/// `[users]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// Whom arrivals and background work may convert.
    pub convert: Convert,
    /// File with the users that [`Convert::Listed`] means.
    pub allow: PathBuf,
    /// File with the users who come first in background work.
    pub first: PathBuf,
    /// File with the users who are not to be converted.
    pub hold: PathBuf,
    /// Lowest uid that is converted.
    pub min_uid: u32,
    /// Highest uid that is converted.
    pub max_uid: u32,
}

/// `[agent]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Where trusted programs announce.
    pub socket: PathBuf,
    /// Where users' own processes announce and ask for leases.
    pub self_socket: PathBuf,
    /// D-Bus peer to peer.
    pub control: PathBuf,
    /// D-Bus besides.
    pub bus: Bus,
    /// The agent's folder.
    pub state: PathBuf,
    /// Mailboxes converted at once, 1..=64.
    pub workers: u32,
}

/// `[mail]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The mbox inbox.
    pub inbox: Template,
    /// Folder of the further mbox files; None: inbox only.
    pub folders: Option<Template>,
    /// Where the Maildir will be.
    pub maildir: Template,
    /// How folders lie in the Maildir.
    pub layout: Layout,
    /// Folder for Maildirs being written.
    pub work: Template,
    /// Folder for original inboxes.
    pub archive: PathBuf,
    /// Locks of the site, in their order.
    pub locks: Vec<Lock>,
    /// The mail server's TZ; None: the agent's.
    pub timezone: Option<String>,
    /// Only this host touches the mail.
    pub single_host: bool,
}

/// `[site]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Servers that read mail; empty: the operator answers for it.
    pub readers: Vec<Reader>,
    /// Programs that deliver; empty: the operator answers for it.
    pub deliverers: Vec<Deliverer>,
    /// Main configuration files of Dovecot.
    pub dovecot_config: Vec<PathBuf>,
}

/// `[arrival]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Whose announcements count.
    pub sources: Vec<Source>,
    /// PAM services that count.
    pub services: Vec<String>,
}

/// `[sessions]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    /// How open sessions are found.
    pub probe: Probe,
    /// What happens to them.
    pub policy: Policy,
    /// How long to wait for them before the user is blocked.
    pub wait_limit: Duration,
    /// Logins that wait at once.
    pub max_waiting: u32,
    /// How long one login may wait.
    pub budget: Duration,
}

/// `[background]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    /// What is done.
    pub mode: BackgroundMode,
    /// When, by local time; empty: never.
    pub window: Vec<Window>,
    /// Users in one portion.
    pub chunk: u32,
    /// Failures in one portion that stop it.
    pub max_failures: u32,
}

/// `[names]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The first rule that is about a name makes another one of it, before anything else is done.
    pub rewrite: Vec<Rewrite>,
    /// `user@realm` is the account `user`.
    pub strip_realm: bool,
    /// `user+detail` is the account `user`, if this is `+`; None: details are not known here.
    pub detail: Option<char>,
    /// Names are looked up in lower case.
    pub lowercase: bool,
}

/// `[radius]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Radius {
    /// Where accounting packets are received.
    pub listen: Vec<SocketAddr>,
    /// File of clients and their secrets.
    pub clients: PathBuf,
    /// Packets a second that are taken of one client; 0: any number.
    pub rate: u32,
}

/// `[keep]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Days that originals stay, 1..=36500; 0: for ever.
    pub original_days: u32,
    /// Per cent of a disk, and of a user's share of it, that stages, rollbacks and verifications leave free, 0..=90.
    pub reserve: u8,
}

/// `agent.bus`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// Peer to peer only.
    None,
    /// A D-Bus address, such as `unix:path=/run/x`.
    Address(String),
}

/// A choice among words: the enum, its words, and how one becomes the other.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            pub(crate) const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            /// The word in the file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// `users.convert`
    Convert {
        /// Nobody.
        None = "none",
        /// Those in the file `users.allow`.
        Listed = "listed",
        /// Everybody between `min_uid` and `max_uid`.
        All = "all",
    }
}
words! {
    /// `mail.layout`
    Layout {
        /// `.Sent.2024`
        MaildirPlusPlus = "maildir++",
        /// `Sent/2024`
        Fs = "fs",
    }
}
words! {
    /// One of `mail.locks`
    Lock {
        /// `FILE.lock`
        Dotlock = "dotlock",
        /// fcntl(2) record lock.
        Fcntl = "fcntl",
        /// flock(2).
        Flock = "flock",
    }
}
words! {
    /// One of `site.readers`
    Reader {
        /// Dovecot's imap and pop3.
        Dovecot = "dovecot",
    }
}
words! {
    /// One of `site.deliverers`
    Deliverer {
        /// Postfix local(8) writing the mbox itself.
        Postfix = "postfix",
        /// Exim.
        Exim = "exim",
        /// procmail.
        Procmail = "procmail",
        /// maildrop.
        Maildrop = "maildrop",
        /// Dovecot's local delivery agent.
        DovecotLda = "dovecot-lda",
        /// Dovecot's LMTP server.
        DovecotLmtp = "dovecot-lmtp",
    }
}
words! {
    /// One of `arrival.sources`
    Source {
        /// The PAM module.
        Pam = "pam",
        /// pppd's scripts.
        Ppp = "ppp",
        /// RADIUS accounting.
        Radius = "radius",
        /// systemd-logind.
        Logind = "logind",
        /// Dovecot's post-login script.
        Dovecot = "dovecot",
        /// Any other script.
        Script = "script",
    }
}
words! {
    /// `sessions.probe`
    Probe {
        /// Leases and `doveadm who`.
        Dovecot = "dovecot",
        /// Leases alone.
        None = "none",
    }
}
words! {
    /// `sessions.policy`
    Policy {
        /// IMAP sessions are ended, POP3 sessions waited for.
        KickImap = "kick-imap",
        /// All are waited for.
        Wait = "wait",
    }
}
words! {
    /// `background.mode`
    BackgroundMode {
        /// Nothing.
        Off = "off",
        /// Maildirs are prepared.
        Stage = "stage",
        /// Users are converted.
        Convert = "convert",
    }
}
