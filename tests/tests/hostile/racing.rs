//! A user who changes the own home under the worker's hands, as fast as the machine can: names are exchanged for links, folders, fifos and devices between every two looks. Whatever comes of the conversion, nothing that is not
//! the user's is read, changed or removed, and mail stays mail.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailready_tests::lab::{Daemon, Result, User};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::site::{CONFIG, Site, contains, letter};

/// How long the races of one kind go on.
fn duration() -> Duration {
    Duration::from_secs(if std::env::var_os("MAILREADY_LONG").is_some() { 120 } else { 6 })
}

/// What nobody but its owner may see or change.
const SECRET: &str = "the secret of another user";

/// Everything below a folder: kind, owner, times of change and content.
fn tree(path: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)> {
    fn take(path: &Path, all: &mut BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)>) {
        let stat = path.symlink_metadata().unwrap();
        let content = if stat.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        all.insert(path.to_owned(), (stat.mode(), stat.uid(), stat.ctime(), stat.ctime_nsec(), content));
        if stat.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| take(&entry.unwrap().path(), all));
        }
    }
    let mut all = BTreeMap::new();
    take(path, &mut all);
    all
}

/// Another user's home, closed, with mail and a Maildir in it.
fn victim(site: &Site) -> Result<User> {
    let victim = site.user("victim")?;
    let home = victim.home();
    site.machine.inside(|| {
        for folder in ["mail", "Maildir/cur", "Maildir/new", "Maildir/tmp", ".mailready"] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(format!("{home}/{folder}")).unwrap();
        }
        fs::write(format!("{home}/mail/Sent"), letter(SECRET)).unwrap();
        fs::write(format!("{home}/Maildir/new/1.a.b"), format!("Subject: x\n\n{SECRET}\n")).unwrap();
    })?;
    let owner = format!("{0}:{0}", victim.name);
    site.machine.run("chown", ["-R", &owner, &home])?;
    // The worst case: others may come in, and write where links would lead.
    site.machine.run("chmod", ["-R", "go+rX", &home])?;
    Ok(victim)
}

/// What is put, in turn, at a name.
fn traps(user: &User, victim: &User) -> Vec<PathBuf> {
    let home = PathBuf::from(user.home());
    let trap = |name: &str| home.join(format!("trap-{name}"));
    let _ = symlink(victim.home(), trap("home"));
    let _ = symlink(format!("{}/Maildir", victim.home()), trap("maildir"));
    let _ = symlink(format!("{}/mail/Sent", victim.home()), trap("mbox"));
    let _ = symlink("/etc", trap("etc"));
    let _ = symlink("/dev/zero", trap("device"));
    let _ = mkfifo(&trap("fifo"), Mode::S_IRWXU);
    let _ = fs::create_dir(trap("folder"));
    let _ = fs::write(trap("file"), "no mail\n");
    let all = ["home", "maildir", "mbox", "etc", "device", "fifo", "folder", "file"];
    all.iter().map(|name| trap(name)).collect()
}

/// Names in a home whose meaning changes all the time; those of runs are found as they come.
fn targets(home: &Path) -> Vec<PathBuf> {
    let mut targets =
        vec![home.join("Maildir"), home.join("mail"), home.join("mail/Sent"), home.join(".mailready")];
    for entry in fs::read_dir(home.join(".mailready")).into_iter().flatten().flatten() {
        targets.push(entry.path());
        for below in fs::read_dir(entry.path()).into_iter().flatten().flatten().take(8) {
            targets.push(below.path());
        }
    }
    targets
}

/// Exchanges each target for a trap and back again, until it is told to stop; with the user's rights, so it changes what the user may.
fn race(user: &User, victim: &User, stop: &AtomicBool) -> usize {
    let traps = traps(user, victim);
    let home = PathBuf::from(user.home());
    let exchange =
        |a: &Path, b: &Path| renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).is_ok();
    let mut swapped = 0;
    for round in 0.. {
        for (number, target) in targets(&home).iter().enumerate() {
            let trap = &traps[(round + number) % traps.len()];
            if exchange(target, trap) {
                swapped += 1;
                for _ in 0..(round % 50) {
                    std::hint::spin_loop();
                }
                exchange(target, trap);
            }
            if stop.load(Ordering::Relaxed) {
                return swapped;
            }
        }
        // Lets the worker get anywhere at all, now and then.
        if round % 4 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    swapped
}

/// Has `work` done `rounds` times, or until the time is over, while the user races; gives the number of swaps.
fn while_racing(
    site: &Site,
    agent: &Daemon,
    user: &User,
    victim: &User,
    rounds: usize,
    mut work: impl FnMut(usize) -> Result<()>,
) -> Result<usize> {
    let others = [PathBuf::from(victim.home()), PathBuf::from("/etc")];
    let look = || site.machine.inside(|| others.iter().map(|path| tree(path)).collect::<Vec<_>>());
    let before = look()?;
    let victims_spool = site.look(&victim.spool())?;
    let stop = AtomicBool::new(false);
    let swapped = std::thread::scope(|scope| -> Result<usize> {
        let racing = scope.spawn(|| site.as_user(user, false, || race(user, victim, &stop)));
        let until = Instant::now() + duration();
        let mut done = Ok(());
        for round in 0..rounds {
            if Instant::now() > until || done.is_err() {
                break;
            }
            done = work(round);
        }
        stop.store(true, Ordering::Relaxed);
        let swapped = racing.join().unwrap()?;
        done.map(|()| swapped)
    })?;
    assert_eq!(look()?, before, "somebody else's files are as they were\n{}", agent.log.tail());
    assert_eq!(site.look(&victim.spool())?, victims_spool);
    assert!(agent.is_running(), "{}", agent.log.tail());
    assert!(!agent.log.lines().iter().any(|line| line.text.contains("panic")), "{}", agent.log.tail());
    Ok(swapped)
}

/// A racer with mail in the inbox and in a folder.
fn racer(site: &Site, name: &str) -> Result<User> {
    let user = site.user(name)?;
    site.machine.run("install", ["-d", "-o", name, "-g", name, &format!("{}/mail", user.home())])?;
    let sent = format!("{}/mail/Sent", user.home());
    site.machine.write(&sent, letter("sent").as_bytes(), (user.uid, user.gid), 0o600)?;
    Ok(user)
}

/// Nothing of the victim's has come to this user, and what is in the home is not anybody else's.
fn check_home(site: &Site, user: &User, victim: &User) -> Result<()> {
    let home = user.home();
    site.machine.inside(|| {
        for (path, (mode, uid, _, _, content)) in tree(Path::new(&home)) {
            assert_eq!(uid, user.uid, "{} ({mode:o}) belongs to {}", path.display(), user.name);
            assert!(!contains(&content, SECRET.as_bytes()), "{} has {}'s mail", path.display(), victim.name);
        }
    })
}

#[test]
fn a_home_that_changes_under_a_conversion_gives_nothing_of_anybody_else_away() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let victim = victim(&site)?;
    let agent = site.start_with(CONFIG)?;
    let (mut ends, mut swapped) = (BTreeMap::new(), 0);
    let until = Instant::now() + duration();
    for number in 0.. {
        let user = racer(&site, &format!("racer{number}"))?;
        // Twice: the second finds what the first has left, if it was no success.
        swapped += while_racing(&site, &agent, &user, &victim, 2, |_| {
            let (code, said) = site.convert(&user.name)?;
            *ends.entry(code).or_insert(0) += 1;
            assert!(!said.contains(SECRET), "{said}");
            Ok(())
        })?;
        check_home(&site, &user, &victim)?;
        mail_is_whole(&site, &agent, &user)?;
        if Instant::now() > until {
            break;
        }
    }
    println!("{swapped} swaps, exit codes of the conversions: {ends:?}");
    assert!(swapped > 1000, "a race of {swapped} swaps is none");
    Ok(())
}

#[test]
fn a_home_that_changes_under_drain_verify_and_rollback_gives_nothing_of_anybody_else_away() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let victim = victim(&site)?;
    let user = racer(&site, "racer")?;
    let agent = site.start_with(CONFIG)?;
    let (code, said) = site.convert("racer")?;
    assert_eq!(code, 0, "{said}");
    let swapped = while_racing(&site, &agent, &user, &victim, usize::MAX, |round| {
        match round % 3 {
            0 => site.deliver(&user, "late")?,
            1 => drop(site.mailready(&["verify", "racer"])?),
            _ => drop(site.mailready(&["rollback", "--yes", "racer"])?),
        }
        Ok(())
    })?;
    assert!(swapped > 1000, "a race of {swapped} swaps is none");
    check_home(&site, &user, &victim)?;
    mail_is_whole(&site, &agent, &user)
}

/// The five messages of the user's inbox are there, wherever the user has moved them to: none is lost by us.
fn mail_is_whole(site: &Site, agent: &Daemon, user: &User) -> Result<()> {
    let (home, spool) = (user.home(), user.spool());
    let archive = site.archive()?;
    let wanted = mailready_tests::lab::mail::mbox(u64::try_from(user.name.len()).unwrap_or(0), 5);
    let ids: Vec<String> = String::from_utf8_lossy(&wanted)
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("message-id:"))
        .map(str::to_owned)
        .collect();
    assert!(!ids.is_empty());
    let mut all = site.machine.inside(|| {
        let home = tree(Path::new(&home)).into_values().map(|(.., content)| content);
        home.chain(fs::read(&spool).ok()).collect::<Vec<_>>()
    })?;
    all.extend(archive.into_iter().map(|(_, look)| look.content));
    for id in ids {
        assert!(all.iter().any(|file| contains(file, id.as_bytes())), "{id} is lost\n{}", agent.log.tail());
    }
    Ok(())
}
