//! The first process of the guest: mounts, starts the agent, has it work, and delivers mail all the while.
//!
//! Its root is the lab machine's tree, read-only. What it says on the console is what the world outside has been promised, so each promise is said after it was kept, never before. Lines that begin with
//! `power: `; the agent's and the worker's own lines stand between them.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use super::letters;
use crate::lab::mail::Seeded;

/// A line of ours on the console.
pub const SIGN: &str = "power: ";

/// The disks, in their order, and where they are mounted.
pub const DISKS: [(&str, &str); 3] =
    [("/dev/ubda", "/var/mail"), ("/dev/ubdb", "/home"), ("/dev/ubdc", "/var/lib/mailready")];

/// A folder of the user's, below the home, into which letters are filed as well.
pub const FOLDER: &str = "mail/Sent";

const CONTROL: &str = "/run/mailready/control.sock";

/// Never comes back: with its first process the kernel ends.
///
/// # Errors
/// What could not be set up.
pub fn main() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("POWER_WORK") == "hello" {
        say("hello");
        return Ok(());
    }
    set_up(&variable("POWER_FS"))?;
    let (boot, user) = (variable("POWER_BOOT"), variable("POWER_USER"));
    let seed = variable("POWER_SEED").parse().unwrap_or(0);
    // What the deliverer of the boot before had locked; its like removes a lock whose process is gone.
    letters::remove_dotlocks(&[spool_of(&user), folder_of(&user)])?;
    let mut agent = Command::new("/usr/sbin/mailready-agent")
        .env("MAILREADY_LOG", "json")
        .env("MAILREADY_LOG_LEVEL", "debug")
        .spawn()?;
    while UnixStream::connect(CONTROL).is_err() {
        if let Some(status) = agent.try_wait()? {
            say(&format!("wrong the agent has ended: {status}"));
            thread::park();
        }
        thread::sleep(Duration::from_millis(10));
    }
    say("serving");
    let deliveries = variable("POWER_LETTERS").parse().unwrap_or(u64::MAX);
    let deliverer = {
        let (user, boot) = (user.clone(), boot.clone());
        thread::spawn(move || deliver(&user, &boot, seed, deliveries))
    };
    work(&user, seed, &variable("POWER_WORK"));
    let _ = deliverer.join();
    // What came last is carried over, or not, until the power goes.
    say("end");
    thread::park();
    Ok(())
}

fn set_up(file_system: &str) -> io::Result<()> {
    let plain = |kind: &str, place: &str| {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>).map_err(|errno| {
            io::Error::new(io::Error::from(errno).kind(), format!("{kind} at {place}: {errno}"))
        })
    };
    plain("proc", "/proc")?;
    // The kernel has mounted /dev by itself.
    for place in ["/run", "/tmp"] {
        plain("tmpfs", place)?;
    }
    plain("sysfs", "/sys")?;
    for (disk, place) in DISKS {
        // As shipped, the driver says that its disks have no cache, and then no file system ever asks them to empty it: the journal would not show what is durable when.
        let cache = format!("/sys/block/{}/queue/write_cache", disk.trim_start_matches("/dev/"));
        std::fs::write(&cache, "write back")
            .map_err(|error| io::Error::other(format!("{cache}: {error}")))?;
        mount(Some(disk), place, Some(file_system), MsFlags::MS_NOATIME, None::<&str>)
            .map_err(|errno| io::Error::other(format!("{disk} at {place}: {errno}")))?;
    }
    nix::unistd::sethostname("mail")?;
    say("mounted");
    Ok(())
}

/// One line, by one call: others write to the console too.
fn say(what: &str) {
    // A guest without a console has nobody to tell so.
    let _ = io::stdout().lock().write_all(format!("{SIGN}{what}\n").as_bytes());
}

/// Asks for what `plan` names, word by word: `convert`, `back`, a `+` in front repeats all from there for ever; `drain` waits a while so that late mail is carried over.
fn work(user: &str, seed: u64, plan: &str) {
    let mut random = Seeded::new(seed ^ 0x5a);
    loop {
        for word in plan.trim_start_matches('+').split(',') {
            match word {
                "convert" => ask(&["convert", "--json", user], "converted"),
                "back" => ask(&["rollback", "--yes", "--json", user], "rolledback"),
                _ => thread::sleep(Duration::from_millis(300 + random.below(1500))),
            }
        }
        if !plan.starts_with('+') {
            return;
        }
    }
}

/// Asks until the answer is the one wanted: a mailbox may be busy, or its last run not settled yet.
fn ask(words: &[&str], wanted: &str) {
    for _ in 0..200 {
        say(&format!("asking {}", words[0]));
        let said = Command::new("/usr/bin/mailready").args(words).output();
        let said = said.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        );
        let answer = said.split("\"answer\":").nth(1).and_then(|rest| rest.split('"').nth(1));
        match answer {
            // Nothing had to be done, and that is a promise as good.
            Some("already") if wanted == "converted" => return say("said converted"),
            Some("mbox") if wanted == "rolledback" => return say("said rolledback"),
            Some(answer) if answer == wanted => return say(&format!("said {answer}")),
            _ => say(&format!("answer {}", said.replace('\n', " "))),
        }
        thread::sleep(Duration::from_millis(100));
    }
    say(&format!("wrong: never {wanted}"));
}

fn spool_of(user: &str) -> PathBuf {
    format!("/var/mail/{user}").into()
}

fn folder_of(user: &str) -> PathBuf {
    format!("/home/{user}/{FOLDER}").into()
}

/// A letter after the other: to the spool, filed into a folder, or, where the marker says so, to the Maildir.
fn deliver(user: &str, boot: &str, seed: u64, letters: u64) {
    let mut random = Seeded::new(seed ^ 0xa5);
    let (spool, folder) = (spool_of(user), folder_of(user));
    let maildir = PathBuf::from(format!("/home/{user}/Maildir"));
    for number in 1..=letters {
        let id = format!("{boot}-{number}");
        say(&format!("trying {id}"));
        let chance = random.below(6);
        let by_marker = chance < 2 && is_converted(&maildir);
        let delivered = match chance {
            _ if by_marker => letters::to_maildir(&maildir, &id),
            2 => letters::to_mbox(&folder, &id),
            _ => letters::to_mbox(&spool, &id),
        };
        match delivered {
            Ok(()) => say(&format!("ack {id}")),
            Err(error) if !by_marker && error.kind() == io::ErrorKind::NotFound => {
                say(&format!("wrong: no mbox at its place: {error}"));
            }
            Err(error) => say(&format!("kept {id}: {error}")),
        }
        thread::sleep(Duration::from_millis(20 + random.below(250)));
    }
}

fn is_converted(maildir: &Path) -> bool {
    maildir.join("mailready-marker").exists()
}
