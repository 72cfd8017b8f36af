//! Files with a user a line: `allow`, `first`, `hold`.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The users named in a file, in the order of the file, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserList {
    order: Vec<String>,
    names: HashSet<String>,
    missing: bool,
}

/// Why a list cannot be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListError {
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no user name: it has a blank, a control character, `/` or `:` in it, or is not UTF-8.
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{}: {source}", path.display()),
            Self::BadLine { path, line } => {
                write!(f, "{}:{line}: not a user name (one a line, # begins a comment)", path.display())
            }
        }
    }
}

impl std::error::Error for ListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::BadLine { .. } => None,
        }
    }
}

impl UserList {
    /// Reads a list. A missing file names nobody, and [`UserList::is_missing`] tells.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or a line that is no name. Half a list is never returned: a hold that
    /// is overlooked converts somebody who is not to be converted.
    pub fn load(path: &Path) -> Result<Self, ListError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes, path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self { missing: true, ..Self::default() }),
            Err(source) => Err(ListError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the bytes of a list; `path` is for messages.
    ///
    /// # Errors
    /// A line that is no name.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ListError> {
        let mut list = Self::default();
        for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let bad = || ListError::BadLine { path: path.to_owned(), line: n + 1 };
            let line = std::str::from_utf8(line).map_err(|_| bad())?;
            let name = line.split('#').next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/' || c == ':') {
                return Err(bad());
            }
            if list.names.insert(name.to_owned()) {
                list.order.push(name.to_owned());
            }
        }
        Ok(list)
    }

    /// Whether a user is named.
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        self.names.contains(user)
    }

    /// The users in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// How many users are named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_names_each_once() {
        let list = UserList::parse(b"# who\nbob\r\n  ann   # the tester\n\nbob\n#x\ncy", Path::new("allow"))
            .unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["bob", "ann", "cy"]);
        assert!(list.contains("ann") && !list.contains("x") && !list.contains(""));
    }

    #[test]
    fn a_line_that_is_no_name_spoils_the_list() {
        for (text, line) in [("ann bob", 1), ("ann\nx/y", 2), ("ann\n\nb\x01b", 3), ("a:b", 1)] {
            match UserList::parse(text.as_bytes(), Path::new("hold")) {
                Err(e @ ListError::BadLine { line: at, .. }) => {
                    assert_eq!(at, line);
                    assert!(e.to_string().starts_with(&format!("hold:{line}: ")));
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(UserList::parse(b"\xff\n", Path::new("hold")).is_err());
    }

    #[test]
    fn a_missing_file_names_nobody_and_says_so() {
        let list = UserList::load(Path::new("/nonexistent/allow")).unwrap();
        assert!(list.is_missing() && list.is_empty());
    }
}
