//! Whether a configuration file has changed: told from its identity and times, without reading it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mailready_config::Config;

/// Deeper than anybody's conf.d, and more files than anybody has there.
const DEPTH: usize = 3;
const MOST: usize = 1000;

/// What files are told apart by.
type Stamp = (u64, u64, u64, u32, i64, i64, i64, i64);

/// The files that an answer hangs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Stamp>);

impl Stamps {
    pub(super) fn take(config: &Config) -> Self {
        let mut stamps = Self::default();
        super::watched(config).iter().for_each(|path| stamps.add(path, 0));
        stamps
    }

    fn add(&mut self, path: &Path, depth: usize) {
        let Ok(found) = path.metadata() else { return };
        if depth > DEPTH || self.0.len() >= MOST {
            return;
        }
        let stamp = (
            found.dev(),
            found.ino(),
            found.size(),
            found.mode(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        );
        self.0.insert(path.to_owned(), stamp);
        if found.is_dir() {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.for_each(|entry| self.add(&entry.path(), depth + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_goes_or_changes_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let mut config = Config::parse("", Path::new("mailready.toml")).unwrap();
        config.site.dovecot_config = vec![root.path().join("dovecot.conf")];
        let take = || Stamps::take(&config);
        let none = take();
        let file = root.path().join("conf.d/90.conf");
        std::fs::create_dir(root.path().join("conf.d")).unwrap();
        std::fs::write(&file, "a").unwrap();
        let one = take();
        assert_ne!(none, one);
        assert_eq!(one, take());
        std::fs::write(&file, "ab").unwrap();
        assert_ne!(one, take());
        std::fs::remove_file(&file).unwrap();
        assert_ne!(one, take());
    }
}
