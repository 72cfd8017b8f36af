//! How warm the mail is: the first SELECT, the first FETCH of all flags and of all envelopes after a commit, against the same on
//! the mbox a moment before, each with the index and cache that Dovecot has at that moment.
//!
//! Everything runs in a machine of the lab, on memory: disks would hide what Dovecot itself has to do. Each round after the commit
//! begins with the Maildir as the commit left it, so each is a first one; a second session after it shows what Maildir itself costs.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mailready_tests::differential::{Kept, Stand, Variation};
use mailready_tests::lab::{Imap, Result, User, mail};

const USAGE: &str = "usage: bench-warm [--rounds N] [--limit RATIO] [MESSAGES...]
  --rounds    sessions measured before and after (7)
  --limit     fail if one of the steps takes more than RATIO times as long as on the mbox, and a millisecond (none)
  MESSAGES    sizes of the inbox (2000 20000)";

/// What a client does first, and its name in the table.
const STEPS: [(&str, &str); 3] = [
    ("SELECT", "SELECT INBOX"),
    ("FETCH FLAGS", "UID FETCH 1:* (FLAGS)"),
    ("FETCH ENVELOPE", "UID FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE)"),
];

/// Below this a ratio says nothing.
const NOISE: Duration = Duration::from_millis(1);

struct Settings {
    rounds: usize,
    limit: Option<f64>,
    sizes: Vec<u32>,
}

fn main() -> ExitCode {
    let Some(settings) = Settings::parse(std::env::args().skip(1)) else {
        let _ = writeln!(io::stderr(), "{USAGE}");
        return ExitCode::from(64);
    };
    match bench(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench-warm: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Settings {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut settings = Self { rounds: 7, limit: None, sizes: Vec::new() };
        while let Some(word) = arguments.next() {
            match word.as_str() {
                "--rounds" => settings.rounds = arguments.next()?.parse::<usize>().ok()?.max(1),
                "--limit" => settings.limit = Some(arguments.next()?.parse().ok()?),
                size => settings.sizes.push(size.parse().ok()?),
            }
        }
        if settings.sizes.is_empty() {
            settings.sizes = vec![2_000, 20_000];
        }
        Some(settings)
    }
}

/// Whether all is within the limit.
fn bench(settings: &Settings) -> Result<bool> {
    say(
        "| messages | step | on the mbox | first on the Maildir | ratio | then |\n|---:|---|---:|---:|---:|---:|",
    );
    let mut within = true;
    for &size in &settings.sizes {
        let Some([before, after, then]) = measure(settings, size)? else { return Ok(true) };
        for (number, (step, _)) in STEPS.iter().enumerate() {
            let (old, new) = (median(&before, number), median(&after, number));
            let ratio = new.as_secs_f64() / old.as_secs_f64();
            let [old_ms, new_ms, then_ms] =
                [old, new, median(&then, number)].map(|time| time.as_secs_f64() * 1e3);
            say(&format!(
                "| {size} | {step} | {old_ms:.2} ms | {new_ms:.2} ms | {ratio:.2} | {then_ms:.2} ms |"
            ));
            let over = settings.limit.is_some_and(|limit| new > old.mul_f64(limit) + NOISE);
            within &= !over;
        }
    }
    Ok(within)
}

fn say(line: &str) {
    // A closed stdout has no reader to tell.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Times of each step, round by round.
type Rounds = Vec<[Duration; STEPS.len()]>;

fn measure(settings: &Settings, size: u32) -> Result<Option<[Rounds; 3]>> {
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(None) };
    let ann = stand.machine.add_user("ann", "correct-horse", &mail::mbox(1, size))?;
    // The client's very first session, years ago: since then Dovecot's cache has what this client asks for.
    session(&stand, &ann)?;
    let before = (0..settings.rounds).map(|_| session(&stand, &ann)).collect::<Result<Rounds>>()?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let kept = Kept::of(&stand.machine, &[stand.maildir(&ann)])?;
    let (mut after, mut then) = (Rounds::new(), Rounds::new());
    for _ in 0..settings.rounds {
        kept.put_back(&stand.machine)?;
        after.push(session(&stand, &ann)?);
        then.push(session(&stand, &ann)?);
    }
    Ok(Some([before, after, then]))
}

fn session(stand: &Stand, user: &User) -> Result<[Duration; STEPS.len()]> {
    let mut imap = stand.imap(user)?;
    let mut times = [Duration::ZERO; STEPS.len()];
    for (time, (_, command)) in times.iter_mut().zip(STEPS) {
        *time = timed(&mut imap, command)?;
    }
    imap.logout()?;
    stand.sessions_end()?;
    Ok(times)
}

fn timed(imap: &mut Imap, command: &str) -> Result<Duration> {
    let start = Instant::now();
    imap.ok(command)?;
    Ok(start.elapsed())
}

fn median(rounds: &Rounds, step: usize) -> Duration {
    let mut times: Vec<Duration> = rounds.iter().map(|round| round[step]).collect();
    times.sort();
    times[times.len() / 2]
}
