//! Mail is delivered all the time, by every deliverer that there is, while users are converted, rolled back and converted again.
//!
//! An independent ledger decides: each message has an id that its sender writes down when a server or program has taken it. In
//! the end IMAP shows each of them exactly once, the files hold each exactly once, nothing has been bounced, and no queue
//! holds anything.
//!
//! `snippets`: what `packaging` ships for each deliverer is accepted by that program. `directed`: the agent or its worker is stopped
//! in every window of a conversion, a drain and a rollback, and every deliverer delivers into it. `races`: a deliverer is stopped
//! between its look at the marker and its writing, and the user goes to the other side meanwhile. `running`: everybody at
//! once, nobody stopped. Both with deliverers that were told by the shipped snippets, and with some that never heard of mailready. The
//! counts of deliveries, commits, rollbacks and of deliveries in each window are printed; a window of the directed part that
//! nobody hit fails the test.
//!
//! Two minutes on two idle cores. The long form lets everything run for 15 minutes (`MAILREADY_MINUTES` for another number):
//!
//!     MAILREADY_LONG=1 cargo test -p mailready-tests --test delivery -- --nocapture

#[path = "delivery/deliverer.rs"]
mod deliverer;
#[path = "delivery/directed.rs"]
mod directed;
#[path = "delivery/lane.rs"]
mod lane;
#[path = "delivery/ledger.rs"]
mod ledger;
#[path = "delivery/post.rs"]
mod post;
#[path = "delivery/races.rs"]
mod races;
#[path = "delivery/running.rs"]
mod running;
#[path = "delivery/snippets.rs"]
mod snippets;
#[path = "delivery/submission.rs"]
mod submission;
#[path = "delivery/windows.rs"]
mod windows;
