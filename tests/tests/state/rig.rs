//! A machine with users and an agent, and the hands to change what the agent keeps while none runs.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use mailready_tests::lab::{Daemon, LabError, Machine, Result, Site, User, eventually, mail};

/// Arrivals convert everybody; there are no sessions to wait for.
pub const CONFIG: &str = r#"
[users]
convert = "all"
[agent]
bus = "none"
[site]
readers = []
[sessions]
probe = "none"
"#;

pub const RUNS: &str = "/var/lib/mailready/runs";
pub const ARCHIVE: &str = "/var/mail/.mailready";
pub const DAY: i64 = 24 * 60 * 60;

/// Exit codes of `mailready`, by sysexits.
pub const DATA: i32 = 65;

/// A message for the end of an mbox.
pub fn late(id: &str) -> String {
    format!(
        "From eve@example.org  Wed Feb  4 04:05:06 2009\nFrom: eve@example.org\nMessage-ID: <{id}@example.org>\n\nlate\n\n"
    )
}

pub struct Rig {
    pub machine: Machine,
}

impl Rig {
    /// Without Dovecot's daemon; its tools are there.
    pub fn new() -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Small)?;
        machine.install_mailready(Site::Small)?;
        Ok(Some(Self { machine }))
    }

    pub fn start(&self) -> Result<Daemon> {
        self.machine.start_agent(CONFIG)
    }

    /// A user with mail in the spool and in the folder `Sent`.
    pub fn add_user(&self, name: &str, seed: u64) -> Result<User> {
        let user = self.machine.add_user(name, "correct-horse", &mail::mbox(seed, 6))?;
        let mail = format!("{}/mail", user.home());
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        self.machine.run("install", ["-d", "-o", &uid, "-g", &gid, &mail])?;
        self.machine.write(&sent(&user), &mail::mbox(seed + 100, 4), (user.uid, user.gid), 0o600)?;
        Ok(user)
    }

    pub fn mailready(&self, args: &[&str]) -> Result<Output> {
        self.machine.output("/usr/bin/mailready", args, b"")
    }

    pub fn convert(&self, user: &User) -> Result<String> {
        self.machine.run("/usr/bin/mailready", ["convert", &user.name])
    }

    /// What is said of a user who arrives by a PPP link and waits; the agent may be asked as root only.
    pub fn arrive(&self, user: &str) -> Result<String> {
        let args = ["--source", "ppp", "--wait", "20s", user];
        let output = self.machine.output("/usr/bin/mailready-notify", args, b"")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// The file of the only record of a user.
    pub fn record_of(&self, user: &str) -> Result<String> {
        let line = format!("user = \"{user}\"");
        let mut found: Vec<String> =
            self.names(RUNS)?.into_iter().map(|name| format!("{RUNS}/{name}")).collect();
        found.retain(|file| self.text(file).is_ok_and(|text| text.lines().any(|each| each == line)));
        match found.as_slice() {
            [one] => Ok(one.clone()),
            other => Err(LabError::Setup(format!("{} records of {user}", other.len()))),
        }
    }

    pub fn run_of(&self, user: &str) -> Result<String> {
        let file = PathBuf::from(self.record_of(user)?);
        Ok(file.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    pub fn text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.machine.read(path)?).into_owned())
    }

    /// Names in a folder, sorted; none if there is none.
    pub fn names(&self, folder: &str) -> Result<Vec<String>> {
        self.machine.inside(|| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        })
    }

    pub fn append(&self, path: &str, text: &str) -> Result<()> {
        let script = format!("cat >> '{path}'");
        self.machine.output("sh", ["-c", &script], text.as_bytes()).map(drop)
    }

    /// Lets days pass for a record, by the wall clock and by the agent's count; no agent may run.
    pub fn age(&self, user: &str, wall: i64, seen: i64) -> Result<()> {
        let file = self.record_of(user)?;
        let record = self.text(&file)?;
        let aged = add(&record, "since = ", -wall * DAY)?;
        self.machine.write(&file, aged.as_bytes(), (0, 0), 0o600)?;
        let passed = "/var/lib/mailready/passed";
        let aged = add(&self.text(passed)?, "seen = ", seen * DAY)?;
        self.machine.write(passed, aged.as_bytes(), (0, 0), 0o600)
    }

    /// Starts an agent and waits until it has looked whose originals may go.
    pub fn start_and_look(&self) -> Result<Daemon> {
        let agent = self.start()?;
        agent.log.wait("a look after the originals", |line| line.contains("looked after originals"))?;
        Ok(agent)
    }

    /// How often a message is in the inbox of the Maildir.
    pub fn count_in_maildir(&self, user: &User, folder: &str, id: &str) -> Result<usize> {
        let root = format!("{}/Maildir{folder}", user.home());
        let mut count = 0;
        for sub in ["cur", "new"] {
            for name in self.names(&format!("{root}/{sub}"))? {
                let text = self.text(&format!("{root}/{sub}/{name}"))?;
                count += text.matches(&format!("<{id}@example.org>")).count();
            }
        }
        Ok(count)
    }

    /// Waits for a message to be in a mailbox of the Maildir, and only once.
    pub fn wait_delivered(&self, agent: &Daemon, user: &User, folder: &str, id: &str) -> Result<()> {
        let count = || self.count_in_maildir(user, folder, id).unwrap_or(0);
        eventually("late mail is carried over", || agent.log.tail(), || (count() > 0).then_some(()))?;
        assert_eq!(count(), 1, "{id}");
        Ok(())
    }
}

pub fn sent(user: &User) -> String {
    format!("{}/mail/Sent", user.home())
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Adds to the number behind a key.
fn add(text: &str, key: &str, more: i64) -> Result<String> {
    let mut found = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix(key).and_then(|number| number.parse::<i64>().ok()) {
            Some(number) => {
                found = true;
                format!("{key}{}\n", (number + more).max(0))
            }
            None => format!("{line}\n"),
        })
        .collect();
    if found { Ok(lines.concat()) } else { Err(LabError::Setup(format!("no {key} in {text}"))) }
}
