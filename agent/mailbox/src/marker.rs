//! The marker `mailready-marker`: the per-user semaphore, written complete before the commit (`ARCHITECTURE.md`, "Marker").

use crate::{Error, Result, RunId, dir, hex, percent};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Its name in the Maildir.
pub const NAME: &str = "mailready-marker";

const VERSION: u64 = 1;
/// No marker of ours comes near; what is larger is no marker.
const SIZE_MAX: u64 = 16 << 20;

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The run that made the Maildir.
    pub run: RunId,
    /// One a mailbox.
    pub sources: Vec<MarkerSource>,
}

/// One mailbox in the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerSource {
    /// `INBOX` or the folder's UTF-8 name.
    pub name: String,
    /// Bytes of the mbox that the Maildir holds.
    pub length: u64,
    /// Messages.
    pub messages: u64,
    /// blake3 of those bytes.
    pub hash: [u8; 32],
    /// UIDVALIDITY at the commit.
    pub uid_validity: u32,
    /// UIDNEXT at the commit.
    pub uid_next: u32,
    /// Where the mbox was.
    pub path: PathBuf,
}

impl Marker {
    /// Reads the marker of a Maildir. `None` where there is none, or one that was not written to its end.
    pub fn read(maildir: BorrowedFd<'_>) -> Result<Option<Marker>> {
        let Some(file) = dir::find_file(maildir, NAME)? else { return Ok(None) };
        let mut text = String::new();
        file.take(SIZE_MAX).read_to_string(&mut text).map_err(Error::io("read", NAME))?;
        Marker::parse(&text)
    }

    /// The source of that name.
    pub fn source(&self, name: &str) -> Option<&MarkerSource> {
        self.sources.iter().find(|s| s.name == name)
    }

    /// Reads a marker's text. `None`: there is no `end`, so it was never finished.
    pub fn parse(text: &str) -> Result<Option<Marker>> {
        let mut lines = text.split('\n').enumerate();
        let version = lines.next().and_then(|(_, l)| l.strip_prefix("mailready-marker "));
        let version: u64 = version.and_then(|v| v.parse().ok()).ok_or_else(|| damaged(1, "no version"))?;
        if version != VERSION {
            return Err(Error::Newer { path: NAME.into(), version });
        }
        let (mut run, mut sources) = (None, Vec::new());
        for (i, line) in lines {
            let at = i as u64 + 1;
            match line.split_once(' ') {
                None if line == "end" => {
                    return match run {
                        Some(run) => Ok(Some(Marker { run, sources })),
                        None => Err(damaged(at, "no run")),
                    };
                }
                Some(("run", id)) => run = Some(RunId::parse(id).ok_or_else(|| damaged(at, "no run id"))?),
                Some(("source", fields)) => {
                    sources.push(MarkerSource::parse(fields).ok_or_else(|| damaged(at, "no source"))?);
                }
                _ if line.is_empty() => break,
                _ => return Err(damaged(at, "unknown line")),
            }
        }
        Ok(None)
    }

    /// The marker's text.
    pub fn text(&self) -> String {
        let mut text = format!("mailready-marker {VERSION}\nrun {}\n", self.run);
        for s in &self.sources {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "source {} {} {} {} {} {} {}",
                percent::encode(s.name.as_bytes()),
                s.length,
                s.messages,
                hex::text(&s.hash),
                s.uid_validity,
                s.uid_next,
                percent::encode(s.path.as_os_str().as_bytes()),
            );
        }
        text + "end\n"
    }

    /// Writes it into a stage, where none may be yet. Not durable until the stage is.
    pub(crate) fn write(&self, stage: BorrowedFd<'_>) -> Result<File> {
        let mut file = dir::create_file(stage, NAME)?;
        file.write_all(self.text().as_bytes()).map_err(Error::io("write", NAME))?;
        Ok(file)
    }
}

impl MarkerSource {
    fn parse(fields: &str) -> Option<Self> {
        let mut fields = fields.split(' ');
        let source = MarkerSource {
            name: String::from_utf8(percent::decode(fields.next()?)?).ok()?,
            length: fields.next()?.parse().ok()?,
            messages: fields.next()?.parse().ok()?,
            hash: hex::parse(fields.next()?)?,
            uid_validity: fields.next()?.parse().ok()?,
            uid_next: fields.next()?.parse().ok()?,
            path: std::ffi::OsString::from_vec(percent::decode(fields.next()?)?).into(),
        };
        fields.next().is_none().then_some(source)
    }
}

fn damaged(line: u64, why: &str) -> Error {
    Error::Damaged { path: NAME.into(), at: line, why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Marker {
        let source = MarkerSource {
            name: "Entwürfe 2001/50 %".into(),
            length: 1 << 40,
            messages: 3,
            hash: [7; 32],
            uid_validity: 1,
            uid_next: 4,
            path: PathBuf::from(std::ffi::OsString::from_vec(b"/home/a b/\xff\n".to_vec())),
        };
        Marker { run: RunId::generate().unwrap(), sources: vec![source] }
    }

    #[test]
    fn what_is_written_is_read() {
        let marker = sample();
        assert_eq!(Marker::parse(&marker.text()).unwrap(), Some(marker));
    }

    #[test]
    fn a_marker_without_end_is_none() {
        let text = sample().text();
        for cut in text.find('\n').unwrap() + 1..text.len() - 4 {
            match Marker::parse(&text[..cut]) {
                Ok(None) | Err(Error::Damaged { .. }) => {}
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_newer_version_is_left_alone() {
        let text = sample().text().replacen(" 1\n", " 2\n", 1);
        assert!(matches!(Marker::parse(&text), Err(Error::Newer { version: 2, .. })));
    }
}
