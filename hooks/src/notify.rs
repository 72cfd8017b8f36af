//! `mailready-notify`: announce an arrival from any script.
//!
//! It is called from programs that read an exit code as a verdict (FreeRADIUS rejects a user on 1 or 2, Dovecot refuses a
//! login whose script fails), with no environment, sometimes with the client's own connection as standard output. So it
//! exits with 0 whatever happens, unless it is asked not to; it writes one line, and only to standard output; what is
//! wrong with its own command line or configuration goes to standard error.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mailready_config::{Config, ConfigError};
use mailready_protocol::{
    ARRIVAL_SOCKET, Answer, ClientError, Deadlines, Kind, Phase, Reason, Request, SELF_SOCKET, Source,
    announce,
};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::args::{self, Announcement};
use crate::session;

// sysexits.h
const EX_USAGE: u8 = 64;
const EX_NOUSER: u8 = 67;
const EX_TEMPFAIL: u8 = 75;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

/// The whole of `mailready-notify`.
pub fn main() -> ExitCode {
    // First of all, see there.
    let inherited = session::inherited_socket();
    let words: Vec<OsString> = std::env::args_os().collect();
    match args::read(words.clone()) {
        Ok(announcement) => {
            let code = run(&announcement, inherited);
            ExitCode::from(if announcement.args.strict { code } else { 0 })
        }
        Err(error) => {
            // To standard output for --help and --version, else to standard error; nobody is left to tell if that fails.
            let _ = error.print();
            let wrong = error.use_stderr() && args::wants_strict(&words);
            ExitCode::from(if wrong { EX_USAGE } else { 0 })
        }
    }
}

/// Announces, prints the answer, and says what to exit with under `--strict`.
fn run(announcement: &Announcement, inherited: Option<OwnedFd>) -> u8 {
    let args = &announcement.args;
    let lease = inherited.filter(|_| args.source == Source::Dovecot);
    let (sockets, configured) = match &args.socket {
        Some(path) => (Sockets { arrival: path.clone(), own: path.clone() }, Ok(())),
        None => Sockets::configured(args.config.as_deref()),
    };
    if let Err(error) = &configured {
        let _ = writeln!(std::io::stderr(), "mailready-notify: {error}");
        if args.strict {
            return EX_CONFIG;
        }
    }
    let request = Request {
        kind: if lease.is_some() { Kind::Lease } else { Kind::Arrival },
        source: args.source,
        phase: Phase::None,
        user: announcement.user.clone(),
        service: announcement.service.clone(),
        wait: args.wait,
    };
    let deadlines = Deadlines::waiting(args.wait.duration());
    let socket = sockets.choose(request.kind);
    let result = announce(socket, &request, lease.as_ref().map(AsFd::as_fd), deadlines, &mut |_| {});
    // A reader that is gone already (a killed script) is no reason to fail.
    let _ = match &result {
        Ok(answer) => writeln!(std::io::stdout(), "{answer}"),
        Err(error) => writeln!(std::io::stdout(), "none {error}"),
    };
    strict_code(&result)
}

fn strict_code(result: &Result<Answer, ClientError>) -> u8 {
    match result {
        Ok(Answer::Taken | Answer::Ready) => 0,
        Ok(Answer::Refused(Reason::UnknownUser)) => EX_NOUSER,
        Ok(Answer::Refused(Reason::TooMany)) => EX_TEMPFAIL,
        Ok(Answer::Refused(_)) => EX_NOPERM,
        // A `wait` is never the last word; were it one, the mail would not be ready.
        Ok(Answer::Stay(_) | Answer::Wait(_)) | Err(_) => EX_TEMPFAIL,
    }
}

/// The agent's two doors.
struct Sockets {
    /// For those who may speak of others.
    arrival: PathBuf,
    /// For everyone, about themselves.
    own: PathBuf,
}

impl Sockets {
    /// As the configuration has them; where that cannot be read, the usual paths and why: a hook goes on.
    fn configured(config: Option<&Path>) -> (Sockets, Result<(), ConfigError>) {
        match Config::load(config) {
            Ok(config) => (Sockets { arrival: config.agent.socket, own: config.agent.self_socket }, Ok(())),
            Err(error) => (Sockets { arrival: ARRIVAL_SOCKET.into(), own: SELF_SOCKET.into() }, Err(error)),
        }
    }

    /// Root, and whom the administrator let write to the arrival socket (a RADIUS server in the agent's group), use
    /// that. All others can only speak of themselves. A lease waits, and waiting is kept away from the arrival socket
    /// as far as possible.
    fn choose(&self, kind: Kind) -> &Path {
        let trusted = geteuid().is_root()
            || (kind == Kind::Arrival && access(&self.arrival, AccessFlags::W_OK).is_ok());
        if trusted { &self.arrival } else { &self.own }
    }
}
