//! The user's own computer: another account, which has the client's configuration and its store, and reaches the mail by the
//! network alone.

use std::process::Output;
use std::sync::Arc;

use mailready_tests::lab::{Machine, Result};

const HOME: &str = "/home/laptop";
/// Where each client is told to keep its mail, relative to the home.
const STORE: &str = "store";

/// The account `laptop`.
pub struct Laptop {
    machine: Arc<Machine>,
    uid: u32,
    gid: u32,
}

impl Laptop {
    pub fn set_up(machine: &Arc<Machine>) -> Result<Self> {
        machine.run("useradd", ["--create-home", "--shell", "/bin/sh", "laptop"])?;
        let id = |what| -> Result<u32> { Ok(machine.run("id", [what, "laptop"])?.trim().parse().unwrap()) };
        let laptop = Self { machine: Arc::clone(machine), uid: id("-u")?, gid: id("-g")? };
        laptop.folder(STORE)?;
        Ok(laptop)
    }

    /// A client's store, as seen in the machine.
    pub fn store(&self) -> String {
        format!("{HOME}/{STORE}")
    }

    /// Runs `work` where the store's path leads to the store.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.machine.inside(work)
    }

    /// Makes a folder below the home, with those above it.
    pub fn folder(&self, path: &str) -> Result<()> {
        self.run("mkdir", ["-p", &format!("{HOME}/{path}")]).map(|_| ())
    }

    /// An empty Maildir below the home.
    pub fn maildir(&self, path: &str) -> Result<()> {
        ["new", "cur", "tmp"].iter().try_for_each(|part| self.folder(&format!("{path}/{part}")))
    }

    /// Writes a file of configuration, secrets in it and so private.
    pub fn file(&self, path: &str, content: &str) -> Result<()> {
        self.machine.write(&format!("{HOME}/{path}"), content.as_bytes(), (self.uid, self.gid), 0o600)
    }

    /// Runs a program as the laptop's user.
    pub fn run<const N: usize>(&self, program: &str, args: [&str; N]) -> Result<Output> {
        let home = format!("HOME={HOME}");
        let words = ["-u", "laptop", "--", "env", &home, "USER=laptop", "TERM=vt100", program];
        self.machine.output("runuser", words.iter().chain(&args), b"")
    }
}

/// What a program said, for a failure's message.
pub fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}
