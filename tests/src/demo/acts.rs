//! The demo, act by act.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::lab::{
    Binaries, CONFIG, Differences, Doing, Dump, Imap, LabError, Machine, Result, Site, User, available,
    eventually, mail,
};

use super::Stage;
use super::options::Options;
use super::paper::{Paper, size};
use super::timeline::Timeline;

/// Plays it all; true when the new server showed exactly what the old one had shown.
pub(super) fn play(options: &Options, stage: &Stage, paper: &Paper) -> Result<bool> {
    let root = available().map_err(LabError::Setup)?;
    let binaries = Binaries::find()?;
    let own = options.mbox.as_deref().map(own_mail).transpose()?;

    paper.title("A private machine");
    let begun = Instant::now();
    let machine = stage.raise(|| Machine::start(&root, &binaries))?;
    machine.install_site(options.site)?;
    let user = settle_user(&machine, options, own)?;
    let dovecot = machine.start_dovecot()?;
    paper.fact("up after", &format!("{} ms", begun.elapsed().as_millis()));
    paper.fact("mail server", &site(&machine, options.site)?);
    paper.fact("user", &format!("{}, mail in {}", user.name, user.spool()));

    paper.title("The old server shows");
    let before = look(&machine, &user)?;
    describe(&before, paper)?;
    machine.stop_dovecot(&dovecot)?;

    paper.title("mailready comes in");
    machine.install_mailready(options.site)?;
    let agent = machine.start_agent(CONFIG)?;
    let _dovecot = machine.start_dovecot()?;
    paper.fact("PAM", "one line: account optional pam_mailready.so");
    paper.fact(
        "Dovecot",
        "conf.d/99-mailready.conf and a post-login script, where a session waits for its mail",
    );
    paper.fact("agent", "started; allowed to convert everybody");

    paper.title("One login");
    let (timeline, session) = Timeline::record(&machine, &user, &agent.log)?;
    timeline.tell(paper);
    session.logout()?;

    paper.title("The new server shows");
    let after = look(&machine, &user)?;
    describe(&after, paper)?;

    paper.title("On disk");
    let converted = on_disk(&machine, &user, paper)?;

    if converted {
        paper.title("Mail that still comes to the old place");
        late_letter(&machine, &user, before.inbox()?.messages.len(), paper)?;
    }

    let differences = Differences::between(&before, &after);
    let mut good = differences.is_empty() && converted;
    if converted {
        paper.title("Proof: Dovecot reads the originals once more");
        // Mail of one's own may be such that Dovecot itself cannot read all of it back; then this says so.
        let (_, said) = operate(&machine, &["verify", &user.name])?;
        paper.line(&said);
        paper.title("And back");
        good &= back_again(&machine, &user, paper)?;
    }
    if !converted {
        paper.title("What the agent said");
        paper.line(agent.log.tail().trim_end());
    }
    paper.verdict(good, &verdict(&before, &after, &differences, converted));
    stage.clear();
    next(paper);
    Ok(good)
}

/// Opens an administrator's own mbox for reading, and sees that the copy and all comparisons fit into memory.
fn own_mail(path: &Path) -> Result<File> {
    // Not even the time of the last access changes: some programs tell new mail by it.
    let file = File::options().read(true).custom_flags(nix::libc::O_NOATIME).open(path);
    let file = file.doing(|| format!("read {}", path.display()))?;
    let about = file.metadata().doing(|| format!("look at {}", path.display()))?;
    if !about.is_file() {
        return Err(LabError::Setup(format!("{} is no file; the demo takes one mbox", path.display())));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    // The mbox, its Maildir, and what IMAP and POP3 showed before and after are all held in memory.
    let most = available.unwrap_or(1_000_000) * 1000 / 8;
    if about.len() > most {
        return Err(LabError::Setup(format!(
            "{} has {}; with the free memory of this machine the demo takes up to {}",
            path.display(),
            size(about.len()),
            size(most)
        )));
    }
    Ok(file)
}

/// The user's folders: nested, with a name that is not ASCII, one of them empty.
const FOLDERS: [(&str, u32); 4] =
    [("Sent", 30), ("lists/debian-user", 50), ("Entw&APw-rfe", 2), ("Trash", 0)];

fn settle_user(machine: &Arc<Machine>, options: &Options, own: Option<File>) -> Result<User> {
    let user = settle_inbox(machine, options, own)?;
    let root = format!("{}/mail", user.home());
    let owner = format!("{}:{}", user.uid, user.gid);
    machine.run("mkdir", ["-p", &format!("{root}/lists")])?;
    for (name, messages) in FOLDERS {
        let mbox = mail::mbox(u64::from(messages), messages);
        machine.write(&format!("{root}/{name}"), &mbox, (user.uid, user.gid), 0o600)?;
    }
    machine.run("chown", ["-R", &owner, &root])?;
    Ok(user)
}

fn settle_inbox(machine: &Arc<Machine>, options: &Options, own: Option<File>) -> Result<User> {
    let Some(mut own) = own else {
        return machine.add_user("demo", "correct-horse", &mail::mbox(1, options.messages));
    };
    let user = machine.add_user("demo", "correct-horse", b"")?;
    // The descriptor was opened for reading on the host: in here there is no way to the original.
    machine
        .inside(|| {
            let mut spool = File::options().write(true).open(user.spool())?;
            io::copy(&mut own, &mut spool)
        })?
        .doing(|| "copy your mbox into the machine")?;
    Ok(user)
}

fn site(machine: &Machine, site: Site) -> Result<String> {
    let version = machine.run("dovecot", ["--version"])?;
    let version = version.split_whitespace().next().unwrap_or("?").to_owned();
    Ok(match site {
        Site::Debian => format!("Dovecot {version} as Debian configures it"),
        Site::Small => format!("Dovecot {version} with a small configuration of its own"),
    })
}

/// One session to make Dovecot write its numbers down, as it has on any server in use; then the look that counts.
fn look(machine: &Machine, user: &User) -> Result<Dump> {
    let mut session = Imap::login(machine, &user.name, &user.password)?;
    session.ok("SELECT INBOX")?;
    for (name, _) in FOLDERS {
        session.ok(&format!("SELECT \"{name}\""))?;
        session.ok(&format!("SUBSCRIBE \"{name}\""))?;
    }
    session.logout()?;
    Dump::take(machine, user)
}

fn describe(dump: &Dump, paper: &Paper) -> Result<()> {
    let inbox = dump.inbox()?;
    let bytes: u64 = inbox.messages.iter().map(|message| message.size).sum();
    let seen = inbox.messages.iter().filter(|message| message.flags.contains("\\Seen")).count();
    paper.fact(
        "IMAP, messages",
        &format!("{} with {}, {seen} of them seen", inbox.messages.len(), size(bytes)),
    );
    paper.fact("IMAP, numbers", &format!("UIDVALIDITY {}, UIDNEXT {}", inbox.uidvalidity, inbox.uidnext));
    let folders: Vec<_> = dump.folders.iter().filter(|folder| folder.name != inbox.name).collect();
    let names: Vec<_> = folders.iter().map(|folder| String::from_utf8_lossy(&folder.name)).collect();
    let messages: usize = folders.iter().map(|folder| folder.messages.len()).sum();
    paper.fact("IMAP, folders", &format!("{}, {messages} messages in them", names.join(", ")));
    paper.fact("POP3, messages", &format!("{}", dump.pop3.messages.len()));
    Ok(())
}

/// Whether the command did what it was asked to, and what it said.
fn operate(machine: &Machine, arguments: &[&str]) -> Result<(bool, String)> {
    let output = machine.output("mailready", arguments, b"")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim_end().to_owned();
    Ok((output.status.success(), said))
}

/// Rolls back; true if the mboxes show exactly what the Maildir has shown, with all that has happened on it.
fn back_again(machine: &Machine, user: &User, paper: &Paper) -> Result<bool> {
    let on_maildir = Dump::take(machine, user)?;
    let begun = Instant::now();
    let (done, said) = operate(machine, &["rollback", "--yes", &user.name])?;
    if !done {
        // What an mbox cannot hold is refused, and the Maildir stays.
        paper.line(&said);
        return Ok(Differences::between(&on_maildir, &Dump::take(machine, user)?).is_empty());
    }
    paper.fact("mailready rollback", &format!("took {} ms", begun.elapsed().as_millis()));
    let on_mbox = Dump::take(machine, user)?;
    let differences = Differences::between(&on_maildir, &on_mbox);
    let inbox = on_mbox.inbox()?.messages.len();
    if differences.is_empty() {
        paper.fact(
            "shown now",
            &format!("{inbox} messages in the inbox, the late letter among them: no difference"),
        );
    } else {
        paper.fact("DIFFERENT", &differences.to_string());
    }
    Ok(differences.is_empty())
}

/// Tells what stands where; true if there is a Maildir of ours.
fn on_disk(machine: &Machine, user: &User, paper: &Paper) -> Result<bool> {
    let maildir = format!("{}/Maildir", user.home());
    let spool = user.spool();
    let (marker, files, old, archived) = machine.inside(|| {
        let count = |folder: &str| fs::read_dir(format!("{maildir}/{folder}")).map_or(0, Iterator::count);
        let archived = fs::read_dir("/var/mail/.mailready").into_iter().flatten().flatten();
        let archived: Vec<_> = archived
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len())))
            .filter(|(name, _)| name.ends_with(".0"))
            .collect();
        let marker = fs::exists(format!("{maildir}/mailready-marker")).unwrap_or(false);
        (marker, count("cur") + count("new"), fs::read(&spool).unwrap_or_default(), archived)
    })?;
    if !marker {
        paper.fact(
            &spool,
            &format!("{}, still the mail: this login was not converted", size(old.len() as u64)),
        );
        return Ok(false);
    }
    paper.fact(
        &maildir,
        &format!("{files} messages of the inbox, the marker, the receipt; the folders beside them"),
    );
    let first =
        String::from_utf8_lossy(old.split(|&byte| byte == b'\n').next().unwrap_or_default()).into_owned();
    paper.fact(&spool, &format!("a tombstone of {}:", size(old.len() as u64)));
    paper.fact("", &format!("\"{first}\""));
    for (name, length) in archived {
        paper.fact("the original", &format!("/var/mail/.mailready/{name}, {}, kept", size(length)));
    }
    Ok(true)
}

/// A deliverer that knows nothing of mailready writes to the old place; the client finds the letter where all its mail is.
fn late_letter(machine: &Machine, user: &User, before: usize, paper: &Paper) -> Result<()> {
    let letter = b"From: eve@example.org\nTo: demo\nSubject: a late letter\n\nDelivered by a program that knows only mbox.\n";
    let delivered = machine.output("/usr/bin/procmail", ["-d", &user.name], letter)?;
    if !delivered.status.success() {
        let said = String::from_utf8_lossy(&delivered.stderr).into_owned();
        return Err(LabError::Command { command: "procmail -d".into(), said });
    }
    let begun = Instant::now();
    paper.fact("procmail", &format!("has delivered one letter to {}", user.spool()));
    let mut client = Imap::login(machine, &user.name, &user.password)?;
    eventually("the late letter is in the inbox", String::new, || {
        let status = client.ok("STATUS INBOX (MESSAGES)").ok()?;
        let shown =
            status.untagged.iter().flatten().any(|item| item.text() == format!("(MESSAGES {})", before + 1));
        shown.then_some(())
    })?;
    client.logout()?;
    paper.fact("IMAP, messages", &format!("{}, after {} ms", before + 1, begun.elapsed().as_millis()));
    Ok(())
}

fn verdict(before: &Dump, after: &Dump, differences: &Differences, converted: bool) -> String {
    let count = |dump: &Dump| dump.folders.iter().map(|folder| folder.messages.len()).sum::<usize>();
    let counts = format!("{} messages before, {} after", count(before), count(after));
    if !converted {
        return format!("NOT CONVERTED. {counts}; the mail is where it was.");
    }
    if !differences.is_empty() {
        return format!("DIFFERENT. {counts}; {differences}");
    }
    let bytes: usize = before.folders.iter().flat_map(|f| &f.messages).map(|m| m.body.len()).sum();
    format!(
        "The same. {counts}; every number, flag, date and all {bytes} bytes of mail compared, by IMAP and by POP3: no difference."
    )
}

fn next(paper: &Paper) {
    paper.title("Next");
    for (command, what) in [
        ("packaging/demo MBOX", "the same with your own mail: copied, never written to"),
        ("packaging/demo --site small", "another Dovecot configuration"),
        ("tests/run", "every test, in private machines like this one"),
        ("less README.md", "how to install, what to configure, how to undo"),
    ] {
        paper.fact(command, what);
    }
    paper.line("\nThe private machine has ended; nothing of it is left.");
}
