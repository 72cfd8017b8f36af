//! Empty on purpose: the library does the work.

fn main() -> std::process::ExitCode {
    mailready_hooks::radius::main()
}
