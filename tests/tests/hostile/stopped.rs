//! Workers that their own users stop, and workers that hang: what they hold is let go of in bounded time, and others do not wait for them.

use std::fs;
use std::time::{Duration, Instant};

use mailready_tests::lab::{Daemon, Result, User, eventually, mail};
use mailready_tests::stops::Order;

use crate::site::{CONFIG, Site, letter, setup};

/// Long enough for a loaded machine, and well below the 60 s after which a worker that only says nothing is given up.
const SOON: Duration = Duration::from_secs(40);

/// Two workers at once, and whoever arrives is converted.
const TWO: &str = r#"
[users]
convert = "all"
[agent]
bus = "none"
workers = 2
[site]
readers = []
[sessions]
probe = "none"
"#;

/// An mbox that is staged for long enough to be interrupted.
fn large() -> Vec<u8> {
    letter(&"x".repeat(60)).repeat(100_000).into_bytes()
}

/// Waits for `SOON` at most.
fn soon(what: &str, agent: &Daemon, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        assert!(begun.elapsed() < SOON, "{what}: not within {} s\n{}", SOON.as_secs(), agent.log.tail());
        std::thread::yield_now();
    }
    Ok(())
}

/// The worker that has become this user.
fn worker_of(site: &Site, user: &User) -> Result<Option<u32>> {
    let workers = site.machine.processes("mailready-worke")?;
    let uid = format!("Uid:\t{}\t", user.uid);
    site.machine.inside(|| {
        workers.into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&uid))
        })
    })
}

/// Sends a signal to a process, with the user's rights.
fn signal_as(site: &Site, user: &User, pid: u32, signal: &str) -> Result<()> {
    let (uid, gid, pid) = (user.uid.to_string(), user.gid.to_string(), pid.to_string());
    let args = ["--reuid", &uid, "--regid", &gid, "--clear-groups", "kill", "-s", signal, &pid];
    site.machine.run("setpriv", args)?;
    Ok(())
}

fn announce(site: &Site, user: &User) -> Result<()> {
    site.machine.run("/usr/bin/mailready-notify", ["--source", "ppp", &user.name])?;
    Ok(())
}

/// The slots of two users who stop their workers are free again soon, another user's arrival is served, and they themselves rest.
#[test]
fn two_stopped_workers_do_not_starve_the_arrivals_of_others() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let large = large();
    let (ann, bob) = (site.machine.add_user("ann", "x", &large)?, site.machine.add_user("bob", "x", &large)?);
    // As large as theirs, so that no slot for small ones is of use.
    let cid = site.machine.add_user("cid", "x", &large)?;
    let agent = site.start_with(TWO)?;
    let before = [site.look(&ann.spool())?, site.look(&bob.spool())?];
    for user in [&ann, &bob] {
        announce(&site, user)?;
        let mut worker = None;
        soon("a worker starts", &agent, || {
            worker = worker_of(&site, user)?;
            Ok(worker.is_some())
        })?;
        signal_as(&site, user, worker.unwrap(), "STOP")?;
    }
    announce(&site, &cid)?;
    soon("cid is converted", &agent, || site.machine.exists(&format!("{}/Maildir", cid.home())))?;
    for user in [&ann, &bob] {
        soon("the stopped worker is gone", &agent, || Ok(worker_of(&site, user)?.is_none()))?;
        let explained = || site.mailready(&["status", "--json", &user.name]).map(|(_, said)| said);
        soon("the reason is told", &agent, || Ok(explained()?.contains("stopped")))?;
        assert!(!site.machine.exists(&format!("{}/Maildir", user.home()))?);
    }
    assert_eq!([site.look(&ann.spool())?, site.look(&bob.spool())?], before, "their mail is untouched");
    // Another arrival does not buy another worker.
    let from = agent.log.len();
    let answer = site.machine.run("/usr/bin/mailready-notify", ["--source", "ppp", "--wait", "5s", "ann"])?;
    assert!(answer.starts_with("stay"), "{answer}");
    let lines = agent.log.lines();
    assert!(!lines[from..].iter().any(|line| line.text.contains("step=stage")), "{}", agent.log.tail());
    Ok(())
}

/// Stopped just when it has the locks: the spool is free again soon, and nothing is lost.
#[test]
fn a_worker_that_is_stopped_under_the_locks_does_not_keep_the_spool_locked() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let agent = site.start_with(CONFIG)?;
    // The user's program has a few milliseconds to do it in; it does not always.
    for number in 0..20 {
        let user = site.machine.add_user(&format!("ann{number}"), "x", &mail::mbox(3, 2000))?;
        let program = stopper(&user);
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        let args = ["--reuid", &uid, "--regid", &gid, "--clear-groups", "perl", "-e", &program];
        let stopper = site.machine.daemon("setpriv", args)?;
        stopper.log.wait("it watches", |line| line.contains("watching"))?;
        let (code, said) = site.convert(&user.name)?;
        stopper.terminate()?;
        let lock = format!("{}.lock", user.spool());
        soon("the dotlock is gone", &agent, || Ok(!site.machine.exists(&lock)?))?;
        if code == 0 {
            continue;
        }
        assert!(said.contains("stopped"), "{said}\n{}", agent.log.tail());
        assert_eq!(worker_of(&site, &user)?, None);
        // Late mail is delivered as ever, and when the user has rested and is asked for again, all of it is there.
        site.deliver(&user, "after the stop")?;
        let spool = site.look(&user.spool())?.unwrap();
        assert_eq!(spool.uid, user.uid);
        assert!(
            spool.content.starts_with(b"From ") && spool.content.len() > 1_000_000,
            "the mbox is the mail"
        );
        return Ok(());
    }
    Err(setup("in 20 attempts the user's program did not once come in time"))
}

/// Waits for the spool's dotlock and stops the own worker at once.
fn stopper(user: &User) -> String {
    format!(
        r#"$| = 1; print "watching\n"; my $worker;
        until ($worker) {{
            for my $p (glob "/proc/[0-9]*") {{
                open my $f, "<", "$p/status" or next;
                my $status = join "", <$f>;
                $worker = substr $p, 6 if $status =~ /^Name:\tmailready-worke/ && $status =~ /^Uid:\t{uid}\t/m;
            }}
        }}
        1 until -e "{spool}.lock" || !-e "/proc/$worker";
        kill "STOP", $worker and print "stopped $worker\n"; sleep 1000;"#,
        uid = user.uid,
        spool = user.spool()
    )
}

/// A worker that hangs, not stopped, just slow for ever, while it confirms: deliverers have the spool back, and the conversion goes on when the worker does.
#[test]
fn a_worker_that_hangs_while_it_confirms_does_not_keep_the_spool_locked() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let ann = site.user("ann")?;
    let folder = format!("{}/mail/Sent", ann.home());
    site.machine.run("install", ["-d", "-o", &ann.name, "-g", &ann.name, &format!("{}/mail", ann.home())])?;
    site.machine.write(&folder, letter("sent").as_bytes(), (ann.uid, ann.gid), 0o600)?;
    let order = Order::StopBefore { call: "linkat".into(), about: "/Sent.lock".into() };
    let agent = site.start_stopping(&order, &["mailready-agent", "mailready-worker"])?;
    let control = site.control()?;
    let (code, said) = std::thread::scope(|scope| -> Result<_> {
        let asked = scope.spawn(|| site.convert("ann"));
        let acted = control.wait_reached(|| false).and_then(|place| {
            place.ok_or_else(|| setup("no worker comes to the folder's dotlock"))?;
            let lock = format!("{}.lock", ann.spool());
            soon("the dotlock is gone", &agent, || Ok(!site.machine.exists(&lock)?))?;
            assert!(worker_of(&site, &ann)?.is_some(), "it hangs, and lives");
            site.deliver(&ann, "while it hung")
        });
        control.go()?;
        acted?;
        asked.join().unwrap()
    })?;
    assert_eq!(code, 0, "{said}\n{}", agent.log.tail());
    assert_eq!(site.maildir(&ann)?.len(), 6);
    site.wait_for(&agent, &ann, "while it hung")
}

/// And while it commits: then only the disk knows, and it is asked when the worker is gone.
#[test]
fn a_worker_that_hangs_while_it_commits_is_killed_and_the_disk_asked() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let ann = site.user("ann")?;
    let order = Order::StopBefore { call: "renameat2".into(), about: "/Maildir".into() };
    let agent = site.start_stopping(&order, &["mailready-agent", "mailready-worker"])?;
    let control = site.control()?;
    let lock = format!("{}.lock", ann.spool());
    let (code, said) = std::thread::scope(|scope| -> Result<_> {
        let asked = scope.spawn(|| site.convert("ann"));
        let acted = control.wait_reached(|| false).and_then(|place| {
            place.ok_or_else(|| setup("no worker comes to the commit"))?;
            assert!(site.machine.exists(&lock)?);
            soon("the dotlock is gone", &agent, || Ok(!site.machine.exists(&lock)?))
        });
        control.go()?;
        acted?;
        asked.join().unwrap()
    })?;
    assert_ne!(code, 0, "{said}");
    assert!(!site.machine.exists(&format!("{}/Maildir", ann.home()))?, "killed before the call");
    site.deliver(&ann, "after it hung")?;
    eventually(
        "the next attempt converts",
        || agent.log.tail(),
        || {
            site.convert("ann")
                .map_or_else(|error| Some(Err(error)), |(code, _)| (code == 0).then_some(Ok(())))
        },
    )??;
    assert_eq!(site.maildir(&ann)?.len(), 6);
    site.wait_for(&agent, &ann, "after it hung")
}
