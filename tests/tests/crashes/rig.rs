//! A machine with one user, whose mailbox is put back to its beginning before each death.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use mailready_tests::lab::{Daemon, Doing, Dump, Folder, LabError, Machine, Result, Site, User, eventually};
use mailready_tests::stops::{Control, Order};

use super::people;

/// Nobody is converted by arriving, and no commit waits for sessions: there are none when one is ordered.
const CONFIG: &str = r#"
[users]
convert = "none"
[agent]
bus = "none"
[site]
readers = []
[sessions]
probe = "none"
"#;

const STOP_AT: &str = "/usr/lib/mailready-lab/stop-at";
const TICKETS: &str = "/run/stops/agent";
const AGENT: &str = "/usr/sbin/mailready-agent";
const CONTROL_SOCKET: &str = "/run/mailready/control.sock";
const SNAPSHOT: &str = "/tmp/snapshot";

/// What is put back: the user's files, all mail with the archive, all that the agent knows.
const STATE: [&str; 3] = ["/home", "/var/mail", "/var/lib/mailready"];

/// The line by which late mail is known.
pub const LATE: &str = "Message-ID: <late@example.org>";

/// The user's folders below `~/mail`, each with mail of its own; the second one lies in a directory.
pub const FOLDERS: [&str; 2] = ["Sent", "lists/dev"];

/// The machine.
pub struct Rig {
    /// It.
    pub machine: Machine,
    /// The one.
    pub user: User,
    _dovecot: Daemon,
    /// What the mailbox showed before anything was done to it.
    pub expected: Dump,
}

/// What the mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The mbox.
    Mbox,
    /// The Maildir.
    Maildir,
}

impl Rig {
    /// A rig whose user has mboxes that Dovecot has shown once; `None` (said loudly) where there are no machines.
    pub fn new() -> Result<Option<Self>> {
        if let Some(why) = mailready_tests::stops::missing() {
            mailready_tests::lab::skip(why);
            return Ok(None);
        }
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        machine.install_site(Site::Small)?;
        machine.install_mailready(Site::Small)?;
        machine.run("mkdir", ["-p", "/usr/lib/mailready-lab"])?;
        let program = env!("CARGO_BIN_EXE_stop-at");
        let content = fs::read(program).doing(|| format!("read {program}"))?;
        machine.write(STOP_AT, &content, (0, 0), 0o755)?;
        let user = people::add(&machine, 2)?.swap_remove(1);
        add_folders(&machine, &user)?;
        // Makes the configuration and the group.
        machine.start_agent(CONFIG)?.kill()?;
        let dovecot = machine.start_dovecot()?;
        let expected = Dump::take(&machine, &user)?;
        assert_eq!(expected.inbox()?.messages.len(), 6, "the user has mail");
        assert_eq!(expected.folders.len(), 1 + FOLDERS.len(), "the user has folders");
        // With the indexes of that look: without any, what a client is told of mod-sequences begins anew.
        save(&machine)?;
        Ok(Some(Self { machine, user, _dovecot: dovecot, expected }))
    }

    /// Everything that IMAP and POP3 show now.
    pub fn dump(&self) -> Result<Dump> {
        Dump::take(&self.machine, &self.user)
    }

    /// Remembers the mailbox as it is.
    pub fn save(&self) -> Result<()> {
        save(&self.machine)
    }

    /// Puts it back as it was saved.
    pub fn restore(&self) -> Result<()> {
        restore(&self.machine)
    }

    /// The tickets for the agent and its workers.
    pub fn control(&self) -> Result<Control<'_>> {
        Control::new(&self.machine, TICKETS)
    }

    /// Starts the agent under the tracer; comes back when it serves, or is dead before that.
    pub fn start_traced(&self, order: &Order) -> Result<Daemon> {
        self.start_counted(order, &["--changing"])
    }

    /// The same, of the calls that `options` of `stop-at` choose.
    pub fn start_counted(&self, order: &Order, options: &[&str]) -> Result<Daemon> {
        let control = self.control()?;
        control.arm(order)?;
        let only = ["--only", "mailready-agent", "--only", "mailready-worker", "--", AGENT];
        let args: Vec<&str> = ["--control", TICKETS].iter().chain(options).chain(&only).copied().collect();
        self.start(STOP_AT, &args)
    }

    /// Starts the agent as it is; comes back when it serves.
    pub fn start_plain(&self) -> Result<Daemon> {
        let agent = self.start(AGENT, &[])?;
        if agent.is_running() {
            return Ok(agent);
        }
        Err(LabError::Setup(format!("the agent does not start after a death:\n{}", agent.log.tail())))
    }

    fn start(&self, program: &str, args: &[&str]) -> Result<Daemon> {
        let agent = self.machine.daemon_with(program, args, |command| {
            command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
        })?;
        let log = agent.log.clone();
        eventually(
            "the agent serves, or is dead",
            || log.tail(),
            || {
                let serves =
                    self.machine.inside(|| UnixStream::connect(CONTROL_SOCKET).is_ok()).unwrap_or(false);
                (serves || !agent.is_running()).then_some(())
            },
        )?;
        Ok(agent)
    }

    /// Runs `mailready convert`; an agent that dies meanwhile is no error here.
    pub fn convert(&self) -> Result<String> {
        let output =
            self.machine.output("/usr/bin/mailready", ["convert", "--json", &self.user.name], b"")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `mailready rollback`; an agent that dies meanwhile is no error here.
    pub fn roll_back(&self) -> Result<String> {
        let args = ["rollback", "--yes", "--json", &self.user.name];
        let output = self.machine.output("/usr/bin/mailready", args, b"")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Rolls back as soon as the agent is not looking at the old places itself, which it says.
    pub fn roll_back_when_it_can(&self) -> Result<String> {
        let attempt = || {
            self.roll_back().map_or_else(
                |error| Some(Err(error)),
                |said| (!said.contains("\"waiting\"")).then_some(Ok(said)),
            )
        };
        eventually("the agent rolls back at once", String::new, attempt)?
    }

    /// Appends a message to whatever stands at the spool's path, as a deliverer that knows nothing of mailready.
    pub fn deliver_late(&self) -> Result<()> {
        let message = format!(
            "From eve@example.org  Wed Feb  4 04:05:06 2009\nFrom: eve@example.org\n{LATE}\n\nlate\n\n"
        );
        let spool = self.user.spool();
        self.machine
            .inside(|| {
                use std::io::Write;
                fs::OpenOptions::new().append(true).open(&spool)?.write_all(message.as_bytes())
            })?
            .doing(|| format!("append to {spool}"))
    }

    /// What every moment must show: the paths of spool and folders lead to regular files of the user's, of one link, with something in them.
    pub fn check_places(&self) -> Result<()> {
        self.check_place(&self.user.spool())?;
        FOLDERS.iter().try_for_each(|folder| self.check_place(&folder_path(&self.user, folder)))
    }

    fn check_place(&self, path: &str) -> Result<()> {
        let file = self.machine.inside(|| fs::symlink_metadata(path))?.doing(|| format!("absent: {path}"))?;
        if file.is_file() && file.len() > 0 && file.nlink() == 1 && file.uid() == self.user.uid {
            return Ok(());
        }
        Err(LabError::Protocol {
            asked: "an mbox that deliverers accept".into(),
            got: format!(
                "{path}: file {}, {} bytes, {} links, uid {}",
                file.is_file(),
                file.len(),
                file.nlink(),
                file.uid()
            ),
        })
    }

    /// Waits until nothing of an interrupted run is left: no record without an end, no stage, no dotlock; and, if `drained`, no
    /// archive entry but the original.
    pub fn wait_settled(&self, agent: &Daemon, drained: bool) -> Result<Ended> {
        let left = || self.left_over(drained).unwrap_or_else(|error| vec![error.to_string()]);
        eventually(
            "the interrupted run is settled",
            || format!("still there: {:?}\n{}", left(), agent.log.tail()),
            || left().is_empty().then_some(()),
        )?;
        let marker = self.machine.exists(&format!("{}/Maildir/mailready-marker", self.user.home()))?;
        let maildir = self.machine.exists(&format!("{}/Maildir", self.user.home()))?;
        let mut tombstones = vec![self.is_tombstone(&self.user.spool())?];
        for folder in FOLDERS {
            tombstones.push(self.is_tombstone(&folder_path(&self.user, folder))?);
        }
        let (all, none) = (tombstones.iter().all(|each| *each), !tombstones.contains(&true));
        match (marker, maildir, all, none) {
            (true, true, true, false) => Ok(Ended::Maildir),
            (false, false, false, true) => Ok(Ended::Mbox),
            _ => Err(LabError::Protocol {
                asked: "a mailbox that is one thing".into(),
                got: format!(
                    "marker {marker}, Maildir {maildir}, tombstones {tombstones:?}\n{}",
                    agent.log.tail()
                ),
            }),
        }
    }

    fn is_tombstone(&self, path: &str) -> Result<bool> {
        Ok(self.machine.read(path)?.starts_with(b"This mailbox has become a Maildir"))
    }

    /// Waits until the agent has carried the late mail over and forgotten its entry, or is dead.
    pub fn wait_drained_or_dead(&self, agent: &mut Daemon) -> Result<()> {
        let log = agent.log.clone();
        eventually(
            "late mail is carried over",
            || log.tail(),
            || {
                let done = self.left_over(true).is_ok_and(|left| left.is_empty());
                (done || !agent.is_running()).then_some(())
            },
        )
    }

    /// Whether no late mail stands at the spool's place; to be asked inside the machine.
    fn is_quiet_here(&self) -> bool {
        fs::read(self.user.spool())
            .is_ok_and(|spool| !spool.windows(LATE.len()).any(|at| at == LATE.as_bytes()))
    }

    /// What of a run that came to its end may not be there.
    pub fn left_over(&self, drained: bool) -> Result<Vec<String>> {
        let home = self.user.home();
        let work = format!("{home}/.mailready");
        let mut left = Vec::new();
        self.machine.inside(|| {
            let names = |folder: &str| -> Vec<String> {
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            };
            left.extend(names(&work).into_iter().filter(|name| {
                let beginnings = ["stage-", "back-", "check-", "rolling-back", "lock-"];
                beginnings.iter().any(|begin| name.starts_with(begin)) || name.ends_with(".tmp")
            }));
            for folder in ["/var/mail".to_owned(), format!("{home}/mail"), format!("{home}/mail/lists")] {
                left.extend(names(&folder).into_iter().filter(|name| name.ends_with(".lock")));
            }
            let archive = names("/var/mail/.mailready");
            let ours = |name: &&String| name.ends_with(".lock") || name.ends_with(".back");
            left.extend(archive.iter().filter(ours).cloned());
            left.extend(archive.into_iter().filter(|name| drained && !name.ends_with(".0")));
            if drained && !self.is_quiet_here() {
                left.push("late mail at the spool's place".into());
            }
            if drained {
                left.extend(
                    names(&work)
                        .into_iter()
                        .filter(|name| name.starts_with("drain-") && has_messages(Path::new(&work), name)),
                );
            }
            for record in names("/var/lib/mailready/runs") {
                let text =
                    fs::read_to_string(format!("/var/lib/mailready/runs/{record}")).unwrap_or_default();
                if !text.contains("phase = \"converted\"") && !text.contains("phase = \"undone\"") {
                    left.push(format!("record {record}"));
                }
            }
        })?;
        Ok(left)
    }
}

/// Where a folder's mbox lies.
pub fn folder_path(user: &User, folder: &str) -> String {
    format!("{}/mail/{folder}", user.home())
}

fn add_folders(machine: &Machine, user: &User) -> Result<()> {
    let script =
        format!("install -d -o {0} -g {1} {2}/mail {2}/mail/lists", user.uid, user.gid, user.home(),);
    machine.run("sh", ["-c", &script])?;
    for folder in FOLDERS {
        machine.write(&folder_path(user, folder), &people::mbox(), (user.uid, user.gid), 0o600)?;
    }
    Ok(())
}

fn has_messages(work: &Path, name: &str) -> bool {
    fs::read_dir(work.join(name)).is_ok_and(|mut entries| entries.next().is_some())
}

fn save(machine: &Machine) -> Result<()> {
    let copy = format!("rm -rf {SNAPSHOT}; mkdir {SNAPSHOT}; cp -a --parents {} {SNAPSHOT}", STATE.join(" "));
    machine.run("sh", ["-c", &copy]).map(drop)
}

fn restore(machine: &Machine) -> Result<()> {
    // The folders themselves are file systems of their own, and stay.
    let wipe = format!("find {} -mindepth 1 -delete; rm -rf /run/mailready", STATE.join(" "));
    machine.run("sh", ["-c", &format!("{wipe}; cp -a {SNAPSHOT}/. /")]).map(drop)
}

/// The inbox without the late message, and how often that is in it.
pub fn without_late(inbox: &Folder) -> (Vec<mailready_tests::lab::Message>, usize) {
    let is_late = |body: &[u8]| body.windows(LATE.len()).any(|window| window == LATE.as_bytes());
    let (late, others): (Vec<_>, Vec<_>) =
        inbox.messages.iter().cloned().partition(|message| is_late(&message.body));
    (others, late.len())
}
