//! The differential harness: mailboxes as years of use leave them, converted, and every fact that a client sees compared.

pub mod deliverers;
pub mod example;
pub mod letters;
pub mod maildir;
pub mod names;
pub mod past;
pub mod sessions;
pub mod stand;
pub mod variation;
pub mod verdict;

pub use example::example;
pub use maildir::Mailbox;
pub use past::Past;
pub use stand::{Kept, Stand};
pub use variation::{Layout, Variation};
pub use verdict::{Change, Committed, drop_indexes};
