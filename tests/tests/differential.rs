//! No client can tell: mailboxes with a past, before and after a conversion, compared fact by fact.

#[path = "differential/seeds.rs"]
mod seeds;

#[path = "differential/broken.rs"]
mod broken;
