//! The sites that mailboxes are converted on: Debian's Dovecot with the lines that some administrator added.

/// How the folders of the Maildir lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `.a.b` in the inbox.
    MaildirPlusPlus,
    /// `a/b`.
    Fs,
}

/// A site.
#[derive(Clone, Debug)]
pub struct Variation {
    /// What is particular about it.
    pub name: &'static str,
    /// Lines for Dovecot, beyond Debian's.
    pub dovecot: String,
    /// Lines of `[mail]` in mailready.toml.
    pub mail: String,
    /// The server's time zone, as in TZ.
    pub zone: &'static str,
    /// The mbox root, below the home; empty: the home itself.
    pub root: &'static str,
    /// The Maildir to be, with `~` and `%u`.
    pub maildir: &'static str,
    /// The work folder.
    pub work: &'static str,
    /// The folders of the Maildir.
    pub layout: Layout,
    /// What clients see before folder names, and between their levels.
    pub prefix: &'static str,
    /// The hierarchy separator that clients see.
    pub separator: char,
}

impl Variation {
    /// Debian's configuration as shipped.
    #[must_use]
    pub fn debian() -> Self {
        Self {
            name: "Debian",
            dovecot: String::new(),
            mail: String::new(),
            zone: "UTC0",
            root: "mail",
            maildir: "~/Maildir",
            work: "~/.mailready",
            layout: Layout::MaildirPlusPlus,
            prefix: "",
            separator: '/',
        }
    }

    /// Debian's with further lines for Dovecot.
    #[must_use]
    pub fn with_dovecot(name: &'static str, lines: &str) -> Self {
        Self { name, dovecot: lines.to_owned(), ..Self::debian() }
    }

    /// Folders as folders, which can keep every name.
    #[must_use]
    pub fn fs() -> Self {
        Self { name: "layout fs", mail: "layout = \"fs\"\n".into(), layout: Layout::Fs, ..Self::debian() }
    }

    /// A server that lives in another zone than its agent, with summer time.
    #[must_use]
    pub fn summer_time() -> Self {
        const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
        Self {
            name: "summer time",
            dovecot: format!("import_environment = TZ={ZONE}\n"),
            mail: format!("timezone = \"{ZONE}\"\n"),
            zone: ZONE,
            ..Self::debian()
        }
    }

    /// The mbox root is the home, as UW imapd had it: then Maildir and work folder have to lie elsewhere, or the old server would
    /// show each message in them as a folder.
    #[must_use]
    pub fn home() -> Self {
        Self {
            name: "the home is the mbox root",
            dovecot: "mail_location = mbox:~/:INBOX=/var/mail/%u\n".into(),
            mail: "folders = \"%h\"\n".into(),
            root: "",
            maildir: "/home/maildirs/%u/Maildir",
            work: "/home/maildirs/%u/work",
            ..Self::debian()
        }
    }

    /// All folders behind a prefix.
    #[must_use]
    pub fn prefix() -> Self {
        Self {
            name: "a prefix",
            dovecot: "namespace inbox {\n  prefix = mail/\n  separator = /\n}\n".into(),
            prefix: "mail/",
            ..Self::debian()
        }
    }

    /// The whole `[mail]` of mailready.toml.
    #[must_use]
    pub fn mail_section(&self) -> String {
        let place = |path: &str| path.replace('~', "%h");
        format!(
            "[mail]\nmaildir = \"{}\"\nwork = \"{}\"\n{}",
            place(self.maildir),
            place(self.work),
            self.mail
        )
    }

    /// A folder's name as clients send it: the separator of this site between the levels, the prefix before them.
    #[must_use]
    pub fn client_name(&self, wire: &str) -> String {
        if wire == "INBOX" {
            return wire.into();
        }
        format!("{}{}", self.prefix, wire.replace('/', &self.separator.to_string()))
    }
}
