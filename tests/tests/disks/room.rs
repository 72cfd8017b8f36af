//! Deliveries have their room, whatever is staged on the same disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mailready_tests::lab::{Disk, Doing, Format, LabError, MAIL_GID, Machine, Result, User, eventually};
use mailready_tests::stops::{Control, Order};

use super::stand::{check_untouched, config, convert, convert_and_verify, machine, mbox};

const MIB: u64 = 1 << 20;

/// Homes and spools on one disk of 64 MiB, and a user with 12 MiB of mail in 3000 messages.
fn on_one_disk(machine: &Machine) -> Result<Option<(Disk<'_>, User, Vec<u8>)>> {
    machine.run("mkdir", ["-m", "755", "/both"])?;
    let Some(disk) = Disk::mount(machine, "/both", 64, Format::Ext4 { inodes: 8000 })? else {
        return Ok(None);
    };
    machine.run(
        "sh",
        [
            "-c",
            "mkdir /both/home; mkdir -m 2775 /both/mail; chgrp mail /both/mail; \
                mount --bind /both/home /home; mount --bind /both/mail /var/mail",
        ],
    )?;
    let mail = mbox(3000, 4000);
    let user = machine.add_user("ann", "secret", &mail)?;
    machine.add_user("bob", "secret", b"")?;
    Ok(Some((disk, user, mail)))
}

/// One message through procmail, which is what Postfix runs as `mailbox_command`; anything but 0 and 75 would be bounced.
fn deliver(machine: &Machine, number: usize) -> Result<()> {
    let message = format!("From: eve@example.org\nSubject: {number}\n\n{}\n", "x".repeat(20_000));
    let output =
        machine.output("/usr/bin/procmail", ["-f", "eve@example.org", "-d", "bob"], message.as_bytes())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(LabError::Command { command: "procmail".into(), said: format!("{}: {said}", output.status) })
}

/// Messages in bob's spool.
fn delivered(machine: &Machine) -> Result<usize> {
    let mail = machine.read("/var/mail/bob")?;
    Ok(mail.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"From eve")).count())
}

#[test]
fn deliveries_go_on_while_conversions_give_up_for_want_of_room() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((disk, user, mail)) = on_one_disk(&machine)? else { return Ok(()) };
    let agent = machine.start_agent(&config("10%"))?;
    // 12 MiB would fit into 14, and leave less than the reserve.
    disk.fill(14 << 10)?;
    let stop = AtomicBool::new(false);
    let lowest = thread::scope(|scope| {
        let lowest = scope.spawn(|| {
            let mut lowest = u64::MAX;
            while !stop.load(Ordering::Relaxed) {
                lowest = lowest.min(disk.free()?);
            }
            Ok::<_, LabError>(lowest)
        });
        let deliveries = scope.spawn(|| (0..20).try_for_each(|number| deliver(&machine, number)));
        let tried = (0..3).try_for_each(|_| {
            let (answer, text) = convert(&machine, &user)?;
            assert_eq!(answer, "blocked", "{text}");
            assert!(text.contains("MiB are needed"), "{text}");
            Ok(())
        });
        let delivered = deliveries.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stop.store(true, Ordering::Relaxed);
        let lowest = lowest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        tried.and(delivered).and(lowest)
    })?;
    assert_eq!(delivered(&machine)?, 20, "every delivery succeeded");
    assert!(lowest > 6 * MIB, "the reserve was never touched: {lowest} bytes were free");
    check_untouched(&machine, &user, &mail, &agent)?;
    disk.empty()?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
fn a_stage_is_given_up_when_room_shrinks_while_it_is_written() -> Result<()> {
    if let Some(why) = mailready_tests::stops::missing() {
        mailready_tests::lab::skip(why);
        return Ok(());
    }
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((disk, user, mail)) = on_one_disk(&machine)? else { return Ok(()) };
    machine.start_agent(&config("10%"))?.terminate()?;
    let program = env!("CARGO_BIN_EXE_stop-at");
    let content = std::fs::read(program).doing(|| format!("read {program}"))?;
    machine.write("/usr/local/sbin/stop-at", &content, (0, 0), 0o755)?;
    let control = Control::new(&machine, "/run/stops")?;
    // Far into the first thousand messages.
    control.arm(&Order::Stop(1200))?;
    let arguments = ["--control", "/run/stops", "--changing", "--only", "mailready-agent", "--only"];
    let arguments =
        arguments.iter().chain(&["mailready-worker", "--from", "stage-", "--", "/usr/sbin/mailready-agent"]);
    let agent = machine.daemon_with("/usr/local/sbin/stop-at", arguments, |command| {
        command.env("MAILREADY_LOG", "json").env("MAILREADY_LOG_LEVEL", "debug");
    })?;
    agent.log.wait("the agent serves", |line| line.contains("\"ready\""))?;
    let (answer, text) = thread::scope(|scope| {
        let converting = scope.spawn(|| convert(&machine, &user));
        let shrunk = (|| {
            let reached = control.wait_reached(|| converting.is_finished())?;
            assert!(reached.is_some(), "it was being staged\n{}", agent.log.tail());
            disk.fill(4900)?;
            control.go()
        })();
        let said = converting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        shrunk.and(said)
    })?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("kept in reserve"), "given up by the rule and not by an error: {text}");
    check_untouched(&machine, &user, &mail, &agent)?;
    // What the stage had taken is there for others.
    (0..20).try_for_each(|number| deliver(&machine, number))?;
    assert_eq!(delivered(&machine)?, 20);
    disk.empty()?;
    convert_and_verify(&machine, &user, &agent)?;
    machine.write("/var/mail/bob", b"", (user.uid + 1, MAIL_GID), 0o660)?;
    eventually("the tracer lets go", || agent.log.tail(), || agent.terminate().ok()).map(drop)
}
