//! Full, broken, read-only and hanging disks.
//!
//! Every system call of worker and agent that changes a file or a folder, or reads one, in one conversion (with two folders), one drain, one rollback and one verification is made
//! to fail with what a disk can answer to it: once, and as the first of all calls on that disk until it is healed (`faults`, by the tracer `stop-at`). Then the same on real file systems, full by blocks and
//! by inodes, over their quota, read-only, frozen (`real`, `frozen`).
//!
//! Each time: either nothing has happened (mbox in use, byte for byte as before; stage, tombstones, dotlocks and the record of the attempt gone; a reason that says what to do), or the Maildir is
//! the mail and all the rest follows when the disk is healed. The agent stays up, and carries out the next order.
//!
//! `MAILREADY_LONG=1` takes all errors at all places, both ways; else each place has one, and takes the errors and the ways in turn.
//! `MAILREADY_SPOT=TEXT` takes only faults whose description, as the report prints it, holds the text.

#[allow(dead_code, reason = "shared with the theme crashes, which uses all of it")]
#[path = "crashes/deaths.rs"]
mod deaths;
#[path = "disks/fault.rs"]
mod fault;
#[path = "disks/faults.rs"]
mod faults;
#[path = "disks/frozen.rs"]
mod frozen;
#[path = "moments/people.rs"]
mod people;
#[path = "disks/real.rs"]
mod real;
#[allow(dead_code, reason = "shared with the theme crashes, which uses all of it")]
#[path = "crashes/rig.rs"]
mod rig;
#[path = "disks/room.rs"]
mod room;
#[path = "disks/stand.rs"]
mod stand;
#[allow(dead_code, reason = "shared with the theme crashes, which uses all of it")]
#[path = "crashes/trace.rs"]
mod trace;
