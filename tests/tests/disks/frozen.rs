//! Storage that hangs: one user's disk stands still, in the kernel, where no signal reaches who writes to it.

use mailready_tests::lab::{Daemon, Disk, Format, Machine, Result, Site, User, eventually};

use super::stand::{config, convert, mbox};

/// Everybody is converted who arrives.
fn arriving() -> String {
    config("5%").replace("convert = \"none\"", "convert = \"all\"")
}

/// The machine's Ann has her home on a disk of its own; the three others have not.
fn people(machine: &Machine) -> Result<Option<(User, Vec<User>, Disk<'_>)>> {
    machine.install_site(Site::Small)?;
    machine.install_mailready(Site::Small)?;
    let mail = mbox(5, 1000);
    let ann = machine.add_user("ann", "secret", &mail)?;
    let others =
        (0..3).map(|n| machine.add_user(&format!("bob{n}"), "secret", &mail)).collect::<Result<_>>()?;
    let disk = Disk::mount(machine, "/home/ann", 64, Format::Ext4 { inodes: 4000 })?;
    Ok(disk.map(|disk| (ann, others, disk)))
}

/// Comes back when Ann's worker stands in the kernel.
fn wait_hanging(machine: &Machine, agent: &Daemon) -> Result<()> {
    let hangs = || {
        let worker = machine.run("pgrep", ["-u", "ann", "mailready-worke"]).ok()?;
        let stat = machine.read(&format!("/proc/{}/stat", worker.trim())).ok()?;
        String::from_utf8_lossy(&stat).rsplit_once(") ")?.1.starts_with('D').then_some(())
    };
    eventually("ann's worker hangs", || agent.log.tail(), hangs)
}

/// An arrival, announced as by pppd's hook, and the Maildir that comes of it.
fn arrive(machine: &Machine, user: &User, agent: &Daemon) -> Result<()> {
    machine.run("/usr/bin/mailready-notify", ["--source", "ppp", &user.name])?;
    let marker = format!("{}/Maildir/mailready-marker", user.home());
    eventually(
        format!("{} is converted", user.name),
        || agent.log.tail(),
        || machine.exists(&marker).is_ok_and(|there| there).then_some(()),
    )
}

#[test]
fn a_disk_that_hangs_holds_up_nobody_elses_arrival() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    let Some((ann, others, disk)) = people(&machine)? else { return Ok(()) };
    let agent = machine.start_agent(&arriving())?;
    disk.freeze()?;
    machine.run("/usr/bin/mailready-notify", ["--source", "ppp", "ann"])?;
    let judged = wait_hanging(&machine, &agent)
        .and_then(|()| others.iter().try_for_each(|bob| arrive(&machine, bob, &agent)));
    disk.thaw()?;
    judged?;
    // The worker that hung goes on where it stood, or was given up meanwhile and the next one begins anew.
    let settled = || {
        let (answer, _) = convert(&machine, &ann).ok()?;
        matches!(answer.as_str(), "converted" | "already").then_some(())
    };
    eventually("ann is converted when her disk goes on", || agent.log.tail(), settled)
}

#[test]
#[ignore = "the thread that waits for a worker that hangs in the kernel keeps the agent from ending; the service manager kills it then"]
fn a_disk_that_hangs_does_not_keep_the_agent_from_ending() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    let Some((ann, _, disk)) = people(&machine)? else { return Ok(()) };
    let agent = machine.start_agent(&arriving())?;
    disk.freeze()?;
    machine.run("/usr/bin/mailready-notify", ["--source", "ppp", "ann"])?;
    let judged = wait_hanging(&machine, &agent).and_then(|()| agent.terminate().map(drop));
    disk.thaw()?;
    judged?;
    // The worker goes away by itself when it learns that its agent is gone, and the next agent finds nothing, or what it has left.
    let agent = machine.start_agent(&arriving())?;
    let settled = || {
        let (answer, _) = convert(&machine, &ann).ok()?;
        matches!(answer.as_str(), "converted" | "already").then_some(())
    };
    eventually("ann is converted when her disk goes on", || agent.log.tail(), settled)
}
