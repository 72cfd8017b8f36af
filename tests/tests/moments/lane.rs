//! A lane: a machine of its own with Dovecot and the agent, in which one login after the other is stopped. A ticket of `stop-at`
//! is good for the next session of a machine, whosever it is, so logins at the same time need machines of their own.

use std::collections::VecDeque;
use std::process::Output;

use mailready_tests::lab::{
    Daemon, Differences, Dump, Imap, LabError, Machine, Result, Site, Strictness, User,
};
use mailready_tests::stops::Control;

use super::people;

/// On whose account users are converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody is converted by arriving: the commit comes when the test says so.
    Operator,
    /// Everybody is.
    Arrival,
}

impl Who {
    fn config(self) -> String {
        let convert = match self {
            Self::Operator => "none",
            Self::Arrival => "all",
        };
        format!("[users]\nconvert = \"{convert}\"\n[agent]\nbus = \"none\"\n[sessions]\nbudget = \"5s\"\n")
    }
}

const STOP_AT: &str = "/usr/lib/mailready-lab/stop-at";

/// Where the tracer of each part takes its tickets.
const SCRIPT: &str = "/run/stops/script";
const SESSION: &str = "/run/stops/session";

/// A machine that is ready for stopped logins.
pub struct Lane {
    machine: Machine,
    agent: Daemon,
    _dovecot: Daemon,
    people: VecDeque<User>,
    /// What every user's mailbox showed before anything was converted.
    pub expected: Dump,
}

impl Lane {
    /// A lane with so many users; `None` (said loudly) where there are no machines.
    pub fn new(who: Who, users: usize) -> Result<Option<Self>> {
        if let Some(why) = mailready_tests::stops::missing() {
            mailready_tests::lab::skip(why);
            return Ok(None);
        }
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Small)?;
        machine.install_mailready(Site::Small)?;
        install_tracers(&machine)?;
        let people = people::add(&machine, users + 3)?;
        // Without an agent the first look changes nothing.
        let dovecot = machine.start_dovecot()?;
        let expected = Dump::take(&machine, &people[0])?;
        assert_eq!(expected.inbox()?.messages.len(), 6, "the users have mail");
        // All of them see the same; else nothing that is compared below would mean anything.
        let another = Dump::take(&machine, &people[1])?;
        let found = Differences::between(&expected, &another);
        assert!(found.is_empty(), "two users with the same mail: {found}");
        machine.stop_dovecot(&dovecot)?;
        // Before Dovecot: an agent that comes later waits for sessions that may have decided without it.
        let agent = machine.start_agent(&who.config())?;
        let dovecot = machine.start_dovecot()?;
        let people = people.into_iter().skip(2).collect();
        let mut lane = Self { machine, agent, _dovecot: dovecot, people, expected };
        // If the agent has seen Dovecot at its start, all the same, it has waited by the end of this.
        let first = lane.next_user()?;
        assert_eq!(lane.convert(&first)?, "converted", "{}", lane.log());
        Ok(Some(lane))
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A user nobody has logged in as yet.
    pub fn next_user(&mut self) -> Result<User> {
        self.people.pop_front().ok_or_else(|| LabError::Setup("a lane has too few users".into()))
    }

    /// The tickets for post-login scripts.
    pub fn script(&self) -> Result<Control<'_>> {
        Control::new(&self.machine, SCRIPT)
    }

    /// The tickets for imap and pop3 processes.
    pub fn session(&self) -> Result<Control<'_>> {
        Control::new(&self.machine, SESSION)
    }

    /// Runs `mailready convert` to its end and gives back its word for this user.
    pub fn convert(&self, user: &User) -> Result<String> {
        let output = self.machine.output("/usr/bin/mailready", ["convert", "--json", &user.name], b"")?;
        answer(&output)
    }

    /// Whether the user's mail is in the Maildir.
    pub fn is_converted(&self, user: &User) -> Result<bool> {
        self.machine.exists(&format!("{}/Maildir/mailready-marker", user.home()))
    }

    /// The agent's last words, for an error message.
    pub fn log(&self) -> String {
        self.agent.log.tail()
    }

    /// Whether the agent has told a session of this user to open the mbox.
    pub fn was_told_to_stay(&self, user: &User) -> bool {
        let user = format!("\"user\":\"{}\"", user.name);
        let stay = |text: &str| text.contains(&user) && text.contains("\"answer\":\"stay");
        self.agent.log.lines().iter().any(|line| stay(&line.text))
    }

    /// After all: the mailbox is wholly the one or wholly the other, and shows what it always showed; by IMAP, and if wanted by
    /// POP3 (which costs one more login).
    pub fn check_at_rest(&self, user: &User, by_pop3: bool) -> Result<()> {
        let spool = self.machine.read(&user.spool())?;
        let (maildir, tombstone) =
            (self.is_converted(user)?, spool.starts_with(b"This mailbox has become a Maildir"));
        if maildir != tombstone {
            let got = format!("a Maildir: {maildir}, a tombstone: {tombstone}");
            return Err(LabError::Protocol { asked: "a mailbox that is one thing".into(), got });
        }
        let after = if by_pop3 {
            Dump::take(&self.machine, user)?
        } else {
            let mut imap = Imap::login(&self.machine, &user.name, &user.password)?;
            let seen = Dump::by_imap(&mut imap)?;
            imap.logout()?;
            Dump { pop3: self.expected.pop3.clone(), ..seen }
        };
        let found = Differences::judged(&self.expected, &after, Strictness::Twins);
        if found.is_empty() {
            return Ok(());
        }
        Err(LabError::Protocol { asked: "the mail as it was, at rest".into(), got: found.to_string() })
    }
}

/// The word of `mailready convert --json`.
fn answer(output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.split("\"answer\":\"").nth(1).and_then(|rest| rest.split('"').next());
    word.map(str::to_owned).ok_or_else(|| LabError::Command {
        command: "mailready convert --json".into(),
        said: format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)),
    })
}

/// Puts `stop-at` before script and sessions. Dovecot's own lines stay as mailready wants to see them: the post-login
/// service is the second word of the session's `executable`, the script a word of the post-login's.
fn install_tracers(machine: &Machine) -> Result<()> {
    machine.run("mkdir", ["-p", "/usr/lib/mailready-lab"])?;
    let program = env!("CARGO_BIN_EXE_stop-at");
    let content =
        std::fs::read(program).map_err(|error| LabError::Setup(format!("read {program}: {error}")))?;
    machine.write(STOP_AT, &content, (0, 0), 0o755)?;
    let mut snippet = String::from("namespace inbox {\n  inbox = yes\n  separator = /\n}\n");
    for protocol in ["imap", "pop3"] {
        let wrapper = format!(
            "#!/bin/sh\nexec {STOP_AT} --control {SESSION} --from {protocol}-postlogin -- /usr/lib/dovecot/{protocol} \"$@\"\n"
        );
        machine.write(&format!("/usr/lib/mailready-lab/{protocol}"), wrapper.as_bytes(), (0, 0), 0o755)?;
        snippet.push_str(&format!(
            "service {protocol} {{\n  executable = /usr/lib/mailready-lab/{protocol} {protocol}-postlogin\n}}\n\
             service {protocol}-postlogin {{\n  executable = script-login -d {STOP_AT} --control {SCRIPT} -- /etc/mailready/postlogin\n  \
             user = root\n  unix_listener {protocol}-postlogin {{\n  }}\n}}\n"
        ));
    }
    machine.write("/etc/dovecot/conf.d/99-mailready.conf", snippet.as_bytes(), (0, 0), 0o644)
}
