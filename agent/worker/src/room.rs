//! Room: what may be taken of a disk, or of the user's share of it.
//!
//! The user's mail goes on coming while we work, and Postfix bounces what does not fit into a quota: so nothing of ours may take what a delivery could need. What is going to be written is
//! compared beforehand with what is free beyond a reserve (`keep.reserve`, per cent of the disk or of the share), in bytes and in files; while it is written, and each time it is looked at again, the
//! reserve has to be there still, else the work is given up and its room is free again.
//!
//! What a share is only the kernel's quotas tell, and where the file system gives a folder a size of its own (project quotas), its size. btrfs tells nobody but root how much is left of a
//! subvolume's limit: there the first error says so, and what was written is removed, and written off, at once.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;

use crate::wire::{Block, Step};
use crate::{Stop, Task, note};

/// Between two looks while a stage is written.
const EVERY_BYTES: u64 = 1 << 20;
const EVERY_FILES: u64 = 250;

/// What is going to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// One thing of which there is so much in all, and so much free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    free: u64,
    total: u64,
}

impl Share {
    fn reserve(self, percent: u8) -> u64 {
        self.total / 100 * u64::from(percent) + self.total % 100 * u64::from(percent) / 100
    }

    fn has(self, need: u64, percent: u8) -> bool {
        self.free.checked_sub(self.reserve(percent)).is_some_and(|left| need <= left)
    }

    /// Of a limit of 0 there is none.
    fn of_limits(soft: u64, hard: u64, used: u64) -> Option<Self> {
        // Beyond the soft limit it is a matter of time, and nobody knows of how much.
        let total = [soft, hard].into_iter().find(|limit| *limit > 0)?;
        Some(Self { free: total.saturating_sub(used), total })
    }
}

/// Whose room it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Disk,
    User,
    Group,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "on the file system",
            Self::User => "of the user's quota",
            Self::Group => "of the group's quota",
        })
    }
}

/// A limit, and how far it is used; `None`: not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    whose: Whose,
    bytes: Option<Share>,
    files: Option<Share>,
}

impl Room {
    /// What is wanting, in words.
    fn wants(&self, need: Need, percent: u8) -> Option<String> {
        let short = |share: Option<Share>, need: u64, what: &str, show: fn(u64) -> String| {
            let share = share.filter(|share| !share.has(need, percent))?;
            Some(format!(
                "{} {what} are needed; {} are free {}, {} of them kept in reserve",
                show(need),
                show(share.free),
                self.whose,
                show(share.reserve(percent)),
            ))
        };
        short(self.bytes, need.bytes, "MiB", |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))
            .or_else(|| short(self.files, need.files, "files", |files| files.to_string()))
    }
}

/// Blocks unless so much fits where `folder` is, with the reserve besides. What cannot be asked does not block: the write will tell.
pub(crate) fn check(task: Task<'_>, folder: BorrowedFd<'_>, need: Need) -> Result<(), Stop> {
    let disk = disk(folder).map_err(Stop::failed(Step::Stage))?;
    let quotas = [(Whose::User, task.job.uid), (Whose::Group, task.job.gid)];
    let rooms = quotas.into_iter().filter_map(|(whose, id)| quota(folder, whose, id)).chain([disk]);
    for room in rooms {
        if let Some(wants) = room.wants(need, task.job.reserve) {
            note(&wants);
            return Err(Stop::blocked(Block::NoRoom, 0));
        }
    }
    Ok(())
}

/// Looks again while something is written.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    task: Task<'a>,
    looked: Need,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(task: Task<'a>) -> Self {
        Self { task, looked: Need::default() }
    }

    /// `bytes` and `files` so far.
    pub(crate) fn on(&mut self, files: u64, bytes: u64) -> Result<(), Stop> {
        let due = bytes.saturating_sub(self.looked.bytes) >= EVERY_BYTES
            || files.saturating_sub(self.looked.files) >= EVERY_FILES;
        if !due {
            return Ok(());
        }
        self.looked = Need { bytes, files };
        check(self.task, self.task.place.work(), Need::default())
    }
}

/// Has what was removed counted as free at once, where that would else take until the next commit of the file system.
pub(crate) fn settle(folder: BorrowedFd<'_>) {
    if fstatfs(folder).is_ok_and(|stat| stat.filesystem_type() == BTRFS_SUPER_MAGIC) {
        // It would come by itself in half a minute.
        let _ = nix::unistd::syncfs(folder);
    }
}

fn disk(folder: BorrowedFd<'_>) -> nix::Result<Room> {
    let stat = fstatvfs(folder)?;
    let unit = stat.fragment_size();
    let share = |free: u64, total: u64| (total > 0).then_some(Share { free, total });
    Ok(Room {
        whose: Whose::Disk,
        bytes: share(stat.blocks_available() * unit, stat.blocks() * unit),
        // Where inodes are made as they are needed (btrfs), there are 0 of 0.
        files: share(stat.files_available(), stat.files()),
    })
}

/// `Q_GETQUOTA` of `quotactl_fd`, which one may ask of oneself. `None`: no quota, or a kernel before 5.14.
fn quota(folder: BorrowedFd<'_>, whose: Whose, id: u32) -> Option<Room> {
    let kind = if whose == Whose::User { libc::USRQUOTA } else { libc::GRPQUOTA };
    // SAFETY: all zeros is a value of this struct of numbers.
    #[expect(unsafe_code, reason = "no crate at hand wraps quotactl_fd")]
    let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct that it is given, and nothing else.
    #[expect(unsafe_code, reason = "no crate at hand wraps quotactl_fd")]
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            folder.as_fd().as_raw_fd(),
            command(kind),
            id,
            std::ptr::from_mut(&mut found),
        )
    };
    Errno::result(done).ok()?;
    /// Limits of blocks are told in these.
    const BLOCK: u64 = 1024;
    let room = Room {
        whose,
        bytes: Share::of_limits(
            found.dqb_bsoftlimit * BLOCK,
            found.dqb_bhardlimit * BLOCK,
            found.dqb_curspace,
        ),
        files: Share::of_limits(found.dqb_isoftlimit, found.dqb_ihardlimit, found.dqb_curinodes),
    };
    Some(room)
}

/// The question, for a kind of quota; the system-call filter lets these two through and no other.
pub(crate) fn command(kind: libc::c_int) -> u32 {
    libc::QCMD(libc::Q_GETQUOTA, kind).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(bytes: Share, files: Share) -> Room {
        Room { whose: Whose::User, bytes: Some(bytes), files: Some(files) }
    }

    #[test]
    fn the_reserve_is_left_free_in_bytes_and_in_files() {
        let room = room(Share { free: 20 * MIB, total: 100 * MIB }, Share { free: 50, total: 1000 });
        assert_eq!(room.wants(Need { bytes: 15 * MIB, files: 0 }, 5), None);
        let wants = room.wants(Need { bytes: 15 * MIB + 1, files: 0 }, 5);
        assert_eq!(
            wants.as_deref(),
            Some("15.0 MiB are needed; 20.0 are free of the user's quota, 5.0 of them kept in reserve")
        );
        assert!(room.wants(Need { bytes: 0, files: 1 }, 5).is_some(), "50 of 1000 files are the reserve");
        assert_eq!(room.wants(Need { bytes: 0, files: 50 }, 0), None);
        // Below the reserve nothing is right, not even nothing.
        assert!(room.wants(Need::default(), 30).is_some());
    }

    #[test]
    fn a_soft_limit_is_a_limit_and_none_is_none() {
        assert_eq!(Share::of_limits(0, 0, 7), None);
        assert_eq!(Share::of_limits(0, 10, 7), Some(Share { free: 3, total: 10 }));
        assert_eq!(Share::of_limits(5, 10, 7), Some(Share { free: 0, total: 5 }));
    }

    #[test]
    fn shares_of_any_size_can_be_reckoned_with() {
        let all = Share { free: u64::MAX, total: u64::MAX };
        assert_eq!(all.reserve(100), u64::MAX);
        assert_eq!(all.reserve(0), 0);
        assert!(!all.has(1, 100));
        assert_eq!(Share { free: 0, total: 19 }.reserve(50), 9);
    }
}
