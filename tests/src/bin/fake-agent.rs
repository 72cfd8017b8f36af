//! Empty on purpose: the library does the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match mailready_tests::fake_agent::serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program of the test suite")]
            {
                eprintln!("fake-agent: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
