//! Every state of the agent that invariant 4 names, and the disk below it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use mailready_tests::lab::{CONFIG, Daemon, Doing, Imap, Machine, Result, eventually};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::doors::House;

pub const ARRIVALS: &str = "/run/mailready/arrival.sock";
const LEASES: &str = "/run/mailready/self.sock";
const FAKE: &str = "/usr/lib/mailready-lab/fake-agent";

/// Agents of straw at both sockets, which do with each connection what `play` says.
pub fn fake_agents(machine: &Machine, play: &str) -> Result<Vec<Daemon>> {
    let program = env!("CARGO_BIN_EXE_fake-agent");
    let content = fs::read(program).doing(|| format!("read {program}"))?;
    machine.write(FAKE, &content, (0, 0), 0o755)?;
    machine.run("mkdir", ["-p", "/run/mailready"])?;
    let start = |socket| {
        let agent = machine.daemon(FAKE, [socket, "64", play])?;
        agent.log.wait("listening", |line| line == "listening")?;
        Ok(agent)
    };
    [ARRIVALS, LEASES].into_iter().map(start).collect()
}

/// A later login is converted: what stood in the way is gone, and nothing of it is left.
fn heals(house: &House, agent: &Daemon) -> Result<()> {
    let marker = format!("{}/Maildir/mailready-marker", house.ann.home());
    eventually(
        "a later login is converted",
        || agent.log.tail(),
        || {
            Imap::login(&house.machine, &house.ann.name, &house.ann.password).and_then(Imap::logout).ok()?;
            house.machine.exists(&marker).ok()?.then_some(())
        },
    )?;
    house.by_mail_client()
}

#[test]
fn there_is_no_agent_and_there_was_none() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    assert!(!house.machine.exists("/run/mailready")?);
    house.all_doors_open()
}

#[test]
fn the_agent_was_killed_and_left_its_sockets() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    house.machine.start_agent(CONFIG)?.kill()?;
    assert!(house.machine.exists(ARRIVALS)?);
    house.all_doors_open()
}

#[test]
fn the_agent_is_stopped() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let agent = house.machine.start_agent(CONFIG)?;
    agent.freeze()?;
    house.all_doors_open()?;
    agent.thaw()?;
    heals(&house, &agent)
}

#[test]
fn the_agent_hangs() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let _agents = fake_agents(&house.machine, "hang")?;
    house.all_doors_open()
}

#[test]
fn the_agent_reads_and_never_answers() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let agents = fake_agents(&house.machine, "mute")?;
    house.all_doors_open()?;
    // It was really asked: `account` and `session` at two doors, `account` at least at the two of Dovecot; and by the script there.
    assert!(
        told(&agents[0]) >= 6 && told(&agents[1]) >= 2,
        "{}{}",
        agents[0].log.tail(),
        agents[1].log.tail()
    );
    Ok(())
}

/// Requests that a fake agent has heard of.
pub fn told(agent: &Daemon) -> usize {
    agent.log.lines().iter().filter(|line| line.text.contains("user=ann")).count()
}

#[test]
fn the_agent_answers_by_halves() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let _agents = fake_agents(&house.machine, "half")?;
    house.all_doors_open()
}

#[test]
fn the_agent_talks_nonsense() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let _agents = fake_agents(&house.machine, "garbage")?;
    house.all_doors_open()
}

#[test]
fn the_backlog_is_full() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let agent = house.machine.start_agent(CONFIG)?;
    agent.freeze()?;
    let full = [fill(&house.machine, ARRIVALS)?, fill(&house.machine, LEASES)?];
    assert!(full.iter().all(|connections| !connections.is_empty()));
    house.all_doors_open()?;
    drop(full);
    agent.thaw()?;
    heals(&house, &agent)
}

/// Connects until no more is taken.
fn fill(machine: &Machine, path: &str) -> Result<Vec<OwnedFd>> {
    let full = || -> nix::Result<Vec<OwnedFd>> {
        let address = UnixAddr::new(path)?;
        let mut open = Vec::new();
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => open.push(fd),
                Err(nix::errno::Errno::EAGAIN) => return Ok(open),
                Err(other) => return Err(other),
            }
        }
    };
    machine.inside(full)?.doing(|| format!("fill {path}"))
}

#[test]
fn the_configuration_is_broken() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let agent = house.machine.start_agent(CONFIG)?;
    // While the agent runs, and once it has been started anew with it: it does not come up, and the post-login script's program reads the same file.
    let broken = b"[users\nconvert = \"everybody\"\n[mial]\n";
    house.machine.write("/etc/mailready/mailready.toml", broken, (0, 0), 0o644)?;
    agent.signal(nix::sys::signal::Signal::SIGHUP)?;
    agent.terminate()?;
    let again = house.machine.daemon("/usr/sbin/mailready-agent", [] as [&str; 0])?;
    assert_eq!(again.wait_end()?.code(), Some(78), "{}", again.log.tail());
    house.all_doors_open()
}

#[test]
fn the_state_folder_s_disk_is_full() -> Result<()> {
    let Some(house) = House::new()? else { return Ok(()) };
    let agent = house.machine.start_agent(CONFIG)?;
    house.machine.run("mount", ["-o", "remount,size=2m", "/var/lib/mailready"])?;
    let fill = "cat /dev/zero > /var/lib/mailready/full 2>/dev/null; ! echo x > /var/lib/mailready/full-too";
    house.machine.run("sh", ["-c", fill])?;
    house.all_doors_open()?;
    assert!(
        !house.machine.exists(&format!("{}/Maildir", house.ann.home()))?,
        "nothing is committed without a record"
    );
    assert!(agent.log.lines().iter().any(|line| line.text.contains("No space left")), "{}", agent.log.tail());
    // Room again: no restart is needed, and no more than the rest that a failure costs.
    house.machine.run("sh", ["-c", "rm /var/lib/mailready/full*"])?;
    agent.signal(nix::sys::signal::Signal::SIGHUP)?;
    heals(&house, &agent)
}
