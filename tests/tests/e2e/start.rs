//! What the agent does before anybody can reach it.

use std::path::Path;

use mailready_tests::lab::{CONFIG, Machine, Result, Site, eventually};

/// In the way of Dovecot's own tool: tells that it was asked, and answers when it may.
const HELD_BACK: &str = "#!/bin/sh\n: > /run/asked\nread -r go < /run/go\nexec /usr/bin/doveconf \"$@\"\n";

/// A Dovecot that is started as soon as the agent can be reached has served nobody without it: asked for later, it would be taken for one
/// that had, and the first logins would wait for nothing.
#[test]
fn whether_dovecot_runs_is_asked_before_the_sockets_open() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    // Makes configuration and group.
    machine.start_agent(CONFIG)?.terminate()?;
    machine.run("mkdir", ["-p", "/run/first"])?;
    machine.write("/run/first/doveconf", HELD_BACK.as_bytes(), (0, 0), 0o755)?;
    machine.run("mkfifo", ["/run/go"])?;
    let agent = machine.daemon_with("/usr/sbin/mailready-agent", [] as [&str; 0], |command| {
        command.env("PATH", "/run/first:/usr/sbin:/usr/bin:/sbin:/bin");
    })?;
    let asked = || machine.exists("/run/asked").ok()?.then_some(());
    eventually("Dovecot's tool is asked", || agent.log.tail(), asked)?;
    let answers =
        |socket: &str| machine.inside(|| std::os::unix::net::UnixStream::connect(Path::new(socket)).is_ok());
    assert!(!answers("/run/mailready/control.sock")?, "nobody is answered yet");
    machine.run("sh", ["-c", "echo > /run/go"])?;
    let serves = || answers("/run/mailready/control.sock").ok()?.then_some(());
    eventually("the agent answers", || agent.log.tail(), serves)
}
