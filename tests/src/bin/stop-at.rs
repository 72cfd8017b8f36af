//! `stop-at`: runs a program and stops it, or kills, at a certain system call. See [`mailready_tests::stops`].

use std::process::ExitCode;

fn main() -> ExitCode {
    mailready_tests::stops::main()
}
