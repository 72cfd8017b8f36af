//! One fault, and what has to come after it.

use std::fmt;

use mailready_tests::lab::{Daemon, LabError, Result, eventually};
use mailready_tests::stops::{Order, Place, disk_errors};
use nix::errno::Errno;

use super::deaths::{self, Before, Spot};
use super::rig::{Ended, FOLDERS, Rig, folder_path};

/// The disks of a machine; what lies elsewhere (sockets in /run, the log) is no mail.
const DISKS: [&str; 3] = ["/home", "/var/mail", "/var/lib/mailready"];

/// What is going on when the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A conversion, from the agent's start to its end.
    Conversion,
    /// A drain of one message behind the tombstone, likewise.
    Drain,
    /// The way back, likewise.
    Rollback,
    /// A verification, likewise.
    Verification,
}

impl Work {
    fn death(self) -> deaths::Work {
        match self {
            Self::Conversion => deaths::Work::Conversion,
            Self::Drain => deaths::Work::Drain,
            Self::Rollback | Self::Verification => deaths::Work::Rollback,
        }
    }
}

/// A call that fails, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub spot: Spot,
    pub errno: Errno,
    /// The disk that stays broken until it is healed; `None`: it was this call alone.
    pub lasting: Option<&'static str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lasting {
            Some(disk) => write!(f, "{} from {} on, for all of {disk}", self.errno, self.spot),
            None => write!(f, "{} at {}", self.errno, self.spot),
        }
    }
}

/// All faults that there can be at a place: each error once, each error for good.
pub fn faults_at(place: &Place, spot: &Spot) -> Vec<Fault> {
    let below = |disk: &&&str| place.about.split(" -> ").any(|name| is_below(name, disk));
    let Some(&disk) = DISKS.iter().find(below) else { return Vec::new() };
    let ways = |errno: i32| {
        [None, Some(disk)].map(|lasting| Fault { spot: spot.clone(), errno: Errno::from_raw(errno), lasting })
    };
    disk_errors(&place.call).iter().flat_map(|errno| ways(*errno)).collect()
}

fn is_below(name: &str, disk: &str) -> bool {
    name.strip_prefix(disk).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What came of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Weathered {
    /// Calls that failed.
    pub faults: usize,
    /// What the mail was when the dust had settled.
    pub ended: Ended,
}

/// Brings the mailbox to where the work begins, and saves it.
pub fn prepare(rig: &Rig, work: Work) -> Result<Before> {
    deaths::prepare(rig, work.death())
}

/// The calls of the work when no disk fails.
pub fn count(rig: &Rig, work: Work) -> Result<Vec<Place>> {
    rig.restore()?;
    let mut agent = rig.start_counted(&Order::Count, &["--changing", "--reading"])?;
    carry_out(rig, work, &mut agent, &mut || Ok(()))?;
    agent.terminate()?;
    rig.control()?.places()
}

/// What the command said, one user's part of it.
#[derive(Debug)]
struct Said {
    /// Has come to where it was to come.
    done: bool,
    answer: String,
    text: String,
    all: String,
}

impl Said {
    fn read(all: String, done: &str) -> Self {
        let json: serde_json::Value = all
            .lines()
            .next()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or(serde_json::Value::Null);
        let user = &json["users"][0];
        let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
        let done = user[done].as_bool().unwrap_or(false) || user["answer"] == done;
        let text_or_reason = if text("text").is_empty() { text("reason") } else { text("text") };
        Self { done, answer: text("answer"), text: text_or_reason, all }
    }

    /// What is refused has to say why, and what is to be done about it.
    fn check(&self) -> Result<()> {
        let mends = self.text.ends_with(')') || matches!(self.answer.as_str(), "waiting" | "busy");
        if self.done || (mends && self.text.len() > 20) {
            return Ok(());
        }
        Err(LabError::Protocol { asked: "a reason and what to do about it".into(), got: self.all.clone() })
    }
}

fn order(rig: &Rig, work: Work) -> Result<Said> {
    Ok(match work {
        Work::Conversion => Said::read(rig.convert()?, "on_maildir"),
        Work::Rollback => Said::read(rig.roll_back()?, "on_mbox"),
        Work::Verification => Said::read(rig.verify()?, "verified"),
        Work::Drain => return Err(LabError::Setup("nobody orders a drain".into())),
    })
}

/// Has the agent do its work; `heal` is called when the first attempt is over, well or not.
fn carry_out(
    rig: &Rig,
    work: Work,
    agent: &mut Daemon,
    heal: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Said>> {
    if work == Work::Drain {
        // The agent does it by itself, as often as it takes.
        let log = agent.log.clone();
        let over = || log.lines().iter().any(|line| line.text.contains("cannot be carried over yet"));
        eventually(
            "late mail is carried over, or is not",
            || log.tail(),
            || (over() || rig.is_drained() || !agent.is_running()).then_some(()),
        )?;
        heal()?;
        rig.wait_drained_or_dead(agent)?;
        return Ok(None);
    }
    let said = order(rig, work)?;
    heal()?;
    Ok(Some(said))
}

/// Has a disk fail at a call of the work; `None` if the work did not come to it.
///
/// # Errors
/// Whatever was not as it must be afterwards.
pub fn weather(rig: &Rig, work: Work, fault: &Fault) -> Result<Option<Weathered>> {
    rig.restore()?;
    let before = mboxes(rig)?;
    let ticket = Order::Fail {
        nth: fault.spot.nth,
        kind: fault.spot.kind.clone(),
        errno: fault.errno as i32,
        below: fault.lasting.map(str::to_owned),
    };
    let mut agent = rig.start_counted(&ticket, &["--changing", "--reading"])?;
    let control = rig.control()?;
    if !agent.is_running() {
        // It cannot begin without its state, and says so. Nothing has happened, and it starts when the disk is healed.
        check_refused_to_start(&agent)?;
        control.heal()?;
        let reached = control.reached()?.is_some();
        agent = rig.start_plain()?;
        if !reached {
            return Err(LabError::Setup("the agent ended before the fault".into()));
        }
    }
    let said = carry_out(rig, work, &mut agent, &mut || {
        rig.check_places()?;
        control.heal()
    })?;
    if control.reached()?.is_none() {
        agent.terminate()?;
        return Ok(None);
    }
    let faults = control.faults()?.len();
    if let Some(said) = &said {
        said.check()?;
    }
    // The same agent brings everything to its end, by itself.
    let ended = rig.wait_settled(&agent, work == Work::Drain)?;
    if ended == Ended::Mbox && work == Work::Conversion {
        if said.as_ref().is_some_and(|said| said.done) {
            return wrong("what was told to be converted is", "an mbox", &agent);
        }
        if mboxes(rig)? != before {
            return wrong("the mboxes byte for byte", "other mboxes", &agent);
        }
        let left = rig.left_of_an_attempt()?;
        if !left.is_empty() {
            return wrong("nothing left of the attempt", &format!("{left:?}"), &agent);
        }
    }
    if work != Work::Verification {
        deaths::check_mail(rig, work.death(), &agent)?;
    }
    // Healed: the next order is carried out.
    if work != Work::Drain {
        let attempt = || match order(rig, work) {
            // A run whose undo is still to be finished says that it waits.
            Ok(said) if !said.done && said.answer == "waiting" => None,
            answer => Some(answer),
        };
        let again = match (&said, work) {
            (Some(said), Work::Rollback) if said.done => None,
            _ => Some(eventually("the next order is carried out", || agent.log.tail(), attempt)??),
        };
        if let Some(again) = again
            && !again.done
        {
            return wrong("the order after the fault is carried out", &again.all, &agent);
        }
        let end = rig.wait_settled(&agent, false)?;
        let expected = if work == Work::Rollback { Ended::Mbox } else { Ended::Maildir };
        if end != expected {
            return wrong("the end of the order after the fault", &format!("{end:?}"), &agent);
        }
        deaths::check_mail(rig, work.death(), &agent)?;
    }
    rig.wait_mapped(work != Work::Rollback, &agent)?;
    let status = agent.terminate()?;
    if !status.success() {
        return wrong("an agent that ends well", &status.to_string(), &agent);
    }
    Ok(Some(Weathered { faults, ended }))
}

fn wrong<T>(asked: &str, got: &str, agent: &Daemon) -> Result<T> {
    Err(LabError::Protocol { asked: asked.into(), got: format!("{got}\n{}", agent.log.tail()) })
}

/// An agent that does not start is started again by whoever starts agents, and has to say why.
fn check_refused_to_start(agent: &Daemon) -> Result<()> {
    let status = agent.wait_end()?;
    // It has ended, and what it said may still be on its way through the pipe.
    let says = agent.log.wait("why it ended", |line| DISKS.iter().any(|disk| line.contains(disk)));
    let by_itself = status.code().is_some_and(|code| code != 0);
    if by_itself && says.is_ok() {
        return Ok(());
    }
    wrong("an agent that says why it does not start", &status.to_string(), agent)
}

/// Spool and folders as bytes.
fn mboxes(rig: &Rig) -> Result<Vec<Vec<u8>>> {
    let user = &rig.user;
    let folders = FOLDERS.iter().map(|folder| folder_path(user, folder));
    std::iter::once(user.spool()).chain(folders).map(|path| rig.machine.read(&path)).collect()
}

impl Rig {
    fn is_drained(&self) -> bool {
        self.left_over(true).is_ok_and(|left| left.is_empty())
    }

    /// What an attempt that came to nothing may not leave, besides what no run may leave.
    fn left_of_an_attempt(&self) -> Result<Vec<String>> {
        let folders = ["/var/mail/.mailready", "/var/lib/mailready/runs"].map(str::to_owned);
        let folders = folders.into_iter().chain([format!("{}/.mailready", self.user.home())]);
        let mut left = Vec::new();
        for folder in folders {
            let names = self.machine.inside(|| {
                let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
                entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
            })?;
            left.extend(names);
        }
        // What a run whose worker died had staged is for the next one to take over.
        left.retain(|path| !path.contains("/.mailready/kept-"));
        Ok(left)
    }

    /// Waits until the map says what is so.
    fn wait_mapped(&self, there: bool, agent: &Daemon) -> Result<()> {
        let line = format!("{}:", self.user.name);
        let map = || {
            self.machine
                .inside(|| std::fs::read_to_string("/var/lib/mailready/userdb").unwrap_or_default())
                .unwrap_or_default()
        };
        eventually(
            "the map says where the mail is",
            || agent.log.tail(),
            || (map().lines().any(|each| each.starts_with(&line)) == there).then_some(()),
        )
    }
}
