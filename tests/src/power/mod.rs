//! Cutting the power of a whole machine.
//!
//! A killed process leaves everything that it wrote to the kernel; a power cut takes back whatever no `fsync` has brought to the disk, on each file system by itself. So the real agent and worker run
//! in a guest: a kernel that is an ordinary program (User Mode Linux, `tests/lab/guest`), inside a lab machine whose tree is its root, with mail, homes and the agent's state on three disks of their own.
//! What was in the guest's memory dies with it, what it had sent to a disk stays.
//!
//! * [`guest`]: booting and killing it. * [`inside`]: what runs in it as its first process. * [`letters`]: the mail that goes on being delivered. * [`journal`]: everything that it did to its disks, in order, from
//!   which the disks as any moment's power cut would leave them are made again, also with one disk ahead of the others.
//!
//! Linux on x86-64 only, where Debian has that kernel.

pub mod guest;
pub mod inside;
pub mod journal;
pub mod letters;
