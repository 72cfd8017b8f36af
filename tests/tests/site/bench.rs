//! A site that is right in everything, and how one thing of it is spoilt.

use mailready_tests::lab::{Daemon, Machine, Result, Site, User, mail};
use std::path::Path;

/// Exit code of `mailready convert` for a user who cannot be converted.
pub const DATA: i32 = 65;

pub const LOCAL: &str = "/etc/dovecot/local.conf";
pub const SNIPPET: &str = "/etc/dovecot/conf.d/99-mailready.conf";
pub const USERDB: &str = "/etc/dovecot/conf.d/auth-system.conf.ext";
pub const SCRIPT: &str = "/etc/mailready/postlogin";
pub const EXIM: &str = "/etc/exim4/exim4.conf";

/// As packaging/dovecot has it, behind Debian's own.
const MAP: &str = "passdb {\n  driver = pam\n}\nuserdb {\n  driver = passwd\n  result_success = continue-ok\n}\n\
    userdb {\n  driver = passwd-file\n  args = username_format=%n /var/lib/mailready/userdb\n}\n";

const EXIM_CONF: &str = "exim_user = mail\nlog_file_path = /tmp/exim-%slog\nprimary_hostname = mail.example.org\nbegin acl\n\
    begin routers\nlocaluser:\n driver = accept\n check_local_user\n transport = local_delivery\nbegin transports\n\
    local_delivery:\n driver = appendfile\n file = /var/mail/$local_part_data\nbegin retry\n* * F,2h,15m\n";

pub const ALL: &str = r#"["postfix", "exim", "procmail", "maildrop", "dovecot-lda", "dovecot-lmtp"]"#;

pub struct Bench {
    pub machine: Machine,
    pub dovecot: Daemon,
    pub agent: Daemon,
    /// Spoilt sites are tried with her.
    pub ann: User,
}

pub fn config(deliverers: &str) -> String {
    format!(
        "[users]\nconvert = \"none\"\n[agent]\nbus = \"none\"\n[sessions]\nbudget = \"5s\"\n[site]\ndeliverers = {deliverers}\n"
    )
}

/// One thing that is wrong: a file in which one text is replaced by another; the words that are told of it.
pub struct Wrong {
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub words: &'static [&'static str],
}

impl Bench {
    pub fn start(deliverers: &str) -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Debian)?;
        machine.install_mailready(Site::Debian)?;
        machine.run("chmod", ["711", "/var/lib/mailready"])?;
        machine.write(USERDB, MAP.as_bytes(), (0, 0), 0o644)?;
        machine.run("postconf", ["-e", "mailbox_command="])?;
        machine.run("mkdir", ["-p", "/etc/exim4"])?;
        machine.run("ln", ["-s", "/opt/beside/usr/sbin/exim4", "/usr/sbin/exim4"])?;
        machine.write(EXIM, EXIM_CONF.as_bytes(), (0, 0), 0o644)?;
        // Before Dovecot, so that there are no sessions to be waited for and it commits at once.
        let agent = machine.start_agent(&config(deliverers))?;
        let dovecot = machine.start_dovecot()?;
        let ann = machine.add_user("ann", "correct-horse", &mail::mbox(7, 5))?;
        // His mailbox has a block of its own, which is told only where the site has none.
        let bob = machine.add_user("bob", "correct-horse", &mail::mbox(7, 2))?;
        machine.run("mkdir", [format!("{}/Maildir", bob.home())])?;
        let bench = Self { machine, dovecot, agent, ann };
        bench.is_green("as it was made")?;
        Ok(Some(bench))
    }

    /// Asks for a conversion; gives exit code and everything said.
    pub fn convert(&self, user: &str) -> Result<(i32, String)> {
        let output = self.machine.output("mailready", ["convert", user], b"")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned()))
    }

    pub fn explain(&self, user: &str) -> Result<String> {
        self.machine.run("mailready", ["explain", user])
    }

    pub fn is_green(&self, what: &str) -> Result<()> {
        let (code, said) = self.convert("bob")?;
        assert!(said.contains("exists already"), "{what}: {code}: {said}\n{}", self.agent.log.tail());
        Ok(())
    }

    pub fn is_red(&self, what: &str, words: &[&str]) -> Result<()> {
        let before = self.machine.read(&self.ann.spool())?;
        let (code, said) = self.convert("ann")?;
        assert_eq!(code, DATA, "{what}: {said}\n{}", self.agent.log.tail());
        for word in words {
            assert!(said.contains(word), "{what}: {word:?} is not in {said:?}");
        }
        let page = self.explain("ann")?;
        assert!(page.contains("reason   site") && page.contains("ann: "), "{what}: {page}");
        assert!(!self.machine.exists(&format!("{}/Maildir", self.ann.home()))?, "{what}");
        assert_eq!(self.machine.read(&self.ann.spool())?, before, "{what}");
        Ok(())
    }

    /// Each of them: red, and green again when it is mended.
    pub fn go_through(&self, table: &[Wrong]) -> Result<()> {
        for wrong in table {
            let what = format!("{}: {:?} -> {:?}", wrong.file, wrong.from, wrong.to);
            let right = self.machine.read(wrong.file)?;
            self.edit(wrong.file, wrong.from, wrong.to)?;
            self.is_red(&what, wrong.words)?;
            self.restore(wrong.file, &right)?;
            self.is_green(&what)?;
        }
        Ok(())
    }

    pub fn restore(&self, file: &str, content: &[u8]) -> Result<()> {
        let mode = if file == SCRIPT { 0o755 } else { 0o644 };
        self.machine.write(file, content, (0, 0), mode)
    }

    /// An empty `from` appends.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let text = String::from_utf8(self.machine.read(file)?).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
        let text = if from.is_empty() { format!("{text}\n{to}\n") } else { text.replace(from, to) };
        self.restore(file, text.as_bytes())
    }

    pub fn run(&self, script: &str) -> Result<String> {
        self.machine.run("sh", ["-c", script])
    }

    pub fn is_on_maildir(&self, user: &str) -> Result<bool> {
        let marker = format!("/home/{user}/Maildir/mailready-marker");
        self.machine.inside(|| Path::new(&marker).exists())
    }

    pub fn restart_agent(&mut self, deliverers: &str) -> Result<()> {
        self.agent.terminate()?;
        self.agent = self.machine.start_agent(&config(deliverers))?;
        Ok(())
    }
}

impl Bench {
    /// Has the agent look anew where no file that it follows has changed; comes back when it has said these words since.
    pub fn reload_and_wait(&self, words: &str) -> Result<()> {
        let from = self.agent.log.len();
        self.agent.signal(nix::sys::signal::Signal::SIGHUP)?;
        self.agent.log.wait_from(from, words, |line| line.contains(words))?;
        Ok(())
    }
}
