//! `STATE/site`: under which configuration the site was proven to follow, and what stopped it.
//!
//! Both hold for one digest of everything that decides how mail is read: Dovecot's version and effective settings, the post-login script, our own version and settings. Anything changed there asks for a new
//! proof, and takes a stop away, since it was about something else. The file may be deleted at any moment: that asks for a new proof, too, and is how an operator takes a stop away that no change mends.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fault::Fault;

/// Its name in the state folder.
pub(super) const NAME: &str = "site";

/// The only version so far.
const VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Absent: nothing is proven.
    pub(super) proven: Option<Proven>,
    /// Absent: nothing is in the way.
    pub(super) stopped: Option<Stopped>,
}

/// A first commit that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proven {
    /// What it holds for, blake3, hex.
    pub(super) digest: String,
    /// Unix seconds.
    pub(super) since: u64,
    /// By whose conversion.
    pub(super) run: String,
}

/// A mismatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    /// What it holds for.
    pub(super) digest: String,
    /// Unix seconds.
    pub(super) since: u64,
    /// At whose conversion.
    pub(super) run: String,
    /// What was found.
    pub(super) text: String,
    /// What to do.
    pub(super) mend: String,
}

/// Reads it. One that cannot be understood is an error, since it may say that the site is stopped.
pub(super) fn read(state: &Path) -> Result<Record, Fault> {
    let path = state.join(NAME);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => {
            return Err(Fault::new(format!("{}: {error}", path.display()), "see to owner and mode"));
        }
    };
    match toml::from_str::<Record>(&text) {
        Ok(record) if record.version == VERSION => Ok(record),
        Ok(record) => Err(Fault::new(
            format!("{} is of version {}, which this agent does not know", path.display(), record.version),
            format!("start the newer agent, or rm {}", path.display()),
        )),
        Err(error) => Err(Fault::new(
            format!("{} cannot be read: {}", path.display(), error.message()),
            format!("rm {}", path.display()),
        )),
    }
}

/// Replaces it.
pub(super) fn write(state: &Path, record: &Record) -> std::io::Result<()> {
    let record = Record { version: VERSION, ..record.clone() };
    let text = toml::to_string(&record).map_err(std::io::Error::other)?;
    super::super::map::replace(state, NAME, 0o600, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_not_understood_is_no_proof() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path()), Ok(Record::default()));
        let stopped = Stopped {
            digest: "ab".into(),
            since: 5,
            run: "r".into(),
            text: "a \"b\"\n".into(),
            mend: String::new(),
        };
        let record = Record { version: VERSION, proven: None, stopped: Some(stopped) };
        write(state.path(), &record).unwrap();
        assert_eq!(read(state.path()), Ok(record));
        for text in ["version = 2\n", "", "version = 1\n[proven]\n"] {
            std::fs::write(state.path().join(NAME), text).unwrap();
            assert!(read(state.path()).is_err(), "{text}");
        }
    }
}
