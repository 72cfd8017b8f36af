//! Empty on purpose: the library does the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailready_agent::run(std::env::args_os().skip(1))
}
