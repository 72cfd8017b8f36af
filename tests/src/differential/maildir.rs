//! A mailbox of a Maildir tree, to be tampered with before Dovecot sees it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One mailbox: the folder that has `cur`.
#[derive(Clone, Debug)]
pub struct Mailbox(PathBuf);

impl Mailbox {
    /// The mailbox in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// A file beside the messages.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// All message files, those of `cur` first.
    ///
    /// # Errors
    /// As the system calls.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for folder in ["cur", "new"] {
            let mut some = fs::read_dir(self.0.join(folder))?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()?;
            some.sort();
            files.extend(some);
        }
        Ok(files)
    }

    /// The first message file whose content has `what` in it.
    ///
    /// # Errors
    /// As the system calls, and if there is none.
    pub fn file_with(&self, what: &[u8]) -> io::Result<PathBuf> {
        for file in self.files()? {
            if fs::read(&file)?.windows(what.len()).any(|window| window == what) {
                return Ok(file);
            }
        }
        Err(io::Error::other(format!("no message with {:?}", String::from_utf8_lossy(what))))
    }

    /// Gives a message another content, as if it had been written so: time kept, the sizes in its name taken out.
    ///
    /// # Errors
    /// As the system calls.
    pub fn rewrite(&self, file: &Path, content: &[u8]) -> io::Result<()> {
        let time = fs::metadata(file)?.modified()?;
        fs::write(file, content)?;
        File::options().write(true).open(file)?.set_modified(time)?;
        let name = text(file.file_name());
        let (base, info) =
            name.split_once(":2,").map_or((name.as_str(), None), |(base, info)| (base, Some(info)));
        let bare = base.split(',').next().unwrap_or(base);
        let info = info.map_or_else(String::new, |info| format!(":2,{info}"));
        fs::rename(file, file.with_file_name(format!("{bare}{info}")))?;
        let (base, bare) = (format!(":{base}\n"), format!(":{bare}\n"));
        self.edit("dovecot-uidlist", |list| list.replace(&base, &bare))
    }

    /// Edits the first message that has `from`: `to` in its place.
    ///
    /// # Errors
    /// As the system calls, and if there is none.
    pub fn replace(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let file = self.file_with(from)?;
        let content = fs::read(&file)?;
        let at = content.windows(from.len()).position(|window| window == from).unwrap_or(0);
        self.rewrite(&file, &[&content[..at], to, &content[at + from.len()..]].concat())
    }

    /// Edits a text file beside the messages.
    ///
    /// # Errors
    /// As the system calls, and if nothing changes by it.
    pub fn edit(&self, name: &str, edit: impl Fn(&str) -> String) -> io::Result<()> {
        let path = self.beside(name);
        let before = fs::read_to_string(&path)?;
        let after = edit(&before);
        if before == after {
            return Err(io::Error::other(format!(
                "{name} is already as it would be with the rule broken:\n{before}"
            )));
        }
        fs::write(path, after)
    }

    /// Gives every line of the UID list behind the first to `edit`; a line that it takes away is left out.
    ///
    /// # Errors
    /// As [`Self::edit`].
    pub fn edit_records(&self, edit: impl Fn(usize, &str) -> Option<String>) -> io::Result<()> {
        self.edit("dovecot-uidlist", |list| {
            let mut lines = list.lines();
            let head = lines.next().unwrap_or_default().to_owned();
            let records = lines.enumerate().filter_map(|(number, line)| edit(number, line));
            std::iter::once(head).chain(records).map(|line| line + "\n").collect()
        })
    }

    /// Changes the head of the UID list.
    ///
    /// # Errors
    /// As [`Self::edit`].
    pub fn edit_head(&self, edit: impl Fn(&str) -> String) -> io::Result<()> {
        self.edit("dovecot-uidlist", |list| {
            let (head, records) = list.split_once('\n').unwrap_or((list, ""));
            format!("{}\n{records}", edit(head))
        })
    }

    /// Takes a flag's letter from all names that have it.
    ///
    /// # Errors
    /// As the system calls, and if none has.
    pub fn without_letter(&self, letter: char) -> io::Result<()> {
        self.rename_all(|name| {
            let (base, info) = name.split_once(":2,")?;
            info.contains(letter).then(|| format!("{base}:2,{}", info.replace(letter, "")))
        })
    }

    fn rename_all(&self, new_name: impl Fn(&str) -> Option<String>) -> io::Result<()> {
        let mut changed = 0;
        for file in self.files()? {
            if let Some(name) = new_name(&text(file.file_name())) {
                fs::rename(&file, file.with_file_name(name))?;
                changed += 1;
            }
        }
        if changed == 0 { Err(io::Error::other("no file to rename")) } else { Ok(()) }
    }

    /// Moves all messages from one of `cur`, `new` to the other.
    ///
    /// # Errors
    /// As the system calls, and if there are none.
    pub fn move_all(&self, from: &str, to: &str) -> io::Result<()> {
        let mut moved = 0;
        for entry in fs::read_dir(self.0.join(from))? {
            let entry = entry?;
            let mut name = text(Some(&entry.file_name()));
            if to == "cur" && !name.contains(":2,") {
                name.push_str(":2,");
            }
            fs::rename(entry.path(), self.0.join(to).join(name))?;
            moved += 1;
        }
        if moved == 0 { Err(io::Error::other(format!("{from} is empty"))) } else { Ok(()) }
    }

    /// Moves the time of messages by seconds: of those whose content has `what`.
    ///
    /// # Errors
    /// As the system calls, and if there are none.
    pub fn shift_time(&self, what: &[u8], seconds: i64) -> io::Result<()> {
        let file = self.file_with(what)?;
        let shift = Duration::from_secs(seconds.unsigned_abs());
        let time: SystemTime = fs::metadata(&file)?.modified()?;
        let time = if seconds < 0 { time - shift } else { time + shift };
        File::options().write(true).open(file)?.set_modified(time)
    }

    /// Takes a message away, its record in the UID list too.
    ///
    /// # Errors
    /// As the system calls.
    pub fn remove(&self, file: &Path) -> io::Result<()> {
        let name = text(file.file_name());
        let base = name.split(":2,").next().unwrap_or_default().to_owned();
        fs::remove_file(file)?;
        self.edit_records(|_, line| (!line.ends_with(&format!(":{base}"))).then(|| line.to_owned()))
    }
}

fn text(name: Option<&OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}
