//! A module that panics: the shipped one, not a variant of it, in which the clock fails by a library laid before the programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use mailready_tests::lab::{Doing, LabError, Machine, Result};

use super::doors::House;
use super::states::{fake_agents, told};

const LIBRARY: &str = "/usr/lib/mailready-lab/clockless.so";
const STACKS: [&str; 2] = ["/etc/pam.d/common-account", "/etc/pam.d/common-session"];

/// Compiles the library for the machine; it is of the host's release.
fn compile() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().doing(|| "make a folder")?;
    let library = folder.path().join("clockless.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login/clockless.c");
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .doing(|| "run cc")?;
    if !output.status.success() {
        return Err(LabError::Setup(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    fs::read(&library).doing(|| "read clockless.so")
}

fn refused(machine: &Machine) -> Result<usize> {
    Ok(machine.read("/run/refused")?.len())
}

#[test]
fn the_module_panics_in_every_login() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let machine = &house.machine;
    let agents = fake_agents(machine, "taken")?;
    // Only a module that waits for an answer asks for the time, before anything else.
    for stack in STACKS {
        machine.run("sed", ["-i", "s/pam_mailready.so.*/pam_mailready.so timeout=50ms/", stack])?;
    }
    house.all_doors_open()?;
    let heard = told(&agents[0]);
    assert!(heard >= 6, "with a clock the agent hears of each login: {}", agents[0].log.tail());
    machine.write(LIBRARY, &compile()?, (0, 0), 0o755)?;
    machine.write("/run/refused", b"", (0, 0), 0o666)?;
    machine.write("/etc/ld.so.preload", format!("{LIBRARY}\n").as_bytes(), (0, 0), 0o644)?;
    // Running programs keep what they were started with: the doors are opened by new ones.
    let house = house.with_new_programs()?;
    house.all_doors_open()?;
    let refused = refused(&house.machine)?;
    assert!(refused >= 6, "the clock was refused {refused} times");
    assert_eq!(
        told(&agents[0]),
        heard,
        "who panics before the connection tells nobody: {}",
        agents[0].log.tail()
    );
    Ok(())
}
