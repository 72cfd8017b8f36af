//! Back to mbox while people log in, read, and get mail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mailready_tests::lab::{CONFIG, Daemon, Imap, Machine, Pop3, Result, Site, User, eventually, mail};

/// Exit codes of `mailready rollback`, by sysexits.
const TEMPORARY: i32 = 75;

const LATE: &str =
    "From eve@example.org  Wed Feb  4 04:05:06 2009\nMessage-ID: <late@example.org>\n\nlate\n\n";

/// A converted user.
struct Converted {
    machine: Machine,
    ann: User,
    agent: Daemon,
    _dovecot: Daemon,
}

fn converted() -> Result<Option<Converted>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    let ann = machine.add_user("ann", "correct-horse", &mail::mbox(5, 20))?;
    // Long enough for a login to wait for all of a rollback.
    let agent = machine.start_agent(&CONFIG.replace("\"5s\"", "\"20s\""))?;
    let dovecot = machine.start_dovecot()?;
    machine.run("mailready", ["convert", "ann"])?;
    Ok(Some(Converted { machine, ann, agent, _dovecot: dovecot }))
}

impl Converted {
    /// Logs in and gives how many messages the inbox has, or what the server said instead.
    fn look(&self) -> std::result::Result<usize, String> {
        let look = || -> Result<_> {
            let mut imap = Imap::login(&self.machine, &self.ann.name, &self.ann.password)?;
            let answer = imap.command("SELECT INBOX")?;
            if answer.status != "OK" {
                return Ok(Err(answer.text));
            }
            let found = imap.ok("UID SEARCH ALL")?;
            imap.logout()?;
            Ok(Ok(found.untagged.iter().flatten().filter(|item| item.text().parse::<u32>().is_ok()).count()))
        };
        look().map_err(|error| error.to_string())?
    }
}

/// Every login sees all of the mail: in the Maildir before, in the mbox afterwards, and nobody sees neither.
#[test]
fn logins_during_a_rollback_wait_and_see_all_of_the_mail() -> Result<()> {
    let Some(site) = converted()? else { return Ok(()) };
    let Converted { machine, ann, agent, .. } = &site;
    let mut idle = Imap::login(machine, &ann.name, &ann.password)?;
    idle.ok("SELECT INBOX")?;
    let done = AtomicBool::new(false);
    let looks = thread::scope(|scope| -> Result<_> {
        let client = || -> Vec<_> {
            let mut looks = Vec::new();
            while !done.load(Ordering::SeqCst) {
                looks.push(site.look());
            }
            looks.push(site.look());
            looks
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        let rolled_back = machine.run("mailready", ["rollback", "--yes", "ann"]);
        done.store(true, Ordering::SeqCst);
        let looks = clients.map(|client| client.join().unwrap_or_default()).concat();
        rolled_back.map(|_| looks)
    })?;
    assert!(looks.len() >= 4, "{} logins", looks.len());
    for look in looks {
        assert_eq!(look, Ok(20), "{}", agent.log.tail());
    }
    assert!(idle.ok("NOOP").is_err(), "the session that had the Maildir open has ended");
    assert!(!machine.exists(&format!("{}/Maildir", ann.home()))?);
    Ok(())
}

/// What came to the tombstone before, and what comes while the mail is on its way back, is in the mbox once.
#[test]
fn mail_that_comes_meanwhile_is_in_the_mbox_once() -> Result<()> {
    let Some(site) = converted()? else { return Ok(()) };
    let Converted { machine, ann, .. } = &site;
    // As deliverers do it: dotlock by O_EXCL (`set -C`), tried until it is had.
    let script = format!(
        "until (set -C; echo $$ > {0}.lock) 2> /dev/null; do sleep 0.01; done; cat >> {0}; rm {0}.lock",
        ann.spool()
    );
    let deliver = |n: u32| {
        let message = LATE.replace("late@", &format!("late{n}@"));
        machine.output("sh", ["-c", &script], message.as_bytes()).map(drop)
    };
    deliver(0)?;
    let done = AtomicBool::new(false);
    let delivered = thread::scope(|scope| -> Result<u32> {
        let deliverer = scope.spawn(|| {
            let mut n = 1;
            while !done.load(Ordering::SeqCst) {
                deliver(n)?;
                n += 1;
            }
            Ok(n)
        });
        let rolled_back = machine.run("mailready", ["rollback", "--yes", "ann"]);
        done.store(true, Ordering::SeqCst);
        let delivered = deliverer.join().unwrap_or(Ok(0));
        rolled_back.and(delivered)
    })?;
    let spool = machine.read(&ann.spool())?;
    let text = String::from_utf8_lossy(&spool);
    for n in 0..delivered {
        let id = format!("<late{n}@example.org>");
        assert_eq!(text.matches(&id).count(), 1, "{id} of {delivered}");
    }
    Ok(())
}

/// A POP3 session that was cut would lose its deletions.
#[test]
fn a_pop3_session_is_waited_for() -> Result<()> {
    let Some(site) = converted()? else { return Ok(()) };
    let Converted { machine, ann, agent, .. } = &site;
    let mut pop3 = Pop3::login(machine, &ann.name, &ann.password)?;
    pop3.command("DELE 1")?;
    let output = machine.output("mailready", ["rollback", "--yes", "ann"], b"")?;
    assert_eq!(output.status.code(), Some(TEMPORARY), "{}", agent.log.tail());
    assert!(String::from_utf8_lossy(&output.stdout).contains("pop3"));
    assert!(machine.exists(&format!("{}/Maildir/mailready-marker", ann.home()))?);
    assert!(!machine.exists(&format!("{}/.mailready/rolling-back", ann.home()))?, "no login waits any more");
    pop3.quit()?;
    eventually(
        "the rollback goes through when the session has ended",
        || agent.log.tail(),
        || machine.run("mailready", ["rollback", "--yes", "ann"]).ok(),
    )?;
    assert_eq!(site.look(), Ok(19));
    Ok(())
}
