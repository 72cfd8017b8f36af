//! What a login pays for `pam_mailready.so`: one `pam_acct_mgmt` through the real libpam, in a stranger's process, with the
//! agent in each of the states that agents get into. `cargo build --release` first, then run without arguments; the module
//! is the one beside this program, or the one named as the argument.
//!
//! A call with a stack of `pam_permit` alone is measured in turn with the others, and its median taken off in the last column.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mailready_protocol::{ClientError, Kind, Phase, Request, Service, Source, User, Wait, tell};
use mailready_tests::fake_agent::{FakeAgent, Play};
use mailready_tests::pam_host::PamHost;

const CALLS: usize = 3000;
/// Where each may take milliseconds.
const FEW_CALLS: usize = 300;
/// More than there are calls: an agent that accepts none must not end up with a full backlog by itself.
const LARGE_BACKLOG: i32 = 4096;
/// What a login may pay at the 99th percentile.
const LIMIT_US: f64 = 300.0;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let ran = bench(&mut out);
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench-pam-call: {error}");
            ExitCode::from(2)
        }
    }
}

/// True if all states that count stay below the limit.
fn bench(out: &mut impl Write) -> Result<bool, Box<dyn Error>> {
    let here = std::env::current_exe()?;
    let module = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => here.with_file_name("libpam_mailready.so"),
    }
    .canonicalize()
    .map_err(|error| format!("libpam_mailready.so: {error}; cargo build --release -p pam_mailready"))?;
    let folder = Folder::new()?;
    let bench = Bench {
        host: PamHost::compile(&folder.0)?,
        fake_agent: here.with_file_name("fake-agent"),
        socket: folder.0.join("agent.sock"),
        module,
    };
    writeln!(
        out,
        "pam_acct_mgmt with {} in the stack, {CALLS} calls each ({FEW_CALLS} with a timeout), microseconds",
        bench.module.display()
    )?;
    writeln!(out, "{:<44} {:>7} {:>7} {:>7} {:>7}  p50 less empty", "agent", "p50", "p99", "p99.9", "max")?;

    let empty = bench.measure("", CALLS)?;
    row(out, "(no module: pam_permit alone)", &empty, None)?;
    let mut within = true;
    let plain = bench.line("");
    for state in [State::Up, State::Gone, State::Hung, State::Stopped, State::Full] {
        let _agent = bench.agent(state)?;
        let times = bench.measure(&plain, CALLS)?;
        row(out, state.name(), &times, Some(&empty))?;
        within &= times.us(990) <= LIMIT_US;
    }
    for (state, option) in [(State::Up, "timeout=5ms"), (State::Hung, "timeout=5ms")] {
        let _agent = bench.agent(state)?;
        let times = bench.measure(&bench.line(option), FEW_CALLS)?;
        row(out, &format!("{}, {option}", state.name()), &times, Some(&empty))?;
    }
    let verdict = if within { "all within" } else { "NOT within" };
    writeln!(out, "99th percentile of the plain announcements: {verdict} {LIMIT_US} us")?;
    Ok(within)
}

#[derive(Clone, Copy)]
enum State {
    Up,
    Gone,
    Hung,
    Stopped,
    Full,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Gone => "gone",
            State::Hung => "hung after accept",
            State::Stopped => "stopped",
            State::Full => "backlog full",
        }
    }
}

struct Bench {
    host: PamHost,
    fake_agent: PathBuf,
    socket: PathBuf,
    module: PathBuf,
}

impl Bench {
    fn line(&self, option: &str) -> String {
        format!("account optional {} socket={} {option}\n", self.module.display(), self.socket.display())
    }

    fn agent(&self, state: State) -> Result<Option<FakeAgent>, Box<dyn Error>> {
        let start = |backlog, play| FakeAgent::start(&self.fake_agent, &self.socket, backlog, &play);
        Ok(match state {
            State::Up => Some(start(LARGE_BACKLOG, Play::Taken)?),
            State::Gone => None,
            State::Hung => Some(start(LARGE_BACKLOG, Play::Hang)?),
            State::Stopped => {
                let agent = start(LARGE_BACKLOG, Play::Taken)?;
                agent.stop()?;
                Some(agent)
            }
            State::Full => {
                let agent = start(4, Play::Deaf)?;
                fill(&self.socket)?;
                Some(agent)
            }
        })
    }

    fn measure(&self, line: &str, calls: usize) -> Result<Times, Box<dyn Error>> {
        self.host.stack("bench", line)?;
        let output = self.host.run("bench", "ann", &["times", &calls.to_string()])?;
        let text = String::from_utf8(output.stdout)?;
        if !output.status.success() {
            return Err(format!("the host failed: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let mut nanoseconds = text.lines().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        if nanoseconds.len() != calls {
            return Err(format!("{} times of {calls}", nanoseconds.len()).into());
        }
        nanoseconds.sort_unstable();
        Ok(Times(nanoseconds))
    }
}

fn fill(socket: &Path) -> Result<(), Box<dyn Error>> {
    let request = Request {
        kind: Kind::Arrival,
        source: Source::Script,
        phase: Phase::None,
        user: User::new(b"filler")?,
        service: Service::default(),
        wait: Wait::NONE,
    };
    for _ in 0..100 {
        match tell(socket, &request) {
            Ok(()) => {}
            Err(ClientError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err("the backlog does not fill up".into())
}

/// Sorted nanoseconds.
struct Times(Vec<u64>);

impl Times {
    /// The time below which so many of a thousand calls stay, in microseconds.
    fn us(&self, per_mille: usize) -> f64 {
        let rank = (self.0.len() * per_mille).div_ceil(1000).clamp(1, self.0.len());
        self.0[rank - 1] as f64 / 1000.0
    }
}

fn row(out: &mut impl Write, name: &str, times: &Times, empty: Option<&Times>) -> std::io::Result<()> {
    let [p50, p99, p999, max] = [500, 990, 999, 1000].map(|rank| times.us(rank));
    let less = empty.map_or(String::new(), |empty| format!("{:.1}", p50 - empty.us(500)));
    writeln!(out, "{name:<44} {p50:>7.1} {p99:>7.1} {p999:>7.1} {max:>7.1}  {less:>14}")?;
    out.flush()
}

/// A folder of this run's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("bench-pam-call-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
