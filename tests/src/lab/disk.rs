//! A small real disk in a machine: an image on a loop device, with a file system of its own.
//!
//! The image's file is removed as soon as it is mounted, and the loop device frees itself with the mount, which ends with the machine: nothing stays behind, whatever happens to the test.

use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{LabError, Result};
use super::machine::Machine;

/// What is made on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ext4 with as many inodes as it is given.
    Ext4 {
        /// Inodes in all, the root's own among them.
        inodes: u32,
    },
    /// btrfs, the place being a subvolume that may take so many MiB.
    Btrfs {
        /// The limit of its qgroup: EDQUOT beyond.
        quota_mib: u32,
    },
}

/// A mounted disk.
pub struct Disk<'m> {
    machine: &'m Machine,
    /// Where it is mounted.
    pub place: String,
    frozen: AtomicBool,
}

/// Where the kernel, or whoever this machine is lent by, has no loop devices.
const NO_LOOP: &str = "no loop devices";

impl<'m> Disk<'m> {
    /// Makes and mounts one, over whatever is at the place, with that folder's owner and mode. `None`, said loudly and counted as skipped, where there are no loop devices.
    ///
    /// # Errors
    /// If it cannot be made or mounted.
    pub fn mount(machine: &'m Machine, place: &str, mib: u32, format: Format) -> Result<Option<Self>> {
        let (make, mount) = match format {
            Format::Ext4 { inodes } => {
                (format!("mkfs.ext4 -q -F -m 0 -N {inodes}"), format!("mount \"$device\" {place}"))
            }
            Format::Btrfs { quota_mib } => (
                "mkfs.btrfs -q -f --mixed".to_owned(),
                format!(
                    "mkdir -p /run/btrfs; mount \"$device\" /run/btrfs; btrfs quota enable /run/btrfs; \
                     btrfs subvolume create /run/btrfs/share >/dev/null; \
                     btrfs qgroup limit {quota_mib}M /run/btrfs/share; mount --bind /run/btrfs/share {place}"
                ),
            ),
        };
        let script = format!(
            "set -e\n\
             test -e /dev/loop-control || mknod /dev/loop-control c 10 237\n\
             for n in $(seq 0 255); do test -e /dev/loop$n || mknod /dev/loop$n b 7 $n; done\n\
             image=$(mktemp /tmp/disk.XXXXXX); truncate -s {mib}M $image; {make} $image\n\
             device=$(losetup --find --show $image) || {{ echo {NO_LOOP}; exit 0; }}\n\
             owner=$(stat -c %u:%g {place}); mode=$(stat -c %a {place})\n\
             {mount}\n\
             rm -rf {place}/lost+found; chown $owner {place}; chmod $mode {place}\n\
             losetup --detach $device; rm $image\n"
        );
        let said = machine.run("sh", ["-c", &script])?;
        if said.contains(NO_LOOP) {
            super::skip("there are no loop devices here");
            return Ok(None);
        }
        Ok(Some(Self { machine, place: place.to_owned(), frozen: AtomicBool::new(false) }))
    }

    /// Fills it up to so many KiB that a user can still have. The file is root's.
    ///
    /// # Errors
    /// If that much is not free.
    pub fn fill(&self, leave_kib: u64) -> Result<()> {
        let free = self.free()?;
        let take = (free / 1024).checked_sub(leave_kib);
        let take = take.ok_or_else(|| LabError::Setup(format!("only {free} bytes are free")))?;
        // What the file itself takes besides is not known before; so to the last byte by writing, and again, since what was set apart for late writes is free after them.
        let (most, rest) = match leave_kib {
            0 => (take / 2, "for n in 1 2 3; do cat /dev/zero >> .fill 2>/dev/null || sync -f .; done; "),
            _ => (take, ""),
        };
        let script = format!("cd {} && fallocate -l {most}K .fill && {{ {rest}sync -f .; }}", self.place);
        self.machine.run("sh", ["-c", &script]).map(drop)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// If it is not filled.
    pub fn empty(&self) -> Result<()> {
        let script = format!("rm {0}/.fill && sync -f {0}", self.place);
        self.machine.run("sh", ["-c", &script]).map(drop)
    }

    /// Bytes that a user can still have, as far as the file system tells.
    ///
    /// # Errors
    /// If it is gone.
    pub fn free(&self) -> Result<u64> {
        let said = self.machine.run("stat", ["-f", "-c", "%a %S", &self.place])?;
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [blocks, size] => Ok(blocks * size),
            _ => Err(LabError::Protocol { asked: "stat -f".into(), got: said }),
        }
    }

    /// Makes it read-only, or writable again.
    ///
    /// # Errors
    /// If a file is open for writing.
    pub fn read_only(&self, yes: bool) -> Result<()> {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        self.machine.run("mount", ["-o", how, &self.place]).map(drop)
    }

    /// From now on whoever writes to it hangs.
    ///
    /// # Errors
    /// If it cannot be frozen.
    pub fn freeze(&self) -> Result<()> {
        self.machine.run("fsfreeze", ["-f", &self.place])?;
        self.frozen.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Who hung goes on.
    ///
    /// # Errors
    /// If it was not frozen.
    pub fn thaw(&self) -> Result<()> {
        self.frozen.store(false, Ordering::Relaxed);
        self.machine.run("fsfreeze", ["-u", &self.place]).map(drop)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // A frozen file system outlives its machine, and everybody who hangs on it.
        if self.frozen.load(Ordering::Relaxed) {
            let _ = self.thaw();
        }
    }
}
