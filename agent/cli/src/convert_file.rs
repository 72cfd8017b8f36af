//! `mailready convert-file`: the engine alone, on one file.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use mailready_config::Config;
use mailready_mailbox::convert_file::{Options, convert_file};
use mailready_mailbox::{Error, Progress, Rules, Server, Zone};

use crate::args::{self, ConvertFileArgs};
use crate::exit::{Exit, Failure};
use crate::progress::Bars;
use crate::{json, owner, terminal};

/// Deliverers hold an mbox for moments, mail readers for longer; who waits longer than this wants to know.
const LOCK_WAIT: Duration = Duration::from_secs(30);

pub(crate) fn run(config: Option<&Path>, args: &ConvertFileArgs) -> Result<Exit, Failure> {
    // The time zone is the one thing that the configuration has to say here; it is read before rights are given up.
    let zone = match Config::load(config)?.mail.timezone {
        Some(name) => {
            Zone::named(&name).map_err(|e| Failure::new(Exit::Config, format!("mail.timezone: {e}")))?
        }
        None => Zone::local(),
    };
    let server = match args.server {
        args::Server::Dovecot => Server::Dovecot,
        args::Server::Uw => Server::Uw,
        args::Server::Qpopper => Server::Qpopper,
    };
    owner::become_owner_of(&args.mbox, &args.maildir)?;

    let began = Instant::now();
    let mut bars = Bars::new();
    let name = args.mbox.file_name().unwrap_or(args.mbox.as_os_str()).to_string_lossy().into_owned();
    let mut progress = |p: Progress| {
        bars.single(&name, p.bytes, p.total, p.messages);
        ControlFlow::Continue(())
    };
    let options = Options { rules: Rules { server, zone }, lock_wait: LOCK_WAIT };
    let done = convert_file(&args.mbox, &args.maildir, &options, &mut progress).map_err(failure)?;
    bars.clear();

    let summary = &done.summary;
    let (mbox, maildir) = (args.mbox.to_string_lossy(), args.maildir.to_string_lossy());
    if args.json {
        json::print(&json::ConvertFileOutput {
            version: json::VERSION,
            mbox: &mbox,
            maildir: &maildir,
            messages: summary.messages,
            bytes: summary.length,
            blake3: &summary.hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            uidvalidity: summary.uid_validity,
            uidnext: summary.uid_next,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    } else {
        let (messages, size) = (terminal::grouped(summary.messages), terminal::size(summary.length));
        let took = began.elapsed().as_secs_f64();
        terminal::say(&format!(
            "{maildir}: {messages} messages, {size}, read back and compared, in {took:.2} s"
        ));
        terminal::say(&format!("{mbox} is as it was; mail that arrives there now is not carried over"));
    }
    Ok(Exit::Ok)
}

/// The engine's errors and their codes.
fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Io { source, .. } => exit_of_io(source),
        Error::NotMbox { .. } | Error::Blocked { .. } | Error::Newer { .. } => Exit::Data,
        Error::Exists { .. } => Exit::CantCreate,
        Error::Locked { .. } | Error::Changed { .. } | Error::Cancelled => Exit::Temporary,
        Error::NotYet(_) => Exit::Unavailable,
        _ => Exit::Software,
    };
    Failure::new(exit, error.to_string())
}

/// A path that the system refuses.
pub(crate) fn of_io(path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit_of_io(error), format!("{}: {error}", path.display()))
}

fn exit_of_io(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::NotFound => Exit::NoInput,
        io::ErrorKind::PermissionDenied => Exit::NoPermission,
        io::ErrorKind::AlreadyExists | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Exit::CantCreate
        }
        _ => Exit::Io,
    }
}
