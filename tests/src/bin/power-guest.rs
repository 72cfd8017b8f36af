//! First process of the guest whose power is cut. See [`mailready_tests::power::inside`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match mailready_tests::power::inside::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stdout, reason = "the console is all that it has")]
            {
                println!("power: wrong: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
