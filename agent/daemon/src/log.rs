//! Where the agent's lines go: to the journal with their fields if it is the journal that reads our stderr, else to stderr.
//!
//! `MAILREADY_LOG=json` writes a JSON object a line to stderr. `MAILREADY_LOG_LEVEL` takes a level, or tracing's filter language.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

/// Sets up the log for the whole process. Anything wrong with the wish is said, and the default used: a log matters more than its form.
pub fn init() {
    let (filter, complaint) = filter();
    let registry = tracing_subscriber::registry().with(filter);
    let to_stderr = fmt::layer().with_writer(io::stderr);
    let result = match form() {
        Form::Json => registry.with(to_stderr.json().flatten_event(true)).try_init(),
        Form::Journal(journal) => registry.with(journal).try_init(),
        Form::Plain => {
            registry.with(to_stderr.with_ansi(io::stderr().is_terminal()).with_target(false)).try_init()
        }
    };
    // In a test the process may have a log already.
    if let (Ok(()), Some(complaint)) = (result, complaint) {
        tracing::warn!("{complaint}");
    }
}

enum Form {
    Json,
    Journal(tracing_journald::Layer),
    Plain,
}

fn form() -> Form {
    if env::var_os("MAILREADY_LOG").is_some_and(|form| form == "json") {
        return Form::Json;
    }
    if journal_reads_stderr()
        && let Ok(journal) = tracing_journald::layer()
    {
        return Form::Journal(
            journal.with_syslog_identifier("mailready-agent".to_owned()).with_field_prefix(None),
        );
    }
    Form::Plain
}

/// systemd says in `JOURNAL_STREAM` which socket leads to the journal; after a redirection stderr is another one.
fn journal_reads_stderr() -> bool {
    let Ok(told) = env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = nix::sys::stat::fstat(io::stderr().as_fd()) else { return false };
    told == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

fn filter() -> (EnvFilter, Option<String>) {
    // zbus traces every message; of the libraries only warnings are wanted.
    let default = || EnvFilter::new("warn,mailready_agent=info");
    match env::var("MAILREADY_LOG_LEVEL") {
        Err(_) => (default(), None),
        Ok(level) if ["error", "warn", "info", "debug", "trace"].contains(&level.as_str()) => {
            (EnvFilter::new(format!("warn,mailready_agent={level}")), None)
        }
        Ok(wish) => match EnvFilter::try_new(&wish) {
            Ok(filter) => (filter, None),
            Err(error) => {
                (default(), Some(format!("MAILREADY_LOG_LEVEL is not understood ({error}); taken as info")))
            }
        },
    }
}
