//! Deliverers that a test starts itself, one message each, and what can be seen of them meanwhile.

use std::fmt;
use std::fs;

use mailready_tests::lab::{LabError, Machine, Result, User};

use super::post::{EXIM, LMTP, POSTFIX_PORT, Post};
use super::submission::{self, DOMAIN, SENDER, Word};

/// A program that delivers one message to an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deliverer {
    /// Postfix, by local's own mailbox writing.
    Postfix,
    /// Exim.
    Exim,
    /// procmail as Postfix starts it.
    Procmail,
    /// maildrop likewise.
    Maildrop,
    /// Dovecot's LDA likewise.
    Lda,
    /// Dovecot's LMTP.
    Lmtp,
}

impl fmt::Display for Deliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

/// What an mbox has before each message.
pub const FROM_LINE: &[u8] = b"From eve@mail.example.org  Tue Feb  3 04:05:06 2009\n";

/// A temporary failure, in the words of sysexits.h.
const EX_TEMPFAIL: i32 = 75;

impl Deliverer {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Postfix, Self::Exim, Self::Procmail, Self::Maildrop, Self::Lda, Self::Lmtp];

    /// Gives it the message, and waits as long as it takes to deliver it; Postfix only takes it.
    ///
    /// # Errors
    /// If it fails for good.
    pub fn deliver(self, post: &Post, user: &User, message: &[u8]) -> Result<Word> {
        let machine = &post.machine;
        match self {
            Self::Postfix => submission::smtp(machine, POSTFIX_PORT, &user.name, message),
            Self::Lmtp => submission::lmtp(machine, LMTP, &user.name, message),
            // What Exim defers stays in its queue: it has taken it.
            Self::Exim => run(machine, &self.command(user), message),
            // As local(8) gives it to a program. procmail would write a message without that line into an mbox.
            _ => run(machine, &self.command(user), &[FROM_LINE, message].concat()),
        }
    }

    /// Its command line, as whoever starts it does it.
    pub fn command(self, user: &User) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Procmail => &["/usr/bin/procmail", "-a", ""],
            Self::Maildrop => &["/usr/bin/maildrop"],
            Self::Lda => &["/usr/lib/dovecot/dovecot-lda", "-d", &user.name, "-f", SENDER],
            _ => &[],
        };
        if words.is_empty() {
            let (from, to) = (format!("{SENDER}@{DOMAIN}"), format!("{}@{DOMAIN}", user.name));
            return [EXIM, "-odf", "-i", "-f", &from, &to].map(str::to_owned).into();
        }
        // local(8) gives it the user's ids and no other groups.
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        let drop = ["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "env"];
        let environment = [
            format!("HOME={}", user.home()),
            format!("LOGNAME={}", user.name),
            format!("USER={}", user.name),
            "SHELL=/bin/sh".to_owned(),
        ];
        let words = words.iter().map(|word| (*word).to_owned());
        drop.map(str::to_owned).into_iter().chain(environment).chain(words).collect()
    }

    /// The file name of the program that waits when it has to wait.
    fn program(self) -> &'static str {
        match self {
            Self::Postfix => "local",
            Self::Exim => "exim4",
            Self::Procmail => "procmail",
            Self::Maildrop => "maildrop",
            Self::Lda => "dovecot-lda",
            Self::Lmtp => "lmtp",
        }
    }

    /// Whether it goes by Dovecot's user database.
    pub fn is_dovecot(self) -> bool {
        matches!(self, Self::Lda | Self::Lmtp)
    }

    /// Whether it waits for a lock, or to open a file that somebody else has a lease on.
    pub fn waits(self, machine: &Machine) -> Result<bool> {
        let processes = machine.processes(self.program())?;
        machine.inside(|| processes.into_iter().any(is_waiting))
    }
}

/// Runs a deliverer's command line to its end.
///
/// # Errors
/// If it fails for good.
pub fn run(machine: &Machine, command: &[String], message: &[u8]) -> Result<Word> {
    let [program, args @ ..] = command else {
        return Err(LabError::Setup("a command line has a program".to_owned()));
    };
    let output = machine.output(program, args, message)?;
    let said = format!(
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    match output.status.code() {
        Some(0) => Ok(Word::Taken(said)),
        Some(EX_TEMPFAIL) => Ok(Word::Later(said)),
        _ => Err(LabError::Command { command: command.join(" "), said }),
    }
}

/// Sleeps between two tries (nanosleep, clock_nanosleep), waits for a record lock (fcntl, flock) or within open(2); x86-64, as the tracer.
fn is_waiting(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|word| word.parse::<u32>().ok());
    matches!(number, Some(35 | 230 | 72 | 73 | 2 | 257))
}
