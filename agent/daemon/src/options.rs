//! The command line of `mailready-agent`: three options and nothing else.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
mailready-agent converts a user's mbox mail to Maildir when the user arrives.

Usage: mailready-agent [--config FILE]

  --config FILE  read FILE and conf.d/*.toml beside it (default /etc/mailready/mailready.toml)
  --help         print this
  --version      print the version

Signals: SIGHUP reads the configuration again, SIGTERM ends the agent.
Environment: MAILREADY_LOG=json, MAILREADY_LOG_LEVEL=error|warn|info|debug|trace (or tracing's filter language).
See mailready-agent(8) and mailready.toml(5).
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Run, with this configuration.
    Run(Option<PathBuf>),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut args = args.into_iter();
    let mut config = None;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--help" || text == "-h" {
            return Ok(Asked::Help);
        }
        if text == "--version" || text == "-V" {
            return Ok(Asked::Version);
        }
        let file = match text.strip_prefix("--config=") {
            Some(file) => OsString::from(file),
            None if text == "--config" => args.next().ok_or("--config needs a file")?,
            None => return Err(format!("unknown argument {text:?}; see mailready-agent --help")),
        };
        if config.replace(PathBuf::from(file)).is_some() {
            return Err("--config is given twice".to_owned());
        }
    }
    Ok(Asked::Run(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Asked, String> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn three_options_and_nothing_else() {
        assert_eq!(parsed(&[]), Ok(Asked::Run(None)));
        assert_eq!(parsed(&["--config", "/x"]), Ok(Asked::Run(Some("/x".into()))));
        assert_eq!(parsed(&["--config=/x"]), Ok(Asked::Run(Some("/x".into()))));
        assert_eq!(parsed(&["--config", "/x", "--version"]), Ok(Asked::Version));
        assert_eq!(parsed(&["-h"]), Ok(Asked::Help));
        assert!(parsed(&["--config"]).is_err());
        assert!(parsed(&["--config", "/x", "--config", "/y"]).is_err());
        assert!(parsed(&["start"]).is_err());
    }
}
