//! `mailready-radius`: a listener for RADIUS accounting (RFC 2866), for the usual case that the RADIUS server or the dial-in machine is another one.
//!
//! It is a program of its own, with a user of its own, since it reads what comes from a network; all that it can do is write to the agent's arrival socket. What it takes for an arrival is an accounting Start
//! or Interim-Update that was made with the client's secret. Threads, each with one packet at a time: while one waits for the agent, the next packets are looked at by the others, and what comes beyond
//! them waits in the socket's buffer, or is dropped there and sent again by the client.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use mailready_config::Config;
use mailready_protocol::{
    Answer, ClientError, Deadlines, Kind, Phase, Request, Service, Source, User, Wait, announce,
};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::geteuid;

mod clients;
mod desk;
mod packet;
mod rate;
mod recent;
mod sockets;

use clients::Clients;
use desk::Desk;
use sockets::Bound;

/// Enough that some may wait for the agent's word (at most 100 ms) while others work.
const THREADS: usize = 8;

// sysexits.h
const EX_USAGE: u8 = 64;
const EX_OSERR: u8 = 71;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

/// Receives RADIUS accounting packets, and announces to the agent who arrives.
///
/// The clients and their secrets stand in the file that `radius.clients` names. Runs until it is told to stop; SIGHUP reads
/// the clients again, SIGUSR1 logs what has come.
#[derive(Parser, Debug)]
#[command(name = "mailready-radius", version)]
struct Args {
    /// The configuration, in place of /etc/mailready/mailready.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only check the configuration and the file of clients.
    #[arg(long)]
    check: bool,
}

/// The definition of the command line.
pub fn command() -> clap::Command {
    Args::command()
}

/// The whole of `mailready-radius`.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nobody is left to tell if that fails.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EX_USAGE } else { 0 });
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            let _ = writeln!(std::io::stderr(), "mailready-radius: {text}");
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, String);

fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref()).map_err(|error| (EX_CONFIG, error.to_string()))?;
    let clients = Clients::read(&config.radius.clients).map_err(|error| (EX_CONFIG, error.to_string()))?;
    if args.check {
        let _ = writeln!(
            std::io::stdout(),
            "ok: {} clients in {}",
            clients.len(),
            config.radius.clients.display()
        );
        return Ok(());
    }
    if geteuid().is_root() {
        let text = "it reads what comes from a network and does not run as root: use the unit mailready-radius.service, or \
                    setpriv --reuid mailready-radius --regid mailready-radius --init-groups mailready-radius";
        return Err((EX_NOPERM, text.to_owned()));
    }
    log();
    // Taken by the waiting thread alone; blocked before there are others, which inherit that.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|errno| (EX_OSERR, format!("blocking signals: {errno}")))?;
    let agent = LocalAgent { socket: config.agent.socket.clone() };
    let desk = Arc::new(Desk::new(agent, clients, config.radius.rate, Instant::now()));
    for address in &config.radius.listen {
        let bound = Bound::new(*address).map_err(|error| (EX_OSERR, format!("{address}: {error}")))?;
        tracing::info!(address = %bound.address, buffer = bound.buffer, "listening");
        let bound = Arc::new(bound);
        for _ in 0..THREADS {
            let (desk, bound) = (Arc::clone(&desk), Arc::clone(&bound));
            std::thread::Builder::new()
                .name("receive".to_owned())
                .spawn(move || serve(&desk, &bound))
                .map_err(|error| (EX_OSERR, format!("a thread: {error}")))?;
        }
    }
    // Not every start is systemd's.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    obey(&signals, &desk, &config.radius.clients)
}

/// Until it is told to stop.
fn obey(signals: &SigSet, desk: &Desk<LocalAgent>, clients: &Path) -> Result<(), Failure> {
    loop {
        match signals.wait().map_err(|errno| (EX_OSERR, format!("waiting for signals: {errno}")))? {
            Signal::SIGHUP => match Clients::read(clients) {
                Ok(list) => {
                    tracing::info!("{} clients", list.len());
                    desk.set_clients(list, Instant::now());
                }
                Err(error) => tracing::error!("the clients stay as they were: {error}"),
            },
            Signal::SIGUSR1 => tracing::info!("{}", desk.counters),
            _ => {
                tracing::info!("stopped: {}", desk.counters);
                return Ok(());
            }
        }
    }
}

fn serve(desk: &Desk<LocalAgent>, bound: &Bound) {
    // One more than a packet may have: what is cut off at the end would look whole.
    let mut buffer = [0; packet::PACKET_MAX + 1];
    loop {
        // A client that was not there to be answered shows as an error on the next call; none of them lasts.
        let Ok((length, from, local)) = bound.receive(&mut buffer) else { continue };
        if let Some(answer) = desk.consider(&buffer[..length], from, Instant::now())
            && let Err(error) = bound.answer(&answer, from, local)
        {
            tracing::debug!(client = %from, "not answered: {error}");
        }
    }
}

/// The agent behind its arrival socket.
struct LocalAgent {
    socket: PathBuf,
}

impl desk::Agent for LocalAgent {
    fn announce(&self, user: &User) -> Result<Answer, ClientError> {
        let request = Request {
            kind: Kind::Arrival,
            source: Source::Radius,
            phase: Phase::None,
            user: user.clone(),
            service: Service::default(),
            wait: Wait::new(std::time::Duration::ZERO),
        };
        announce(&self.socket, &request, None, Deadlines::announcing(), &mut |_| {})
    }
}

/// To stderr; without a time of its own where the journal reads that.
fn log() {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO);
    let result = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => builder.without_time().try_init(),
        None => builder.try_init(),
    };
    // Somebody else's log is as good.
    drop(result);
}

/// For fuzzing: nothing that can come from a network may do more than be refused.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn fuzz_packet(datagram: &[u8], secret: &[u8]) -> Option<(bool, Vec<u8>)> {
    let packet = packet::Packet::parse(datagram).ok()?;
    let _ = packet.about();
    Some((packet.is_genuine(secret), packet.response(secret)))
}
