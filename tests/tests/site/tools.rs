//! Programs that are missing, or do not answer.

use mailready_tests::lab::{Machine, Result, Site};

use super::bench::{ALL, Bench};

#[test]
fn a_program_that_is_missing_fails_or_hangs() -> Result<()> {
    let Some(bench) = Bench::start(ALL)? else { return Ok(()) };
    for (program, words) in [
        ("/usr/bin/maildrop", "maildrop, which is not installed"),
        ("/usr/bin/procmail", "procmail, which is not installed"),
        ("/usr/sbin/postconf", "postconf -x"),
        ("/usr/sbin/exim4", "exim4 is not installed"),
    ] {
        bench.run(&format!("mv {program} {program}.away"))?;
        bench.reload_and_wait(words)?;
        bench.is_red(program, &[words, "site.deliverers"])?;
        bench.run(&format!("mv {program}.away {program}"))?;
        bench.reload_and_wait("would follow")?;
    }
    for (text, words) in [
        ("#!/bin/sh\necho gone wrong >&2\nexit 1\n", "gone wrong"),
        ("#!/bin/sh\nsleep 3600\n", "no answer within 10 s"),
    ] {
        bench.machine.write("/usr/local/sbin/postconf", text.as_bytes(), (0, 0), 0o755)?;
        bench.reload_and_wait(words)?;
        bench.is_red(words, &["settings are not known", words])?;
    }
    bench.run("rm /usr/local/sbin/postconf")?;
    bench.reload_and_wait("would follow")?;
    bench.is_green("asked again")
}

/// The agent starts, says so, and waits as if there were sessions.
#[test]
fn a_dovecot_whose_tools_hang_at_the_start() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    machine.write("/usr/local/bin/doveconf", b"#!/bin/sh\nsleep 3600\n", (0, 0), 0o755)?;
    let agent = machine.start_agent(&super::bench::config(r#"["postfix"]"#))?;
    agent.log.wait("the start says what hangs", |line| line.contains("gives no answer within 10 s"))?;
    agent.log.wait("and so does the look at the site", |line| line.contains("no mailbox is committed"))?;
    assert!(agent.is_running());
    Ok(())
}
