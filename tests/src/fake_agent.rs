//! An agent that does what a test tells it to: answers, or fails in one of the ways in which agents fail.
//!
//! It is a program of its own ([`serve`] is all of it), because some of the ways take a process: being stopped, being killed
//! with connections in the backlog.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use mailready_protocol::{Answer, Progress, Reason, Received, recv_request, send_answer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, send,
    socket, sockopt,
};
use nix::unistd::Pid;

/// How long a test waits for the fake agent before it gives up. Only failing tests wait so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the agent does with each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Play {
    /// Answers `taken`.
    Taken,
    /// Answers `ready`.
    Ready,
    /// Sends two `wait` frames, makes this file, answers `ready`: a commit while a login waits.
    Commit(PathBuf),
    /// Answers `stay held`.
    Stay,
    /// Answers `refused unknown-user`.
    Refused,
    /// Answers `wait`, and nothing after that.
    Wait,
    /// Sends seven of an answer's sixteen bytes.
    Half,
    /// Sends sixteen bytes that are no answer.
    Garbage,
    /// Takes the request and closes.
    Close,
    /// Takes the request and never answers.
    Mute,
    /// Accepts and does nothing more: hung.
    Hang,
    /// Never accepts.
    Deaf,
}

impl Play {
    fn word(&self) -> String {
        match self {
            Play::Commit(path) => format!("commit:{}", path.display()),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn from_word(word: &str) -> Option<Play> {
        if let Some(path) = word.strip_prefix("commit:") {
            return Some(Play::Commit(path.into()));
        }
        let plays = [
            Play::Taken,
            Play::Ready,
            Play::Stay,
            Play::Refused,
            Play::Wait,
            Play::Half,
            Play::Garbage,
            Play::Close,
            Play::Mute,
            Play::Hang,
            Play::Deaf,
        ];
        plays.into_iter().find(|play| play.word() == word)
    }
}

/// A running fake agent; killed when dropped, its socket removed.
pub struct FakeAgent {
    child: Child,
    lines: Receiver<String>,
    socket: PathBuf,
}

impl FakeAgent {
    /// Starts `program` (the test suite's `fake-agent`) and returns once it listens.
    ///
    /// # Errors
    /// What kept it from listening.
    pub fn start(program: &Path, socket: &Path, backlog: i32, play: &Play) -> Result<FakeAgent, String> {
        let mut child = Command::new(program)
            .args([socket.as_os_str(), backlog.to_string().as_ref(), play.word().as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let agent = FakeAgent { child, lines, socket: socket.to_owned() };
        match agent.lines.recv_timeout(PATIENCE) {
            Ok(line) if line == "listening" => Ok(agent),
            other => Err(format!("the fake agent does not listen: {other:?}")),
        }
    }

    /// The next request that it received, in words: kind, source, phase, user, service, wait, and the pid at the
    /// lease's other end if there was a lease.
    ///
    /// # Errors
    /// None came.
    pub fn next_request(&self) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(PATIENCE)
    }

    /// A request that it has received already.
    #[must_use]
    pub fn requests_so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Stops it, as an administrator's debugger would (SIGSTOP).
    ///
    /// # Errors
    /// It is not running any more.
    pub fn stop(&self) -> nix::Result<()> {
        kill(self.pid(), Signal::SIGSTOP)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn pid(&self) -> Pid {
        // Process ids fit: the kernel's own type is signed.
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// The program: `fake-agent SOCKET BACKLOG PLAY`. Prints `listening`, then a line for each request, until it is killed or
/// nobody reads its lines any more.
///
/// # Errors
/// Its arguments or its socket are no good.
pub fn serve(args: &[String]) -> Result<(), String> {
    let [path, backlog, play] = args else { return Err("fake-agent SOCKET BACKLOG PLAY".to_owned()) };
    let backlog =
        backlog.parse::<i32>().ok().and_then(|backlog| Backlog::new(backlog).ok()).ok_or("BACKLOG")?;
    let play = Play::from_word(play).ok_or_else(|| format!("no such play: {play}"))?;
    let wrong = |error: nix::Error| format!("{path}: {error}");
    let listener =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(wrong)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(Path::new(path)).map_err(wrong)?).map_err(wrong)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
        .map_err(|error| format!("{path}: {error}"))?;
    listen(&listener, backlog).map_err(wrong)?;
    say("listening")?;
    if play == Play::Deaf {
        loop {
            thread::park();
        }
    }
    let mut held = Vec::new();
    loop {
        let connection = accept(&listener).map_err(wrong)?;
        if play == Play::Hang {
            held.push(connection);
            continue;
        }
        let play = play.clone();
        thread::spawn(move || {
            if let Err(error) = converse(&connection, &play) {
                // The conversation failed at the client's end, or the test is over.
                let _ = say(&format!("error {error}"));
            }
        });
    }
}

#[expect(unsafe_code, reason = "nix gives an accepted socket as a number")]
fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn converse(connection: &OwnedFd, play: &Play) -> Result<(), String> {
    let mut readable = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
    poll(&mut readable, PollTimeout::NONE).map_err(|error| error.to_string())?;
    let received = recv_request(connection.as_fd()).map_err(|error| error.to_string())?;
    say(&in_words(&received))?;
    let answer = |answer| {
        // Most who only announce are gone by now.
        let _ = send_answer(connection.as_fd(), answer);
    };
    let raw = |bytes: &[u8]| {
        let _ = send(connection.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
    };
    match play {
        Play::Taken => answer(Answer::Taken),
        Play::Ready => answer(Answer::Ready),
        Play::Commit(path) => {
            answer(Answer::Wait(Progress { done: 0, total: 2 }));
            answer(Answer::Wait(Progress { done: 1, total: 2 }));
            fs::write(path, "").map_err(|error| format!("{}: {error}", path.display()))?;
            answer(Answer::Ready);
        }
        Play::Stay => answer(Answer::Stay(Reason::Held)),
        Play::Refused => answer(Answer::Refused(Reason::UnknownUser)),
        Play::Wait => {
            answer(Answer::Wait(Progress::default()));
            until_hangup(connection);
        }
        Play::Half => {
            raw(&Answer::Ready.encode()[..7]);
            until_hangup(connection);
        }
        Play::Garbage => {
            raw(&[0xff; Answer::LEN]);
            until_hangup(connection);
        }
        Play::Mute => until_hangup(connection),
        Play::Close | Play::Hang | Play::Deaf => {}
    }
    Ok(())
}

fn until_hangup(connection: &OwnedFd) {
    // POLLHUP is always looked for; an error ends the wait as well.
    let _ = poll(&mut [PollFd::new(connection.as_fd(), PollFlags::empty())], PollTimeout::NONE);
}

fn in_words(received: &Received) -> String {
    let request = &received.request;
    let lease = received
        .lease
        .as_ref()
        .and_then(|socket| getsockopt(socket, sockopt::PeerCredentials).ok())
        .map_or("-".to_owned(), |peer| peer.pid().to_string());
    format!(
        "{:?} {} {:?} user={} service={} wait={}ms lease={lease}",
        request.kind,
        request.source,
        request.phase,
        request.user,
        request.service,
        request.wait.duration().as_millis(),
    )
}
