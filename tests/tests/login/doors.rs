//! The doors through which a user comes in, each the real program, and what is seen behind them.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use mailready_tests::lab::{
    Daemon, Differences, Doing, Dump, LabError, Machine, Result, Site, User, eventually, mail,
};

/// What a login may take on a machine under load: far more than any limit that the script and the module set themselves without an agent (100 ms each), and less than the
/// 20 s for which an agent may ask.
const DEADLINE: Duration = Duration::from_secs(15);

/// Nothing is waited for longer; it only ends tests that have failed.
const PATIENCE: Duration = Duration::from_secs(60);

const MESSAGES: usize = 5;

/// What is asked at a shell: who is it, and how much mail is there.
const QUESTION: &str = r#"echo "who=$(id -un) mail=$(grep -c '^From ' /var/mail/ann)""#;

/// A machine with all the doors, mailready in the stack of each, and no agent.
pub struct House {
    pub machine: Machine,
    pub ann: User,
    before: Dump,
    dovecot: Daemon,
    sshd: Daemon,
}

impl House {
    /// `None`, said loudly, where there are no machines.
    pub fn new() -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Debian)?;
        machine.install_mailready(Site::Debian)?;
        for stack in ["/etc/pam.d/common-account", "/etc/pam.d/common-session"] {
            let text = machine.read(stack)?;
            assert!(String::from_utf8_lossy(&text).contains("pam_mailready.so"), "{stack}");
        }
        let dovecot = machine.start_dovecot()?;
        let ann = machine.add_user("ann", "correct-horse", &mail::mbox(3, MESSAGES as u32))?;
        let sshd = start_sshd(&machine)?;
        let before = Dump::take(&machine, &ann)?;
        assert_eq!(before.inbox()?.messages.len(), MESSAGES);
        Ok(Some(Self { machine, ann, before, dovecot, sshd }))
    }

    /// The same with servers that were started just now.
    pub fn with_new_programs(mut self) -> Result<Self> {
        self.machine.stop_dovecot(&self.dovecot)?;
        self.sshd.terminate()?;
        self.dovecot = self.machine.start_dovecot()?;
        self.sshd = serve_ssh(&self.machine)?;
        Ok(self)
    }

    /// Comes in by every door, in time, and sees the mail of before behind each.
    pub fn all_doors_open(&self) -> Result<()> {
        for (door, enter) in
            [("sshd", Self::by_ssh as fn(&Self) -> Result<String>), ("login", Self::by_terminal)]
        {
            let begun = Instant::now();
            let seen = enter(self)?;
            let took = begun.elapsed();
            assert!(seen.contains(&format!("who=ann mail={MESSAGES}")), "{door}: {seen}");
            assert!(took < DEADLINE, "{door} took {took:?}");
        }
        self.by_mail_client()
    }

    /// IMAP and POP3.
    pub fn by_mail_client(&self) -> Result<()> {
        let begun = Instant::now();
        let after = Dump::take(&self.machine, &self.ann)?;
        let took = begun.elapsed();
        let found = Differences::between(&self.before, &after);
        assert!(found.is_empty(), "{found}");
        assert!(took < DEADLINE, "two logins to Dovecot took {took:?}");
        Ok(())
    }

    fn by_ssh(&self) -> Result<String> {
        let output = self.ssh(QUESTION)?;
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "ssh: {}: {said}{complained}", output.status);
        Ok(said.into_owned())
    }

    fn ssh(&self, command: &str) -> Result<std::process::Output> {
        let mut ssh = Command::new("/usr/bin/ssh");
        ssh.args(["-F", "none", "-p", "2222", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .args(["-o", "PreferredAuthentications=password", "ann@127.0.0.1", command])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SSH_ASKPASS", "/usr/lib/mailready-lab/password")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null());
        self.machine.inside(|| ssh.output())?.doing(|| "run ssh")
    }

    /// `login` of util-linux, on a pseudo terminal that socat gives it.
    fn by_terminal(&self) -> Result<String> {
        let mut terminal = Terminal::open(&self.machine)?;
        terminal.expect("login: ")?;
        terminal.type_line(&self.ann.name)?;
        terminal.expect("Password: ")?;
        terminal.type_line(&self.ann.password)?;
        terminal.expect("$ ")?;
        terminal.type_line(QUESTION)?;
        // The terminal echoes the question, in which there is a `$` behind this.
        terminal.expect("who=ann")?;
        terminal.type_line("exit")?;
        terminal.end()
    }
}

fn start_sshd(machine: &Machine) -> Result<Daemon> {
    let config = "Port 2222\nListenAddress 127.0.0.1\nHostKey /etc/ssh/lab_key\nUsePAM yes\n\
                  PasswordAuthentication yes\nKbdInteractiveAuthentication no\nStrictModes no\nPidFile none\n";
    machine.write("/etc/ssh/lab_config", config.as_bytes(), (0, 0), 0o600)?;
    machine.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/lab_key"])?;
    machine.run("mkdir", ["-p", "/usr/lib/mailready-lab", "/run/sshd"])?;
    let ask = "#!/bin/sh\necho correct-horse\n";
    machine.write("/usr/lib/mailready-lab/password", ask.as_bytes(), (0, 0), 0o755)?;
    serve_ssh(machine)
}

fn serve_ssh(machine: &Machine) -> Result<Daemon> {
    let sshd = machine.daemon("/usr/sbin/sshd", ["-D", "-e", "-f", "/etc/ssh/lab_config"])?;
    let greets = || {
        let mut greeting = [0; 4];
        machine.connect(2222).ok()?.read_exact(&mut greeting).ok()?;
        (&greeting == b"SSH-").then_some(())
    };
    eventually("sshd greets", || sshd.log.tail(), greets)?;
    Ok(sshd)
}

/// A terminal with `login` on it.
struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Receiver<Vec<u8>>,
    shown: String,
    /// Up to where what is shown was looked at.
    seen: usize,
}

impl Terminal {
    fn open(machine: &Machine) -> Result<Self> {
        let mut socat = Command::new("/usr/bin/socat");
        socat
            .args(["-", "EXEC:/bin/login,pty,setsid,ctty,stderr"])
            .env_clear()
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = machine.inside(|| socat.spawn())?.doing(|| "start socat")?;
        let (sender, screen) = channel();
        if let Some(mut stream) = child.stdout.take() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if sender.send(buffer[..read].to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        let keyboard = child.stdin.take();
        Ok(Self { child, keyboard, screen, shown: String::new(), seen: 0 })
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        let keyboard = self.keyboard.as_mut().ok_or_else(|| LabError::Setup("no keyboard".into()))?;
        keyboard.write_all(format!("{line}\n").as_bytes()).doing(|| "type")
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return Ok(());
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => {
                    return Err(LabError::Protocol {
                        asked: format!("{text:?} on the terminal"),
                        got: format!("{why}: {:?}", self.shown),
                    });
                }
            }
        }
    }

    fn end(mut self) -> Result<String> {
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(std::mem::take(&mut self.shown))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended long ago, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
