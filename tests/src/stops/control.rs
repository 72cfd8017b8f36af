//! The control folder: what the test orders, and what the tracer tells.
//!
//! | file | by | what |
//! |---|---|---|
//! | `ticket` | test | an [`Order`]; renamed to `claimed` by the program that takes it |
//! | `error` | `stop-at` | why it cannot trace |
//! | `list` | tracer | a [`Place`] a line, written before the call is carried out |
//! | `reached` | tracer | the place of the order, where the program stands or was killed |
//! | `faults` | tracer | a [`Place`] a line for every call that was made to fail |
//! | `heal` | test | the broken disk works again |
//! | `go` | test | the stopped program may go on, untraced from then on |
//! | `ended` | tracer | the last traced process has ended |

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::lab::{Doing, LabError, Machine, Result, eventually};

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The process that makes the call.
    Itself,
    /// All other traced processes.
    Others,
    /// All traced processes, it among them.
    All,
}

/// What is to be done with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Its calls are listed.
    Count,
    /// It is stopped before its call of this number, until it may go on.
    Stop(usize),
    /// It is stopped before the first call of this name whose arguments hold a text, until it may go on.
    StopBefore {
        /// Name of the call.
        call: String,
        /// Part of what its arguments name.
        about: String,
    },
    /// It is stopped before the `nth` call of this kind, until it may go on.
    Hold {
        /// From 1.
        nth: usize,
        /// Which calls.
        kind: String,
    },
    /// Before the `nth` call of this kind (see [`Place::kind`]) there is a death. The number of a call among all calls is no
    /// good for this: threads overtake each other.
    Kill {
        /// From 1.
        nth: usize,
        /// Which calls.
        kind: String,
        /// Who dies.
        whom: Whom,
    },
    /// The `nth` call of this kind is not carried out and gives an error instead.
    Fail {
        /// From 1.
        nth: usize,
        /// Which calls.
        kind: String,
        /// Number of the error.
        errno: i32,
        /// With a path, the disk that is mounted there is broken from then on: every later call on something below it fails alike, if it is one that gives this error, until there is `heal`.
        below: Option<String>,
    },
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Itself => "itself",
            Self::Others => "others",
            Self::All => "all",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Stop(number) => write!(f, "stop {number}"),
            Self::StopBefore { call, about } => write!(f, "before {call} {about}"),
            Self::Hold { nth, kind } => write!(f, "hold it {nth} {kind}"),
            Self::Kill { nth, kind, whom } => write!(f, "kill {whom} {nth} {kind}"),
            Self::Fail { nth, kind, errno, below } => {
                write!(f, "fail {errno}:{} {nth} {kind}", below.as_deref().unwrap_or_default())
            }
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is no number"));
        if let Some((call, about)) = text.strip_prefix("before ").and_then(|rest| rest.split_once(' ')) {
            return Ok(Self::StopBefore { call: call.to_owned(), about: about.to_owned() });
        }
        match text.splitn(4, ' ').collect::<Vec<_>>().as_slice() {
            ["count"] => Ok(Self::Count),
            ["stop", at] => Ok(Self::Stop(number(at)?)),
            ["hold", _, nth, kind] => Ok(Self::Hold { nth: number(nth)?, kind: (*kind).to_owned() }),
            ["kill", whom, nth, kind] => {
                let all = [Whom::Itself, Whom::Others, Whom::All];
                let whom = all.into_iter().find(|each| each.to_string() == *whom);
                let whom = whom.ok_or_else(|| format!("{text:?}: who is to die?"))?;
                Ok(Self::Kill { nth: number(nth)?, kind: (*kind).to_owned(), whom })
            }
            ["fail", how, nth, kind] => {
                let (errno, below) = how.split_once(':').ok_or_else(|| format!("{text:?}: which error?"))?;
                let errno = errno.parse().map_err(|_| format!("{errno:?} is no number"))?;
                let below = Some(below.to_owned()).filter(|below| !below.is_empty());
                Ok(Self::Fail { nth: number(nth)?, kind: (*kind).to_owned(), errno, below })
            }
            _ => Err(format!("{text:?} is no order")),
        }
    }
}

/// A system call in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number among the calls that count, from 1.
    pub number: usize,
    /// The process, as the machine numbers it.
    pub pid: i32,
    /// File name of the program.
    pub program: String,
    /// Name of the call.
    pub call: String,
    /// What its arguments name.
    pub about: String,
}

impl Place {
    /// The place without what differs from run to run: two runs are at equal places if this is equal.
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{} {} {}", self.program, self.call, without_numbers(&self.about))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, pid, program, call, about } = self;
        write!(f, "{number}\t{pid}\t{program}\t{call}\t{about}")
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let bad = || format!("{line:?} is no place");
        let mut fields = line.splitn(5, '\t');
        let mut next = || fields.next().ok_or_else(bad);
        let (number, pid) = (next()?.parse().map_err(|_| bad())?, next()?.parse().map_err(|_| bad())?);
        Ok(Self { number, pid, program: next()?.into(), call: next()?.into(), about: next()?.into() })
    }
}

/// Numbers, decimal and hexadecimal, replaced: process ids, run ids, times, inodes.
fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            digits.push(character);
            continue;
        }
        if digits.contains(|digit: char| digit.is_ascii_digit()) {
            shown.push('#');
        } else {
            shown.push_str(&digits);
        }
        digits.clear();
        shown.push(character);
    }
    shown.pop();
    shown
}

/// Writes a file that is there completely or not at all.
pub(super) fn publish(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = dir.join(format!(".{name}-{}", std::process::id()));
    fs::write(&new, text)?;
    fs::rename(new, dir.join(name))
}

/// The test's end of a control folder in a machine.
pub struct Control<'m> {
    machine: &'m Machine,
    dir: PathBuf,
}

impl<'m> Control<'m> {
    /// Makes the folder; every user of the machine may claim from it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(machine: &'m Machine, dir: &str) -> Result<Self> {
        let dir = PathBuf::from(dir);
        machine
            .inside(|| {
                fs::create_dir_all(&dir)?;
                fs::set_permissions(&dir, Permissions::from_mode(0o777))
            })?
            .doing(|| format!("make {}", dir.display()))?;
        Ok(Self { machine, dir })
    }

    /// Arms the folder for the next program, and forgets what the last one told.
    ///
    /// # Errors
    /// If a file cannot be written or removed.
    pub fn arm(&self, order: &Order) -> Result<()> {
        self.machine
            .inside(|| {
                for old in fs::read_dir(&self.dir)? {
                    fs::remove_file(old?.path())?;
                }
                publish(&self.dir, "ticket", &order.to_string())
            })?
            .doing(|| format!("arm {}", self.dir.display()))
    }

    /// The calls so far.
    ///
    /// # Errors
    /// If the machine is gone, or the list is none.
    pub fn places(&self) -> Result<Vec<Place>> {
        self.list("list")
    }

    fn list(&self, name: &str) -> Result<Vec<Place>> {
        let text = self.read(name)?.unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| line.parse().map_err(LabError::Setup)).collect()
    }

    /// The place of the order, if it was reached.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn reached(&self) -> Result<Option<Place>> {
        self.read("reached")?.map(|line| line.parse().map_err(LabError::Setup)).transpose()
    }

    /// Waits until the place of the order is reached, or `over` says that it never will be.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if neither happens, and [`LabError::Setup`] if nobody could be traced.
    pub fn wait_reached(&self, mut over: impl FnMut() -> bool) -> Result<Option<Place>> {
        let reached =
            eventually(format!("a program stops for {}", self.dir.display()), String::new, || {
                // In this order: what was reached before the end is told before the end.
                let ended = over();
                match self.reached() {
                    Ok(None) if !ended => None,
                    answer => Some(answer),
                }
            })??;
        match self.read("error")? {
            Some(why) if reached.is_none() => Err(LabError::Setup(format!("stop-at cannot trace: {why}"))),
            _ => Ok(reached),
        }
    }

    /// Lets the stopped program go on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn go(&self) -> Result<()> {
        self.machine
            .inside(|| publish(&self.dir, "go", ""))?
            .doing(|| format!("write {}/go", self.dir.display()))
    }

    /// Lets the broken disk work again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn heal(&self) -> Result<()> {
        self.machine
            .inside(|| publish(&self.dir, "heal", ""))?
            .doing(|| format!("write {}/heal", self.dir.display()))
    }

    /// The calls that were made to fail.
    ///
    /// # Errors
    /// If the machine is gone, or the list is none.
    pub fn faults(&self) -> Result<Vec<Place>> {
        self.list("faults")
    }

    /// Whether every traced process has ended.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn ended(&self) -> Result<bool> {
        Ok(self.read("ended")?.is_some())
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        self.machine
            .inside(|| match fs::read_to_string(self.dir.join(name)) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            })?
            .doing(|| format!("read {}/{name}", self.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let kill = Order::Kill { nth: 2, kind: "dash write /tmp/f#".into(), whom: Whom::Others };
        let before = Order::StopBefore { call: "renameat2".into(), about: "/var/mail/a b".into() };
        let hold = Order::Hold { nth: 3, kind: "dash write /tmp/f#".into() };
        let fail = |below| Order::Fail { nth: 3, kind: "dash write /tmp/f#".into(), errno: 28, below };
        for order in [Order::Count, Order::Stop(7), before, hold, kill, fail(None), fail(Some("/tmp".into()))]
        {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert!("stop".parse::<Order>().is_err());
        assert!("kill somebody 3 dash write x".parse::<Order>().is_err());
    }

    #[test]
    fn equal_places_of_two_runs_are_told_to_be_equal() {
        let place = |about: &str| Place {
            number: 3,
            pid: 40,
            program: "mailready-worker".into(),
            call: "fsync".into(),
            about: about.into(),
        };
        let first = place("/home/ann/.mailready/stage-20261122T021530Z-00c0ffee00c0ffee/new");
        let second = place("/home/ann/.mailready/stage-20261122T031541Z-a0b1c2d3e4f50617/new");
        assert_eq!(first.kind(), second.kind());
        assert_ne!(first.kind(), place("/home/ann/.mailready").kind());
        assert_eq!(first.to_string().parse(), Ok(first));
    }
}
