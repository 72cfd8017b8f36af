//! The programme behind `packaging/demo`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailready_tests::demo::main(std::env::args_os().skip(1))
}
