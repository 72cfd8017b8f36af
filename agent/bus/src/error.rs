//! Errors on the wire: `org.mailready.Error.NAME`, each with one line for people.

use zbus::DBusError;

/// What stands before the name of each error.
pub const ERROR_PREFIX: &str = "org.mailready.Error";

/// What a method may answer instead of its result.
#[derive(Debug, DBusError)]
#[zbus(prefix = "org.mailready.Error")]
pub enum Error {
    /// The connection failed, or the answer was not ours.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The caller may not do this: changing needs root, and a user may see and act on itself only.
    AccessDenied(String),
    /// The interface has this method, and this version of the agent does not do it yet.
    NotSupported(String),
    /// The request contradicts itself or names what cannot be a user.
    InvalidArgs(String),
    /// No such user.
    NoSuchUser(String),
    /// Too much is waiting; ask again.
    Busy(String),
    /// The agent is stopping.
    Stopping(String),
    /// Something in the agent or on disk went wrong; the text says what.
    Failed(String),
}
