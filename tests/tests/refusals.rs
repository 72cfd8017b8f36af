//! What cannot be converted is left exactly as it is, with a reason that says what to do.
//!
//! Each case spoils one thing of one user, asks for the conversion as an operator would, and compares every byte of the user's mail and home with what they were.

#![expect(clippy::unwrap_used, reason = "in a helper of tests, too, a broken assumption is a failed test")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use mailready_tests::lab::{CONFIG, Daemon, Imap, Machine, Pop3, Result, Site, User, mail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// Exit codes of `mailready convert`, by sysexits.
const DATA: i32 = 65;
const NO_USER: i32 = 67;
const TEMPORARY: i32 = 75;

/// A file's kind, owner, mode, size and content (or where it leads), by its path.
type Tree = BTreeMap<PathBuf, (u32, u32, Vec<u8>)>;

/// What is below some places, links not followed; the work folder is ours and may come and go empty.
fn trees(places: &[&Path]) -> Tree {
    fn take(path: &Path, tree: &mut Tree) {
        let Ok(stat) = path.symlink_metadata() else { return };
        let content = if stat.is_file() {
            fs::read(path).unwrap()
        } else if stat.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        tree.insert(path.to_owned(), (stat.mode(), stat.uid(), content));
        if stat.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| take(&entry.unwrap().path(), tree));
        }
    }
    let mut tree = Tree::new();
    places.iter().for_each(|place| take(place, &mut tree));
    tree.retain(|path, (_, _, content)| !(path.ends_with(".mailready") && content.is_empty()));
    tree
}

/// A site with mailready, and the agent of it.
struct Bench {
    machine: Machine,
    dovecot: Daemon,
    agent: Daemon,
}

fn bench() -> Result<Option<Bench>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    // Before Dovecot, so that there are no sessions to be waited for and it commits at once.
    let agent = machine.start_agent(CONFIG)?;
    let dovecot = machine.start_dovecot()?;
    Ok(Some(Bench { machine, dovecot, agent }))
}

impl Bench {
    fn user(&self, name: &str) -> Result<User> {
        self.machine.add_user(name, "correct-horse", &mail::mbox(7, 5))
    }

    /// Asks for a conversion; gives exit code and everything said.
    fn convert(&self, user: &str) -> Result<(i32, String)> {
        let output = self.machine.output("mailready", ["convert", user], b"")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Spoils, asks, compares; the refusal must have this code and these words.
    fn refuses(
        &self,
        name: &str,
        code: i32,
        words: &[&str],
        spoil: impl FnOnce(&User) + Send,
    ) -> Result<User> {
        let user = self.user(name)?;
        self.machine.inside(|| spoil(&user))?;
        self.refuses_as_it_is(&user, code, words)?;
        Ok(user)
    }

    fn refuses_as_it_is(&self, user: &User, code: i32, words: &[&str]) -> Result<()> {
        let (home, spool) = (PathBuf::from(user.home()), PathBuf::from(user.spool()));
        let look =
            || self.machine.inside(|| trees(&[&home, &spool, Path::new(&format!("{}.lock", user.spool()))]));
        let before = look()?;
        let (got, said) = self.convert(&user.name)?;
        assert_eq!(got, code, "{}: {said}\n{}", user.name, self.agent.log.tail());
        for word in words {
            assert!(said.contains(word), "{}: {word:?} is not in {said:?}", user.name);
        }
        let after = look()?;
        let changed: Vec<_> = before
            .iter()
            .filter(|(path, was)| after.get(*path) != Some(was))
            .map(|(path, _)| path)
            .chain(after.keys().filter(|path| !before.contains_key(*path)))
            // What was staged is for the next attempt to take over; it is in no folder that anybody is shown.
            .filter(|path| !path.display().to_string().contains("/.mailready/kept-"))
            .collect();
        assert!(changed.is_empty(), "{}: changed: {changed:?}", user.name);
        Ok(())
    }
}

#[test]
fn a_spool_that_is_no_mbox_or_no_file_of_the_user() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    bench.refuses("text", DATA, &["no mbox", "byte 0"], |user| {
        fs::write(user.spool(), "Dear diary\n").unwrap()
    })?;
    bench.refuses("dash", DATA, &["no mbox"], |user| {
        fs::write(user.spool(), "\nFrom a@b Mon Jan  5 10:00:00 2026\n\nx\n").unwrap()
    })?;
    bench.refuses("link", DATA, &["symbolic link"], |user| {
        fs::rename(user.spool(), "/var/mail/elsewhere").unwrap();
        symlink("/var/mail/elsewhere", user.spool()).unwrap();
    })?;
    bench.refuses("twin", DATA, &["several links"], |user| {
        fs::hard_link(user.spool(), "/var/mail/other-name").unwrap()
    })?;
    bench.refuses("pipe", DATA, &["no regular file"], |user| {
        fs::remove_file(user.spool()).unwrap();
        mkfifo(user.spool().as_str(), Mode::S_IRWXU).unwrap();
        assert!(Path::new(&user.spool()).symlink_metadata().unwrap().file_type().is_fifo());
    })?;
    bench.refuses("tree", DATA, &["no regular file"], |user| {
        fs::remove_file(user.spool()).unwrap();
        fs::create_dir(user.spool()).unwrap();
    })?;
    bench.refuses("lent", DATA, &["another user's file"], |user| {
        chown(user.spool(), Some(1), None).unwrap()
    })?;
    Ok(())
}

#[test]
fn a_home_that_is_missing_foreign_full_or_elsewhere() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    bench.refuses("gone", DATA, &["/home/gone", "not there"], |user| {
        fs::remove_dir_all(user.home()).unwrap()
    })?;
    bench.refuses("theirs", DATA, &["/home/theirs", "not the user's own"], |user| {
        chown(user.home(), Some(0), None).unwrap()
    })?;
    bench.refuses("full", DATA, &["not enough would stay free", "keep.reserve"], |user| {
        let options = format!("size=64k,uid={},mode=755", user.uid);
        mount(Some("full"), user.home().as_str(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        fs::write(user.spool(), mail::mbox(9, 400)).unwrap();
    })?;
    bench.refuses("split", DATA, &["different mounts"], |user| {
        let work = format!("{}/.mailready", user.home());
        fs::create_dir(&work).unwrap();
        let options = format!("uid={},mode=700", user.uid);
        mount(Some("work"), work.as_str(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    })?;
    bench.refuses("work", DATA, &[".mailready", "no folder of the user's own"], |user| {
        symlink("/tmp", format!("{}/.mailready", user.home())).unwrap();
    })?;
    Ok(())
}

#[test]
fn a_maildir_that_is_there_already() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    bench.refuses("used", DATA, &["/home/used/Maildir exists already"], |user| {
        let new = format!("{}/Maildir/new", user.home());
        fs::create_dir_all(&new).unwrap();
        fs::write(format!("{new}/1.a.b"), "Subject: old\n\nmail\n").unwrap();
    })?;
    bench.refuses("empty", DATA, &["exists already"], |user| {
        fs::create_dir(format!("{}/Maildir", user.home())).unwrap();
    })?;
    bench.refuses("file", DATA, &["exists already"], |user| {
        fs::write(format!("{}/Maildir", user.home()), "").unwrap()
    })?;
    bench.refuses("dangling", DATA, &["exists already"], |user| {
        symlink("/nowhere", format!("{}/Maildir", user.home())).unwrap();
    })?;
    Ok(())
}

/// Gives the user everything below a path.
fn give(user: &User, path: &str) {
    chown(path, Some(user.uid), Some(user.gid)).unwrap();
    if Path::new(path).symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(user, entry.unwrap().path().to_str().unwrap()));
    }
}

#[test]
fn folders_that_cannot_be_kept() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let root = |user: &User| format!("{}/mail", user.home());
    let with_folder = |user: &User, path: &str, content: &[u8]| {
        let path = format!("{}/{path}", root(user));
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        give(user, &root(user));
    };
    bench.refuses("dots", DATA, &["2001"], |user| with_folder(user, "lists/sent.2001", &mail::mbox(3, 2)))?;
    bench.refuses("hollow", DATA, &["empty"], |user| {
        fs::create_dir_all(format!("{}/empty", root(user))).unwrap();
        give(user, &root(user));
    })?;
    bench.refuses("hidden", DATA, &[".saved"], |user| with_folder(user, ".saved", &mail::mbox(3, 2)))?;
    bench.refuses("linked", DATA, &["link"], |user| {
        with_folder(user, "Sent", &mail::mbox(3, 2));
        symlink("Sent", format!("{}/Outbox", root(user))).unwrap();
    })?;
    bench.refuses("loop", DATA, &["link"], |user| {
        with_folder(user, "Sent", &mail::mbox(3, 2));
        symlink("..", format!("{}/up", root(user))).unwrap();
    })?;
    // Somebody is writing to one of them.
    let held = bench.user("held")?;
    let writer = bench.machine.inside(|| {
        with_folder(&held, "Sent", &mail::mbox(3, 2));
        OpenOptions::new().append(true).open(format!("{}/Sent", root(&held))).unwrap()
    })?;
    bench.refuses_as_it_is(&held, TEMPORARY, &[])?;
    drop(writer);
    let (code, said) = bench.convert("held")?;
    assert_eq!(code, 0, "{said}\n{}", bench.agent.log.tail());
    Ok(())
}

#[test]
fn a_user_who_is_not_there() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    for (name, words) in
        [("nobody-of-this-name", "nobody-of-this-name"), ("../ann", ""), ("a/b", ""), (".", ""), ("", "")]
    {
        let (code, said) = bench.convert(name)?;
        assert!([NO_USER, DATA, 64].contains(&code), "{name:?}: {code}: {said}");
        assert!(said.contains(words), "{name:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_mailbox_that_is_in_use() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    // A deliverer that is at work, or died at work: its dotlock.
    bench.refuses("locked", TEMPORARY, &["open or locked"], |user| {
        fs::write(format!("{}.lock", user.spool()), "1").unwrap();
    })?;
    // A reader that goes by no lock at all and just has it open, as a shell user's mail program has.
    let reader = bench.user("reader")?;
    let open = bench.machine.inside(|| File::open(reader.spool()).unwrap())?;
    bench.refuses_as_it_is(&reader, TEMPORARY, &["open or locked"])?;
    drop(open);
    // Another program's lock on the work folder: ours of another life.
    let worked = bench.user("worked")?;
    let lock = bench.machine.inside(|| {
        let work = format!("{}/.mailready", worked.home());
        fs::create_dir(&work).unwrap();
        fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&work, Some(worked.uid), Some(worked.gid)).unwrap();
        Flock::lock(File::open(work).unwrap(), FlockArg::LockExclusive).unwrap()
    })?;
    bench.refuses_as_it_is(&worked, TEMPORARY, &["something else works on"])?;
    drop(lock);
    // What was in the way is gone: now it goes.
    for name in ["reader", "worked"] {
        let (code, said) = bench.convert(name)?;
        assert_eq!(code, 0, "{said}\n{}", bench.agent.log.tail());
    }
    Ok(())
}

#[test]
fn a_pop3_session_is_never_ended_and_an_imap_session_is() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    // Logged in without an arrival, so that nothing is converted by it: the agent does not know them yet.
    bench.agent.terminate()?;
    let (popper, imapper) = (bench.user("popper")?, bench.user("imapper")?);
    let mut pop3 = Pop3::login(&bench.machine, &popper.name, &popper.password)?;
    let mut imap = Imap::login(&bench.machine, &imapper.name, &imapper.password)?;
    imap.ok("SELECT INBOX")?;
    let agent = bench.machine.start_agent(CONFIG)?;
    let (code, said) = bench.convert("popper")?;
    assert_eq!((code, said.contains("pop3")), (TEMPORARY, true), "{said}");
    assert!(pop3.command("STAT").is_ok(), "its session goes on");
    assert!(!bench.machine.exists(&format!("{}/Maildir", popper.home()))?);
    let (code, said) = bench.convert("imapper")?;
    assert_eq!(code, 0, "{said}\n{}", agent.log.tail());
    let mut last = String::new();
    let _ = imap.stream().read_to_string(&mut last);
    assert!(last.starts_with("* BYE"), "a client is told to come again: {last:?}");
    assert!(bench.dovecot.is_running());
    Ok(())
}

#[test]
fn an_archive_folder_that_somebody_else_made() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let ann = bench.user("ann")?;
    bench.machine.inside(|| {
        fs::create_dir("/var/mail/.mailready").unwrap();
        chown("/var/mail/.mailready", Some(ann.uid), None).unwrap();
    })?;
    bench.refuses_as_it_is(&ann, DATA, &["/var/mail/.mailready", "root's"])?;
    bench.machine.inside(|| {
        fs::remove_dir("/var/mail/.mailready").unwrap();
        symlink("/tmp", "/var/mail/.mailready").unwrap();
    })?;
    let (code, said) = bench.convert("ann")?;
    assert_ne!(code, 0, "{said}");
    Ok(())
}

/// Not only the path of the spool counts: flags wait in the index, and the index is below the mbox root.
#[test]
fn mail_that_dovecot_serves_from_elsewhere() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    let agent = machine.start_agent(&format!("{CONFIG}\n[mail]\nfolders = \"%h/Mail\"\n"))?;
    let ann = machine.add_user("ann", "correct-horse", &mail::mbox(7, 5))?;
    for running in [false, true] {
        let dovecot = machine.start_dovecot()?;
        if !running {
            machine.stop_dovecot(&dovecot)?;
        }
        let output = machine.output("mailready", ["convert", "ann"], b"")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(DATA), "{said}");
        assert!(said.contains("whose root is %h/mail"), "{said}\n{}", agent.log.tail());
    }
    assert!(!machine.exists(&format!("{}/Maildir", ann.home()))?);
    Ok(())
}

/// Invariant 9: a reader that would not follow keeps everybody where they are, an operator's word included.
#[test]
fn a_site_whose_dovecot_would_not_follow() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Debian)?;
    machine.install_mailready(Site::Debian)?;
    let snippet = "/etc/dovecot/conf.d/99-mailready.conf";
    let right = machine.read(snippet)?;
    let wrong =
        String::from_utf8_lossy(&right).replace("executable = pop3 pop3-postlogin", "executable = pop3");
    machine.write(snippet, wrong.as_bytes(), (0, 0), 0o644)?;
    let agent = machine.start_agent(CONFIG)?;
    let dovecot = machine.start_dovecot()?;
    let bench = Bench { machine, dovecot, agent };
    let ann = bench.user("ann")?;
    bench.refuses_as_it_is(&ann, DATA, &["does not run /etc/mailready/postlogin for pop3", "service pop3 {"])
}

/// The open helper of this file is used with and without a lock; a file opened for writing must not be mistaken for unused either.
#[test]
fn a_mailbox_that_is_being_written_without_any_lock() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let ann = bench.user("ann")?;
    let writer = bench.machine.inside(|| OpenOptions::new().append(true).open(ann.spool()).unwrap())?;
    bench.refuses_as_it_is(&ann, TEMPORARY, &["open or locked"])?;
    drop(writer);
    let (code, said) = bench.convert("ann")?;
    assert_eq!(code, 0, "{said}\n{}", bench.agent.log.tail());
    Ok(())
}
