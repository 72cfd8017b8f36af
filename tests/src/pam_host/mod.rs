//! A stranger's program that calls PAM: `host.c`, compiled on the spot, and stacks of our making for it.
//!
//! By `pam_start_confdir` of libpam 1.5, so nothing in `/etc` is touched and nobody need be root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program, and a folder with the stacks that it uses.
pub struct PamHost {
    program: PathBuf,
    folder: PathBuf,
}

impl PamHost {
    /// Compiles the program into a folder of the caller's.
    ///
    /// # Errors
    /// What the compiler says: no compiler, or no headers of libpam (Debian: libpam0g-dev).
    pub fn compile(folder: &Path) -> Result<PamHost, String> {
        let source = folder.join("host.c");
        let program = folder.join("host");
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", source.display());
        fs::write(&source, include_str!("host.c")).map_err(|error| failed(&error))?;
        let output = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &source])
            .arg("-lpam")
            .output()
            .map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr)));
        }
        // What PAM falls back on, and complains about if it is not there.
        let host = PamHost { program, folder: folder.to_owned() };
        host.stack("other", "")?;
        Ok(host)
    }

    /// A service that lets everyone in, and goes through `lines` besides.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn stack(&self, service: &str, lines: &str) -> Result<(), String> {
        let permit: String = ["auth", "account", "session", "password"]
            .map(|kind| format!("{kind} required pam_permit.so\n"))
            .concat();
        let path = self.folder.join(service);
        fs::write(&path, permit + lines).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Runs it with the stack of this name, and an empty environment.
    ///
    /// # Errors
    /// It could not be run.
    pub fn run(&self, service: &str, user: &str, what: &[&str]) -> Result<Output, String> {
        Command::new(&self.program)
            .env_clear()
            .arg(&self.folder)
            .args([service, user])
            .args(what)
            .output()
            .map_err(|error| format!("{}: {error}", self.program.display()))
    }
}
