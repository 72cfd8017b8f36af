//! The module in a stranger's process, watched by valgrind: ten thousand logins leave nothing behind and touch nothing that is not theirs.
//!
//! A login goes through account and session. Most are made while another one is open and the module stays loaded; the others load and unload it each, as
//! Dovecot's auth worker does, and of those there are few but in the long form, since valgrind takes its time over each load. The module
//! is stripped, as a package ships it: else valgrind would read its symbols each time.

use std::fs;
use std::process::Command;

use mailready_tests::lab::{Binaries, CONFIG, Doing, LabError, Machine, Result};
use mailready_tests::pam_host::PamHost;

use super::states::{ARRIVALS, fake_agents};

const MODULE: &str = "/usr/lib/mailready-lab/pam_mailready.so";
const HOST: &str = "/usr/lib/mailready-lab/host";
const STACKS: &str = "/usr/lib/mailready-lab/stacks";

/// Logins in one state of the agent.
const LOGINS: usize = 10_000;

/// Of those, how many load the module.
fn loads() -> usize {
    if std::env::var_os("MAILREADY_LONG").is_some() { LOGINS } else { 100 }
}

fn machine() -> Result<Option<Machine>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    let folder = tempfile::tempdir().doing(|| "make a folder")?;
    PamHost::compile(folder.path()).map_err(LabError::Setup)?;
    let (host, module) = (folder.path().join("host"), folder.path().join("module.so"));
    let strip = Command::new("strip")
        .args(["--strip-unneeded", "-o"])
        .args([&module, &Binaries::find()?.path("libpam_mailready.so")])
        .status()
        .doing(|| "run strip")?;
    assert!(strip.success());
    machine.run("mkdir", ["-p", STACKS])?;
    machine.write(HOST, &fs::read(host).doing(|| "read the host")?, (0, 0), 0o755)?;
    machine.write(MODULE, &fs::read(module).doing(|| "read the module")?, (0, 0), 0o755)?;
    machine.write(&format!("{STACKS}/other"), b"", (0, 0), 0o644)?;
    Ok(Some(machine))
}

/// All logins, with these options, under valgrind.
fn log_in(machine: &Machine, options: &str) -> Result<()> {
    let permit = ["auth", "account", "session"].map(|kind| format!("{kind} required pam_permit.so\n"));
    let ours =
        ["account", "session"].map(|kind| format!("{kind} optional {MODULE} socket={ARRIVALS} {options}\n"));
    let stack = permit.concat() + &ours.concat();
    machine.write(&format!("{STACKS}/mail"), stack.as_bytes(), (0, 0), 0o644)?;
    watched(machine, "cycles", loads())?;
    if loads() < LOGINS { watched(machine, "held", LOGINS - loads()) } else { Ok(()) }
}

fn watched(machine: &Machine, how: &str, logins: usize) -> Result<()> {
    let logins = logins.to_string();
    let args = [
        "-q",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect,possible",
        "--errors-for-leak-kinds=definite,indirect,possible",
        "--error-exitcode=99",
        HOST,
        STACKS,
        "mail",
        "ann",
        how,
        &logins,
        MODULE,
    ];
    let output = machine.output("/usr/bin/valgrind", args, b"")?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{how}: {}: {said}", output.status);
    let last: Vec<&str> = said.lines().last().unwrap_or_default().split(' ').collect();
    let still_loaded = if how == "held" { logins.as_str() } else { "0" };
    assert_eq!((last.first(), last.last()), (Some(&logins.as_str()), Some(&still_loaded)), "{how}: {said}");
    Ok(())
}

#[test]
fn with_the_agent_gone() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    log_in(&machine, "")
}

#[test]
fn with_the_agent_up() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    machine.add_user("ann", "correct-horse", b"")?;
    let agent = machine.start_agent(CONFIG)?;
    log_in(&machine, "timeout=20ms")?;
    assert!(agent.log.tail().contains("ann"), "it has heard of them: {}", agent.log.tail());
    Ok(())
}

/// Its backlog fills on the way: both that and what is before it are seen.
#[test]
fn with_the_agent_stopped() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    machine.add_user("ann", "correct-horse", b"")?;
    let agent = machine.start_agent(CONFIG)?;
    agent.freeze()?;
    log_in(&machine, "timeout=1ms debug")
}

#[test]
fn with_an_agent_that_answers_by_halves() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let _agents = fake_agents(&machine, "half")?;
    log_in(&machine, "timeout=1ms wait=1ms debug nonsense")
}
