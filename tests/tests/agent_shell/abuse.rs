//! What a local user can do to the agent, and what that does not do to anybody else.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mailready_protocol::{Answer, ClientError, PACKET_MAX, Reason};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::site::{ANN, Site, announce_at, arrival, as_uid, can_be_others};
use crate::twin::converted;

/// A connection that says nothing by itself.
fn connected(path: &Path) -> io::Result<OwnedFd> {
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(path)?)?;
    setsockopt(&connection, sockopt::ReceiveTimeout, &TimeVal::new(20, 0))?;
    Ok(connection)
}

fn say(connection: &OwnedFd, packet: &[u8], descriptors: &[i32]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let parts = [io::IoSlice::new(packet)];
    sendmsg::<UnixAddr>(connection.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// What the agent says last before it closes; None if it closes without a word.
fn last_word(connection: &OwnedFd) -> Option<Answer> {
    let mut packet = [0; 64];
    let mut last = None;
    loop {
        match recv(connection.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(0) => return last,
            Ok(len) => last = Some(Answer::decode(&packet[..len]).unwrap()),
            Err(nix::errno::Errno::ECONNRESET) => return last,
            Err(errno) => panic!("the agent neither answers nor closes: {errno}"),
        }
    }
}

/// How often this process has the file behind a descriptor open.
fn openings(of: &OwnedFd) -> usize {
    let target = |path: &Path| fs::read_link(path).ok();
    let wanted = target(Path::new(&format!("/proc/self/fd/{}", of.as_raw_fd())));
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|entry| wanted.is_some() && target(&entry.path()) == wanted).count()
}

#[test]
fn what_is_no_request_is_refused_and_costs_nothing() {
    let site = Site::new();
    // A changed bit may make it a wait.
    site.twin.end("ann", converted());
    let good = arrival("ann", Duration::ZERO).encode();
    let mut garbage: Vec<Vec<u8>> =
        vec![vec![0], vec![0xff; PACKET_MAX], b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 4 * PACKET_MAX]];
    for at in 0..good.len() {
        garbage.push(good[..at].to_vec());
    }
    for at in 0..16 {
        let mut changed = good.clone();
        changed[at] ^= 0x80;
        garbage.push(changed);
    }
    for packet in garbage.iter().filter(|packet| !packet.is_empty()) {
        let connection = connected(&site.arrival_socket()).unwrap();
        say(&connection, packet, &[]).unwrap();
        let word = last_word(&connection);
        let refused = matches!(word, Some(Answer::Refused(_)));
        // Of one that still has its length some bits may change without making it senseless.
        let senseless = packet.len() != good.len();
        assert!(refused || !senseless && word.is_some(), "{packet:?}: {word:?}");
    }
    assert_eq!(site.announce("ann"), Answer::Taken);
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let site = Site::new();
    let good = arrival("ann", Duration::ZERO).encode();
    let (pipe, other) = nix::unistd::pipe().unwrap();
    drop(other);
    for round in 0..200 {
        let connection = connected(&site.arrival_socket()).unwrap();
        let many: Vec<i32> = (0..1 + round % 20).map(|_| pipe.as_raw_fd()).collect();
        say(&connection, &good, &many).unwrap();
        assert_eq!(last_word(&connection), Some(Answer::Refused(Reason::Malformed)));
    }
    site.eventually("only ours is open", || openings(&pipe) == 1);
}

#[test]
fn silent_connections_fill_one_users_share_and_end_by_themselves() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let path = site.self_socket();
    // More than the door lets in of all users together.
    let silent = as_uid(ANN, move || (0..300).map(|_| connected(&path).unwrap()).collect::<Vec<_>>());
    let silent = silent.join().unwrap();
    let path = site.self_socket();
    let bob = as_uid(ANN + 1, move || {
        loop {
            // The backlog may still be full of those that are about to be closed.
            match announce_at(&path, &arrival("bob", Duration::ZERO), None) {
                Err(ClientError::Full { .. }) => std::thread::yield_now(),
                answer => return answer.unwrap(),
            }
        }
    });
    assert_eq!(bob.join().unwrap(), Answer::Taken, "another user has a share of its own");
    assert_eq!(site.announce("cid"), Answer::Taken);
    // All end: those over the limit at once, the others at their deadline.
    for connection in &silent {
        assert_eq!(last_word(connection), None);
    }
    let path = site.self_socket();
    let ann = as_uid(ANN, move || announce_at(&path, &arrival("ann", Duration::ZERO), None).unwrap());
    assert_eq!(ann.join().unwrap(), Answer::Taken, "and then there is room again");
}

#[test]
fn a_flood_by_users_hides_nothing_that_root_says() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let stop = Arc::new(AtomicBool::new(false));
    let flooded = Arc::new(AtomicUsize::new(0));
    let floods: Vec<_> = (0..4)
        .map(|n| {
            let (path, stop, flooded) = (site.self_socket(), Arc::clone(&stop), Arc::clone(&flooded));
            as_uid(ANN + n % 2, move || {
                let packet = arrival("zed", Duration::from_secs(20)).encode();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(connection) = connected(&path) {
                        let _ = say(&connection, &packet, &[]);
                        flooded.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    site.eventually("the flood runs", || flooded.load(Ordering::Relaxed) > 100);
    for _ in 0..100 {
        for user in ["ann", "bob", "cid"] {
            assert_eq!(site.announce(user), Answer::Taken);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    assert_eq!(site.twin.conversions().len(), 2, "two workers, and each user once");
    assert!(site.looked_up.lock().unwrap().iter().filter(|name| *name == "zed").count() < 20);
}

#[test]
fn a_peer_that_goes_away_while_it_waits_gives_its_place_back() {
    let site = Site::with("[users]\nconvert = \"all\"\n[sessions]\nmax_waiting = 1\n");
    let packet = arrival("ann", Duration::from_secs(20)).encode();
    for _ in 0..50 {
        site.eventually("the only place is free", || {
            let connection = connected(&site.arrival_socket()).unwrap();
            say(&connection, &packet, &[]).unwrap();
            let mut first = [0; 16];
            recv(connection.as_raw_fd(), &mut first, MsgFlags::empty()).unwrap();
            matches!(Answer::decode(&first), Ok(Answer::Wait(_)))
        });
    }
    assert_eq!(site.twin.conversions().len(), 1);
    // Whoever says a second thing is as good as gone.
    let connection = connected(&site.arrival_socket()).unwrap();
    say(&connection, &packet, &[]).unwrap();
    say(&connection, &packet, &[]).unwrap();
    assert!(!matches!(last_word(&connection), Some(Answer::Ready | Answer::Taken)));
}
