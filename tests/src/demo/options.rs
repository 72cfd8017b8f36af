//! The command line of the demo.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::lab::Site;

pub(super) const HELP: &str = "\
packaging/demo [--site debian|small] [--messages N] [MBOX]

Shows one login: a user's mbox becomes a Maildir between the password and the inbox, with real Dovecot, PAM and the agent,
in a private machine of namespaces. Nothing of it touches this machine's own mail, services, accounts or ports.

  --site debian    Dovecot as Debian configures it (default)
  --site small     a small configuration of its own, with a PAM service of its own
  --messages N     how many messages are made up (default 300)
  MBOX             your own mail instead: copied into the machine, never written to

Exit code: 0 when the new server showed exactly what the old one did, 1 when not, 64 on a wrong command line.";

/// What was asked for.
pub(super) enum Wish {
    Run(Options),
    Help,
}

/// How the demo is to run.
pub(super) struct Options {
    pub site: Site,
    pub messages: u32,
    pub mbox: Option<PathBuf>,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Wish, String> {
        let mut options = Self { site: Site::Debian, messages: 300, mbox: None };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().and_then(|value| value.into_string().ok()).unwrap_or_default();
            match argument.to_str() {
                Some("--help" | "-h") => return Ok(Wish::Help),
                Some("--site") => {
                    options.site = match value().as_str() {
                        "debian" => Site::Debian,
                        "small" => Site::Small,
                        other => return Err(format!("--site is debian or small, not {other:?}")),
                    }
                }
                Some("--messages") => {
                    let number = value().parse().ok().filter(|number| (1..=100_000).contains(number));
                    options.messages = number.ok_or("--messages takes a number from 1 to 100000")?;
                }
                Some(option) if option.starts_with('-') => {
                    return Err(format!("unknown option {option:?}; packaging/demo --help"));
                }
                _ if options.mbox.is_some() => return Err("one MBOX at a time".into()),
                _ => options.mbox = Some(argument.into()),
            }
        }
        Ok(Wish::Run(options))
    }
}
