//! Sessions and their leases: who has been told which mailbox to open, and lives.
//!
//! A lease is bound to a process by a pidfd, and ends when that process ends, by no clock. Between `enter_commit` and the end of the commit no new `Stay` is
//! bound except by a script that has already gone its own way, and that one meets the mailbox's locks and then the tombstone. While a rollback has closed a mailbox nothing is bound at all:
//! the Maildir is about to go and the mbox not there yet.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Bind, LeaseId};
use crate::account::MailboxKey;

/// A process, held so that its number cannot come to mean another.
pub(super) struct Process {
    pidfd: OwnedFd,
    pid: u32,
}

impl Process {
    /// The process at the other end of a socket.
    fn behind(socket: &OwnedFd) -> io::Result<(Self, u32)> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        let pid = u32::try_from(credentials.pid()).map_err(|_| io::Error::from(Errno::ESRCH))?;
        let pidfd = match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => pidfd,
            // Before Linux 6.5: by number, as long as it has not been given out again. Its uid is looked at after that.
            Err(_) => Self::open(pid)?.pidfd,
        };
        Ok((Self { pidfd, pid }, credentials.uid()))
    }

    /// By number; the caller looks at what it has got.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let raw =
            i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::from(Errno::ESRCH))?;
        Ok(Self { pidfd: pidfd_open(raw, PidfdFlags::empty())?, pid })
    }

    /// Whose it is; meaningful while it lives.
    pub(super) fn uid(&self) -> io::Result<u32> {
        use std::os::unix::fs::MetadataExt;
        let uid = std::fs::metadata(format!("/proc/{}", self.pid))?.uid();
        if self.has_ended() { Err(io::Error::from(Errno::ESRCH)) } else { Ok(uid) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The program's name as the kernel has it: `imap`, `pop3`.
    pub(super) fn name(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim().to_owned()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end at most so long.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX)), Ok(n) if n > 0)
    }

    /// Asks it to end, as `doveadm kick` does.
    pub(super) fn terminate(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::TERM)?)
    }
}

struct Lease {
    key: MailboxKey,
    process: Process,
    bound: Option<Bind>,
}

#[derive(Default)]
struct State {
    next: u64,
    leases: HashMap<LeaseId, Lease>,
    committing: HashSet<MailboxKey>,
    rolling_back: HashSet<MailboxKey>,
}

impl State {
    fn living(&self, key: &MailboxKey, told: Bind) -> impl Iterator<Item = &Lease> {
        let lives = move |lease: &&Lease| {
            lease.key == *key && lease.bound == Some(told) && !lease.process.has_ended()
        };
        self.leases.values().filter(lives)
    }
}

/// Whether a process of `peer` may be the session of user `uid`: imap and pop3 are still root's while the post-login script runs. A user who passes some other root's
/// socket off as a session keeps nothing back but the own commit, which a hold does as well.
fn may_be_session(peer: u32, uid: u32) -> bool {
    peer == uid || peer == 0
}

/// All leases of all mailboxes.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
}

impl Sessions {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is a single insertion or removal: a panic elsewhere cannot have left it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, key: MailboxKey, uid: u32, session: &OwnedFd) -> io::Result<LeaseId> {
        let (process, peer) = Process::behind(session)?;
        if !may_be_session(peer, uid) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the session's process is uid {peer}'s"),
            ));
        }
        let mut state = self.state();
        state.leases.retain(|_, lease| !lease.process.has_ended());
        state.next += 1;
        let id = LeaseId(state.next);
        state.leases.insert(id, Lease { key, process, bound: None });
        Ok(id)
    }

    /// Binds a lease, unless that answer may not be given now. `on_maildir` tells of a mailbox, under the same lock that a commit is entered with, whether it is on Maildir.
    pub(super) fn bind(&self, id: LeaseId, answer: Bind, on_maildir: impl Fn(&MailboxKey) -> bool) -> bool {
        let mut state = self.state();
        let State { leases, committing, rolling_back, .. } = &mut *state;
        let Some(lease) = leases.get_mut(&id) else { return true };
        let allowed = match answer {
            _ if rolling_back.contains(&lease.key) => false,
            Bind::Stay => !committing.contains(&lease.key),
            Bind::Ready => on_maildir(&lease.key),
        };
        if allowed {
            lease.bound = Some(answer);
        }
        allowed
    }

    pub(super) fn abandoned(&self, id: LeaseId) {
        if let Some(lease) = self.state().leases.get_mut(&id) {
            lease.bound = Some(Bind::Stay);
        }
    }

    /// Processes of living sessions that were told so.
    pub(super) fn living(&self, key: &MailboxKey, told: Bind) -> Vec<u32> {
        let state = self.state();
        state.living(key, told).map(|lease| lease.process.pid).collect()
    }

    /// Closes the mailbox for `Stay` until the guard is dropped; `None` if a session stays already.
    pub(super) fn enter_commit(&self, key: &MailboxKey) -> Option<Committing<'_>> {
        let mut state = self.state();
        let stays = state.living(key, Bind::Stay).next().is_some();
        (!stays && state.committing.insert(key.clone()))
            .then(|| Committing { sessions: self, key: key.clone() })
    }

    /// Closes the mailbox for every session until [`Sessions::reopen`]; those that ask meanwhile wait.
    pub(super) fn close(&self, key: &MailboxKey) {
        self.state().rolling_back.insert(key.clone());
    }

    /// A rollback has come to its end, or was given up.
    pub(super) fn reopen(&self, key: &MailboxKey) {
        self.state().rolling_back.remove(key);
    }

    /// Waits until a session that was listed has ended.
    pub(super) fn wait_ended(processes: &[Process], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        processes.iter().all(|process| process.wait(deadline.saturating_duration_since(Instant::now())))
    }
}

/// While this lives, no session is told to open the mbox.
pub(super) struct Committing<'a> {
    sessions: &'a Sessions,
    key: MailboxKey,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.sessions.state().committing.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn key() -> MailboxKey {
        MailboxKey { uid: nix::unistd::getuid().as_raw(), inbox: "/var/mail/ann".into() }
    }

    /// A process that holds the other end of a socket, as imap does while the post-login script runs.
    fn session() -> (std::process::Child, OwnedFd) {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.send(b'x')\nsys.stdin.read()";
        let child =
            Command::new("python3").args(["-c", script]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        let mut socket = listener.accept().unwrap().0;
        socket.read_exact(&mut [0]).unwrap();
        (child, socket.into())
    }

    #[test]
    fn a_stay_holds_the_commit_back_until_its_process_ends() {
        let sessions = Sessions::default();
        let (mut child, socket) = session();
        let lease = sessions.register(key(), key().uid, &socket).unwrap();
        drop(sessions.enter_commit(&key()).expect("not bound yet"));
        assert!(sessions.bind(lease, Bind::Stay, |_| false));
        assert_eq!(sessions.living(&key(), Bind::Stay).len(), 1);
        assert!(sessions.living(&key(), Bind::Ready).is_empty());
        assert!(sessions.enter_commit(&key()).is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sessions.living(&key(), Bind::Stay).is_empty());
        assert!(sessions.enter_commit(&key()).is_some());
    }

    #[test]
    fn no_stay_is_given_during_a_commit_and_ready_is() {
        let sessions = Sessions::default();
        let (mut child, socket) = session();
        let lease = sessions.register(key(), key().uid, &socket).unwrap();
        let committing = sessions.enter_commit(&key()).unwrap();
        assert!(!sessions.bind(lease, Bind::Stay, |_| true));
        assert!(!sessions.bind(lease, Bind::Ready, |_| false), "there is no Maildir yet");
        assert!(sessions.bind(lease, Bind::Ready, |_| true));
        drop(committing);
        assert!(sessions.bind(lease, Bind::Stay, |_| true));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn nothing_is_bound_while_a_rollback_has_closed_the_mailbox() {
        let sessions = Sessions::default();
        let (mut child, socket) = session();
        let lease = sessions.register(key(), key().uid, &socket).unwrap();
        sessions.close(&key());
        assert!(!sessions.bind(lease, Bind::Ready, |_| true));
        assert!(!sessions.bind(lease, Bind::Stay, |_| true));
        sessions.reopen(&key());
        assert!(sessions.bind(lease, Bind::Ready, |_| true));
        assert_eq!(sessions.living(&key(), Bind::Ready).len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn another_users_process_is_no_session() {
        assert!(may_be_session(1001, 1001));
        assert!(may_be_session(0, 1001));
        assert!(!may_be_session(1002, 1001));
    }
}
