//! What the crossings cost: a conversion by the operator's order, the verification that has Dovecot read the original once
//! more, and the way back; each with everything that belongs to it, from the command to its end.
//!
//! In a machine of the lab, on memory, so that it is the work that is measured and not a disk: what disks add to a conversion,
//! `bench-convert-file` tells.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mailready_tests::differential::{Stand, Variation};
use mailready_tests::lab::{Result, mail};

const USAGE: &str = "usage: bench-crossing [--rounds N] [MESSAGES...]
  --rounds    crossings of each size (3)
  MESSAGES    sizes of the inbox (2000 20000)";

const STEPS: [&str; 3] = ["convert", "verify", "rollback"];

fn main() -> ExitCode {
    let Some((rounds, sizes)) = parse(std::env::args().skip(1)) else {
        let _ = writeln!(io::stderr(), "{USAGE}");
        return ExitCode::from(64);
    };
    match bench(rounds, &sizes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench-crossing: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<(usize, Vec<u32>)> {
    let (mut rounds, mut sizes) = (3, Vec::new());
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--rounds" => rounds = arguments.next()?.parse::<usize>().ok()?.max(1),
            size => sizes.push(size.parse().ok()?),
        }
    }
    if sizes.is_empty() {
        sizes = vec![2_000, 20_000];
    }
    Some((rounds, sizes))
}

fn bench(rounds: usize, sizes: &[u32]) -> Result<()> {
    say("| messages | bytes | command | median | messages a second |\n|---:|---:|---|---:|---:|");
    for &size in sizes {
        let mbox = mail::mbox(1, size);
        let mut times = STEPS.map(|_| Vec::new());
        for _ in 0..rounds {
            // A fresh machine each time: nothing of the crossing before is left in its file systems.
            let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(()) };
            let ann = stand.machine.add_user("ann", "correct-horse", &mbox)?;
            // A mailbox in use: Dovecot has an index and a cache of it.
            let mut imap = stand.imap(&ann)?;
            imap.ok("SELECT INBOX")?;
            imap.ok("UID FETCH 1:* (FLAGS ENVELOPE)")?;
            imap.logout()?;
            stand.sessions_end()?;
            stand.bring_mailready()?;
            for (step, times) in STEPS.iter().zip(&mut times) {
                let arguments: &[&str] = match *step {
                    "rollback" => &["rollback", "--yes", &ann.name],
                    other => &[other, &ann.name],
                };
                let begun = Instant::now();
                stand.machine.run("mailready", arguments)?;
                times.push(begun.elapsed());
            }
        }
        for (step, times) in STEPS.iter().zip(&mut times) {
            let median = median(times);
            let rate = f64::from(size) / median.as_secs_f64();
            say(&format!("| {size} | {} | {step} | {:.2} s | {rate:.0} |", mbox.len(), median.as_secs_f64()));
        }
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn say(line: &str) {
    // A closed stdout has no reader to tell.
    let _ = writeln!(io::stdout(), "{line}");
}
