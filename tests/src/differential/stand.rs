//! The stand of a comparison: a machine with a site, at first as it was before mailready came, then with it.

use crate::lab::{CONFIG, Daemon, Dump, Imap, LabError, Look, Machine, Result, Site, User, eventually};

use super::variation::{Layout, Variation};

/// A machine with a site on it.
pub struct Stand {
    /// The machine.
    pub machine: Machine,
    /// The site.
    pub variation: Variation,
    dovecot: Daemon,
    agent: Option<Daemon>,
}

const LOCAL: &str = "/etc/dovecot/local.conf";

impl Stand {
    /// A site without mailready, Dovecot running. `None` where there are no machines.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn before(variation: Variation) -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Debian)?;
        let mut local = machine.read(LOCAL)?;
        local.extend_from_slice(variation.dovecot.as_bytes());
        machine.write(LOCAL, &local, (0, 0), 0o644)?;
        let dovecot = machine.start_dovecot()?;
        Ok(Some(Self { machine, variation, dovecot, agent: None }))
    }

    /// A user with an account and an empty spool.
    ///
    /// # Errors
    /// If the account cannot be made.
    pub fn user(&self, name: &str) -> Result<User> {
        self.machine.add_user(name, "correct-horse", b"")
    }

    /// Logs in by IMAP.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn imap(&self, user: &User) -> Result<Imap> {
        Imap::login(&self.machine, &user.name, &user.password)
    }

    /// The mbox of a folder, `INBOX` or a name as on the wire.
    #[must_use]
    pub fn mbox(&self, user: &User, wire: &str) -> String {
        if wire == "INBOX" { user.spool() } else { format!("{}/{wire}", self.root(user)) }
    }

    /// The mbox root.
    #[must_use]
    pub fn root(&self, user: &User) -> String {
        format!("{}/{}", user.home(), self.variation.root).trim_end_matches('/').to_owned()
    }

    /// The Maildir to be.
    #[must_use]
    pub fn maildir(&self, user: &User) -> String {
        self.variation.maildir.replace('~', &user.home()).replace("%u", &user.name)
    }

    /// Installs mailready and starts the agent, before Dovecot starts again, so that it may commit at once.
    ///
    /// # Errors
    /// If something does not start.
    pub fn bring_mailready(&mut self) -> Result<()> {
        self.machine.stop_dovecot(&self.dovecot)?;
        self.machine.install_mailready(Site::Debian)?;
        self.settle_the_script()?;
        let settings = format!("{CONFIG}{}", self.variation.mail_section());
        self.agent = Some(self.machine.start_agent(&settings)?);
        self.dovecot = self.machine.start_dovecot()?;
        Ok(())
    }

    /// Sets the lines at the head of the post-login script, as an administrator does where places are not the usual ones.
    fn settle_the_script(&self) -> Result<()> {
        let path = "/etc/mailready/postlogin";
        let script = String::from_utf8_lossy(&self.machine.read(path)?).into_owned();
        let place = |path: &str| path.replace('~', "$HOME").replace("%u", "$USER");
        let layout = match self.variation.layout {
            Layout::MaildirPlusPlus => "maildir++",
            Layout::Fs => "fs",
        };
        let lines = script.lines().map(|line| match line.split_once('=') {
            Some(("maildir", _)) => format!("maildir=\"{}\"\n", place(self.variation.maildir)),
            Some(("work", _)) => format!("work=\"{}\"\n", place(self.variation.work)),
            Some(("layout", _)) => format!("layout={layout}\n"),
            _ => format!("{line}\n"),
        });
        self.machine.write(path, lines.collect::<String>().as_bytes(), (0, 0), 0o755)
    }

    /// Restarts Dovecot, for a change of its configuration.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart_dovecot(&mut self) -> Result<()> {
        self.machine.stop_dovecot(&self.dovecot)?;
        self.dovecot = self.machine.start_dovecot()?;
        Ok(())
    }

    /// Has the operator convert a user: no mail client has looked at the Maildir afterwards.
    ///
    /// # Errors
    /// If it is not done; the error has the agent's log.
    pub fn convert(&self, user: &User) -> Result<()> {
        self.operate(&["convert", &user.name, "--wait"])?;
        if self.is_converted(user)? { Ok(()) } else { Err(LabError::Setup(self.agent_log())) }
    }

    /// Has the operator give a user the mboxes back.
    ///
    /// # Errors
    /// If it is not done; the error has the agent's log.
    pub fn roll_back(&self, user: &User) -> Result<()> {
        self.operate(&["rollback", &user.name, "--yes"])?;
        if self.is_converted(user)? { Err(LabError::Setup(self.agent_log())) } else { Ok(()) }
    }

    /// Runs `mailready` as the operator does; gives back what it said.
    ///
    /// # Errors
    /// If it does not succeed; the error has the agent's log.
    pub fn operate(&self, arguments: &[&str]) -> Result<String> {
        let output = self.machine.output("/usr/bin/mailready", arguments, b"")?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(said);
        }
        Err(LabError::Command {
            command: format!("mailready {}", arguments.join(" ")),
            said: format!("{}: {said}\nagent:\n{}", output.status, self.agent_log()),
        })
    }

    /// Whether the user's mail is a Maildir of ours.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn is_converted(&self, user: &User) -> Result<bool> {
        self.machine.exists(&format!("{}/mailready-marker", self.maildir(user)))
    }

    /// The last lines of the agent's log.
    #[must_use]
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().map_or_else(String::new, |agent| agent.log.tail())
    }

    /// Everything that Dovecot has complained about since its start, but for processes that the harness killed.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let levels = ["Warning: ", "Error: ", "Panic: ", "Fatal: "];
        let lines = self.dovecot.log.lines().into_iter().map(|line| line.text);
        lines
            .filter(|line| levels.iter().any(|level| line.contains(level)))
            .filter(|line| !line.ends_with("killed with signal 9"))
            .collect()
    }

    /// What clients see.
    ///
    /// # Errors
    /// If a server refuses or breaks the protocol.
    pub fn look(&self, user: &User) -> Result<Dump> {
        self.look_closely(user, Look::AsClients)
    }

    /// What clients see, and X-GUID if asked for.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn look_closely(&self, user: &User, look: Look) -> Result<Dump> {
        let dump = Dump::look(&self.machine, user, look);
        self.sessions_end()?;
        // A server that fails in the middle of an answer says why in its log alone.
        dump.map_err(|error| LabError::Setup(format!("{error}\nDovecot:\n{}", self.complaints().join("\n"))))
    }

    /// What clients would see, and nobody has looked: mail and indexes are put back as they were. For states that any look
    /// changes, as flags that a dead session left in the index alone.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn look_without_a_trace(&self, user: &User, look: Look) -> Result<Dump> {
        let kept = Kept::of(&self.machine, &[user.home(), user.spool()])?;
        let dump = self.look_closely(user, look)?;
        kept.put_back(&self.machine)?;
        Ok(dump)
    }

    /// Comes back when no session is left: what they had to write is written.
    ///
    /// # Errors
    /// If one stays.
    pub fn sessions_end(&self) -> Result<()> {
        eventually(
            "all sessions have ended",
            || self.dovecot.log.tail(),
            || {
                let open = ["imap", "pop3"]
                    .iter()
                    .try_fold(0, |sum, name| Ok::<_, LabError>(sum + self.machine.processes(name)?.len()));
                (open.ok()? == 0).then_some(())
            },
        )
    }
}

/// Files and folders as they were, to be put back: contents, owners, modes and times.
pub struct Kept {
    paths: Vec<String>,
    copies: String,
}

impl Kept {
    /// Keeps copies of these. Nobody may be at work in them.
    ///
    /// # Errors
    /// If one cannot be copied.
    pub fn of(machine: &Machine, paths: &[String]) -> Result<Self> {
        let copies = machine.run("mktemp", ["-d", "/tmp/kept-XXXXXX"])?.trim().to_owned();
        for (number, path) in paths.iter().enumerate() {
            machine.run("cp", ["-a", path, &format!("{copies}/{number}")])?;
        }
        Ok(Self { paths: paths.to_vec(), copies })
    }

    /// Puts them back, as often as wanted: a folder stays and gets its content of then, a file is written again.
    ///
    /// # Errors
    /// If one cannot be copied.
    pub fn put_back(&self, machine: &Machine) -> Result<()> {
        for (number, path) in self.paths.iter().enumerate() {
            let copy = format!("{}/{number}", self.copies);
            if machine.inside(|| std::path::Path::new(path).is_dir())? {
                machine.run("find", [path, "-mindepth", "1", "-delete"])?;
                machine.run("cp", ["-a", &format!("{copy}/."), path])?;
            } else {
                machine.run("cp", ["-a", &copy, path])?;
            }
        }
        Ok(())
    }
}
