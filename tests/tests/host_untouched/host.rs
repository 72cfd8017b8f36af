//! The host, as far as a guest could change it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What is compared. Each field is a set of lines, so that a difference names the line.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    packages: BTreeSet<String>,
    units: BTreeSet<String>,
    accounts: BTreeSet<String>,
    pam: BTreeSet<String>,
    ports: BTreeSet<String>,
    mounts: BTreeSet<String>,
    mail: BTreeSet<String>,
}

impl Host {
    pub fn look() -> Self {
        let packages =
            Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version} ${Status}\n"]).output();
        let packages = packages.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        Self {
            packages: lines(packages.unwrap_or_default()),
            units: files(&["/etc/systemd/system", "/usr/lib/systemd/system", "/run/systemd/system"]),
            accounts: ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"]
                .iter()
                .flat_map(|file| lines(fs::read_to_string(file).unwrap_or_default()))
                .collect(),
            pam: files(&["/etc/pam.d", "/usr/share/pam-configs", "/etc/mailready", "/etc/dovecot"]),
            ports: ports(),
            mounts: lines(fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
            mail: files(&["/var/mail", "/var/lib/mailready", "/run/mailready"]),
        }
    }

    /// Fails with the lines that came and went.
    pub fn assert_same(&self, after: &Self) {
        for (what, before, after) in [
            ("packages", &self.packages, &after.packages),
            ("units", &self.units, &after.units),
            ("accounts", &self.accounts, &after.accounts),
            ("PAM and configuration", &self.pam, &after.pam),
            ("ports", &self.ports, &after.ports),
            ("mounts", &self.mounts, &after.mounts),
            ("mail and state", &self.mail, &after.mail),
        ] {
            let gone: Vec<_> = before.difference(after).collect();
            let come: Vec<_> = after.difference(before).collect();
            assert!(gone.is_empty() && come.is_empty(), "{what}: gone {gone:?}, come {come:?}");
        }
    }
}

/// Each entry of the folders with size and time of change; a folder that is not there has none.
fn files(folders: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        let about = entry.metadata().map(|about| format!("{} {:?}", about.len(), about.modified().ok()));
        all.insert(format!("{} {}", entry.path().display(), about.unwrap_or_default()));
    }
    all
}

/// Listening TCP and bound UDP sockets of the host's own network.
fn ports() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(Path::new("/proc/net").join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            if fields.get(3) == Some(&state) {
                all.insert(format!("{table} {}", fields[1]));
            }
        }
    }
    all
}

/// A process and everything it has started, directly or not, each with its start time: numbers are used again.
pub fn family(pid: u32) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let Some(start) = started(pid) else { continue };
        all.push((pid, start));
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            open.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// Those of a family that still run; one that only waits to be reaped has ended.
pub fn alive(family: &[(u32, String)]) -> Vec<u32> {
    family.iter().filter(|(pid, start)| started(*pid).as_ref() == Some(start)).map(|(pid, _)| *pid).collect()
}

/// The start time of a process that has not ended.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19).copied().unwrap_or_default().to_owned())
}
