//! A mail server with the listener, and what is asked of both.

use mailready_tests::lab::{Binaries, Daemon, Machine, Result, Site, User, eventually, mail};

/// RADIUS alone counts; no system bus.
const CONFIG: &str = r#"
[users]
convert = "all"
[agent]
bus = "none"
[arrival]
sources = ["radius"]
[sessions]
budget = "5s"
[radius]
listen = ["[::]:1813"]
"#;

pub const SECRET: &str = "testing123";

pub struct Rig {
    pub machine: Machine,
    pub agent: Daemon,
    pub ann: User,
    _dovecot: Daemon,
}

impl Rig {
    /// A site with agent and Dovecot, and no listener yet; None where there are no machines.
    pub fn new() -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Debian)?;
        machine.install_mailready(Site::Debian)?;
        let ann = machine.add_user("ann", "secret", &mail::mbox(1, 20))?;
        let dovecot = machine.start_dovecot()?;
        let agent = machine.start_agent(CONFIG)?;
        machine.run("useradd", ["--system", "--user-group", "--groups", "mailready", "mailready-radius"])?;
        let clients = format!("# here\n127.0.0.1 {SECRET}\n::1 another\n");
        machine.write("/etc/mailready/radius-clients", clients.as_bytes(), (0, 0), 0o640)?;
        machine.run("chgrp", ["mailready-radius", "/etc/mailready/radius-clients"])?;
        Ok(Some(Self { machine, agent, ann, _dovecot: dovecot }))
    }

    /// The listener as its own user; comes back when it listens.
    pub fn start_listener(&self) -> Result<Daemon> {
        let words = ["--reuid=mailready-radius", "--regid=mailready-radius", "--init-groups"];
        let listener =
            self.machine.daemon("setpriv", words.into_iter().chain(["/usr/sbin/mailready-radius"]))?;
        listener.log.wait("the listener listens", |line| line.contains("listening"))?;
        Ok(listener)
    }

    /// Another agent, after the first has ended.
    pub fn restart_agent(&mut self) -> Result<()> {
        self.agent = self.machine.start_agent(CONFIG)?;
        Ok(())
    }

    /// What radclient sends and hears: one packet, sent `tries` times at most.
    pub fn send(&self, to: &str, secret: &str, tries: u32, attributes: &str) -> Result<bool> {
        let tries = tries.to_string();
        let words = ["-x", "-t", "1", "-r", &tries, to, "acct", secret];
        let output = self.machine.output("radclient", words, attributes.as_bytes())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(said.contains("Received Accounting-Response"))
    }

    /// Waits until the agent has put a user into its queue.
    pub fn wait_queued(&self, user: &str) -> Result<()> {
        let wanted = format!("\"{user}\"");
        self.agent.log.wait("the agent queues the user", |line| {
            line.contains("\"queued\"") && line.contains(&wanted)
        })?;
        Ok(())
    }

    /// How often the agent heard of a user.
    pub fn heard(&self, user: &str) -> usize {
        let lines = self.agent.log.lines();
        let told = |text: &str| text.contains("\"arrival\"") && text.contains(&format!("user={user} "));
        lines.iter().filter(|line| told(&line.text) || is_arrival_of(&line.text, user)).count()
    }

    pub fn wait_converted(&self) -> Result<()> {
        let marker = format!("{}/Maildir/mailready-marker", self.ann.home());
        eventually(
            "ann's mail is a Maildir",
            || self.agent.log.tail(),
            || self.machine.exists(&marker).ok()?.then_some(()),
        )
    }

    /// The listener's counts.
    pub fn counts(&self, listener: &Daemon) -> Result<String> {
        let from = listener.log.len();
        listener.signal(nix::sys::signal::Signal::SIGUSR1)?;
        Ok(listener.log.wait_from(from, "the counts", |line| line.contains("received="))?.text)
    }
}

fn is_arrival_of(line: &str, user: &str) -> bool {
    line.contains("\"message\":\"arrival\"") && line.contains(user)
}

/// A count of [`Rig::counts`].
pub fn count(counts: &str, name: &str) -> u64 {
    let word = counts.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")));
    word.unwrap_or_else(|| panic!("no {name} in {counts}")).parse().unwrap()
}

pub fn start(user: &str, session: &str) -> String {
    format!(
        "User-Name = \"{user}\"\nAcct-Status-Type = Start\nAcct-Session-Id = \"{session}\"\nNAS-IP-Address = 127.0.0.1\n"
    )
}

/// Whether the programs are those of these sources.
#[test]
fn the_listener_does_not_run_as_root() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    assert!(Binaries::find()?.path("mailready-radius").exists());
    let output = rig.machine.output("/usr/sbin/mailready-radius", [] as [&str; 0], b"")?;
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    let check = rig.machine.run("/usr/sbin/mailready-radius", ["--check"])?;
    assert_eq!(check, "ok: 2 clients in /etc/mailready/radius-clients\n");
    rig.machine.run("chmod", ["644", "/etc/mailready/radius-clients"])?;
    let output = rig.machine.output("/usr/sbin/mailready-radius", ["--check"], b"")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("chmod 640"), "{said}");
    Ok(())
}
