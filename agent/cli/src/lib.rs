//! The operator's command, `mailready`.
//!
//! Everything that changes a user goes through the agent, over its control socket; the one exception is `convert-file`,
//! which is the engine alone on one file. Each command is a module; what all of them share is small:
//!
//! | module | what |
//! |---|---|
//! | [`args`] | the command line, as clap reads it; manual page and completions are made from it |
//! | [`exit`] | exit codes, and the one place where a failure becomes a message and a code |
//! | [`terminal`] | writing: nothing that comes from outside reaches a terminal raw |
//! | [`agent`] | the connection |
//! | [`json`] | the stable output for programs |
//! | [`manual`] | the shipped manual pages and completions |
#![forbid(unsafe_code)]

pub mod agent;
pub mod args;
mod background;
mod check_config;
mod convert;
mod convert_file;
pub mod exit;
mod explain;
mod hold;
pub mod json;
pub mod manual;
mod owner;
mod progress;
mod rollback;
mod status;
pub mod terminal;
mod verify;
mod when;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::{Exit, Failure};

/// Runs the command line and says how it ended; the whole program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let json = args.command.wants_json();
    match command(args) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(json).into(),
    }
}

fn command(args: Args) -> Result<Exit, Failure> {
    let config = args.config.as_deref();
    match args.command {
        Command::Convert(args) => agent::with(config, async |agent| convert::run(&agent, args).await),
        Command::Status(args) => agent::with(config, async |agent| status::run(&agent, &args).await),
        Command::Explain(args) => agent::with(config, async |agent| explain::run(&agent, &args).await),
        Command::Verify(args) => agent::with(config, async |agent| verify::run(&agent, &args).await),
        Command::Rollback(args) => rollback::run(config, args),
        Command::Hold(args) => hold::run(config, &args),
        Command::Release(args) => agent::with(config, async |agent| hold::release(&agent, &args).await),
        Command::Background(args) => agent::with(config, async |agent| background::run(&agent, &args).await),
        Command::ConvertFile(args) => convert_file::run(config, &args),
        Command::CheckConfig(args) => check_config::run(config, &args),
    }
}
