//! What has gone wrong with other converters, and does not here. The table is `tests/INCIDENTS.md`: each row names what happened,
//! where it is told, and the test that would fail if it happened to us. Where no other theme had such a test, it is here.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "incidents/bodies.rs"]
mod bodies;
#[path = "incidents/cases.rs"]
mod cases;
#[path = "incidents/converted.rs"]
mod converted;
#[path = "incidents/dovecot.rs"]
mod dovecot;
#[path = "incidents/folders.rs"]
mod folders;
#[path = "incidents/identity.rs"]
mod identity;
#[path = "incidents/metadata.rs"]
mod metadata;
#[path = "incidents/splitting.rs"]
mod splitting;
#[path = "incidents/table.rs"]
mod table;
