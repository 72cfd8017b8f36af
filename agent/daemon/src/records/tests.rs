#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn record(run: &str, user: &str, uid: u32, started: u64) -> Record {
    Record {
        version: RECORD_VERSION,
        run: run.to_owned(),
        user: user.to_owned(),
        uid,
        gid: uid,
        phase: Phase::Begun,
        maildir: format!("/home/{user}/Maildir").into(),
        work: format!("/home/{user}/.mailready").into(),
        archive: "/var/mail/.mailready".into(),
        started,
        sequence: 0,
        home: format!("/home/{user}").into(),
        boxes: 2,
        served: Served {
            folders: format!("/home/{user}/mail").into(),
            layout: Layout::Fs,
            ..Served::default()
        },
        kept: Kept::default(),
        tombstone_taken: 0,
        source: vec![
            SourceRecord {
                name: "Träume".into(),
                path: format!("/home/{user}/mail/t").into(),
                dev: 1,
                ino: 8,
                length: 0,
            },
            SourceRecord {
                name: INBOX.into(),
                path: format!("/var/mail/{user}").into(),
                dev: 1,
                ino: 7,
                length: 9,
            },
        ],
    }
}

const ONE: &str = "20260101T000000Z-0123456789abcdef";
const TWO: &str = "20260102T000000Z-0123456789abcdef";

#[test]
fn a_record_comes_back_as_it_was_put_and_the_last_run_is_the_latest() {
    let root = tempfile::tempdir().unwrap();
    let (records, errors) = Records::open(root.path()).unwrap();
    assert!(errors.is_empty());
    let (one, two) = (record(ONE, "ann", 1001, 100), record(TWO, "ann", 1001, 200));
    records.put(&two).unwrap();
    records.put(&one).unwrap();
    assert_eq!(records.latest(&one.key()).unwrap().run, TWO);
    let changed = Record { phase: Phase::Converted, ..two.clone() };
    records.put(&changed).unwrap();

    let (again, errors) = Records::open(root.path()).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(again.all().iter().map(|r| (**r).clone()).collect::<Vec<_>>(), [one.clone(), changed]);
    again.remove(TWO).unwrap();
    again.remove(TWO).unwrap();
    assert_eq!(again.latest(&one.key()).unwrap().run, ONE);
    again.remove(ONE).unwrap();
    assert_eq!(again.latest(&one.key()), None);
}

#[test]
fn the_file_is_the_toml_that_is_laid_down() {
    let root = tempfile::tempdir().unwrap();
    let (records, _) = Records::open(root.path()).unwrap();
    records.put(&record(ONE, "ann", 1001, 100)).unwrap();
    let text = fs::read_to_string(root.path().join("runs").join(ONE)).unwrap();
    for line in [
        "version = 3",
        "sequence = 0",
        "[kept]",
        "originals = \"kept\"",
        "phase = \"begun\"",
        "[served]",
        "layout = \"fs\"",
        "started = 100",
        "[[source]]",
        "name = \"INBOX\"",
        "length = 9",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_make_an_older_run_the_latest() {
    let root = tempfile::tempdir().unwrap();
    let (records, _) = Records::open(root.path()).unwrap();
    let of = |run, started| Record { sequence: records.next_sequence(), ..record(run, "ann", 1001, started) };
    let rolled_back = Record { phase: Phase::Undone, ..of(TWO, 200) };
    records.put(&rolled_back).unwrap();
    let again = Record { phase: Phase::Converted, ..of(ONE, 100) };
    records.put(&again).unwrap();
    // A record from before there was a sequence is older than all that have one, whatever the time was.
    let before = Record { sequence: 0, ..of("20270101T000000Z-0123456789abcdef", 9999) };
    records.put(&before).unwrap();
    assert_eq!(records.latest(&again.key()).unwrap().run, ONE);
    let (records, _) = Records::open(root.path()).unwrap();
    assert_eq!(records.latest(&again.key()).unwrap().run, ONE);
    assert!(records.next_sequence() > again.sequence);
}

#[test]
fn a_record_that_was_cut_still_refuses_its_user() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("runs").join(ONE);
    let (records, _) = Records::open(root.path()).unwrap();
    records.put(&record(ONE, "ann", 1001, 100)).unwrap();
    let whole = fs::read(&file).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let (name, number) = (text.find("uid = ").unwrap(), text.find("gid = ").unwrap());
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let (records, errors) = Records::open(root.path()).unwrap();
        // What is left may be a whole record of an inbox and the folder that has no part in it.
        assert!(errors.len() == 1 || records.all().len() == 1, "{cut}");
        if errors.is_empty() {
            continue;
        }
        assert_eq!(records.refused("ann", 5).is_some(), cut >= name, "{cut}");
        assert_eq!(records.refused("renamed", 1001).is_some(), cut >= number, "{cut}");
        assert_eq!(records.refused("bob", 5), None, "{cut}");
    }
    for junk in [&b""[..], b"\0\xff\xfe\n\x07", b"[[[[\n"] {
        fs::write(&file, junk).unwrap();
        let (records, errors) = Records::open(root.path()).unwrap();
        assert_eq!((errors.len(), records.all().len()), (1, 0));
        assert_eq!(fs::read(&file).unwrap(), junk, "it stays as it is");
    }
}

#[test]
fn a_record_of_the_version_before_is_read() {
    let root = tempfile::tempdir().unwrap();
    Records::open(root.path()).unwrap();
    let text = format!(
        "version = 1\nrun = \"{ONE}\"\nuser = \"ann\"\nuid = 1001\ngid = 1001\nphase = \"converted\"\n\
         maildir = \"/home/ann/Maildir\"\nwork = \"/home/ann/.mailready\"\narchive = \"/var/mail/.mailready\"\nstarted = 1\n\n\
         [[source]]\nname = \"INBOX\"\npath = \"/var/mail/ann\"\ndev = 1\nino = 2\nlength = 3\n"
    );
    fs::write(root.path().join("runs").join(ONE), text).unwrap();
    let (records, errors) = Records::open(root.path()).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let record = &records.all()[0];
    assert_eq!((record.version, record.home.as_path()), (RECORD_VERSION, Path::new("/home/ann")));
    assert_eq!((&record.served, record.has_folders()), (&Served::default(), false));
    records.put(record).unwrap();
}

#[test]
fn records_that_cannot_be_used_stay_and_refuse_their_user() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let (records, _) = Records::open(root.path()).unwrap();
    records.put(&record(ONE, "ann", 1001, 100)).unwrap();
    let good = fs::read_to_string(runs.join(ONE)).unwrap();
    fs::write(runs.join(TWO), good.replace("version = 3", "version = 4").replace("ann", "bob")).unwrap();
    fs::write(runs.join("20260103T000000Z-0123456789abcdef"), "half a re").unwrap();
    fs::write(runs.join("20260104T000000Z-0123456789abcdef"), good.replace("ann", "cid")).unwrap();

    let (records, errors) = Records::open(root.path()).unwrap();
    assert_eq!(records.all().len(), 1);
    assert_eq!(errors.len(), 3);
    assert!(matches!(errors[0].fault, Fault::Version(4)));
    assert!(records.refused("bob", 1).unwrap().contains("version 4"));
    assert!(matches!(errors[1].fault, Fault::Unreadable(_)));
    assert!(records.refused("cid", 1).unwrap().contains("named otherwise"));
    assert_eq!(records.refused("ann", 1), None);
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 4, "nothing is removed or renamed");
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let root = tempfile::tempdir().unwrap();
    let (records, _) = Records::open(root.path()).unwrap();
    let good = record(ONE, "ann", 1001, 100);
    assert!(records.put(&Record { run: "../x".into(), ..good.clone() }).is_err());
    assert!(records.put(&Record { uid: 0, ..good.clone() }).is_err());
    assert!(records.put(&Record { source: Vec::new(), ..good.clone() }).is_err());
    assert!(records.put(&Record { version: 4, ..good }).is_err());
    assert!(records.remove("../../etc/passwd").is_err());
    assert_eq!(fs::read_dir(root.path().join("runs")).unwrap().count(), 0);
}
