//! No client can tell: mailboxes with a past, before and after a conversion, compared fact by fact.

#[path = "differential/back.rs"]
mod back;
#[path = "differential/broken.rs"]
mod broken;
#[path = "differential/corpora.rs"]
mod corpora;
#[path = "differential/layouts.rs"]
mod layouts;
#[path = "differential/resync.rs"]
mod resync;
#[path = "differential/seeds.rs"]
mod seeds;
