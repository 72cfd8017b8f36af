//! Both ends over real sockets: an agent that answers, is silent, hangs up, talks nonsense, has no room; peers that pass
//! what they should not.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use mailready_protocol::{
    Answer, AnswerError, ClientError, Deadlines, Kind, Phase, Progress, Reason, ReceiveError, Received,
    Request, Service, Source, User, Wait, announce, recv_request, send_answer, tell,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, listen,
    send, sendmsg, socket, socketpair,
};

/// Long enough for any machine under load; the tests that wait for it to pass would be slow, so none does.
const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(50);

fn request(kind: Kind, wait: Duration) -> Request {
    Request {
        kind,
        source: Source::Script,
        phase: Phase::None,
        user: User::new(b"ann").unwrap(),
        service: Service::default(),
        wait: Wait::new(wait),
    }
}

fn patient() -> Deadlines {
    Deadlines { first: LONG, beat: LONG, total: LONG }
}

/// A socket that listens, in a folder of its own.
struct Door {
    socket: OwnedFd,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Door {
    fn open(backlog: i32) -> Door {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrival.sock");
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&socket, Backlog::new(backlog).unwrap()).unwrap();
        Door { socket, path, _folder: folder }
    }

    fn accept(&self) -> OwnedFd {
        use std::os::fd::FromRawFd;
        let fd = accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
        #[expect(unsafe_code, reason = "nix gives accepted sockets as numbers")]
        // SAFETY: accept4 has just made it for us.
        unsafe {
            OwnedFd::from_raw_fd(fd)
        }
    }

    /// An agent for one connection: takes the request, then does as the script says.
    fn once(self, script: impl FnOnce(&OwnedFd, Received) + Send + 'static) -> (PathBuf, JoinHandle<()>) {
        let path = self.path.clone();
        let agent = spawn(move || {
            let connection = self.accept();
            let received = take(&connection).unwrap();
            script(&connection, received);
        });
        (path, agent)
    }
}

fn take(connection: &OwnedFd) -> Result<Received, ReceiveError> {
    poll(&mut [PollFd::new(connection.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    recv_request(connection.as_fd())
}

fn await_hangup(connection: &OwnedFd) {
    poll(&mut [PollFd::new(connection.as_fd(), PollFlags::empty())], PollTimeout::NONE).unwrap();
}

fn ask(path: &Path, deadlines: Deadlines) -> (Result<Answer, ClientError>, Vec<Progress>) {
    let mut seen = Vec::new();
    let answer = announce(path, &request(Kind::Arrival, LONG), None, deadlines, &mut |progress| {
        seen.push(progress);
    });
    (answer, seen)
}

#[test]
fn waits_are_shown_and_the_last_word_counts() {
    let (path, agent) = Door::open(5).once(|connection, received| {
        assert_eq!(received.request, request(Kind::Arrival, LONG));
        for done in [0, 7] {
            send_answer(connection.as_fd(), Answer::Wait(Progress { done, total: 9 })).unwrap();
        }
        send_answer(connection.as_fd(), Answer::Ready).unwrap();
    });
    let (answer, seen) = ask(&path, patient());
    assert_eq!(answer, Ok(Answer::Ready));
    assert_eq!(seen, [Progress { done: 0, total: 9 }, Progress { done: 7, total: 9 }]);
    agent.join().unwrap();
}

#[test]
fn the_end_of_the_connection_is_an_answer() {
    let (path, agent) = Door::open(5).once(|_, _| {});
    assert_eq!(ask(&path, patient()).0, Ok(Answer::Stay(Reason::HungUp)));
    agent.join().unwrap();

    // Closed without the request having been read: the kernel calls that a reset.
    let door = Door::open(5);
    let path = door.path.clone();
    let agent = spawn(move || drop(door.accept()));
    assert_eq!(ask(&path, patient()).0, Ok(Answer::Stay(Reason::HungUp)));
    agent.join().unwrap();

    // An agent that ends with connections in its backlog resets those too.
    let door = Door::open(5);
    let path = door.path.clone();
    let client = spawn(move || ask(&path, patient()).0);
    poll(&mut [PollFd::new(door.socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    drop(door);
    assert_eq!(client.join().unwrap(), Ok(Answer::Stay(Reason::HungUp)));
}

#[test]
fn an_agent_that_died_in_the_middle_of_waiting_has_answered() {
    let (path, agent) = Door::open(5).once(|connection, _| {
        send_answer(connection.as_fd(), Answer::Wait(Progress::default())).unwrap();
    });
    assert_eq!(ask(&path, patient()).0, Ok(Answer::Stay(Reason::HungUp)));
    agent.join().unwrap();
}

#[test]
fn nobody_there_is_known_at_once() {
    let door = Door::open(5);
    let gone = door.path.with_file_name("no.sock");
    let connect = |errno, path: &Path| ClientError::Connect { path: path.to_owned(), errno };
    assert_eq!(ask(&gone, patient()).0, Err(connect(Errno::ENOENT, &gone)));
    assert_eq!(tell(&gone, &request(Kind::Arrival, LONG)), Err(connect(Errno::ENOENT, &gone)));
    drop(door.socket);
    assert_eq!(ask(&door.path, patient()).0, Err(connect(Errno::ECONNREFUSED, &door.path)));

    let long = Path::new("/").join("x".repeat(108));
    assert!(matches!(ask(&long, patient()).0, Err(ClientError::Socket { .. })));
}

#[test]
fn a_full_backlog_is_known_at_once() {
    let door = Door::open(0);
    let mut held = 0;
    let full = loop {
        match tell(&door.path, &request(Kind::Arrival, LONG)) {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
        assert!(held < 100, "the backlog never filled up");
    };
    assert_eq!(full, ClientError::Full { path: door.path.clone() });
    let begun = Instant::now();
    assert_eq!(ask(&door.path, patient()).0, Err(full));
    assert!(begun.elapsed() < LONG / 2);
}

#[test]
fn silence_ends_with_the_first_deadline() {
    let door = Door::open(5);
    let begun = Instant::now();
    let (answer, _) = ask(&door.path, Deadlines { first: SOON, beat: LONG, total: LONG });
    assert!(matches!(answer, Err(ClientError::Silent { .. })), "{answer:?}");
    assert!(begun.elapsed() >= SOON);
    assert!(begun.elapsed() < LONG / 2);
}

#[test]
fn a_wait_buys_one_beat_and_no_more() {
    let (path, agent) = Door::open(5).once(|connection, _| {
        send_answer(connection.as_fd(), Answer::Wait(Progress::default())).unwrap();
        await_hangup(connection);
    });
    let (answer, seen) = ask(&path, Deadlines { first: LONG, beat: SOON, total: LONG });
    assert!(matches!(answer, Err(ClientError::Silent { .. })), "{answer:?}");
    assert_eq!(seen.len(), 1);
    agent.join().unwrap();
}

#[test]
fn no_number_of_waits_gets_past_the_total() {
    let (path, agent) = Door::open(5).once(|connection, _| {
        // Until the client is gone, as fast as it reads.
        loop {
            match send_answer(connection.as_fd(), Answer::Wait(Progress::default())) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(connection.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut fds, PollTimeout::NONE).unwrap();
                }
                Err(_) => break,
            }
        }
    });
    let begun = Instant::now();
    let (answer, _) = ask(&path, Deadlines { first: LONG, beat: LONG, total: 4 * SOON });
    assert!(matches!(answer, Err(ClientError::Silent { .. })), "{answer:?}");
    assert!(begun.elapsed() < LONG / 2);
    agent.join().unwrap();
}

#[test]
fn half_an_answer_is_no_answer() {
    for (bytes, error) in [
        (Answer::Ready.encode()[..7].to_vec(), AnswerError::Length(7)),
        (vec![0; 2000], AnswerError::Length(1025)),
        (vec![0; 16], AnswerError::Magic),
    ] {
        let (path, agent) = Door::open(5).once(move |connection, _| {
            send(connection.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).unwrap();
            await_hangup(connection);
        });
        assert_eq!(ask(&path, patient()).0, Err(ClientError::Garbage { path, error }));
        agent.join().unwrap();
    }
}

#[test]
fn what_is_told_is_there_when_the_agent_comes_to_it() {
    let door = Door::open(5);
    tell(&door.path, &request(Kind::Arrival, Duration::ZERO)).unwrap();
    // The hook is long gone; its packet and its credentials are not.
    let connection = door.accept();
    assert_eq!(take(&connection).unwrap().request, request(Kind::Arrival, Duration::ZERO));
    let peer = nix::sys::socket::getsockopt(&connection, nix::sys::socket::sockopt::PeerCredentials).unwrap();
    assert_eq!(peer.pid(), std::process::id() as i32);
    // And answering it is an error, no signal.
    assert!(send_answer(connection.as_fd(), Answer::Taken).is_err());
    assert!(matches!(take(&connection), Err(ReceiveError::Closed)));
}

#[test]
fn a_lease_brings_its_socket() {
    let (session, other_end) = UnixStream::pair().unwrap();
    let (path, agent) = Door::open(5).once(move |connection, received| {
        assert_eq!(received.request.kind, Kind::Lease);
        let lease = received.lease.unwrap();
        let flags = FdFlag::from_bits_retain(fcntl(&lease, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
        // The very socket: what goes in here comes out at the session's other end.
        send(lease.as_raw_fd(), b"!", MsgFlags::MSG_NOSIGNAL).unwrap();
        send_answer(connection.as_fd(), Answer::Stay(Reason::Held)).unwrap();
    });
    let lease = request(Kind::Lease, LONG);
    let answer = announce(&path, &lease, Some(session.as_fd()), patient(), &mut |_| {});
    assert_eq!(answer, Ok(Answer::Stay(Reason::Held)));
    agent.join().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut &other_end, &mut byte).unwrap();
    assert_eq!(&byte, b"!");
}

/// Sends bytes and descriptors as no client of ours would, and gives what the agent makes of them.
fn receive(bytes: &[u8], descriptors: &[RawFd]) -> Result<Received, ReceiveError> {
    let (peer, connection) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<UnixAddr>(peer.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::empty(), None).unwrap();
    recv_request(connection.as_fd())
}

#[test]
fn what_does_not_belong_to_a_request_is_refused() {
    let (a, b) = UnixStream::pair().unwrap();
    let (a, b) = (a.as_raw_fd(), b.as_raw_fd());
    let null = File::open("/dev/null").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let arrival = request(Kind::Arrival, LONG).encode();
    let lease = request(Kind::Lease, LONG).encode();
    let many: Vec<RawFd> = [a, b].into_iter().cycle().take(200).collect();
    for (packet, kind, passed) in [
        (&lease, Kind::Lease, &[][..]),
        (&lease, Kind::Lease, &[a, b]),
        (&lease, Kind::Lease, &many),
        (&lease, Kind::Lease, &[null.as_raw_fd()]),
        (&lease, Kind::Lease, &[tcp.as_raw_fd()]),
        (&arrival, Kind::Arrival, &[a]),
        (&arrival, Kind::Arrival, &many),
    ] {
        match receive(packet, passed) {
            Err(ReceiveError::Descriptors(got, dropped)) => {
                assert_eq!(got, kind);
                assert_eq!(dropped.is_empty(), passed.is_empty());
            }
            other => panic!("{kind:?} with {passed:?}: {other:?}"),
        }
    }
    assert!(receive(&lease, &[a]).unwrap().lease.is_some());
    assert!(matches!(receive(&[b'M'; 1025], &[a]), Err(ReceiveError::Oversized(_))));
    assert!(matches!(receive(b"MR", &[a, b]), Err(ReceiveError::Packet(..))));
    assert!(matches!(receive(b"", &[]), Err(ReceiveError::Closed)));
    assert!(matches!(receive(b"", &[a]), Err(ReceiveError::Packet(..))));
}

#[test]
fn no_descriptor_stays_open_whatever_a_peer_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness");
    File::create(&path).unwrap();
    let witness = File::open(&path).unwrap();
    let lease = request(Kind::Lease, LONG).encode();
    for count in [1, 2, 3, 100, 253] {
        let passed = vec![witness.as_raw_fd(); count];
        drop(receive(&lease, &passed));
        drop(receive(&[b'M'; 1025], &passed));
    }
    // Told apart from everybody else's by what they show: only ours leads to this file.
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| *target == path)
        .count();
    assert_eq!(open, 1);
}

#[test]
fn nothing_to_receive_is_not_waited_for() {
    let (_peer, connection) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    match recv_request(connection.as_fd()) {
        Err(ReceiveError::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
}
