//! `dovecot-keywords`: which letter of a file's name stands for which keyword (formats.md 3.5).
//!
//! There are 26 letters. A mailbox with more keywords keeps the others in Dovecot's index alone, on the Maildir as Dovecot itself does
//! it: all letters are given away, to those in use first, so that Dovecot cannot give one to a keyword that is in the index only and
//! take it away from the messages that have it.

use crate::error::BlockReason;
use crate::{Error, Result, dir};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;

/// The list's name.
pub(crate) const NAME: &str = "dovecot-keywords";

pub(crate) const LETTERS: usize = 26;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// Places in the folder's list, in the order of their letters.
    used: Vec<u16>,
    /// There is a list on disk.
    written: bool,
}

impl Letters {
    /// Appends the letters of a message's keywords, in order. `indexed`: a keyword without a letter is kept by the index.
    pub(crate) fn append(
        &mut self,
        flags: &mut String,
        of: &[u16],
        all: &[String],
        indexed: bool,
    ) -> Result<(), BlockReason> {
        if of.is_empty() {
            return Ok(());
        }
        self.prepare(all);
        let mut letters = Vec::with_capacity(of.len());
        for place in of {
            let index = match self.used.iter().position(|p| p == place) {
                Some(index) => index,
                None if self.used.len() < LETTERS => {
                    self.used.push(*place);
                    self.used.len() - 1
                }
                None if indexed => continue,
                None => return Err(BlockReason::TooManyKeywords(all.len())),
            };
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
    pub(crate) fn write(&mut self, folder: BorrowedFd<'_>, all: &[String]) -> Result<Option<File>> {
        self.prepare(all);
        if std::mem::take(&mut self.written) {
            dir::unlink(folder, NAME)?;
        }
        if all.is_empty() {
            return Ok(None);
        }
        // Those that no message has so far fill up: for now, a later message may need their letter.
        let unused = (0..).take(all.len()).filter(|place| !self.used.contains(place));
        let text: String = (self.used.iter().copied().chain(unused).take(LETTERS).enumerate())
            .filter_map(|(letter, place)| Some(format!("{letter} {}\n", all.get(usize::from(place))?)))
            .collect();
        let mut file = dir::create_file(folder, NAME)?;
        file.write_all(text.as_bytes()).map_err(Error::io("write", NAME))?;
        self.written = true;
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("k{i}")).collect()
    }

    fn append(
        letters: &mut Letters,
        of: &[u16],
        all: &[String],
        indexed: bool,
    ) -> Result<String, BlockReason> {
        let mut flags = String::from("S");
        letters.append(&mut flags, of, all, indexed).map(|()| flags)
    }

    fn list(letters: &mut Letters, all: &[String]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        letters.written = false;
        letters.write(File::open(dir.path()).unwrap().as_fd(), all).unwrap();
        std::fs::read_to_string(dir.path().join(NAME))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn up_to_26_keywords_each_has_the_letter_of_its_place() {
        let (mut letters, all) = (Letters::default(), names(26));
        assert_eq!(append(&mut letters, &[25, 0], &all, false).as_deref(), Ok("Saz"));
        assert_eq!(list(&mut letters, &all)[25], "25 k25");
        assert!(list(&mut Letters::default(), &[]).is_empty());
    }

    #[test]
    fn of_more_those_in_use_come_first_and_all_letters_are_given_away() {
        let (mut letters, all) = (Letters::default(), names(40));
        assert_eq!(append(&mut letters, &[39, 7], &all, true).as_deref(), Ok("Sab"));
        let list = list(&mut letters, &all);
        assert_eq!((list.len(), &list[..3]), (26, &["0 k39".to_owned(), "1 k7".into(), "2 k0".into()][..]));
        // The letter of k0 was only lent.
        assert_eq!(append(&mut letters, &[39, 20], &all, true).as_deref(), Ok("Sac"));
    }

    #[test]
    fn a_27th_in_use_needs_an_index() {
        let (mut letters, all) = (Letters::default(), names(40));
        let many: Vec<u16> = (0..26).collect();
        append(&mut letters, &many, &all, false).unwrap();
        assert_eq!(append(&mut letters, &[3, 26], &all, true).as_deref(), Ok("Sd"));
        assert_eq!(append(&mut letters, &[26], &all, false), Err(BlockReason::TooManyKeywords(40)));
    }
}
