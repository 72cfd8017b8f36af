//! Every way a user arrives, with its real software: what the agent hears, that the several calls of one login are one arrival, and how long it takes from the event to the queue.
//!
//! RADIUS has a theme of its own (`radius`), and so has Dovecot's post-login script (`postlogin`, `moments`). systemd's own logind is asked in the theme that boots a system; here a stand-in sends its signals over
//! a real bus.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

#[path = "sources/logind.rs"]
mod logind;
