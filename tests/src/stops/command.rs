//! The command line of `stop-at`, and how the tracer comes to be beside the program instead of above it.
//!
//! `stop-at` starts a second `stop-at` that starts a third, and the second ends: the third, the tracer, is then nobody's child
//! that the program could ever be told of. It attaches, says so on a pipe, and the first becomes the program.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::libc;
use nix::unistd::{Pid, close, setsid};

use super::control::Order;
use super::tracer::{Filter, Tracer};

const USAGE: &str = "\
stop-at --control DIR [--from TEXT] [--changing] [--reading] [--only PROGRAM]... -- PROGRAM ARGS...

Runs PROGRAM, in this very process, and does to it what DIR/ticket says: `count` lists its system calls in DIR/list; `stop N`
stops it before call N, tells so in DIR/reached, and lets it go on when there is DIR/go; `kill itself|others|all N PROGRAM CALL PATH`
kills before the Nth call of that kind (numbers in PATH written as #) and says so on the standard error of whoever dies; `fail ERRNO:[DISK] N
PROGRAM CALL PATH` has that call fail, and with DISK every later one below that path, too, until there is DIR/heal. Without
a ticket the program just runs. Children and threads are followed.

  --from TEXT     count from behind the first call whose name or arguments hold TEXT
  --changing      count only calls that change files, folders or locks
  --reading       count calls that read files or folders, too
  --only PROGRAM  count only calls of programs of this file name, and let others go
";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    control: PathBuf,
    filter: Filter,
    /// The words of the filter, as they came, for the tracer's command line.
    words: Vec<OsString>,
    /// This is the tracer: attach to this process.
    attach: Option<i32>,
    /// This is the one in between.
    between: bool,
    program: Vec<OsString>,
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Asked> {
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--" => asked.program = words.by_ref().collect(),
            "--control" => asked.control = words.next()?.into(),
            "--attach" => asked.attach = words.next()?.to_str()?.parse().ok(),
            "--between" => asked.between = true,
            "--changing" => {
                asked.filter.changing = true;
                asked.words.push(word);
            }
            "--reading" => {
                asked.filter.reading = true;
                asked.words.push(word);
            }
            option @ ("--from" | "--only") => {
                let value = words.next()?;
                match option {
                    "--from" => asked.filter.from = Some(value.to_str()?.to_owned()),
                    _ => asked.filter.programs.push(value.to_str()?.to_owned()),
                }
                asked.words.extend([word, value]);
            }
            _ => return None,
        }
    }
    let complete = asked.attach.is_some() == asked.program.is_empty();
    (complete && !asked.control.as_os_str().is_empty()).then_some(asked)
}

/// The whole of `stop-at`.
#[must_use]
pub fn main() -> ExitCode {
    let Some(asked) = parse(std::env::args_os().skip(1)) else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(64);
    };
    let result = match asked.attach {
        Some(_) if asked.between => start_tracer(&asked, false),
        Some(pid) => trace(pid, &asked),
        None => become_program(&asked),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard streams may lead to a client. The folder is where the test looks.
            let _ = fs::write(asked.control.join("error"), error.to_string());
            ExitCode::from(70)
        }
    }
}

/// Whoever renames the ticket has it.
fn claim(control: &Path) -> Option<Order> {
    let claimed = control.join("claimed");
    fs::rename(control.join("ticket"), &claimed).ok()?;
    fs::read_to_string(claimed).ok()?.parse().ok()
}

fn become_program(asked: &Asked) -> io::Result<()> {
    if asked.control.join("ticket").exists() {
        let_be_traced();
        start_tracer(asked, true)?;
    }
    let [program, args @ ..] = asked.program.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Err(Command::new(program).args(args).exec())
}

/// Where the kernel's Yama lets only parents trace, this process allows all of its user's.
fn let_be_traced() {
    // SAFETY: this option takes a number and no pointer. It fails where there is no Yama, and nothing is needed there.
    #[expect(unsafe_code, reason = "no crate at hand wraps this option of prctl")]
    unsafe {
        libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY);
    }
}

/// Starts the process in between (`first`), which starts the tracer and ends; comes back when that has attached.
fn start_tracer(asked: &Asked, first: bool) -> io::Result<()> {
    let pid = asked.attach.unwrap_or(i32::try_from(std::process::id()).unwrap_or(0));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--control").arg(&asked.control).args(&asked.words).args(["--attach", &pid.to_string()]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if !first {
        command.spawn()?;
        return Ok(());
    }
    let mut child = command.arg("--between").stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    let pipe = child.stdout.take();
    // The pipe ends when the tracer has attached, or could not.
    pipe.map(|mut pipe| pipe.read_to_string(&mut said)).transpose()?;
    child.wait()?;
    // Without the word somebody else had the ticket, or there is an `error` in the folder; the program runs all the same.
    Ok(())
}

/// The tracer.
fn trace(pid: i32, asked: &Asked) -> io::Result<()> {
    close_inherited()?;
    // Signals to the program's process group are not for us.
    setsid()?;
    let Some(order) = claim(&asked.control) else { return Ok(()) };
    let tracer = Tracer::attach(Pid::from_raw(pid), asked.control.clone(), order, asked.filter.clone())?;
    // The program waits for the end of this pipe.
    close(1)?;
    tracer.run()
}

/// The client's connection and whatever else the program was given: as long as somebody has it open, it does not end.
fn close_inherited() -> io::Result<()> {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // The one that the listing itself was read by is closed already.
        let _ = close(number);
    }
    Ok(())
}
