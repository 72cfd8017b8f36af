//! How fast and how lean `convert-file` is, against the floor: one thread that reads the same bytes, writes the same files and calls
//! `syncfs` once. One command generates the mail, runs both in turn, prints medians, ratio and peak memory, and cleans up.
//!
//! Each run is a process of its own (its peak memory is its own) and writes to a fresh folder; everything is deleted at the end
//! only, because ext4 creates files several times slower for a while after many were deleted.

use mailready_mailbox::convert_file::{Options, convert_file};
use mailready_mailbox::receipt::Reader;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const USAGE: &str =
    "usage: bench-convert-file [--messages N] [--bytes N] [--rounds N] [--seed N] [--dir DIR] [--limit RATIO]
  --messages  messages in the mbox (20000)      --bytes  average size of a message (14500)
  --rounds    runs of each kind (5)             --seed   of the generated mail (1)
  --dir       where to work: decides which file system is measured (the folder for temporary files)
  --limit     fail above this ratio (2.0)";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("child-floor") => child(|| floor(Path::new(&args[1]), Path::new(&args[2]), Path::new(&args[3]))),
        Some("child-convert") => child(|| convert(Path::new(&args[1]), Path::new(&args[2]))),
        _ => Settings::parse(&args).and_then(|settings| bench(&settings)),
    };
    match done {
        Ok(code) => code,
        Err(e) => {
            let _ = writeln!(io::stderr(), "bench-convert-file: {e}");
            ExitCode::FAILURE
        }
    }
}

struct Settings {
    messages: u64,
    bytes: u64,
    rounds: usize,
    seed: u64,
    dir: PathBuf,
    limit: f64,
}

impl Settings {
    fn parse(args: &[String]) -> Result<Self> {
        let dir = std::env::temp_dir();
        let mut settings = Settings { messages: 20_000, bytes: 14_500, rounds: 5, seed: 1, dir, limit: 2.0 };
        let mut args = args.iter();
        while let Some(key) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match key.as_str() {
                "--messages" => settings.messages = value.parse()?,
                "--bytes" => settings.bytes = value.parse()?,
                "--rounds" => settings.rounds = value.parse::<usize>()?.max(1),
                "--seed" => settings.seed = value.parse()?,
                "--dir" => settings.dir = value.into(),
                "--limit" => settings.limit = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(settings)
    }
}

/// A folder that is gone afterwards, also after an error.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench(settings: &Settings) -> Result<ExitCode> {
    let scratch = Scratch(settings.dir.join(format!("mailready-bench-{}", std::process::id())));
    std::fs::create_dir(&scratch.0)?;
    let mbox = scratch.0.join("mbox");
    let size = generate(&mbox, settings)?;
    say(&format!("{} messages, {:.1} MB, in {}", settings.messages, size as f64 / 1e6, scratch.0.display()))?;

    // One run that does not count: it warms the cache and tells the floor which files to write.
    let pattern = scratch.0.join("warm-up");
    run("child-convert", &[&mbox, &pattern])?;
    let (mut floors, mut converts, mut peak) = (Vec::new(), Vec::new(), 0);
    for round in 0..settings.rounds {
        let floor = run("child-floor", &[&mbox, &pattern, &scratch.0.join(format!("floor-{round}"))])?;
        let convert = run("child-convert", &[&mbox, &scratch.0.join(format!("convert-{round}"))])?;
        say(&format!(
            "round {}: floor {:.3} s, convert-file {:.3} s",
            round + 1,
            floor.seconds,
            convert.seconds
        ))?;
        floors.push(floor.seconds);
        converts.push(convert.seconds);
        peak = peak.max(convert.peak_kib);
    }
    let (floor, convert) = (median(&mut floors), median(&mut converts));
    let ratio = convert / floor;
    say(&format!(
        "median: floor {floor:.3} s, convert-file {convert:.3} s, ratio {ratio:.2} (limit {:.2}); peak memory {:.1} MiB (limit 32)",
        settings.limit,
        peak as f64 / 1024.0
    ))?;
    let good = ratio <= settings.limit && peak <= 32 * 1024;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Run {
    seconds: f64,
    peak_kib: u64,
}

/// Runs this program as a child after everybody's dirty pages have gone to disk.
fn run(what: &str, paths: &[&Path]) -> Result<Run> {
    nix::unistd::sync();
    let child =
        Command::new(std::env::current_exe()?).arg(what).args(paths).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(child.stdout)?;
    let mut fields = text.split_whitespace();
    match (child.status.success(), fields.next(), fields.next()) {
        (true, Some(seconds), Some(peak)) => Ok(Run { seconds: seconds.parse()?, peak_kib: peak.parse()? }),
        _ => Err(format!("{what} failed").into()),
    }
}

/// Prints seconds and peak memory (KiB) of what is done.
fn child(work: impl FnOnce() -> Result<f64>) -> Result<ExitCode> {
    let seconds = work()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.split_whitespace().next());
    say(&format!("{seconds} {}", peak.ok_or("no VmHWM in /proc/self/status")?))?;
    Ok(ExitCode::SUCCESS)
}

fn convert(mbox: &Path, maildir: &Path) -> Result<f64> {
    let begin = Instant::now();
    convert_file(mbox, maildir, &Options::default(), &mut |_| ControlFlow::Continue(()))?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The same files as in `pattern`, with bytes of the mbox of the same number, at the same place.
fn floor(mbox: &Path, pattern: &Path, out: &Path) -> Result<f64> {
    let mut files = Vec::new();
    let mut receipt = Reader::open(File::open(pattern)?.as_fd())?;
    while let Some(entry) = receipt.next_entry()? {
        let name = if entry.flags.is_empty() {
            entry.file.clone()
        } else {
            format!("{}:2,{}", entry.file, entry.flags)
        };
        let size = std::fs::metadata(pattern.join("new").join(&name))?.len() as usize;
        files.push((entry.offset, entry.length as usize, size, out.join("new").join(name)));
    }
    let mut buf = Vec::new();
    let begin = Instant::now();
    let mbox = File::open(mbox)?;
    std::fs::create_dir(out)?;
    std::fs::create_dir(out.join("new"))?;
    for (offset, length, size, path) in &files {
        buf.resize(*length, 0);
        mbox.read_exact_at(&mut buf, *offset)?;
        File::create_new(path)?.write_all(&buf[..*size])?;
    }
    nix::unistd::syncfs(&mbox)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Writes the mbox: new mail as a deliverer leaves it, of very different sizes. Returns its length.
fn generate(path: &Path, settings: &Settings) -> Result<u64> {
    let mut random = Random(settings.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    let words: Vec<String> = (0..512)
        .map(|_| (0..2 + random.below(9)).map(|_| char::from(b'a' + random.below(26) as u8)).collect())
        .collect();
    for n in 0..settings.messages {
        writeln!(out, "From user{}@example.org  Fri Nov  9 22:33:52 2001", random.below(5000))?;
        writeln!(
            out,
            "Return-Path: <user@example.org>\nReceived: from mx.example.org by mail.example.net with ESMTP id {n}"
        )?;
        writeln!(
            out,
            "\tfor <me@example.net>; Fri, 9 Nov 2001 22:33:52 +0100\nDate: Fri, 9 Nov 2001 22:33:51 +0100"
        )?;
        writeln!(out, "Message-ID: <{n}.{}@example.org>\nSubject: message {n}\n", random.next())?;
        // Half of the mail is small, a tenth is several times the average.
        let average = settings.bytes;
        let size = match random.below(10) {
            0..=4 => average / 8 + random.below(average / 4 + 1),
            5..=8 => average / 2 + random.below(average),
            _ => average * 3 + random.below(average * 3),
        };
        let (mut written, mut column) = (0, 0);
        while written < size {
            let word = &words[random.below(512) as usize];
            out.write_all(word.as_bytes())?;
            column += word.len() + 1;
            written += word.len() as u64 + 1;
            out.write_all(if column > 68 { b"\n" } else { b" " })?;
            column = if column > 68 { 0 } else { column };
        }
        out.write_all(b"\n\n")?;
    }
    let file = out.into_inner()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// xorshift64*: the same mail for the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
