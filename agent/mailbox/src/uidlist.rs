//! `dovecot-uidlist` (version 3) and `dovecot-keywords` (formats.md 3.4 and 3.5).

use crate::error::BlockReason;
use crate::{Error, Result, dir};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;

/// The uidlist's name.
pub(crate) const NAME: &str = "dovecot-uidlist";
/// The list of keywords' name.
pub(crate) const KEYWORDS: &str = "dovecot-keywords";

/// First line.
pub(crate) fn head(uid_validity: u32, uid_next: u32, guid: &[u8; 16]) -> String {
    let guid = u128::from_be_bytes(*guid);
    format!("3 V{uid_validity} N{uid_next} G{guid:032x}\n")
}

/// Appends a message's line; `file` is the name without `:2,`.
pub(crate) fn line(text: &mut String, uid: u32, file: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{uid} :{file}");
}

/// UID and base name of a line; `None` if it is none.
pub(crate) fn parse(line: &str) -> Option<(u32, &str)> {
    let (head, file) = line.split_once(':')?;
    Some((head.split(' ').next()?.parse().ok()?, file))
}

/// Which letter stands for which keyword. There are 26; beyond that only keywords that a message has get one.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// Places in the folder's list, in the order of their letters.
    used: Vec<u16>,
    /// The list on disk.
    file: Option<File>,
}

const LETTERS: usize = 26;

impl Letters {
    /// Appends the letters of a message's keywords, in order.
    pub(crate) fn append(
        &mut self,
        flags: &mut String,
        of: &[u16],
        all: &[String],
    ) -> Result<(), BlockReason> {
        if of.is_empty() {
            return Ok(());
        }
        self.prepare(all);
        let mut letters = Vec::with_capacity(of.len());
        for place in of {
            let index = match self.used.iter().position(|p| p == place) {
                Some(index) => index,
                None => {
                    self.used.push(*place);
                    self.used.len() - 1
                }
            };
            if index >= LETTERS {
                return Err(BlockReason::TooManyKeywords(self.used.len()));
            }
            letters.push(char::from(b'a' + index as u8));
        }
        letters.sort_unstable();
        flags.extend(letters);
        Ok(())
    }

    /// If there is a letter for each keyword, each has one, used or not: then clients are offered the same list as before.
    fn prepare(&mut self, all: &[String]) {
        if self.used.is_empty() && all.len() <= LETTERS {
            self.used = (0..).take(all.len()).collect();
        }
    }

    /// No message has a keyword any more.
    pub(crate) fn forget(&mut self) {
        self.used.clear();
    }

    /// Writes the list, anew if need be. Not synced.
    pub(crate) fn write(&mut self, folder: BorrowedFd<'_>, all: &[String]) -> Result<()> {
        self.prepare(all);
        if self.file.take().is_some() {
            dir::unlink(folder, KEYWORDS)?;
        }
        if self.used.is_empty() {
            return Ok(());
        }
        let text: String = self
            .used
            .iter()
            .enumerate()
            .filter_map(|(letter, place)| Some(format!("{letter} {}\n", all.get(usize::from(*place))?)))
            .collect();
        let mut file = dir::create_file(folder, KEYWORDS)?;
        file.write_all(text.as_bytes()).map_err(Error::io("write", KEYWORDS))?;
        self.file = Some(file);
        Ok(())
    }

    /// Makes the list durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| dir::sync(file, KEYWORDS))
    }
}
