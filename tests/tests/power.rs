//! The power goes.
//!
//! A guest with mail, homes and the agent's state on three disks (ext4, xfs, btrfs) converts a mailbox with folders, drains, rolls back, again and again, while letters go on being delivered; then its power is cut: at chance moments of each
//! step, and, by a journal of everything that it wrote, at every moment of one run, with every disk ahead of the others. The disks are mounted by another kernel, the agent is started, and the mailbox is wholly mbox or wholly
//! Maildir, with every message that it had, every letter that was acknowledged, once, and nothing left of the dead run.
//!
//! Some cuts in CI. `MAILREADY_LONG=1 cargo test -p mailready-tests --test power -- --nocapture` cuts 600 times and tries every moment: hours.
//! `MAILREADY_CUTS=N` cuts N times, `MAILREADY_POINTS=N` tries N moments a file system, `MAILREADY_SEED=N` begins elsewhere, `MAILREADY_FS=xfs` takes one file system only.

#[path = "power/cuts.rs"]
mod cuts;
#[path = "power/judge.rs"]
mod judge;
#[path = "power/points.rs"]
mod points;
#[path = "power/promises.rs"]
mod promises;
#[path = "power/stand.rs"]
mod stand;
