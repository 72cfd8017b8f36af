//! What the agent keeps across days, restarts and mistakes: originals and their end, the breaker, records that are broken, and people who come after others.
//!
//! Deaths in the middle of the originals' end are with the other deaths, in the theme `crashes`, which has the long form.
//!
//! The time is not waited for: a test moves the two clocks that a record and the agent's own count know, one by one, while no agent runs.

#[path = "state/blocks.rs"]
mod blocks;
#[path = "state/breaker.rs"]
mod breaker;
#[path = "state/corrupt.rs"]
mod corrupt;
#[path = "state/identity.rs"]
mod identity;
#[path = "state/retention.rs"]
mod retention;
#[path = "state/rig.rs"]
mod rig;
#[path = "state/stray.rs"]
mod stray;
