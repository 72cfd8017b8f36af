//! RADIUS accounting as a source of arrivals, by both ways: `mailready-radius`, with radclient and with FreeRADIUS that replicates or reads its detail file again after an outage, and
//! FreeRADIUS' own exec module with `mailready-notify`. The configuration of FreeRADIUS is the one that `hooks/radius/README` tells an administrator to write.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "radius/listener.rs"]
mod listener;
#[path = "radius/rig.rs"]
mod rig;
#[path = "radius/server.rs"]
mod server;
