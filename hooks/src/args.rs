//! The command line of `mailready-notify`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use mailready_config::parse_duration;
use mailready_protocol::{Service, Source, User, Wait};

use crate::spelling::unquoted;

/// Announces that a user arrives, and prints the agent's answer on one line: taken, ready, stay REASON,
/// refused REASON, or none WHY when no agent answered.
///
/// Made for scripts in the middle of a login: it comes back in time whatever the agent does, and exits with 0
/// unless --strict is given.
#[derive(Parser, Debug)]
#[command(name = "mailready-notify", version)]
pub(crate) struct Args {
    /// What saw the arrival: pam, ppp, radius, logind, dovecot or script.
    ///
    /// With dovecot, a socket open as descriptor 3 is passed to the agent: the answer is then a lease,
    /// which holds until the process at the socket's other end is gone.
    #[arg(long, value_name = "NAME", value_parser = source)]
    pub source: Source,

    /// Wait so long for the mail to be ready, such as 500ms or 20s; without it, only announce.
    #[arg(long, value_name = "DURATION", value_parser = wait, default_value = "0s", hide_default_value = true)]
    pub wait: Wait,

    /// The service that the user comes through.
    #[arg(long, value_name = "NAME", value_parser = clap::value_parser!(OsString), default_value = "", hide_default_value = true)]
    service: OsString,

    /// The agent's socket; otherwise the configuration names it.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub socket: Option<PathBuf>,

    /// The configuration, in place of /etc/mailready/mailready.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Exit with 75 when there is no answer or the mbox stays, 67 for an unknown user, 77 for a refusal,
    /// 64 for a wrong command line, 78 for a wrong configuration.
    #[arg(long)]
    pub strict: bool,

    /// Who arrives.
    #[arg(value_name = "USER")]
    user: OsString,
}

/// What the command line asks for, all of it checked.
pub(crate) struct Announcement {
    pub args: Args,
    pub user: User,
    pub service: Service,
}

/// The definition of the command line, from which manual page and completions are made.
pub fn command() -> clap::Command {
    Args::command()
}

/// Reads the command line.
///
/// # Errors
/// Also what is no error: `--help` and `--version`; clap knows their texts.
pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Announcement, clap::Error> {
    let mut command = Args::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let args = Args::from_arg_matches(&matches)?;
    let raw = args.user.as_bytes();
    // FreeRADIUS hands values over as it prints them; anywhere else a quote is part of the name.
    let name = if args.source == Source::Radius { unquoted(raw) } else { raw.into() };
    let mut wrong = |what: &str, error| command.error(ErrorKind::ValueValidation, format!("{what}: {error}"));
    let user = User::new(&name).map_err(|error| wrong("USER", error))?;
    let service = Service::new(args.service.as_bytes()).map_err(|error| wrong("--service", error))?;
    Ok(Announcement { args, user, service })
}

/// Whether a command line that could not be read asks for exit codes.
pub(crate) fn wants_strict(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != OsStr::new("--")).any(|arg| arg == OsStr::new("--strict"))
}

fn source(name: &str) -> Result<Source, String> {
    Source::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Source::ALL.iter().map(|source| source.name()).collect();
        format!("known are {}", known.join(", "))
    })
}

fn wait(text: &str) -> Result<Wait, String> {
    let wait: Duration = parse_duration(text).ok_or("a number and a unit, such as 500ms or 20s")?;
    Ok(Wait::new(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &[&str]) -> Result<Announcement, clap::Error> {
        read(std::iter::once("mailready-notify").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn quotes_are_taken_off_for_radius_alone() {
        let user = |source| read_words(&["--source", source, "\"bob\""]).unwrap().user;
        assert_eq!(user("radius").as_bytes(), b"bob");
        assert_eq!(user("script").as_bytes(), b"\"bob\"");
    }

    #[test]
    fn a_user_that_looks_like_an_option_stands_behind_two_dashes() {
        let got = read_words(&["--source", "script", "--", "--strict"]).unwrap();
        assert_eq!(got.user.as_bytes(), b"--strict");
        assert!(!got.args.strict);
        assert!(!wants_strict(&["x".into(), "--".into(), "--strict".into()]));
        assert!(wants_strict(&["x".into(), "--strict".into(), "--nonsense".into()]));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let long = "x".repeat(User::MAX + 1);
        for words in [
            &["bob"][..],
            &["--source", "smtp", "bob"],
            &["--source", "script"],
            &["--source", "script", ""],
            &["--source", "radius", "\"\""],
            &["--source", "script", &long],
            &["--source", "script", "--wait", "20", "bob"],
            &["--source", "script", "--service", &long, "bob"],
            &["--source", "script", "--socket", "/a", "--config", "/b", "bob"],
        ] {
            assert!(read_words(words).is_err(), "{words:?}");
        }
    }
}
