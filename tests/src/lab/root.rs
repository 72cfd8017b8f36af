//! Whether this environment can have machines, and over which tree.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A script of `tests/lab`.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    super::machine::tests_folder().join("lab").join(name)
}

/// The cached root, if machines are possible here. Asked once a process.
///
/// # Errors
/// Why there can be none, in words for whoever runs the tests.
pub fn available() -> Result<PathBuf, String> {
    static ANSWER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    ANSWER.get_or_init(find).clone()
}

fn find() -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("machines of namespaces need root".into());
    }
    let asked =
        Command::new(script("root")).arg("--path").output().map_err(|e| format!("tests/lab/root: {e}"))?;
    let path = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if !asked.status.success() {
        return Err(format!("the private server root is not there; tests/lab/root makes it ({path})"));
    }
    let allowed = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--propagation", "private", "true"])
        .stderr(Stdio::null())
        .status();
    match allowed {
        Ok(status) if status.success() => Ok(path.into()),
        _ => Err("this environment does not permit new namespaces (unshare)".into()),
    }
}
