//! The caller's end of the interface.

use zbus::proxy;

use crate::{ConvertOptions, Converted, Details, Error, UserStatus, Verified};

/// The agent. Of a connection by [`crate::connect_p2p`] or of the system bus alike.
#[proxy(
    interface = "org.mailready.Agent1",
    default_service = "org.mailready.Agent",
    default_path = "/org/mailready/Agent"
)]
pub trait Agent {
    /// Converts users and answers for each of them, in the order asked; comes back when all are answered.
    fn convert(&self, users: &[&str], options: ConvertOptions) -> Result<Vec<Converted>, Error>;

    /// Where users stand; nobody named means everybody the caller may see.
    fn status(
        &self,
        users: &[&str],
        options: std::collections::HashMap<&str, zbus::Variant<'_>>,
    ) -> Result<Vec<UserStatus>, Error>;

    /// Has Dovecot read a user's originals again, and compares with the Maildir; comes back with what was found.
    fn verify(&self, user: &str) -> Result<Verified, Error>;

    /// Gives a user mboxes again; comes back when that is done, or with what is in the way.
    fn rollback(&self, user: &str) -> Result<Converted, Error>;

    /// Keeps a user from being converted, until a time in unix seconds (0: for ever).
    fn hold(&self, user: &str, until: u64, why: &str) -> Result<(), Error>;

    /// Ends a hold.
    fn release(&self, user: &str) -> Result<(), Error>;

    /// `start` lets conversions go on after the agent has stopped them by itself; the rest, `stop` and `status`, is not yet supported.
    fn background(&self, what: &str) -> Result<(), Error>;

    /// A user's state or progress changed.
    #[zbus(signal)]
    fn mailbox_changed(&self, user: String, state: String, details: Details) -> zbus::Result<()>;

    /// The agent stopped background work by itself: the reason as a stable word, and for people.
    #[zbus(signal)]
    fn stopped(&self, code: String, text: String) -> zbus::Result<()>;

    /// Why nobody is converted by arriving, if the agent has stopped by itself; else empty.
    #[zbus(property(emits_changed_signal = "false"))]
    fn stopped_because(&self) -> zbus::Result<String>;

    /// Version of the agent.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
}
