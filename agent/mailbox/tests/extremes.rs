//! Mailboxes larger than anything: what one needs of memory must not depend on what is in it, and of time only on how much.
//!
//! Each size is tried in a process of its own, which says what it has needed. CI takes sizes beyond every buffer; `MAILREADY_LONG=1` takes
//! a header of 100 MB, a message of more than 2 GiB and a million messages (about 5 GB of disk below `TMPDIR`, which should be one;
//! with `--release` some minutes).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these are tests: what fails here fails the test, and what a process of its own needed it says"
)]

use mailready_mailbox::convert_file::{Converted, Options, convert_file};
use mailready_mailbox::{Rules, Server, Zone};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const FROM: &str = "From good@example.org Fri Nov  9 22:33:52 2001\n";
const MIB: u64 = 1 << 20;

/// Tells a test that it is the process of its own, and how large to make it.
const SIZE: &str = "MAILREADY_EXTREME_SIZE";

fn long() -> bool {
    std::env::var_os("MAILREADY_LONG").is_some_and(|value| value == "1")
}

/// What a conversion in a process of its own needed.
#[derive(Debug, Clone, Copy)]
struct Needed {
    /// The most memory it ever had, in bytes.
    memory: u64,
    time: Duration,
}

/// In the process of its own: makes the mbox, converts it, checks it and says what it needed. In the test: nothing.
fn body(make: fn(&mut File, u64), check: fn(&Converted, &Path, u64)) -> bool {
    let Some(size) = std::env::var(SIZE).ok().and_then(|size| size.parse().ok()) else { return false };
    let scratch = tempfile::tempdir().unwrap();
    let (mbox, maildir) = (scratch.path().join("mbox"), scratch.path().join("Maildir"));
    make(&mut File::create(&mbox).unwrap(), size);
    let options =
        Options { rules: Rules { server: Server::Dovecot, zone: Zone::utc() }, lock_wait: Duration::ZERO };
    let began = Instant::now();
    let converted = convert_file(&mbox, &maildir, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    println!("\nNEEDED {} {}", peak(), began.elapsed().as_millis());
    check(&converted, &maildir, size);
    println!("\nCHECKED");
    true
}

/// The most memory that this process has had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn needed(test: &str, size: u64) -> Needed {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(SIZE, size.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.lines().find_map(|line| line.strip_prefix("NEEDED "));
    let (Some(numbers), true) = (numbers, text.contains("CHECKED")) else {
        panic!("{test} with {size}: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let (memory, time) = numbers.split_once(' ').unwrap();
    let needed =
        Needed { memory: memory.parse().unwrap(), time: Duration::from_millis(time.parse().unwrap()) };
    eprintln!("{test}: {size}: {} KiB, {:?}", needed.memory / 1024, needed.time);
    needed
}

/// The only file of a Maildir with one message.
fn only_file(maildir: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(maildir.join("new")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

/// The bytes of a message file, and the sizes in its name: as it is, and with each line end as CRLF.
fn sizes(file: &Path) -> (u64, u64, u64) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let (_, sizes) = name.split_once(",S=").unwrap();
    let (size, virtual_size) = sizes.split_once(",W=").unwrap();
    (std::fs::metadata(file).unwrap().len(), size.parse().unwrap(), virtual_size.parse().unwrap())
}

#[test]
fn a_large_header_takes_no_more_memory_than_a_small_one() {
    fn make(file: &mut File, size: u64) {
        let mut out = BufWriter::new(file);
        writeln!(out, "{FROM}Subject: large").unwrap();
        let line = format!("X-Large: {}\n\tfolded\n", "x".repeat(1000));
        for _ in 0..size / 2 / line.len() as u64 {
            out.write_all(line.as_bytes()).unwrap();
        }
        // And one line that never seems to end.
        write!(out, "X-Long: ").unwrap();
        for _ in 0..size / 2 / 1000 {
            out.write_all(&[b'y'; 1000]).unwrap();
        }
        write!(out, "\nStatus: RO\n\nbody\n").unwrap();
        out.flush().unwrap();
    }
    fn check(converted: &Converted, maildir: &Path, size: u64) {
        assert_eq!(converted.summary.messages, 1);
        let file = std::fs::read_dir(maildir.join("cur")).unwrap().next().unwrap().unwrap();
        assert!(file.file_name().to_str().unwrap().ends_with(":2,S"), "its last header counts");
        let length = file.metadata().unwrap().len();
        assert!((size - 4000..size + 4000).contains(&length), "{length} of {size}");
    }
    if body(make, check) {
        return;
    }
    let name = "a_large_header_takes_no_more_memory_than_a_small_one";
    let (small, large) = (needed(name, 4 * MIB), needed(name, if long() { 100 } else { 24 } * MIB));
    assert!(large.memory < small.memory + 4 * MIB, "{small:?}, {large:?}");
}

#[test]
fn a_message_larger_than_2_gib_takes_no_more_memory_than_a_small_one() {
    fn make(file: &mut File, size: u64) {
        write!(file, "{FROM}Subject: large\nContent-Length: {}\n\n", size + 5).unwrap();
        // A hole: NULs that nobody has to write.
        file.seek(SeekFrom::Current(i64::try_from(size).unwrap())).unwrap();
        file.write_all(b"\nend\n\n").unwrap();
    }
    fn check(converted: &Converted, maildir: &Path, size: u64) {
        assert_eq!(converted.summary.messages, 1);
        let expected = "Subject: large\n\n".len() as u64 + size + 5;
        assert_eq!(sizes(&only_file(maildir)), (expected, expected, expected + 4));
    }
    if body(make, check) {
        return;
    }
    let name = "a_message_larger_than_2_gib_takes_no_more_memory_than_a_small_one";
    let large = if long() { (2 << 30) + 5 * MIB } else { 40 * MIB };
    let (small, large) = (needed(name, 6 * MIB), needed(name, large));
    assert!(large.memory < small.memory + 4 * MIB, "{small:?}, {large:?}");
}

#[test]
fn many_messages_take_little_memory_each_and_the_same_time_each() {
    fn make(file: &mut File, size: u64) {
        let mut out = BufWriter::new(file);
        for i in 0..size {
            write!(out, "{FROM}Subject: {i}\nMessage-ID: <{i}@example.org>\nStatus: O\n\nbody\n\n").unwrap();
        }
        out.flush().unwrap();
    }
    fn check(converted: &Converted, maildir: &Path, size: u64) {
        assert_eq!((converted.summary.messages, u64::from(converted.summary.uid_next)), (size, size + 1));
        assert_eq!(std::fs::read_dir(maildir.join("cur")).unwrap().count() as u64, size);
        assert_eq!(
            std::fs::read_to_string(maildir.join("dovecot-uidlist")).unwrap().lines().count() as u64,
            size + 1
        );
    }
    if body(make, check) {
        return;
    }
    let name = "many_messages_take_little_memory_each_and_the_same_time_each";
    let (few, many) = if long() { (50_000, 1_000_000) } else { (1_000, 8_000) };
    let (small, large) = (needed(name, few), needed(name, many));
    let each = large.memory.saturating_sub(small.memory + 4 * MIB) / (many - few);
    assert!(each < 100, "{each} bytes a message: {small:?}, {large:?}");
    if long() {
        let factor = large.time.as_secs_f64() / small.time.as_secs_f64() / (many / few) as f64;
        assert!(factor < 3.0, "a message takes {factor:.1} times as long: {small:?}, {large:?}");
    }
}

#[test]
fn a_line_that_never_ends_takes_no_more_memory_than_a_short_one() {
    fn make(file: &mut File, size: u64) {
        write!(file, "{FROM}").unwrap();
        file.seek(SeekFrom::Current(i64::try_from(size).unwrap())).unwrap();
        file.write_all(b"\n").unwrap();
    }
    fn check(converted: &Converted, maildir: &Path, size: u64) {
        // One line of NULs without a colon: a header that has no end.
        assert_eq!(converted.summary.messages, 1);
        assert_eq!(sizes(&only_file(maildir)).0, size + 1);
    }
    if body(make, check) {
        return;
    }
    let name = "a_line_that_never_ends_takes_no_more_memory_than_a_short_one";
    let (small, large) = (needed(name, 4 * MIB), needed(name, if long() { 1 << 30 } else { 24 * MIB }));
    assert!(large.memory < small.memory + 4 * MIB, "{small:?}, {large:?}");
}
