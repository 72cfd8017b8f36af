//! What can be wrong with a configuration, each with the place where it is wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file or folder cannot be read. A missing default file is not an error, a missing file that was named is.
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files were read and do not hold together; never empty.
    Problems(Vec<Problem>),
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file that says it.
    pub file: PathBuf,
    /// The line in it, counted from 1. None: a built-in default takes part in a contradiction, and no line says so.
    pub line: Option<usize>,
    /// What is wrong.
    pub wrong: Wrong,
}

/// The kinds of wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// The file is no TOML.
    Syntax(String),
    /// No section of this name.
    UnknownSection {
        /// The name as written.
        name: String,
        /// The section that it is most like.
        nearest: &'static str,
    },
    /// No key of this name in this section.
    UnknownKey {
        /// `section.key` as written.
        name: String,
        /// `section.key` that it is most like.
        nearest: String,
    },
    /// A number where text is wanted, and the like.
    Type {
        /// `section.key`, or the section.
        name: String,
        /// What is wanted.
        wanted: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// The type is right and the value is not.
    Value {
        /// `section.key`.
        name: String,
        /// The value as written.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two values contradict each other.
    Conflict(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(what) => write!(f, "not valid TOML: {what}"),
            Self::UnknownSection { name, nearest } => {
                write!(f, "unknown section [{name}]; the nearest known section is [{nearest}]")
            }
            Self::UnknownKey { name, nearest } => {
                write!(f, "unknown key {name}; the nearest known key is {nearest}")
            }
            Self::Type { name, wanted, found } => write!(f, "{name} is {found}, but must be {wanted}"),
            Self::Value { name, value, allowed } => write!(f, "{name} = {value} is not allowed: {allowed}"),
            Self::Conflict(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.wrong),
            None => write!(f, "{}: {}", self.file.display(), self.wrong),
        }
    }
}

impl fmt::Display for ConfigError {
    /// One line a problem, no line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Problems(problems) => {
                for (n, problem) in problems.iter().enumerate() {
                    write!(f, "{}{problem}", if n == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Problems(_) => None,
        }
    }
}
