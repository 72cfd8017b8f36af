//! `dovecot-uidvalidity`: the UIDVALIDITY that Dovecot gave a new mailbox last (mailbox-uidvalidity.c of Dovecot 2.3.19).
//!
//! A folder that is deleted and made again must not get the UIDVALIDITY that it had: clients would take new mail for mail they have.
//! Dovecot counts up from this file, one a mailbox; a tree without it counts from the present second. So a tree that was
//! filled by us begins above whatever any mailbox has or had.
//!
//! The number is in the file, as 8 hexadecimal digits, and in the name of an empty one beside it, which Dovecot renames: that is what
//! keeps two processes from taking one number.

use crate::{Error, Result, dir};
use nix::sys::stat::{Mode, fchmod};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Its name in the control folder: `.imap` of an mbox root, the root of a Maildir.
pub const NAME: &str = "dovecot-uidvalidity";

/// Above this nothing is left to count up to; only a forged mbox comes near.
const HIGHEST: u32 = u32::MAX - 65536;

/// The highest number given in a control folder; 0: none.
pub fn highest(folder: BorrowedFd<'_>) -> Result<u32> {
    let number = |text: &[u8]| -> u32 {
        let text = std::str::from_utf8(text).unwrap_or_default();
        if text.len() == 8 { u32::from_str_radix(text, 16).unwrap_or(0) } else { 0 }
    };
    let mut highest = 0;
    if let Some(file) = dir::find_file(folder, NAME)?.filter(|f| f.metadata().is_ok_and(|m| m.is_file())) {
        let mut text = Vec::new();
        file.take(8).read_to_end(&mut text).map_err(Error::io("read", NAME))?;
        highest = number(&text);
    }
    dir::for_each_name(&folder, NAME, |name| {
        let suffix = name.strip_prefix(NAME.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        highest = highest.max(suffix.map_or(0, number));
    })?;
    Ok(highest)
}

/// Makes the next mailbox of a control folder that has none of these files begin above `value`; durable.
pub fn seed(folder: BorrowedFd<'_>, value: u32) -> Result<()> {
    write(folder, value)?.into_iter().flatten().try_for_each(|file| dir::sync(&file, NAME))
}

/// [`seed`], not durable yet; gives the files. `None`: there is no number to begin at.
pub(crate) fn write(folder: BorrowedFd<'_>, value: u32) -> Result<Option<[File; 2]>> {
    if value == 0 || value > HIGHEST {
        return Ok(None);
    }
    let mut file = dir::create_file(folder, NAME)?;
    write!(file, "{value:08x}").map_err(Error::io("write", NAME))?;
    let sign = dir::create_file(folder, &format!("{NAME}.{value:08x}"))?;
    let everyone = Mode::S_IRUSR | Mode::S_IRGRP | Mode::S_IROTH;
    fchmod(sign.as_fd(), everyone).map_err(Error::io("set the mode of", NAME))?;
    Ok(Some([file, sign]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_in_file_or_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        assert_eq!(highest(folder.as_fd()).unwrap(), 0);
        seed(folder.as_fd(), 0x6b02_59a3).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), "6b0259a3");
        assert_eq!(highest(folder.as_fd()).unwrap(), 0x6b02_59a3);
        for (name, expected) in
            [(".6b0259a4", 0x6b02_59a4), (".zzzzzzzz", 0x6b02_59a4), (".fffffffff", 0x6b02_59a4)]
        {
            std::fs::write(dir.path().join(format!("{NAME}{name}")), b"").unwrap();
            assert_eq!(highest(folder.as_fd()).unwrap(), expected);
        }
        std::fs::write(dir.path().join(NAME), b"nothing").unwrap();
        assert_eq!(highest(folder.as_fd()).unwrap(), 0x6b02_59a4);
    }

    #[test]
    fn what_leaves_no_room_to_count_is_not_a_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        seed(folder.as_fd(), u32::MAX).unwrap();
        seed(folder.as_fd(), 0).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
