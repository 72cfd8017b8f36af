//! The agent in a machine, and its log as a list of events.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::daemon::{Daemon, Log};
use super::error::{Doing, Result};
use super::machine::Machine;
use super::wait::eventually;

/// What the tests run with: every user may be converted, at once; no system bus; everything else as by default.
pub const CONFIG: &str = r#"
[users]
convert = "all"
[agent]
bus = "none"
[sessions]
budget = "5s"
"#;

/// Where the agent's control socket is by default.
const CONTROL: &str = "/run/mailready/control.sock";

/// An event of the agent's JSON log.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the lab read it.
    pub at: Instant,
    /// The fields of the line, flattened: those of `fields`, and beside them `level`, `target`, `timestamp`.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl Event {
    /// A field as text.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }
}

impl Machine {
    /// Starts the agent with a configuration, and comes back when its control socket answers.
    ///
    /// # Errors
    /// If it does not come up; the error has its log.
    pub fn start_agent(&self, config: &str) -> Result<Daemon> {
        self.inside(|| std::fs::create_dir_all("/etc/mailready"))?.doing(|| "make /etc/mailready")?;
        self.write("/etc/mailready/mailready.toml", config.as_bytes(), (0, 0), 0o644)?;
        // The package's sysusers file makes the group; here it may be there already from an earlier start.
        self.run("groupadd", ["--force", "--system", "mailready"])?;
        let agent = self.daemon_with("/usr/sbin/mailready-agent", [] as [&str; 0], |command| {
            command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
        })?;
        self.wait_for_agent(&agent.log)?;
        Ok(agent)
    }

    fn wait_for_agent(&self, log: &Log) -> Result<()> {
        eventually(
            "the agent's control socket answers",
            || log.tail(),
            || self.inside(|| UnixStream::connect(CONTROL).ok()).ok().flatten(),
        )?;
        Ok(())
    }
}

/// The agent's log so far, as events; lines that are neither JSON nor `key=value` left out.
#[must_use]
pub fn events(log: &Log) -> Vec<Event> {
    log.lines().iter().filter_map(|line| event(line.at, &line.text)).collect()
}

/// One line of the agent's log: a JSON object, or `key=value` words as the worker writes them.
#[must_use]
pub fn event(at: Instant, text: &str) -> Option<Event> {
    if let Ok(serde_json::Value::Object(mut line)) = serde_json::from_str(text) {
        if let Some(serde_json::Value::Object(inner)) = line.remove("fields") {
            line.extend(inner);
        }
        return Some(Event { at, fields: line });
    }
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    let fields: serde_json::Map<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.into())).collect();
    (!fields.is_empty()).then_some(Event { at, fields })
}
