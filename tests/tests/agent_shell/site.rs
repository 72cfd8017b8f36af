//! An agent in this process, in a folder of its own, with users of its own.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use mailready_agent::account::{Account, SharedAccount};
use mailready_agent::flow::Mailboxes;
use mailready_agent::holds::Holds;
use mailready_agent::lifecycle::{Command, Parts, serve};
use mailready_agent::records::Records;
use mailready_agent::settings::Settings;
use mailready_agent::sockets::Sockets;
use mailready_agent::users::{Entry, Users};
use mailready_config::Config;
use mailready_protocol::{
    Answer, ClientError, Deadlines, Kind, Phase, Progress, Request, Service, Source, User, Wait, announce,
};
use mailready_tests::lab::{PATIENCE, eventually};
use nix::libc;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::twin::Twin;

/// The uid of `ann`; the others follow.
pub const ANN: u32 = 41_000;
pub const USERS: [&str; 5] = ["ann", "bob", "cid", "dan", "eve"];

pub struct Site {
    pub folder: tempfile::TempDir,
    pub twin: Arc<Twin>,
    commands: mpsc::Sender<Command>,
    ended: std_mpsc::Receiver<Result<(), String>>,
    pub runtime: Runtime,
    /// Names that were looked up.
    pub looked_up: Arc<Mutex<Vec<String>>>,
}

/// What a site may be set up with.
pub struct Setup {
    pub config: String,
    /// `agent.bus`.
    pub bus: String,
    /// Look-ups of names that begin with `slow` wait for this.
    pub slow: Option<std_mpsc::Receiver<()>>,
}

impl Site {
    /// With everybody to be converted.
    pub fn new() -> Site {
        Site::with("[users]\nconvert = \"all\"\n")
    }

    pub fn with(config: &str) -> Site {
        Site::set_up(Setup { config: config.to_owned(), bus: "none".to_owned(), slow: None })
    }

    pub fn set_up(setup: Setup) -> Site {
        // Binding sets the umask of the process; a folder made at that moment could not be entered.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path();
        write_config(root, &setup.config, &setup.bus);
        let file = root.join("mailready.toml");
        let settings = Settings::with_worker(Config::load(Some(&file)).unwrap(), "/bin/true".into()).unwrap();
        let state = root.join("state");
        fs::create_dir(&state).unwrap();
        let looked_up = Arc::new(Mutex::new(Vec::new()));
        let parts = Parts {
            config_file: Some(file),
            users: users(Arc::clone(&looked_up), setup.slow),
            holds: Holds::open(&state).unwrap().0,
            records: Records::open(&state).unwrap().0,
            sockets: Sockets::open(&settings.config).unwrap(),
            settings,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let twin = Arc::new(Twin::default());
        let (commands, to_agent) = mpsc::channel(8);
        let (tell, ended) = std_mpsc::channel();
        let mailboxes = Arc::clone(&twin);
        runtime.spawn(async move {
            let open = |_, _| -> io::Result<Arc<dyn Mailboxes>> { Ok(mailboxes) };
            let _ = tell.send(serve(parts, open, to_agent).await.map_err(|failure| failure.to_string()));
        });
        Site { folder, twin, commands, ended, runtime, looked_up }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn arrival_socket(&self) -> PathBuf {
        self.path("arrival.sock")
    }

    pub fn self_socket(&self) -> PathBuf {
        self.path("self.sock")
    }

    pub fn write_config(&self, text: &str) {
        write_config(self.folder.path(), text, "none");
    }

    pub fn tell(&self, command: Command) {
        self.commands.blocking_send(command).unwrap();
    }

    /// Waits for the end of the agent.
    pub fn ended(&self) -> Result<(), String> {
        self.ended.recv_timeout(PATIENCE).unwrap()
    }

    /// As root's programs do.
    pub fn announce(&self, user: &str) -> Answer {
        announce_at(&self.arrival_socket(), &arrival(user, Duration::ZERO), None).unwrap()
    }

    /// The same, ready to wait.
    pub fn announce_and_wait(&self, user: &str, wait: Duration) -> Answer {
        announce_at(&self.arrival_socket(), &arrival(user, wait), None).unwrap()
    }

    /// The same in a thread of its own, since it waits for what the test is going to do.
    pub fn waiting(&self, user: &str, wait: Duration) -> thread::JoinHandle<Answer> {
        let (path, request) = (self.arrival_socket(), arrival(user, wait));
        thread::spawn(move || announce_at(&path, &request, None).unwrap())
    }

    /// A lease, asked for by a root's post-login script, in a thread of its own.
    pub fn lease(&self, user: &str, wait: Duration) -> thread::JoinHandle<Answer> {
        let path = self.arrival_socket();
        let request = Request { kind: Kind::Lease, source: Source::Dovecot, ..arrival(user, wait) };
        thread::spawn(move || {
            let (session, _imap) = UnixStream::pair().unwrap();
            announce_at(&path, &request, Some(session.as_fd())).unwrap()
        })
    }

    pub fn eventually(&self, what: &str, probe: impl FnMut() -> bool) {
        let mut probe = probe;
        eventually(what, || format!("{:?}", self.twin.heard()), || probe().then_some(())).unwrap();
    }

    pub fn account(&self, user: &str) -> SharedAccount {
        let entry = entry(user).unwrap();
        let root = self.folder.path();
        Arc::new(Account {
            inbox: root.join("spool").join(user),
            folders: None,
            maildir: entry.home.join("Maildir"),
            work: entry.home.join(".mailready"),
            archive: root.join("spool/.mailready"),
            home: entry.home,
            uid: entry.uid,
            gid: entry.gid,
            name: entry.name,
        })
    }
}

fn write_config(root: &Path, text: &str, bus: &str) {
    let path = |name: &str| root.join(name).display().to_string();
    let text = format!(
        "{text}\n[agent]\nsocket = {:?}\nself_socket = {:?}\ncontrol = {:?}\nstate = {:?}\nbus = {bus:?}\n\
         [mail]\ninbox = {:?}\narchive = {:?}\nfolders = \"\"\n[site]\nreaders = []\n",
        path("arrival.sock"),
        path("self.sock"),
        path("control.sock"),
        path("state"),
        path("spool/%u"),
        path("spool/.mailready"),
    );
    // By rename, as administrators' tools do, so that nobody reads half of it.
    fs::write(root.join("new.toml"), text).unwrap();
    fs::rename(root.join("new.toml"), root.join("mailready.toml")).unwrap();
}

fn users(looked_up: Arc<Mutex<Vec<String>>>, slow: Option<std_mpsc::Receiver<()>>) -> Users {
    let slow = Mutex::new(slow);
    Users::of(Arc::new(move |name: &str| {
        looked_up.lock().unwrap().push(name.to_owned());
        if name.starts_with("slow")
            && let Some(slow) = &*slow.lock().unwrap()
        {
            let _ = slow.recv();
        }
        Ok(entry(name.strip_prefix("slow-").unwrap_or(name)))
    }))
}

fn entry(name: &str) -> Option<Entry> {
    let at = USERS.iter().position(|user| *user == name)?;
    let uid = ANN + u32::try_from(at).unwrap();
    Some(Entry { name: name.into(), uid, gid: uid, home: format!("/home/{name}").into() })
}

pub fn arrival(user: &str, wait: Duration) -> Request {
    Request {
        kind: Kind::Arrival,
        source: Source::Pam,
        phase: Phase::Session,
        user: User::new(user.as_bytes()).unwrap(),
        service: Service::new(b"imap").unwrap(),
        wait: Wait::new(wait),
    }
}

/// Patient with a loaded machine; how fast the first answer comes is one test's question.
pub fn announce_at(
    path: &Path,
    request: &Request,
    session: Option<BorrowedFd<'_>>,
) -> Result<Answer, ClientError> {
    announce_watching(path, request, session, &mut |_| {})
}

pub fn announce_watching(
    path: &Path,
    request: &Request,
    session: Option<BorrowedFd<'_>>,
    on_wait: &mut dyn FnMut(Progress),
) -> Result<Answer, ClientError> {
    let deadlines = Deadlines { first: PATIENCE, beat: PATIENCE, total: 2 * PATIENCE };
    announce(path, request, session, deadlines, on_wait)
}

/// Whether this test can be other users; says so if not.
pub fn can_be_others() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        mailready_tests::lab::skip("only root can be other users");
    }
    root
}

/// Does something as another user, in a thread of its own.
pub fn as_uid<T: Send + 'static>(
    uid: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        become_uid(uid);
        work()
    })
}

#[expect(unsafe_code, reason = "the C library's functions would change all threads")]
fn become_uid(uid: u32) {
    let none: libc::c_long = -1;
    // SAFETY: plain system calls with integers and an empty list. In Linux credentials belong to the thread, and this one ends with its test.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, none, libc::c_long::from(uid), none),
            libc::syscall(libc::SYS_setresuid, none, libc::c_long::from(uid), none),
        ]
    };
    assert_eq!(results, [0; 3], "{}", io::Error::last_os_error());
}
