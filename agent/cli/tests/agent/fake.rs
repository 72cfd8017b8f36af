//! The agent from a script: it serves the real interface and does nothing.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailready_bus::{ConvertOptions, Converted, Details, Error, OBJECT, State, UserStatus, Verified};
use tempfile::TempDir;
use tokio::net::UnixListener;
use zbus::connection::Builder;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Guid, OwnedVariant, interface};

/// Makes an error of a text.
pub type Refusal = fn(String) -> Error;

/// What the agent will say.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Signals sent before Convert is answered.
    pub changes: Vec<(&'static str, State, Details)>,
    /// The answer to Convert.
    pub converted: Vec<Converted>,
    /// The answer to Status.
    pub statuses: Vec<UserStatus>,
    /// The answers to Rollback, by user.
    pub rolled_back: Vec<Converted>,
    /// The answers to Verify, by user.
    pub verified: Vec<Verified>,
    /// Every method is refused with this.
    pub refuse: Option<Refusal>,
    /// Convert is never answered.
    pub hang: bool,
}

struct Agent {
    script: Script,
    heard: Arc<Mutex<Vec<String>>>,
}

#[interface(name = "org.mailready.Agent1")]
impl Agent {
    async fn convert(
        &self,
        users: Vec<String>,
        options: ConvertOptions,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<Vec<Converted>, Error> {
        self.hear(format!("convert {users:?} {options:?}"))?;
        for (user, state, details) in &self.script.changes {
            Self::mailbox_changed(&emitter, user, state.as_str(), details.clone()).await?;
        }
        if self.script.hang {
            std::future::pending::<()>().await;
        }
        Ok(self.script.converted.clone())
    }

    async fn status(
        &self,
        users: Vec<String>,
        _options: HashMap<String, OwnedVariant>,
    ) -> Result<Vec<UserStatus>, Error> {
        self.hear(format!("status {users:?}"))?;
        Ok(self.script.statuses.clone())
    }

    async fn rollback(
        &self,
        user: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<Converted, Error> {
        self.hear(format!("rollback {user}"))?;
        for (user, state, details) in &self.script.changes {
            Self::mailbox_changed(&emitter, user, state.as_str(), details.clone()).await?;
        }
        let answer = self.script.rolled_back.iter().find(|answer| answer.user == user);
        answer.cloned().ok_or_else(|| Error::NoSuchUser("no such user".to_owned()))
    }

    async fn verify(&self, user: &str) -> Result<Verified, Error> {
        self.hear(format!("verify {user}"))?;
        let answer = self.script.verified.iter().find(|answer| answer.user == user);
        answer.cloned().ok_or_else(|| Error::NoSuchUser("no such user".to_owned()))
    }

    async fn hold(&self, user: &str, until: u64, why: &str) -> Result<(), Error> {
        self.hear(format!("hold {user} {until} {why:?}"))
    }

    async fn release(&self, user: &str) -> Result<(), Error> {
        self.hear(format!("release {user}"))
    }

    #[zbus(signal)]
    async fn mailbox_changed(
        emitter: &SignalEmitter<'_>,
        user: &str,
        state: &str,
        details: Details,
    ) -> zbus::Result<()>;
}

impl Agent {
    fn hear(&self, what: String) -> Result<(), Error> {
        self.heard.lock().unwrap().push(what);
        match self.script.refuse {
            Some(error) => Err(error("as the script \u{1b}[31msays".to_owned())),
            None => Ok(()),
        }
    }
}

/// A running fake: its folder holds the configuration and the socket.
pub struct Fake {
    dir: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
    /// Dropping it ends all connections.
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    /// Starts one; it listens when this returns.
    pub fn start(script: Script) -> Self {
        let dir = folder();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(dir.path().join("control.sock")).unwrap()
        };
        runtime.spawn(serve(listener, script, Arc::clone(&heard)));
        Self { dir, heard, _runtime: runtime }
    }

    /// Runs `mailready` against it.
    pub fn run(&self, args: &[&str]) -> Output {
        run(self.dir.path(), args)
    }

    /// The command line of `mailready` against it, for a shell.
    pub fn command_line(&self, args: &str) -> String {
        let config = self.dir.path().join("mailready.toml");
        format!("{} --config {} {args}", env!("CARGO_BIN_EXE_mailready"), config.display())
    }

    /// What was asked of it so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(listener: UnixListener, script: Script, heard: Arc<Mutex<Vec<String>>>) {
    let guid = Guid::generate();
    let mut connections: Vec<Connection> = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let agent = Agent { script: script.clone(), heard: Arc::clone(&heard) };
        let connection = Builder::unix_stream(stream.into_std().unwrap())
            .server(guid.clone())
            .p2p()
            .serve_at(OBJECT, agent)
            .build()
            .await;
        connections.extend(connection);
    }
}

/// A folder with a configuration whose control socket lies in it.
pub fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let text = format!("[agent]\ncontrol = {:?}\n", socket.to_str().unwrap());
    std::fs::write(dir.path().join("mailready.toml"), text).unwrap();
    dir
}

/// Runs `mailready` with the configuration in a folder, for a minute at most.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new("timeout")
        .arg("60")
        .arg(env!("CARGO_BIN_EXE_mailready"))
        .arg("--config")
        .arg(dir.join("mailready.toml"))
        .args(args)
        .env("TZ", "UTC")
        .output()
        .unwrap()
}

/// Waits until something is so, for ten seconds at most.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never happened: {what}");
}

/// What a program said on stdout.
pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What a program said on stderr.
pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}
