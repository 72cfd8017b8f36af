//! Mailboxes of others, if there is a folder of them: each as one user's inbox, shown by real Dovecot before and after.

use std::fs;
use std::path::{Path, PathBuf};

use mailready_tests::lab::{
    CONFIG, Daemon, Differences, Doing, Dump, Imap, Machine, Result, Site, User, eventually, skip,
};

/// So many users at a time: everything that is shown of their mail is held in memory until it is compared.
const BATCH: usize = 20;

/// One mailbox: its file, whose it is, and what was shown of it; `None` if Dovecot does not take it for an mbox.
struct Inbox {
    file: PathBuf,
    user: User,
    before: Option<Dump>,
}

#[test]
fn mail_of_others_is_shown_as_before() -> Result<()> {
    let Some(folder) = std::env::var_os("MAILREADY_CORPORA") else {
        skip("MAILREADY_CORPORA names no folder of further mailboxes");
        return Ok(());
    };
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    let _dovecot = machine.start_dovecot()?;
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files).doing(|| "look for mailboxes")?;
    files.sort();
    assert!(!files.is_empty(), "there are files in {}", folder.display());

    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    for (number, batch) in files.chunks(BATCH).enumerate() {
        // Without an agent nothing is converted.
        let names = (number * BATCH..).map(|number| format!("user{number}"));
        let inboxes: Vec<Inbox> = batch
            .iter()
            .zip(names)
            .map(|(file, name)| settle(&machine, file, &name))
            .collect::<Result<_>>()?;
        let agent = machine.start_agent(CONFIG)?;
        for inbox in &inboxes {
            match compare(&machine, &agent, inbox)? {
                None if inbox.before.is_some() => same += 1,
                None => refused += 1,
                Some(complaint) => wrong.push(format!("{}: {complaint}", inbox.file.display())),
            }
        }
        agent.terminate()?;
    }
    println!("{} files: {same} shown as before, {refused} that Dovecot refuses left alone", files.len());
    assert!(wrong.is_empty(), "{} of {} are not:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn settle(machine: &Machine, file: &Path, name: &str) -> Result<Inbox> {
    let content = fs::read(file).doing(|| format!("read {}", file.display()))?;
    let user = machine.add_user(name, "correct-horse", &content)?;
    // A session like any other first: it gives the mailbox its numbers.
    let before = if login(machine, &user)? == "OK" { Some(Dump::take(machine, &user)?) } else { None };
    Ok(Inbox { file: file.to_owned(), user, before })
}

/// What is wrong, if anything is.
fn compare(machine: &Machine, agent: &Daemon, inbox: &Inbox) -> Result<Option<String>> {
    let user = &inbox.user;
    let content = machine.read(&user.spool())?;
    let maildir = format!("{}/Maildir", user.home());
    let Some(before) = &inbox.before else {
        let status = login(machine, user)?;
        let untouched =
            machine.read(&user.spool())? == content && !machine.exists(&maildir)? && status == "NO";
        return Ok((!untouched).then(|| "Dovecot refuses it, and yet it was touched".into()));
    };
    // A first login may be told to stay: with a Dovecot that ran before it, the agent commits nothing for a while.
    eventually(
        format!("{} is converted", inbox.file.display()),
        || agent.log.tail(),
        || {
            login(machine, user).ok()?;
            machine.exists(&maildir).ok()?.then_some(())
        },
    )?;
    let differences = Differences::between(before, &Dump::take(machine, user)?);
    Ok((!differences.is_empty()).then(|| differences.to_string()))
}

/// What SELECT says.
fn login(machine: &Machine, user: &User) -> Result<String> {
    let mut imap = Imap::login(machine, &user.name, &user.password)?;
    let status = imap.command("SELECT INBOX")?.status;
    imap.logout()?;
    Ok(status)
}
