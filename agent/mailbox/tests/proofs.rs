//! Verification finds every kind of damage, and one file converts wholly or not at all.

#![allow(clippy::unwrap_used, reason = "these are tests: what fails here fails the test")]

mod support;

use mailready_mailbox::convert_file::{Options, convert_file};
use mailready_mailbox::marker::Marker;
use mailready_mailbox::verify::verify;
use mailready_mailbox::{Error, Rules, Server, Zone};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use support::{FROM, Place, mail};

const MBOX: &str = "From good@example.org Fri Nov  9 22:33:52 2001\nStatus: RO\n\nfirst\n\n\
                    From good@example.org Fri Nov  9 22:33:52 2001\n\nsecond\n";

fn check(maildir: &Path) -> Result<u64, Error> {
    verify(File::open(maildir).unwrap().as_fd(), &mut |_| ControlFlow::Continue(())).map(|v| v.messages)
}

#[test]
fn a_good_stage_is_good() {
    let place = Place::new(MBOX.as_bytes());
    let (mut stage, path) = place.stage().unwrap();
    let marker = stage.seal().unwrap();
    assert_eq!(check(&path).unwrap(), 2);
    assert_eq!(Marker::read(stage.0.folder()).unwrap(), Some(marker));
}

/// A kind of damage.
type Harm = fn(&Path);

#[test]
fn every_kind_of_damage_is_found() {
    fn file_in(maildir: &Path, folder: &str) -> std::path::PathBuf {
        std::fs::read_dir(maildir.join(folder)).unwrap().next().unwrap().unwrap().path()
    }
    fn edit(path: &Path, change: fn(&mut Vec<u8>)) {
        let time = std::fs::metadata(path).unwrap().modified().unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    let harms: [(&str, Harm); 9] = [
        ("a changed byte", |m| edit(&file_in(m, "cur"), |b| b[0] ^= 1)),
        ("a lost byte", |m| edit(&file_in(m, "new"), |b| b.truncate(b.len() - 1))),
        ("an added byte", |m| edit(&file_in(m, "new"), |b| b.push(b'x'))),
        ("a lost file", |m| std::fs::remove_file(file_in(m, "new")).unwrap()),
        ("an added file", |m| std::fs::write(m.join("cur/1.x:2,"), b"x").unwrap()),
        ("another time", |m| {
            let file = File::options().write(true).open(file_in(m, "cur")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("a lost line of the uidlist", |m| {
            let path = m.join("dovecot-uidlist");
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            std::fs::write(path, format!("{}\n{}\n", lines[0], lines[2])).unwrap();
        }),
        ("another UID", |m| {
            edit(&m.join("dovecot-uidlist"), |b| {
                let at = b.iter().rposition(|c| *c == b'2').unwrap();
                let line = b[..at].iter().rposition(|c| *c == b'\n').unwrap();
                b[line + 1] = b'9';
            })
        }),
        ("a cut receipt", |m| edit(&m.join("mailready-receipt"), |b| b.truncate(b.len() - 1))),
    ];
    for (name, harm) in harms {
        let place = Place::new(MBOX.as_bytes());
        let (mut stage, path) = place.stage().unwrap();
        stage.seal().unwrap();
        harm(&path);
        match check(&path) {
            Err(Error::Damaged { .. }) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn options() -> Options {
    Options { rules: Rules { server: Server::Dovecot, zone: Zone::utc() }, lock_wait: Duration::ZERO }
}

fn convert(place: &Place, to: &str) -> Result<u64, Error> {
    let maildir = place.dir.path().join(to);
    convert_file(&place.mbox_path(), &maildir, &options(), &mut |_| ControlFlow::Continue(()))
        .map(|c| c.summary.messages)
}

/// What is beside the mbox, hidden or not.
fn beside(place: &Place) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "work")
        .collect();
    names.sort();
    names
}

#[test]
fn one_file_becomes_one_maildir_and_stays_as_it_is() {
    let place = Place::new(MBOX.as_bytes());
    assert_eq!(convert(&place, "Maildir").unwrap(), 2);
    assert_eq!(beside(&place), ["Maildir", "mbox"]);
    assert_eq!(std::fs::read(place.mbox_path()).unwrap(), MBOX.as_bytes());
    assert_eq!(mail(&place.dir.path().join("Maildir")).len(), 2);
}

#[test]
fn an_existing_maildir_even_an_empty_one_is_left_alone() {
    let place = Place::new(MBOX.as_bytes());
    std::fs::create_dir(place.dir.path().join("Maildir")).unwrap();
    assert!(matches!(convert(&place, "Maildir"), Err(Error::Exists { .. })));
    assert_eq!(beside(&place), ["Maildir", "mbox"]);
    assert_eq!(std::fs::read_dir(place.dir.path().join("Maildir")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_mbox_leaves_nothing_behind() {
    for bad in ["garbage\n", &format!("\n{FROM}")] {
        let place = Place::new(bad.as_bytes());
        let error = convert(&place, "Maildir").unwrap_err();
        assert!(matches!(error, Error::NotMbox { .. }), "{error}");
        assert!(error.to_string().contains("mbox is no mbox"), "{error}");
        assert_eq!(beside(&place), ["mbox"]);
    }
    let place = Place::new(b"");
    std::fs::remove_file(place.mbox_path()).unwrap();
    std::fs::create_dir(place.mbox_path()).unwrap();
    assert!(matches!(convert(&place, "Maildir"), Err(Error::NotMbox { .. })), "a folder");
}

#[test]
fn a_dotlock_is_respected_and_ours_is_gone_afterwards() {
    let place = Place::new(MBOX.as_bytes());
    let lock = place.dir.path().join("mbox.lock");
    std::fs::write(&lock, "4711:elsewhere").unwrap();
    let error = convert(&place, "Maildir").unwrap_err();
    assert!(matches!(error, Error::Locked { .. }) && error.to_string().contains("4711:elsewhere"), "{error}");
    assert_eq!(beside(&place), ["mbox", "mbox.lock"]);
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(convert(&place, "Maildir").unwrap(), 2);
    assert_eq!(beside(&place), ["Maildir", "mbox"]);
}

#[test]
fn a_writer_with_a_kernel_lock_is_waited_for_and_then_reported() {
    let place = Place::new(MBOX.as_bytes());
    let writer = File::options().write(true).open(place.mbox_path()).unwrap();
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).unwrap();
    assert!(matches!(convert(&place, "Maildir"), Err(Error::Locked { .. })));
    assert_eq!(beside(&place), ["mbox"]);
    drop(writer);
    assert_eq!(convert(&place, "Maildir").unwrap(), 2);
}
