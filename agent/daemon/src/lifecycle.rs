//! From the command line to the end: start-up is a list of things that can fail, each with a message and an exit code; then the agent serves until it
//! is told to stop, and stops in an order that loses nobody's answer.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use crate::agent::Agent;
use crate::bus;
use crate::exit::Failure;
use crate::flow::{Flow, Mailboxes};
use crate::holds::Holds;
use crate::listener::{self, Door};
use crate::options::{self, Asked};
use crate::records::Records;
use crate::reload::Reloader;
use crate::settings::Settings;
use crate::sockets::Sockets;
use crate::state::State;
use crate::users::Users;
use crate::{log, logind, service};

/// Running conversions behind their commit get this long to finish; the service manager's patience is longer.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// Logins that wait get this long to hear their last word.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often the site's configuration files are looked at.
const SITE_LOOK: Duration = Duration::from_secs(5);
/// How often the mailboxes are asked to look after late mail.
const TICK: Duration = Duration::from_secs(1);

/// Runs `mailready-agent` with these arguments (without the program's name).
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = match options::parse(args) {
        Ok(Asked::Help) => print(options::HELP),
        Ok(Asked::Version) => print(concat!("mailready-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Asked::Run(config)) => start(config),
        Err(wrong) => Err(Failure::Usage(wrong)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.to_string().lines() {
                // Nowhere to say it if this fails; the exit code still does.
                let _ = writeln!(io::stderr(), "mailready-agent: {line}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::System { what: "writing to stdout", error })
}

fn start(config_file: Option<PathBuf>) -> Result<(), Failure> {
    let settings = Settings::load(config_file.as_deref())?;
    log::init();
    abort_on_panic();
    if !geteuid().is_root() {
        return Err(Failure::NotRoot);
    }
    let state = State::open(&settings.config.agent.state)?;
    let records = open_records(&settings)?;
    let holds = open_holds(&settings)?;
    let was_served = Flow::is_served(&settings);
    let sockets = Sockets::open(&settings.config)?;
    let parts = Parts { config_file, settings, users: Users::system(), holds, records, sockets };
    // Arrivals are short and conversions are other processes: two threads are plenty.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(|error| Failure::System { what: "starting the runtime", error })?;
    let result = runtime.block_on(async {
        let commands = commands_from_signals()?;
        let open = |settings, records| Ok(Flow::open(settings, records, was_served)? as Arc<dyn Mailboxes>);
        serve(parts, open, commands).await
    });
    // A look-up that hangs must not hang the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(state);
    result
}

fn open_records(settings: &Settings) -> Result<Records, Failure> {
    let (records, unusable) = Records::open(&settings.config.agent.state)?;
    for error in unusable {
        let user = error.user.as_deref().unwrap_or("unknown");
        error!(user, "an archive record cannot be used, its user is left alone: {error}");
    }
    Ok(records)
}

fn open_holds(settings: &Settings) -> Result<Holds, Failure> {
    let (holds, unusable) = Holds::open(&settings.config.agent.state)?;
    for error in unusable {
        error!("a hold cannot be read, and holds: {error}");
    }
    Ok(holds)
}

/// A panic is a bug in a program that holds locks on mail; what it was doing is found out from the disk at the next start.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        error!("panic: {panic}");
        print(panic);
        std::process::abort();
    }));
}

/// What the agent is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration again.
    Reload,
    /// Come to an end.
    Stop,
}

fn commands_from_signals() -> Result<mpsc::Receiver<Command>, Failure> {
    let (tell, commands) = mpsc::channel(8);
    for (kind, command) in [
        (SignalKind::hangup(), Command::Reload),
        (SignalKind::terminate(), Command::Stop),
        (SignalKind::interrupt(), Command::Stop),
    ] {
        let mut signals: Signal =
            signal(kind).map_err(|error| Failure::System { what: "listening for signals", error })?;
        let tell = tell.clone();
        tokio::spawn(
            async move { while signals.recv().await.is_some() && tell.send(command).await.is_ok() {} },
        );
    }
    Ok(commands)
}

/// What an agent is made of.
pub struct Parts {
    /// Where the settings came from; read again on reload.
    pub config_file: Option<PathBuf>,
    /// The settings.
    pub settings: Settings,
    /// The look-ups.
    pub users: Users,
    /// The holds.
    pub holds: Holds,
    /// The records.
    pub records: Records,
    /// The sockets.
    pub sockets: Sockets,
}

/// Serves until it is told to stop (or nobody is left who could).
///
/// # Errors
/// The mailboxes cannot be opened, or a socket breaks.
pub async fn serve(
    parts: Parts,
    open_mailboxes: impl FnOnce(watch::Receiver<Arc<Settings>>, Arc<Records>) -> io::Result<Arc<dyn Mailboxes>>,
    mut commands: mpsc::Receiver<Command>,
) -> Result<(), Failure> {
    let Parts { config_file, settings, users, holds, records, sockets } = parts;
    let paths = settings.config.agent.clone();
    let (new_settings, settings) = watch::channel(Arc::new(settings));
    let records = Arc::new(records);
    let mailboxes = open_mailboxes(settings.clone(), Arc::clone(&records))
        .map_err(|error| Failure::System { what: "opening the mailboxes", error })?;
    let agent = Agent::new(settings, users, holds, records, mailboxes);
    let reloader = Reloader::new(Arc::clone(&agent), config_file, new_settings);
    let stopping = watch::Sender::new(false);

    let (arrival, arrival_file) = sockets.arrival.split();
    let (selves, selves_file) = sockets.selves.split();
    let (control, control_file) = sockets.control.split();
    let mut doors = JoinSet::new();
    let arrival = listener::serve(Arc::clone(&agent), Door::Arrival, arrival, stopping.subscribe());
    doors.spawn(with_path(paths.socket, arrival));
    let selves = listener::serve(Arc::clone(&agent), Door::Selves, selves, stopping.subscribe());
    doors.spawn(with_path(paths.self_socket, selves));
    doors.spawn(with_path(
        paths.control,
        bus::serve_control(Arc::clone(&agent), control, stopping.subscribe()),
    ));

    let mut helpers = JoinSet::new();
    helpers.spawn(Arc::clone(&agent.conversions).keep_time());
    helpers.spawn(look_after_mailboxes(Arc::clone(&agent)));
    helpers.spawn(look_at_site(Arc::clone(&agent)));
    helpers.spawn(Arc::clone(&reloader).follow_lists());
    helpers.spawn(logind::listen(Arc::clone(&agent), paths.bus.clone()));
    helpers.spawn(bus::stay_on_bus(Arc::clone(&agent), paths.bus));

    service::ready();
    info!(version = env!("CARGO_PKG_VERSION"), "ready");
    let result = supervise(&agent, &reloader, &mut commands, &mut doors).await;

    service::stopping();
    info!("stopping");
    drop((arrival_file, selves_file, control_file));
    stopping.send_replace(true);
    let ended = async { tokio::join!(agent.conversions.stop(), agent.operations.stop()) };
    if timeout(STOP_PATIENCE, ended).await.is_err() {
        warn!("a conversion or rollback does not end; the next start brings it to its end");
    }
    // Whoever is not done by then is cut off, which to a login means the mbox.
    let _ = timeout(FAREWELL, async { while doors.join_next().await.is_some() {} }).await;
    helpers.abort_all();
    info!("stopped: {}", agent.counters);
    result
}

async fn with_path(
    path: PathBuf,
    serving: impl Future<Output = io::Result<()>>,
) -> (PathBuf, io::Result<()>) {
    (path, serving.await)
}

/// Waits for a reason to stop.
async fn supervise(
    agent: &Agent,
    reloader: &Reloader,
    commands: &mut mpsc::Receiver<Command>,
    doors: &mut JoinSet<(PathBuf, io::Result<()>)>,
) -> Result<(), Failure> {
    let mut alive = interval(service::watchdog().unwrap_or(Duration::from_secs(10)));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Reload) => {
                    service::reloading();
                    reloader.reload().await;
                    service::ready();
                }
                Some(Command::Stop) | None => return Ok(()),
            },
            Some(ended) = doors.join_next() => {
                let broke = match ended {
                    Ok((path, Err(error))) => Failure::SocketBroke { path, error },
                    // Doors end by themselves only when they break, and panics abort.
                    _ => Failure::System { what: "serving", error: io::Error::other("a task ended by itself") },
                };
                error!("{broke}");
                return Err(broke);
            }
            _ = alive.tick() => {
                service::alive();
                let load = agent.conversions.load();
                let stopped = agent.stops.stopped().map(|told| format!("STOPPED: {}; ", told.text));
                service::status(&format!(
                    "{}{} converting, {} waiting, {} busy",
                    stopped.unwrap_or_default(),
                    load.running,
                    load.waiting,
                    load.later
                ));
            }
        }
    }
}

/// Tells whether the site would follow: at the start, and when something has changed that this hangs on.
async fn look_at_site(agent: Arc<Agent>) {
    let mut looks = interval(SITE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        agent.mailboxes.look_at_site(false).await;
    }
}

/// Brings what an earlier agent left to its end, then has late mail looked after.
async fn look_after_mailboxes(agent: Arc<Agent>) {
    agent.mailboxes.recover().await;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        agent.mailboxes.tick().await;
    }
}
