//! The table of all keys: the one place where a key, its default and its reason are written.

/// A section of mailready.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Name between the brackets.
    pub name: &'static str,
    /// What the section is about, one line.
    pub about: &'static str,
}

/// A key of mailready.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Section it stands in.
    pub section: &'static str,
    /// Name within the section.
    pub name: &'static str,
    /// Default value, as TOML.
    pub default: &'static str,
    /// What values it takes and what they do.
    pub meaning: &'static str,
    /// Why it exists or why the default is what it is; empty where that is plain.
    pub reason: &'static str,
}

impl Key {
    /// `section.name`, as messages and the manual write it.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Whether this version takes the key and does nothing with it yet. To set it is no error, since a configuration is
    /// written once for all versions of a site; to be silent about it would be a promise.
    #[must_use]
    pub fn is_not_in_use_yet(&self) -> bool {
        NOT_IN_USE_YET.contains(&(self.section, self.name))
    }
}

/// The sections, in the order of the manual and of the example file.
pub const SECTIONS: &[Section] = &[
    Section { name: "users", about: "whom mailready may convert" },
    Section { name: "agent", about: "the agent's sockets and its own folder" },
    Section { name: "mail", about: "where mail is, and where it goes" },
    Section { name: "site", about: "the programs that read and deliver mail here" },
    Section { name: "arrival", about: "which signs of a user count" },
    Section { name: "sessions", about: "users who are reading mail at the moment of the change" },
    Section { name: "background", about: "work ahead of the users' arrival" },
    Section { name: "names", about: "how announced names become account names" },
    Section { name: "radius", about: "mailready-radius, the listener for accounting packets" },
    Section { name: "keep", about: "how long originals stay" },
];

const fn key(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
    reason: &'static str,
) -> Key {
    Key { section, name, default, meaning, reason }
}

/// Every key. Unknown keys in a file are errors.
pub const KEYS: &[Key] = &[
    key(
        "users",
        "convert",
        r#""none""#,
        "Whom arrivals and background work may convert: \"none\", \"listed\" (the users in `allow`) or \"all\".",
        "A fresh installation only watches and announces. An operator's `mailready convert USER` is not bound by it.",
    ),
    key(
        "users",
        "allow",
        r#""/etc/mailready/allow""#,
        "File with the users that convert = \"listed\" means, one a line; `#` begins a comment.",
        "A missing file names nobody.",
    ),
    key(
        "users",
        "first",
        r#""/etc/mailready/first""#,
        "File with the users whom background work takes first, in this order, one a line.",
        "Begin with your own account and with those who will tell you.",
    ),
    key(
        "users",
        "hold",
        r#""/etc/mailready/hold""#,
        "File with the users who are not to be converted, one a line.",
        "For holds under configuration management; those made by `mailready hold` are files in the state folder.",
    ),
    key(
        "users",
        "min_uid",
        "1000",
        "Accounts with a lower uid are never converted.",
        "System accounts have mail of their own kind: root's mail is often the only sign of trouble.",
    ),
    key("users", "max_uid", "59999", "Accounts with a higher uid are never converted.", "nobody is 65534."),
    key(
        "agent",
        "socket",
        r#""/run/mailready/arrival.sock""#,
        "Socket where trusted programs announce arrivals (mode 0660, group mailready).",
        "",
    ),
    key(
        "agent",
        "self_socket",
        r#""/run/mailready/self.sock""#,
        "Socket where a user's own processes announce that user, and where sessions ask for their lease (mode 0666).",
        "A socket of its own, so that no flood by users hides what root announces.",
    ),
    key(
        "agent",
        "control",
        r#""/run/mailready/control.sock""#,
        "Socket of the D-Bus interface, peer to peer; the mailready command always uses it.",
        "The command works where no system bus runs.",
    ),
    key(
        "agent",
        "bus",
        r#""system""#,
        "Where the D-Bus interface is offered besides: \"system\", \"none\" or a D-Bus address.",
        "A bus that is down delays nothing.",
    ),
    key(
        "agent",
        "state",
        r#""/var/lib/mailready""#,
        "The agent's folder: archive records, holds, the map for Dovecot.",
        "One agent a folder. Include it in the backups together with mail.archive.",
    ),
    key(
        "agent",
        "workers",
        "2",
        "Mailboxes converted at once when users arrive, 1 to 64.",
        "Background work uses what is left of them.",
    ),
    key("mail", "inbox", r#""/var/mail/%u""#, "The mbox inbox of a user.", "See TEMPLATES."),
    key(
        "mail",
        "folders",
        r#""%h/mail""#,
        "The folder with the user's further mbox files; \"\" if there is only the inbox.",
        "It is what stands behind `mbox:` in Dovecot's mail_location, and may be the home itself: files that are no mbox are left alone.",
    ),
    key("mail", "maildir", r#""%h/Maildir""#, "Where the user's Maildir will be.", "It must not exist yet."),
    key(
        "mail",
        "layout",
        r#""maildir++""#,
        "How folders lie in the Maildir: \"maildir++\" (.Sent.2024) or \"fs\" (Sent/2024).",
        "\"maildir++\" cannot keep names with a dot, and shows levels apart with the dot unless the namespace sets a separator. With \"fs\", tell the post-login script too.",
    ),
    key(
        "mail",
        "work",
        r#""%h/.mailready""#,
        "Folder for Maildirs being written and mail being carried over; on the file system of the Maildir.",
        "Outside everything that servers show: in an mbox root each message file would be listed as a folder.",
    ),
    key(
        "mail",
        "archive",
        r#""/var/mail/.mailready""#,
        "Folder for the original inboxes; on their file system. Made 0700 and root's.",
        "The original changes places with its successor in one step, which only works within one file system.",
    ),
    key(
        "mail",
        "locks",
        r#"["dotlock", "fcntl"]"#,
        "The locks that programs here take on an mbox: \"dotlock\", \"fcntl\", \"flock\", in their order.",
        "Debian's programs take the first two.",
    ),
    key(
        "mail",
        "timezone",
        r#""""#,
        "The mail server's TZ if it differs from the agent's, such as \"Europe/Berlin\".",
        "An mbox keeps dates of arrival in local time.",
    ),
    key(
        "mail",
        "single_host",
        "false",
        "true: only this host reads and delivers the mail, although it lies on a network file system.",
        "The locks and leases of another host are not seen here.",
    ),
    key(
        "site",
        "readers",
        r#"["dovecot"]"#,
        "The servers that read mail here: \"dovecot\". They are checked before anything is converted; [] = you answer for it.",
        "A server that keeps reading the mbox would show an empty mailbox.",
    ),
    key(
        "site",
        "deliverers",
        r#"["postfix"]"#,
        "The programs that deliver: \"postfix\", \"exim\", \"procmail\", \"maildrop\", \"dovecot-lda\", \"dovecot-lmtp\"; [] = you answer for it.",
        "They are asked by their own tools, and so are programs that they hand mail to; one that would deliver elsewhere blocks everybody. Mail that is delivered to the old place is carried over. A rollback makes no mbox that is larger than Postfix delivers to.",
    ),
    key(
        "site",
        "dovecot_config",
        r#"["/etc/dovecot/dovecot.conf"]"#,
        "The main configuration file of every Dovecot instance that serves these users.",
        "",
    ),
    key(
        "arrival",
        "sources",
        r#"["pam", "ppp", "radius", "logind", "dovecot"]"#,
        "Whose announcements count: \"pam\", \"ppp\", \"radius\", \"logind\", \"dovecot\", \"script\".",
        "",
    ),
    key(
        "arrival",
        "services",
        r#"["sshd", "login", "dovecot", "imap", "pop3", "ppp"]"#,
        "PAM services that count as an arrival.",
        "cron, su and sudo open PAM sessions too, and nobody reads mail then.",
    ),
    key(
        "sessions",
        "probe",
        r#""dovecot""#,
        "How open sessions are found: \"dovecot\" (leases and `doveadm who`) or \"none\" (leases alone).",
        "",
    ),
    key(
        "sessions",
        "policy",
        r#""kick-imap""#,
        "What happens to them: \"kick-imap\" (IMAP sessions are ended, clients reconnect; POP3 is waited for) or \"wait\".",
        "A POP3 session that is cut loses its deletions; an IMAP client reconnects within a second.",
    ),
    key(
        "sessions",
        "wait_limit",
        r#""12h""#,
        "How long to wait for sessions to end before the user is reported as blocked.",
        "",
    ),
    key(
        "sessions",
        "max_waiting",
        "32",
        "Logins that wait for their Maildir at once; the others go on with the mbox.",
        "",
    ),
    key(
        "sessions",
        "budget",
        r#""20s""#,
        "How long one login may wait for its Maildir, 1s to 50s.",
        "Dovecot ends a post-login script after 60 s, and the login with it.",
    ),
    key(
        "background",
        "mode",
        r#""off""#,
        "\"off\", \"stage\" (prepare Maildirs, so that an arrival takes a moment) or \"convert\".",
        "",
    ),
    key(
        "background",
        "window",
        r#"["02:00-06:00"]"#,
        "Local times of day at which background work may run; [] = never.",
        "",
    ),
    key(
        "background",
        "chunk",
        "100",
        "Users in one portion: among so many conversions, arrivals included, failures are counted.",
        "",
    ),
    key(
        "background",
        "max_failures",
        "3",
        "Mailboxes that fail in one portion, or within an hour, at which neither background work nor arrivals convert anybody any more, until a reload or `mailready background start`.",
        "A wrong setting must not reach everybody. Mailboxes that are busy or blocked do not count; `mailready convert USER` always may.",
    ),
    key(
        "names",
        "rewrite",
        "[]",
        "Rules `PATTERN => REPLACEMENT` for announced names; the first whose regular expression matches the whole name is taken, $1 is its first group.",
        "Dial-in and RADIUS name people their own way: [\"ppp-(.*) => $1\"]. It comes before all else in this section.",
    ),
    key(
        "names",
        "strip_realm",
        "true",
        "ann@example.org announced by RADIUS or Dovecot is the account ann.",
        "",
    ),
    key(
        "names",
        "detail",
        r#""""#,
        "The character that parts user and detail: with \"+\", ann+lists is the account ann. Empty: none.",
        "",
    ),
    key(
        "names",
        "lowercase",
        "false",
        "Look names up in lower case: Ann announced by RADIUS is the account ann.",
        "Only where no two accounts differ by case alone.",
    ),
    key(
        "radius",
        "listen",
        r#"["[::]:1813"]"#,
        "Addresses and ports where accounting packets are received.",
        "",
    ),
    key(
        "radius",
        "clients",
        r#""/etc/mailready/radius-clients""#,
        "File of `ADDRESS[/PREFIX] SECRET`, one a line; must not be readable by others.",
        "",
    ),
    key(
        "radius",
        "rate",
        "1000",
        "Packets a second that are taken of one client; 0 sets no limit.",
        "More are dropped, and the client sends them again: one that has gone wrong takes nothing from the others.",
    ),
    key(
        "keep",
        "original_days",
        "30",
        "Days that the original mboxes are kept after the conversion, or after a rollback, 1 to 36500; 0 = for ever.",
        "While they are there, nothing is lost that can be named. They take room: reckon with twice the mail. The days have to pass by the clock and by the agent's own count, so that a clock set wrong removes nothing early.",
    ),
    key(
        "keep",
        "reserve",
        r#""5%""#,
        "What stays free of a file system, and of a user's quota on it, in bytes and in files, \"0%\" to \"90%\": nothing is converted, rolled back or verified that would take of it.",
        "Mail goes on coming meanwhile, and Postfix bounces what does not fit into a quota. The Maildir is new room on its file system; the original stays on its own, and counts against no user's quota there.",
    ),
];

/// What the keys are for comes with later versions.
const NOT_IN_USE_YET: &[(&str, &str)] =
    &[("users", "first"), ("background", "mode"), ("background", "window")];

/// The shipped example: every key with its default, commented out, with meaning and reason.
#[must_use]
pub fn example() -> String {
    let mut text = String::from(
        "# mailready.toml, see mailready.toml(5). Every key is shown with its default; nothing here needs to be set.\n\
         # Files in conf.d/ beside this one are read after it, sorted by name, and win key by key.\n\
         # `mailready check-config` tells whether all of it holds together.\n",
    );
    for section in SECTIONS {
        text.push_str(&format!("\n# {}\n[{}]\n", section.about, section.name));
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            text.push_str(&format!("\n# {}\n", key.meaning));
            if !key.reason.is_empty() {
                text.push_str(&format!("# ({})\n", key.reason));
            }
            if key.is_not_in_use_yet() {
                text.push_str("# Not in use yet.\n");
            }
            text.push_str(&format!("#{} = {}\n", key.name, key.default));
        }
    }
    text
}
