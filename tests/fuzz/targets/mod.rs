//! Fuzz targets: one for each parser that reads what others have written. A target takes any bytes and asserts what has to hold for all of
//! them; that it does not panic is the least of it.
//!
//! The theme `fuzz` runs each over its corpus and over seeded mutations of it; `tests/fuzz/run` goes on with coverage as its guide.

mod formats;
mod headers;
mod mailbox;
mod names;
mod programs;
mod wire;

/// A target by the name of its folder in `tests/fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("arrival", wire::arrival),
    ("config", programs::config),
    ("from_line", mailbox::from_line),
    ("header", headers::header),
    ("job", wire::job),
    ("layout", names::layout),
    ("marker", formats::marker),
    ("meta", mailbox::meta),
    ("mutf7", names::mutf7),
    ("naive", mailbox::naive),
    ("order", wire::order),
    ("percent", names::percent),
    ("qpopper", mailbox::qpopper),
    ("radius", wire::radius),
    ("receipt", formats::receipt),
    ("split", mailbox::split),
    ("subscriptions", names::subscriptions),
    ("told", programs::told),
    ("tombstone", formats::tombstone),
    ("uidl", programs::uidl),
    ("uidlist", formats::uidlist),
    ("uw", mailbox::uw),
];
