//! A machine whose agent the test starts, stops and starts again, with deliveries one by one.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use mailready_tests::lab::{Daemon, Doing, LabError, MAIL_GID, Machine, Result, User, eventually, skip};
use mailready_tests::stops::{Control, Order};

use super::deliverer::Deliverer;
use super::ledger::{self, Ledger};
use super::post::{Post, Told};
use super::submission::Word;

/// The tracer, in the machine.
pub const STOP_AT: &str = "/usr/lib/mailready-lab/stop-at";
const TICKETS: &str = "/run/stops/agent";
const AGENT: &str = "/usr/sbin/mailready-agent";
const CONTROL_SOCKET: &str = "/run/mailready/control.sock";

/// Nobody is converted by arriving; after a start nothing is committed for as long as a login may wait.
const CONFIG: &str = r#"
[users]
convert = "none"
[agent]
bus = "none"
[site]
# Both kinds of site are made here, and what is wrong with those that were never told is another theme's question.
deliverers = []
[sessions]
budget = "1s"
"#;

/// Longer than a deliverer goes on trying for a lock, and queues wait before they try again.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A machine whose agent is started anew for each window.
pub struct Lane {
    /// The deliverers.
    pub post: Post,
    /// What they have taken.
    pub ledger: Ledger,
    told: Told,
}

impl Lane {
    /// Everything but the agent; `None` (said loudly) where that cannot be.
    pub fn start(told: Told) -> Result<Option<Self>> {
        if let Some(why) = mailready_tests::stops::missing() {
            skip(why);
            return Ok(None);
        }
        let Some(post) = Post::start(told, |machine| {
            // Makes the configuration and the group.
            machine.start_agent(CONFIG)?.terminate()?;
            install_stop_at(machine)
        })?
        else {
            return Ok(None);
        };
        Ok(Some(Self { post, ledger: Ledger::default(), told }))
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.post.machine
    }

    /// The tickets for the agent and its workers.
    pub fn control(&self) -> Result<Control<'_>> {
        Control::new(self.machine(), TICKETS)
    }

    /// A user with one message.
    pub fn add(&self, name: &str) -> Result<User> {
        let user = self.machine().add_user(name, "secret", b"")?;
        let first = "From eve@example.org  Tue Feb  3 04:05:06 2009\nFrom: eve@example.org\nSubject: first\n\nfirst\n\n";
        self.machine().write(&user.spool(), first.as_bytes(), (user.uid, MAIL_GID), 0o660)?;
        Ok(user)
    }

    /// Has it deliver one message, again and again while it says that it cannot just now.
    pub fn deliver_until_taken(&self, deliverer: Deliverer, user: &User, why: &str) -> Result<()> {
        let id = format!("{}.{why}.{deliverer}", user.name);
        let message = ledger::message(&id, self.ledger.entries().len());
        let start = Instant::now();
        loop {
            let handed = Instant::now();
            match deliverer.deliver(&self.post, user, &message)? {
                Word::Taken(said) => {
                    self.ledger.taken(&id, &user.name, handed, said);
                    return Ok(());
                }
                // Dovecot that was not told of the Maildir defers for as long as the user is there: its sender keeps the message.
                Word::Later(_) if self.told == Told::No && deliverer.is_dovecot() => return Ok(()),
                Word::Later(said) if start.elapsed() > PATIENCE => {
                    return Err(LabError::Protocol { asked: format!("{deliverer} to deliver"), got: said });
                }
                Word::Later(_) => thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// Starts the agent as it is.
    pub fn plain(&self) -> Result<Daemon> {
        self.start_agent(AGENT, &[])
    }

    /// Starts it under the tracer, which counts from behind the first call that names this.
    pub fn traced(&self, behind: &str, order: &Order) -> Result<Daemon> {
        self.control()?.arm(order)?;
        let only = ["--only", "mailready-agent", "--only", "mailready-worker"];
        let args = ["--control", TICKETS, "--from", behind, "--changing"];
        self.start_agent(STOP_AT, &[&args[..], &only, &["--", AGENT]].concat())
    }

    fn start_agent(&self, program: &str, args: &[&str]) -> Result<Daemon> {
        let agent = self.machine().daemon_with(program, args, |command| {
            command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
        })?;
        let serves = || self.machine().inside(|| UnixStream::connect(CONTROL_SOCKET).ok()).ok().flatten();
        eventually("the agent serves", || agent.log.tail(), serves)?;
        Ok(agent)
    }

    /// Until the user is on Maildir.
    pub fn convert(&self, user: &User) -> Result<String> {
        self.command(&["convert", "--json", &user.name], "\"on_maildir\":true")
    }

    /// Until the user is on mbox.
    pub fn roll_back(&self, user: &User) -> Result<String> {
        self.command(&["rollback", "--yes", "--json", &user.name], "\"on_mbox\":true")
    }

    /// Runs the operator's command until it says this; it may be told that somebody is in the way.
    fn command(&self, args: &[&str], done: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let output = self.machine().output("/usr/bin/mailready", args, b"")?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if said.contains(done) {
                return Ok(said);
            }
            if start.elapsed() > PATIENCE {
                return Err(LabError::Protocol { asked: args.join(" "), got: said });
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What the agent and its workers have told, without the arrivals.
pub fn story(agent: &Daemon) -> String {
    let lines = agent.log.lines();
    let told = lines.iter().filter(|line| !line.text.contains("\"arrival\""));
    told.map(|line| format!("  {}\n", line.text)).collect()
}

fn install_stop_at(machine: &Machine) -> Result<()> {
    machine.run("mkdir", ["-p", "/usr/lib/mailready-lab"])?;
    let program = env!("CARGO_BIN_EXE_stop-at");
    let content = std::fs::read(program).doing(|| format!("read {program}"))?;
    machine.write(STOP_AT, &content, (0, 0), 0o755)
}
