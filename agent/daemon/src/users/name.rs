//! Login names that may be asked for and become part of a path.

use std::fmt;

use mailready_config::Names;

/// A name that can be a component of a path and a line of a log: UTF-8, 1 to 255 bytes, without `/` and control characters, neither `.`
/// nor `..`, and not hidden. Whether there is such a user is another question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why bytes are no name. The bytes themselves come from whoever tries to log in, and are not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing in front of the realm.
    #[error("the user's name is empty")]
    Empty,
    /// More than 255 bytes.
    #[error("the user's name has {0} bytes, more than 255")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the user's name is not UTF-8")]
    NotText,
    /// It begins with a dot: no component of a path that leads downwards, or a hidden one.
    #[error("the user's name begins with a dot")]
    Dot,
    /// A slash, a control character, or a colon, which no line of passwd can hold.
    #[error("the user's name has a {0:?} in it")]
    Character(char),
}

impl Name {
    const MAX: usize = 255;

    /// A login name.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > Self::MAX {
            return Err(NameError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NameError::NotText)?;
        if text.starts_with('.') {
            return Err(NameError::Dot);
        }
        match text.chars().find(|c| c.is_control() || *c == '/' || *c == ':') {
            Some(bad) => Err(NameError::Character(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The login name in what was announced, by the rules of `[names]` in this order: `rewrite`, `strip_realm`, `detail`, `lowercase`. So `ann@example.org` is `ann` where
    /// realms are stripped.
    ///
    /// # Errors
    /// There is none in it.
    pub fn announced(bytes: &[u8], rules: &Names) -> Result<Self, NameError> {
        let whole = Self::new(bytes)?.0;
        let mut name = rules.rewrite.iter().find_map(|rule| rule.apply(&whole)).unwrap_or(whole);
        if rules.strip_realm
            && let Some(at) = name.find('@')
        {
            name.truncate(at);
        }
        if let Some(at) = rules.detail.and_then(|detail| name.find(detail)) {
            name.truncate(at);
        }
        if rules.lowercase {
            name = name.to_lowercase();
        }
        // What the rules make of it comes from outside too.
        Self::new(name.as_bytes())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
