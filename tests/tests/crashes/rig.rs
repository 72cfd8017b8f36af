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
deliverers = []
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

    /// Gives the user so many messages, and remembers them.
    pub fn fill_inbox(&mut self, messages: usize) -> Result<()> {
        let mbox = mailready_tests::lab::mail::mbox(5, u32::try_from(messages).unwrap_or(0));
        // What Dovecot remembers of the old inbox would be compared with the new one.
        self.machine.run("rm", ["-rf", &format!("{}/mail/.imap/INBOX", self.user.home())])?;
        self.machine.write(
            &self.user.spool(),
            &mbox,
            (self.user.uid, mailready_tests::lab::MAIL_GID),
            0o660,
        )?;
        self.expected = self.dump()?;
        assert_eq!(self.expected.inbox()?.messages.len(), messages);
        save(&self.machine)
    }

    /// Remembers the mailbox as it is.
    pub fn save(&self) -> Result<()> {
        save(&self.machine)
    }

    /// As if the conversion had been a while ago. Dovecot looks again at a Maildir that has changed within the second, and a rollback then writes again what it wrote: the first lives would come to
    /// places that later ones, from the same copy, never see.
    pub fn let_time_pass(&self) -> Result<()> {
        let maildir = format!("{}/Maildir", self.user.home());
        self.machine
            .run("find", [maildir.as_str(), "-type", "d", "-exec", "touch", "-d", "1 hour ago", "{}", "+"])
            .map(drop)
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

    /// Starts an agent beside the one that is there, and does not wait for anything.
    pub fn start_second(&self) -> Result<Daemon> {
        self.spawn(AGENT, &[])
    }

    /// Phase of the only record.
    pub fn phase(&self) -> Result<Option<String>> {
        let script = "cat /var/lib/mailready/runs/*";
        let text = self.machine.run("sh", ["-c", script])?;
        Ok(text
            .lines()
            .find_map(|line| line.strip_prefix("phase = "))
            .map(|word| word.trim_matches('"').to_owned()))
    }

    /// Whether the Maildir is the mail.
    pub fn is_on_maildir(&self) -> Result<bool> {
        self.machine.exists(&format!("{}/Maildir/mailready-marker", self.user.home()))
    }

    /// Whether a deliverer would wait: for the dotlock, or for the kernel's lock.
    pub fn is_locked(&self) -> Result<bool> {
        let spool = self.user.spool();
        if self.machine.exists(&format!("{spool}.lock"))? {
            return Ok(true);
        }
        self.machine
            .inside(|| -> std::io::Result<bool> {
                let file = fs::OpenOptions::new().read(true).write(true).open(&spool)?;
                let whole = nix::libc::flock {
                    l_type: nix::libc::F_WRLCK as i16,
                    l_whence: nix::libc::SEEK_SET as i16,
                    l_start: 0,
                    l_len: 0,
                    l_pid: 0,
                };
                Ok(nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).is_err())
            })?
            .doing(|| format!("lock {spool}"))
    }

    /// Whether a stage, or copies of a verification, are remembered.
    pub fn remembers_stages(&self) -> Result<bool> {
        self.machine.inside(|| {
            fs::read_dir("/var/lib/mailready/stages").is_ok_and(|mut entries| entries.next().is_some())
        })
    }

    /// Makes everything that the agent has dated younger by so many seconds, or older.
    pub fn age(&self, seconds: i64) -> Result<()> {
        let script = format!(
            "set -e; cd /var/lib/mailready; for f in runs/* stages/*; do [ -e $f ] || continue; n=$(sed -n 's/^started = //p' $f); sed -i \"s/^started = .*/started = $((n - ({seconds})))/\" $f; done; \
             cd /var/mail/.mailready; for f in *.[1-9]*; do [ -e $f ] || continue; n=${{f##*.}}; mv $f ${{f%.*}}.$((n - ({seconds}) * 1000000000)); done"
        );
        self.machine.run("sh", ["-c", &script]).map(drop)
    }

    fn spawn(&self, program: &str, args: &[&str]) -> Result<Daemon> {
        self.machine.daemon_with(program, args, |command| {
            command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
        })
    }

    fn start(&self, program: &str, args: &[&str]) -> Result<Daemon> {
        let agent = self.spawn(program, args)?;
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

    /// Runs `mailready verify`; an agent that dies meanwhile is no error here.
    pub fn verify(&self) -> Result<String> {
        let args = ["verify", "--json", &self.user.name];
        let output = self.machine.output("/usr/bin/mailready", args, b"")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Verifies as soon as the agent is not looking at the old places itself, which it says.
    pub fn verify_when_it_can(&self) -> Result<String> {
        let attempt = || {
            self.verify()
                .map_or_else(|error| Some(Err(error)), |said| (!said.contains("busy")).then_some(Ok(said)))
        };
        eventually("the agent verifies at once", String::new, attempt)?
    }

    /// Deletes all of the state folder but records and holds: whatever else the agent keeps there must not be missed.
    pub fn wipe(&self) -> Result<()> {
        let script =
            "find /var/lib/mailready -mindepth 1 -maxdepth 1 ! -name runs ! -name holds -exec rm -rf {} +";
        self.machine.run("sh", ["-c", script]).map(drop)
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

    /// The same of an agent that lives.
    pub fn wait_drained(&self, agent: &Daemon) -> Result<()> {
        let done = || self.left_over(true).is_ok_and(|left| left.is_empty()).then_some(());
        eventually("late mail is carried over", || agent.log.tail(), done)
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

    /// Lets more days pass than originals are kept, by both clocks that are asked; no agent may run.
    pub fn let_days_pass(&self) -> Result<()> {
        let script = "cd /var/lib/mailready && for file in runs/* passed; do
            awk -v day=86400 '/^since = / { $3 -= 40 * day } FILENAME == \"passed\" && /^seen = / { $3 += 40 * day } { print }' \
                $file > /tmp/aged && cat /tmp/aged > $file; done";
        self.machine.run("sh", ["-c", script]).map(drop)
    }

    /// Waits until the originals are removed, or the agent is dead, or has found its worker dead and leaves them for later.
    pub fn wait_gone_or_dead(&self, agent: &mut Daemon) -> Result<()> {
        let log = agent.log.clone();
        let later = || log.lines().iter().any(|line| line.text.contains("stay for now"));
        eventually(
            "the originals are removed",
            || log.tail(),
            || (later() || !agent.is_running() || self.are_gone().unwrap_or(false)).then_some(()),
        )
    }

    /// Waits until they are removed.
    pub fn wait_gone(&self, agent: &Daemon) -> Result<()> {
        let gone = || self.are_gone().ok()?.then_some(());
        eventually("the originals are removed", || agent.log.tail(), gone)
    }

    /// The record says so, and it is so.
    fn are_gone(&self) -> Result<bool> {
        let work = format!("{}/.mailready", self.user.home());
        self.machine.inside(|| {
            let says = |entry: fs::DirEntry| {
                fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("originals = \"gone\""))
            };
            let none = |folder: &Path, ending: &str| {
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                !entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(ending))
            };
            let aside = fs::read_dir(&work).into_iter().flatten().flatten();
            let mut aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("aside-"));
            let records = fs::read_dir("/var/lib/mailready/runs").into_iter().flatten().flatten();
            records.into_iter().all(says)
                && none(Path::new("/var/mail/.mailready"), ".0")
                && aside.all(|folder| none(&folder.path(), ".0"))
        })
    }

    /// Whether no late mail stands at the spool's place; to be asked inside the machine.
    fn is_quiet_here(&self) -> bool {
        fs::read(self.user.spool())
            .is_ok_and(|spool| !spool.windows(LATE.len()).any(|at| at == LATE.as_bytes()))
    }

    /// Whether the work folder holds what an interrupted conversion has left for the next one, or a verification.
    pub fn has_kept_stage(&self) -> Result<bool> {
        let work = format!("{}/.mailready", self.user.home());
        self.machine.inside(|| {
            let entries = fs::read_dir(work).into_iter().flatten().flatten();
            entries
                .into_iter()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .any(|name| name.starts_with("kept-") || name.starts_with("check-"))
        })
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
                // Not the copies of a verification that was killed, which the next one removes.
                let beginnings = ["stage-", "back-", "rolling-back", "lock-"];
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
