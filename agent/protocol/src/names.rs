//! Names as they travel: bytes that have been checked for length and NUL, and for nothing else.
//!
//! What a user or a service may be called is the agent's judgement. A hook must not lose an arrival because it has
//! its own idea of a good name.

use std::fmt;

/// The user who arrives, as the hook knows them: 1 to 255 bytes, none of them NUL. Whether there is such a user, and
/// which one a realm or a spelling means, is for the agent to find out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(Box<[u8]>);

/// The service that the user came through (PAM's service name, or whatever the hook was told): 0 to 64 bytes,
/// none of them NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Service(Box<[u8]>);

/// Why bytes cannot be a [`User`] or a [`Service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// A user name of no bytes.
    Empty,
    /// More bytes than the packet may carry.
    TooLong {
        /// How many there were.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// A NUL byte: no name in C or in a path can hold one.
    Nul {
        /// Where it stands, counted from 0.
        at: usize,
    },
}

impl User {
    /// The longest user name that travels.
    pub const MAX: usize = 255;

    /// Takes the bytes of a user name.
    pub fn new(bytes: &[u8]) -> Result<User, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        checked(bytes, Self::MAX).map(User)
    }

    /// The bytes, as the hook gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Service {
    /// The longest service name that travels.
    pub const MAX: usize = 64;

    /// Takes the bytes of a service name; none at all means that the hook knows of none.
    pub fn new(bytes: &[u8]) -> Result<Service, NameError> {
        checked(bytes, Self::MAX).map(Service)
    }

    /// The bytes, as the hook gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn checked(bytes: &[u8], max: usize) -> Result<Box<[u8]>, NameError> {
    if bytes.len() > max {
        return Err(NameError::TooLong { len: bytes.len(), max });
    }
    match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => Err(NameError::Nul { at }),
        None => Ok(bytes.into()),
    }
}

// Names come from whoever tries to log in: what is not plain goes into a log or onto a terminal escaped.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.0.escape_ascii())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.0.escape_ascii())
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => write!(f, "the name is empty"),
            NameError::TooLong { len, max } => write!(f, "the name has {len} bytes, more than {max}"),
            NameError::Nul { at } => write!(f, "the name has a NUL at byte {at}"),
        }
    }
}

impl std::error::Error for NameError {}
