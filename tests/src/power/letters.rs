//! Mail that arrives while all that happens, each letter known by its id, and the deliverer: it locks and syncs as the good ones do, and only then says that it has the letter.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::lab::mail::Seeded;

/// The first line of each.
const FROM_LINE: &str = "From eve@example.org  Wed Feb  4 04:05:06 2009\n";

/// Longer than any program may hold a mailbox; a deliverer that gives up has not taken the letter.
const PATIENCE: Duration = Duration::from_secs(60);

/// The letter `id` as a message file: from a few lines to some that fill several blocks.
#[must_use]
pub fn message(id: &str) -> String {
    let seed = id.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let lines = match Seeded::new(seed).below(4) {
        0 => 300,
        few => few,
    };
    let mut text = format!("From: eve@example.org\nMessage-ID: <{id}@late.example>\nSubject: late {id}\n\n");
    for line in 1..=lines {
        text.push_str(&format!("Line {line} of {lines} of the letter {id}.\n"));
    }
    text
}

/// The id of a letter or of a part of one that goes that far, from the message's bytes.
#[must_use]
pub fn id_of(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let rest = text.split_once("Message-ID: <")?.1;
    Some(rest.split_once("@late.example>")?.0.to_owned())
}

/// Appends the letter to an mbox, under dotlock and fcntl lock, and comes back when it is on the disk.
///
/// # Errors
/// If it could not, then whoever sends it keeps it; [`io::ErrorKind::NotFound`]: there is no mbox, which must never be.
pub fn to_mbox(mbox: &Path, id: &str) -> io::Result<()> {
    let dotlock = mbox.with_extension("lock");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = OpenOptions::new().write(true).create_new(true).open(&dotlock) {
        if error.kind() != io::ErrorKind::AlreadyExists || Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("dotlock: {error}")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let appended = append(mbox, id);
    fs::remove_file(&dotlock)?;
    appended
}

/// Removes the locks of a deliverer that is no more, as its like do when the process is gone. They are empty and have one link; the agent's and the worker's are neither.
///
/// # Errors
/// If one cannot be removed.
pub fn remove_dotlocks(mboxes: &[impl AsRef<Path>]) -> io::Result<()> {
    for mbox in mboxes {
        let dotlock = mbox.as_ref().with_extension("lock");
        if fs::metadata(&dotlock).is_ok_and(|stat| stat.len() == 0 && stat.nlink() == 1) {
            fs::remove_file(&dotlock)?;
        }
    }
    Ok(())
}

fn append(mbox: &Path, id: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(mbox)?;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLKW(&whole))?;
    let mut letter = missing_end(&mut file)?.to_owned();
    letter.push_str(FROM_LINE);
    letter.push_str(&message(id));
    letter.push('\n');
    file.write_all(letter.as_bytes())?;
    file.sync_all()
}

/// What a letter that a power cut has torn lacks before the next may begin. A tombstone ends with a line and wants no empty one.
fn missing_end(file: &mut File) -> io::Result<&'static str> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(200)))?;
    file.read_to_end(&mut end)?;
    let last = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(match end.as_slice() {
        [] | [.., b'\n', b'\n'] => "",
        [.., b'\n'] if last.starts_with(b"mailready-tombstone ") => "",
        [.., b'\n'] => "\n",
        _ => "\n\n",
    })
}

/// Delivers the letter into the Maildir as its owner's mail: written and synced in `tmp`, renamed to `new`, that synced.
///
/// # Errors
/// As [`to_mbox`]; after the rename the letter may be there all the same.
pub fn to_maildir(maildir: &Path, id: &str) -> io::Result<()> {
    let (tmp, new) = (maildir.join("tmp").join(id), maildir.join("new").join(format!("{id}.late")));
    let owner = fs::metadata(maildir)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp)?;
    chown(&tmp, Some(owner.uid()), Some(owner.gid()))?;
    file.write_all(message(id).as_bytes())?;
    file.sync_all()?;
    fs::rename(&tmp, &new)?;
    File::open(maildir.join("new"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_known_by_its_id_even_when_torn() {
        let message = message("1-17");
        assert_eq!(id_of(message.as_bytes()).unwrap(), "1-17");
        assert_eq!(id_of(&message.as_bytes()[..60]).unwrap(), "1-17");
        assert!(id_of(&message.as_bytes()[..30]).is_none());
    }

    #[test]
    fn what_a_power_cut_has_torn_is_ended_before_the_next_letter() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("ann");
        let after = |before: &str| {
            fs::write(&spool, before).unwrap();
            to_mbox(&spool, "1-1").unwrap();
            let text = fs::read_to_string(&spool).unwrap();
            assert!(text.ends_with(&format!("{FROM_LINE}{}\n", message("1-1"))));
            text[before.len()..].find("From ").unwrap()
        };
        assert_eq!([after(""), after("a\n\n"), after("a\n"), after("a")], [0, 0, 1, 2]);
        assert_eq!(after("words\nmailready-tombstone 1 X\n"), 0);
    }
}
