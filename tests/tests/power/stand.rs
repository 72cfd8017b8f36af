//! A lab machine in which guests are booted and their disks judged: one user's mail on images of three disks, and the same seen by Dovecot before anything was done to it.

use std::fs;
use std::os::unix::fs::FileExt;

use mailready_tests::lab::{
    Daemon, Doing, Dump, Folder, Imap, Machine, Result, Site, User, eventually, skip,
};
use mailready_tests::power::guest::{self, Boot, Guest};
use mailready_tests::power::inside::DISKS;
use mailready_tests::power::journal::{PAGE, Pages};
use mailready_tests::power::letters;

/// Each with what its images need in bytes and how they are made and mounted. A clone of a disk has the identity of the disk, which xfs minds.
pub const FILE_SYSTEMS: [FileSystem; 3] = [
    FileSystem { name: "ext4", size: 48 << 20, make: &["mkfs.ext4", "-q", "-F"], options: "loop" },
    FileSystem { name: "xfs", size: 320 << 20, make: &["mkfs.xfs", "-q", "-f"], options: "loop,nouuid" },
    FileSystem { name: "btrfs", size: 128 << 20, make: &["mkfs.btrfs", "-q", "-f"], options: "loop" },
];

/// Nobody is converted by arriving, and no commit waits for sessions: there are none.
const CONFIG: &str = r#"
[users]
convert = "none"
[agent]
bus = "none"
[site]
readers = []
deliverers = []
[sessions]
probe = "none"
"#;

/// Below `~/mail`; the second one lies in a directory.
pub const FOLDERS: [&str; 2] = ["Sent", "lists/dev"];

const BASE: &str = "/tmp/base";
const PASSWORD: &str = "secret";

/// What a disk is formatted as.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem {
    pub name: &'static str,
    size: u64,
    make: &'static [&'static str],
    options: &'static str,
}

pub struct Stand {
    pub machine: Machine,
    pub user: User,
    pub file_system: FileSystem,
    _dovecot: Daemon,
    /// The folders as IMAP showed them at the beginning.
    pub expected: Vec<Folder>,
}

impl Stand {
    /// Makes machine, disks and mail; `None` (said loudly) where there is no such machine or kernel.
    pub fn new(file_system: FileSystem) -> Result<Option<Self>> {
        let kernel = match guest::kernel() {
            Ok(kernel) => kernel,
            Err(why) => {
                skip(&why);
                return Ok(None);
            }
        };
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        // There is no udev in the machine; the numbers are the kernel's.
        let nodes = "mknod /dev/loop-control c 10 237; i=0; while [ $i -lt 256 ]; do mknod /dev/loop$i b 7 $i; i=$((i+1)); done; \
                     losetup --find";
        if let Err(why) = machine.run("sh", ["-c", nodes]) {
            skip(&format!("there are no loop devices here: {why}"));
            return Ok(None);
        }
        guest::install(&machine, &kernel, env!("CARGO_BIN_EXE_power-guest"))?;
        let hello = Boot { work: "hello".into(), ..Boot::default() };
        let first = Guest::boot(&machine, &hello)?;
        if let Err(error) = first.wait("hello") {
            let Some(why) = first.cannot_run() else { return Err(error) };
            skip(&format!("User Mode Linux does not run here: {why}"));
            return Ok(None);
        }
        first.cut()?;
        machine.install_site(Site::Small)?;
        let service = "auth required pam_unix.so\naccount required pam_unix.so\n";
        machine.write("/etc/pam.d/mailready-lab", service.as_bytes(), (0, 0), 0o644)?;
        machine.install_mailready(Site::Small)?;
        machine.run("mkdir", ["-p", "/etc/mailready"])?;
        machine.write("/etc/mailready/mailready.toml", CONFIG.as_bytes(), (0, 0), 0o644)?;
        machine.run("groupadd", ["--force", "--system", "mailready"])?;
        let user = machine.add_user("ann", PASSWORD, &mbox(24))?;
        let folders =
            format!("install -d -o {0} -g {1} {2}/mail {2}/mail/lists", user.uid, user.gid, user.home());
        machine.run("sh", ["-c", &folders])?;
        for (number, folder) in (7..).zip(FOLDERS) {
            let path = format!("{}/mail/{folder}", user.home());
            machine.write(&path, &mbox(number), (user.uid, user.gid), 0o600)?;
        }
        make_base(&machine, file_system)?;
        let dovecot = machine.start_dovecot()?;
        let mut stand = Self { machine, user, file_system, _dovecot: dovecot, expected: Vec::new() };
        // Of a copy: looking leaves indexes.
        let copy = stand.fresh("before")?;
        stand.mount(&copy)?;
        stand.expected = stand.dump()?;
        stand.unmount()?;
        assert_eq!(stand.expected.len(), 1 + FOLDERS.len(), "the user has folders");
        Ok(Some(stand))
    }

    /// Disks as at the beginning, in a folder of their own.
    pub fn fresh(&self, name: &str) -> Result<String> {
        let folder = format!("/tmp/{name}");
        let copy = format!("rm -rf {folder}; cp -r --sparse=always {BASE} {folder}");
        self.machine.run("sh", ["-c", &copy])?;
        Ok(folder)
    }

    /// Disks with these pages changed.
    pub fn fresh_with(&self, name: &str, pages: &[Pages]) -> Result<String> {
        let folder = self.fresh(name)?;
        let images = images(&folder);
        self.machine
            .inside(|| {
                images.iter().zip(pages).try_for_each(|(image, pages)| {
                    let file = fs::File::options().write(true).open(image)?;
                    pages.iter().try_for_each(|(number, page)| file.write_all_at(page, number * PAGE as u64))
                })
            })?
            .doing(|| format!("write the disks in {folder}"))?;
        Ok(folder)
    }

    /// The content of a fresh disk.
    pub fn base(&self, number: usize) -> Result<Vec<u8>> {
        self.machine.read(&images(BASE)[number])
    }

    /// From here on begins with the disks of another stand.
    pub fn take_base(&self, other: &Stand) -> Result<()> {
        for (image, number) in images(BASE).iter().zip(0..) {
            let content = other.base(number)?;
            self.machine.run("truncate", ["-s", "0", image])?;
            let written = self.machine.inside(|| {
                let file = fs::File::options().write(true).open(image)?;
                file.set_len(content.len() as u64)?;
                // Most of a disk is holes, and stays so.
                for (number, page) in (0u64..).zip(content.chunks(PAGE)) {
                    if page.iter().any(|byte| *byte != 0) {
                        file.write_all_at(page, number * PAGE as u64)?;
                    }
                }
                Ok::<_, std::io::Error>(())
            })?;
            written.doing(|| format!("write {image}"))?;
        }
        Ok(())
    }

    /// A guest on these disks.
    pub fn boot(&self, folder: &str, boot: Boot) -> Result<Guest> {
        let (disks, file_system) = (images(folder), self.file_system.name.to_owned());
        Guest::boot(&self.machine, &Boot { disks, file_system, user: self.user.name.clone(), ..boot })
    }

    /// Mounts disks at their places, by which this kernel takes in the journals that the power cut left.
    pub fn mount(&self, folder: &str) -> Result<()> {
        for (image, (_, place)) in images(folder).iter().zip(DISKS) {
            self.machine.run("mount", ["-o", self.file_system.options, image, place])?;
        }
        Ok(())
    }

    /// The opposite. A server's process may still be on its way out.
    pub fn unmount(&self) -> Result<()> {
        for (_, place) in DISKS.iter().rev() {
            let attempt = || self.machine.run("umount", [place]).ok();
            eventually(format!("{place} can be unmounted"), String::new, attempt)?;
        }
        Ok(())
    }

    /// After something went wrong.
    pub fn unmount_by_force(&self) {
        for (_, place) in DISKS {
            // Whatever is mounted, and nothing else: the machine's own file systems are below them.
            let script = format!(
                "mountpoint -q {place} && case $(findmnt -no SOURCE {place} | tail -n1) in /dev/loop*) umount -l {place};; esac"
            );
            let _ = self.machine.run("sh", ["-c", &script]);
        }
    }

    /// The agent, serving.
    pub fn start_agent(&self) -> Result<Daemon> {
        let agent = self.machine.daemon_with("/usr/sbin/mailready-agent", [] as [&str; 0], |command| {
            command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
        })?;
        let log = agent.log.clone();
        eventually(
            "the agent serves",
            || log.tail(),
            || {
                let socket = "/run/mailready/control.sock";
                self.machine.inside(|| std::os::unix::net::UnixStream::connect(socket).ok()).ok().flatten()
            },
        )?;
        Ok(agent)
    }

    /// What IMAP shows.
    pub fn dump(&self) -> Result<Vec<Folder>> {
        let mut imap = Imap::login(&self.machine, &self.user.name, PASSWORD)?;
        let dump = Dump::by_imap(&mut imap)?;
        imap.logout()?;
        Ok(dump.folders)
    }

    /// Logs in and out: the agent hears of an arrival.
    pub fn knock(&self) -> Result<()> {
        Imap::login(&self.machine, &self.user.name, PASSWORD)?.logout()
    }

    /// The mbox of a folder.
    pub fn folder(&self, folder: &str) -> String {
        format!("{}/mail/{folder}", self.user.home())
    }

    /// The inbox's mbox and those of the folders.
    pub fn places(&self) -> Vec<String> {
        [self.user.spool()].into_iter().chain(FOLDERS.map(|folder| self.folder(folder))).collect()
    }

    /// Removes the locks of the guest's deliverer, as its like do.
    pub fn remove_dotlocks_of_deliverer(&self) -> Result<()> {
        let places = self.places();
        self.machine.inside(|| letters::remove_dotlocks(&places))?.doing(|| "remove dotlocks")
    }
}

fn images(folder: &str) -> Vec<String> {
    ["mail", "home", "state"].map(|name| format!("{folder}/{name}.img")).into()
}

fn make_base(machine: &Machine, file_system: FileSystem) -> Result<()> {
    let places = DISKS.map(|(_, place)| place).join(" ");
    machine.run("sh", ["-c", &format!("mkdir /tmp/origin {BASE}; cp -a --parents {places} /tmp/origin")])?;
    for (image, (_, place)) in images(BASE).iter().zip(DISKS) {
        machine.run("truncate", ["-s", &file_system.size.to_string(), image])?;
        let (program, options) = file_system.make.split_first().unwrap_or((&"false", &[]));
        machine.run(program, options.iter().copied().chain([image.as_str()]))?;
        machine.run("mount", ["-o", file_system.options, image, place])?;
    }
    machine.run("sh", ["-c", "cp -a /tmp/origin/. /"])?;
    machine.run("umount", DISKS.map(|(_, place)| place))?;
    Ok(())
}

/// Mail with UIDs and flags in it, so that no session needs to write to it; every seventh message fills some blocks.
fn mbox(count: usize) -> Vec<u8> {
    let mut mbox = String::new();
    let status =
        ["Status: RO\n", "Status: RO\nX-Status: AF\n", "Status: O\n", "Status: RO\nX-Keywords: $Forwarded\n"];
    for number in 1..=count {
        let base = if number == 1 { "X-IMAPbase: 1700000000 0000000100 $Forwarded\n" } else { "" };
        let lines = if number % 7 == 0 { 400 } else { number % 5 };
        let body: String =
            (0..lines).map(|line| format!("Line {line} of message {number} of {count}.\n")).collect();
        mbox.push_str(&format!(
            "From eve@example.org  Tue Feb  3 04:05:{number:02} 2009\n\
             From: eve@example.org\nTo: ann\nSubject: message {number} of {count}\nMessage-ID: <{number}.{count}@example.org>\n\
             {base}X-UID: {}\n{}\n{body}>From the last line.\n\n",
            number * 3 + 1,
            status[number % status.len()],
        ));
    }
    mbox.into_bytes()
}
