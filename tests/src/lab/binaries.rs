//! The programs under test: found once, refused when they are older than their sources.
//!
//! `cargo test` builds what a test links, not the programs it starts; a test that silently runs yesterday's agent proves
//! nothing. Cargo writes beside each program the list of all the sources that went into it, and that list is compared here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{Doing, LabError, Result};

/// Where the programs are; set by `tests/run`.
const DIR_VARIABLE: &str = "MAILREADY_BIN_DIR";

/// A program or module of the workspace, and where an installation has it (`{arch}`: as in Debian's library folders).
const INSTALLED: [(&str, &str); 6] = [
    ("mailready", "/usr/bin/mailready"),
    ("mailready-notify", "/usr/bin/mailready-notify"),
    ("mailready-radius", "/usr/sbin/mailready-radius"),
    ("mailready-agent", "/usr/sbin/mailready-agent"),
    ("mailready-worker", "/usr/sbin/mailready-worker"),
    ("libpam_mailready.so", "/usr/lib/{arch}-linux-gnu/security/pam_mailready.so"),
];

/// The folder with the programs of one build.
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// The programs in `MAILREADY_BIN_DIR`, else those beside the running test.
    ///
    /// # Errors
    /// [`LabError::Setup`] if one is missing or older than one of its sources.
    pub fn find() -> Result<Self> {
        let dir = match std::env::var_os(DIR_VARIABLE) {
            Some(dir) => PathBuf::from(dir),
            None => {
                let test = std::env::current_exe().doing(|| "find the running test")?;
                // target/PROFILE/deps/THEME-HASH, or target/PROFILE/PROGRAM
                let dir = test.parent().unwrap_or(Path::new("/"));
                if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir }.to_path_buf()
            }
        };
        for (name, _) in INSTALLED {
            check_fresh(&dir.join(name))?;
        }
        Ok(Self { dir })
    }

    /// The path of one of them on the host, for tests that need no machine.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Each with its place in the machine.
    pub fn installed(&self) -> impl Iterator<Item = (PathBuf, String)> {
        INSTALLED
            .iter()
            .map(|(name, place)| (self.dir.join(name), place.replace("{arch}", std::env::consts::ARCH)))
    }
}

fn check_fresh(program: &Path) -> Result<()> {
    let rebuild = "build with `cargo build --workspace`, or run the tests by tests/run, which does";
    let built = modified(program)
        .map_err(|e| LabError::Setup(format!("{} cannot be used ({e}): {rebuild}", program.display())))?;
    let list = program.with_extension("d");
    let text = fs::read_to_string(&list).map_err(|e| {
        LabError::Setup(format!("{} has no list of sources ({e}): {rebuild}", program.display()))
    })?;
    for source in sources(&text) {
        // A source that is gone was used and is not any more: as stale as one that has changed.
        let newer = modified(&source).map_or(true, |changed| changed > built);
        if newer {
            return Err(LabError::Setup(format!(
                "{} is older than {}: {rebuild}",
                program.display(),
                source.display()
            )));
        }
    }
    Ok(())
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

/// The sources in a list of cargo's: `PROGRAM: SOURCE SOURCE ...`, a space in a name escaped by a backslash.
fn sources(list: &str) -> Vec<PathBuf> {
    let Some((_, names)) = list.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    names.replace("\\ ", "\0").split(' ').map(|name| PathBuf::from(name.replace('\0', " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sources_keeps_spaces_in_names() {
        let list = "/t/debug/agent: /src/a.rs /my\\ src/b.rs\n";
        assert_eq!(sources(list), [PathBuf::from("/src/a.rs"), PathBuf::from("/my src/b.rs")]);
    }

    #[test]
    fn a_program_older_than_a_source_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (program, source) = (dir.path().join("agent"), dir.path().join("a.rs"));
        fs::write(&program, "").unwrap();
        fs::write(dir.path().join("agent.d"), format!("{}: {}\n", program.display(), source.display()))
            .unwrap();
        fs::write(&source, "").unwrap();
        let touch = |path: &Path, seconds| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        touch(&program, 2000);
        touch(&source, 1000);
        check_fresh(&program).unwrap();
        touch(&source, 3000);
        assert!(check_fresh(&program).unwrap_err().to_string().contains("is older than"));
        fs::remove_file(&source).unwrap();
        assert!(check_fresh(&program).is_err());
    }
}
