//! A user with mail, and the agent's end of a worker's wire.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mailready_worker::RunId;
use mailready_worker::job::{Job, Layout, Locks, Purpose};
use mailready_worker::wire::{self, Order, Report, SIZE};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Gid, Uid};

/// A message as a deliverer writes it.
pub fn message(subject: &str) -> String {
    format!(
        "From a@b.example Thu Jan  1 10:00:00 2026\nFrom: a@b.example\nSubject: {subject}\n\nbody of {subject}\n\n"
    )
}

/// A user of our own, or of our own making where we are root.
pub struct User {
    root: tempfile::TempDir,
    pub job: Job,
}

impl User {
    /// With these messages in the inbox and an empty mbox root.
    pub fn new(inbox: &[&str]) -> Self {
        let root = tempfile::Builder::new().prefix("mailready-worker-").tempdir().unwrap();
        let root_path = root.path().to_owned();
        fs::set_permissions(&root_path, PermissionsExt::from_mode(0o755)).unwrap();
        let (mut uid, mut gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        if uid == 0 {
            (uid, gid) = (54321, 54321);
        }
        let job = Job {
            purpose: Purpose::Convert,
            run: RunId::generate().unwrap().to_string(),
            user: "ann".into(),
            uid,
            gid,
            home: root_path.join("home"),
            maildir: root_path.join("home/Maildir"),
            work: root_path.join("home/.mailready"),
            inbox: root_path.join("spool"),
            folders: root_path.join("home/mail"),
            index: PathBuf::new(),
            control: PathBuf::new(),
            layout: Layout::MaildirPlusPlus,
            prefix: String::new(),
            separator: '/',
            locks: Locks { dotlock: true, fcntl: true, flock: true },
            uidl: String::new(),
            reuse_xuidl: false,
            timezone: "UTC".into(),
            reserve: 0,
        };
        let user = Self { root, job };
        for folder in ["home", "home/mail"] {
            fs::create_dir(user.path(folder)).unwrap();
            user.own(&user.path(folder));
        }
        user.write("spool", &inbox.iter().map(|subject| message(subject)).collect::<String>());
        user
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn own(&self, path: &Path) {
        chown(path, Some(self.job.uid), Some(self.job.gid)).unwrap();
    }

    /// Writes a file as the user, and the folders above it.
    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        let mut missing = Vec::new();
        let mut above = path.parent().unwrap();
        while !above.exists() {
            missing.push(above.to_owned());
            above = above.parent().unwrap();
        }
        for folder in missing.iter().rev() {
            fs::create_dir(folder).unwrap();
            self.own(folder);
        }
        fs::write(&path, text).unwrap();
        self.own(&path);
    }

    /// What was made in the work folder in the user's name.
    pub fn own_all(&self) {
        let mut waiting = vec![self.path("home/.mailready")];
        while let Some(path) = waiting.pop() {
            self.own(&path);
            if path.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }

    pub fn append(&self, below: &str, text: &str) {
        use std::io::Write;
        File::options().append(true).open(self.path(below)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_else(|error| panic!("{below}: {error}"))
    }

    /// Names in a folder, without those that begin with these letters.
    pub fn list(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).unwrap_or_else(|error| panic!("{below}: {error}"));
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Subjects of the messages in new/ and cur/ of a mailbox, sorted.
    pub fn subjects(&self, mailbox: &str) -> Vec<String> {
        let mut subjects = Vec::new();
        for sub in ["new", "cur"] {
            let folder = Path::new(mailbox).join(sub);
            for name in self.list(folder.to_str().unwrap()) {
                let text = self.read(folder.join(name).to_str().unwrap());
                subjects
                    .extend(text.lines().find_map(|line| line.strip_prefix("Subject: ")).map(str::to_owned));
            }
        }
        subjects.sort();
        subjects
    }

    /// The spool as the agent opens it.
    pub fn spool(&self) -> OwnedFd {
        File::options().read(true).write(true).open(self.path("spool")).unwrap().into()
    }

    /// Converts, as the agent does where nothing comes in between.
    pub fn convert(&self) {
        let mut agent = Agent::start(self, Purpose::Convert, Some(self.spool()));
        assert!(matches!(agent.ask(Order::Stage, None), Report::Staged { .. }));
        assert!(matches!(agent.ask(Order::Refresh, None), Report::Staged { .. }));
        std::thread::sleep(std::time::Duration::from_millis(12));
        let confirmed = agent.ask(Order::Confirm, None);
        assert!(matches!(confirmed, Report::Confirmed { .. }), "{confirmed:?}");
        assert_eq!(agent.ask(Order::Commit, None), Report::Committed { folders_left: 0 });
        assert_eq!(agent.ask(Order::Release, None), Report::Done);
    }
}

/// The agent's end.
pub struct Agent {
    child: Child,
    socket: OwnedFd,
}

impl Agent {
    /// Starts a worker and waits until it is ready.
    pub fn start(user: &User, purpose: Purpose, fd: Option<OwnedFd>) -> Self {
        Self::try_start(user, purpose, fd).unwrap_or_else(|report| panic!("{report:?}"))
    }

    pub fn try_start(user: &User, purpose: Purpose, fd: Option<OwnedFd>) -> Result<Self, Report> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mailready-worker"))
            .arg("--job")
            .env_clear()
            .stdout(Stdio::null())
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let mut agent = Self { child, socket: ours };
        let job = Job { purpose, ..user.job.clone() };
        wire::send(agent.socket.as_fd(), &job.encode(), fd.as_ref().map(AsFd::as_fd)).unwrap();
        match agent.report() {
            Some(Report::Ready { .. }) => Ok(agent),
            Some(other) => Err(other),
            None => panic!("the worker died"),
        }
    }

    pub fn order(&mut self, order: Order, fd: Option<OwnedFd>) {
        wire::send(self.socket.as_fd(), &order.encode(), fd.as_ref().map(AsFd::as_fd)).unwrap();
    }

    /// The next report; `None` at the end.
    pub fn report(&mut self) -> Option<Report> {
        loop {
            let mut packet = [0; SIZE];
            let (length, _) = wire::receive(self.socket.as_fd(), &mut packet).unwrap()?;
            match Report::decode(&packet[..length]).unwrap() {
                Report::Progress { .. } => {}
                other => return Some(other),
            }
        }
    }

    pub fn ask(&mut self, order: Order, fd: Option<OwnedFd>) -> Report {
        let ends = matches!(order, Order::Release);
        self.order(order, fd);
        let report = self.report().expect("the worker died");
        if ends {
            // Its lock on the work folder goes with it, and the next worker would be told that the mailbox is busy.
            self.child.wait().unwrap();
        }
        report
    }

    /// Kills it where it stands.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Gives the last order, and tells whether it ended well.
    pub fn ends_well(mut self, order: Order) -> bool {
        self.order(order, None);
        while self.report().is_some() {}
        self.child.wait().unwrap().success()
    }

    /// Has it undo what it began.
    pub fn abort(self) {
        self.end_with(Order::Abort);
    }

    /// Has it leave what it has staged to the next one.
    pub fn leave(self) {
        self.end_with(Order::Leave);
    }

    /// Goes away without a word, as a killed agent.
    pub fn hang_up(mut self) {
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.socket),
            nix::sys::socket::Shutdown::Both,
        )
        .unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn end_with(mut self, order: Order) {
        self.order(order, None);
        assert_eq!(self.report(), None);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What Dovecot would tell, as a file; fields are separated by blanks, or by TABs if there is one.
pub fn told(lines: &[&str]) -> OwnedFd {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    writeln!(file, "mailbox\tmessages\trecent\tuidnext\tuidvalidity\thighestmodseq\tguid").unwrap();
    for line in lines {
        writeln!(file, "{}", if line.contains('\t') { (*line).to_owned() } else { line.replace(' ', "\t") })
            .unwrap();
    }
    file.into()
}
