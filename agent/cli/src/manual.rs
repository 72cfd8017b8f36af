//! The shipped manual pages and completions, made from the definitions that the programs themselves go by.
//!
//! They lie under packaging/man and packaging/completions; a test compares, and with `MAILREADY_BLESS=1` writes them.

mod command;
mod keys;
mod roff;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::args::Args;

/// A file to ship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    /// Its path under packaging/.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// All files that are made from definitions.
#[must_use]
pub fn shipped() -> Vec<Shipped> {
    let mut files = vec![
        Shipped { path: "man/mailready.1".to_owned(), text: command::page() },
        Shipped { path: "man/mailready.toml.5".to_owned(), text: keys::page() },
        Shipped { path: "config/mailready.toml".to_owned(), text: mailready_config::example() },
    ];
    for (shell, name) in
        [(Shell::Bash, "mailready.bash"), (Shell::Zsh, "_mailready"), (Shell::Fish, "mailready.fish")]
    {
        let mut script = Vec::new();
        generate(shell, &mut Args::command(), "mailready", &mut script);
        let text = String::from_utf8_lossy(&script).into_owned();
        files.push(Shipped { path: format!("completions/{name}"), text });
    }
    files
}
