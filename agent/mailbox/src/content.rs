//! One message on its way from the mbox to its file: filtered, counted, hashed.
//!
//! What is small is collected and written by one call under its final name. What is not goes to a file of its own as it comes,
//! and gets its name when its size is known: no message is too large.

use crate::filter::Filter;
use crate::fingerprint::Fingerprint;
use crate::header::{Fed, Hidden};
use crate::salvage::{Salvage, Twin};
use crate::split::{HeaderEnd, Splitter};
use crate::{Error, Result, Server, dir};
use nix::fcntl::{RenameFlags, renameat2};
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;

/// Messages up to this size are held in memory.
const HELD: usize = 1 << 20;

/// Reads messages out of a splitter.
pub(crate) struct Reader<'d> {
    filter: Filter,
    /// Folder for what cannot be held: `tmp/` of a Maildir, say. `None`: it is only counted.
    overflow_dir: Option<BorrowedFd<'d>>,
    overflows: u64,
    salvage: Option<&'d Salvage>,
}

/// A message's bytes, as clients see them.
pub(crate) struct Content {
    /// All of them, or none if there is an overflow.
    held: Vec<u8>,
    overflow: Option<Box<Overflow>>,
}

/// What could not be held: where it is, and what was counted of it.
struct Overflow {
    name: String,
    sink: Sink,
    hasher: blake3::Hasher,
    size: u64,
    bare_line_feeds: u64,
    ends_with_cr: bool,
}

/// Where an overflow goes.
enum Sink {
    /// Nobody is going to store it.
    Nowhere,
    /// A file of its own.
    File(File),
    /// This file holds all of it so far.
    Twin(Twin),
}

/// What a message's bytes amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) size: u64,
    /// Size with each line end as CRLF.
    pub(crate) virtual_size: u64,
    pub(crate) hash: blake3::Hash,
}

impl<'d> Reader<'d> {
    /// By the rules of this server.
    pub(crate) fn new(server: Server, overflow_dir: BorrowedFd<'d>) -> Self {
        Reader { filter: Filter::of(server), overflow_dir: Some(overflow_dir), overflows: 0, salvage: None }
    }

    /// Large messages may have their file already.
    pub(crate) fn with(self, salvage: &'d Salvage) -> Self {
        Reader { salvage: Some(salvage), ..self }
    }

    /// For messages that are measured and then discarded.
    pub(crate) fn measuring() -> Self {
        Reader { filter: Filter::of(Server::Dovecot), overflow_dir: None, overflows: 0, salvage: None }
    }

    /// Reads the message that the splitter stands at. `tell` hears its hidden headers and answers with the Content-Length to go
    /// by; `raw` leaves all bytes as they are.
    pub(crate) fn read(
        &mut self,
        split: &mut Splitter<'_>,
        raw: bool,
        tell: &mut dyn FnMut(Hidden, &[u8]) -> Option<u64>,
    ) -> Result<Content> {
        self.filter.begin(split.opening_line());
        let mut content = Content { held: Vec::new(), overflow: None };
        let mut in_header = !raw;
        let mut content_length = None;
        // Headers beyond an end that a Content-Length overruled are bytes of the message, but say nothing.
        let mut overruled = raw;
        loop {
            let from = split.pos();
            let Some(piece) = split.piece()? else {
                if !in_header || overruled {
                    break;
                }
                self.filter.tell_pending(&mut |which, value| content_length = tell(which, value));
                overruled = split.header_did_not_end(content_length.unwrap_or(0))?;
                if !overruled {
                    break;
                }
                self.filter.says_no_more();
                continue;
            };
            if content.held.is_empty() {
                content.held.reserve(piece.len().min(HELD));
            }
            if !in_header {
                self.filter.body(piece, &mut content.held);
            } else {
                let mut heard = |which: Hidden, value: &[u8]| {
                    if !overruled {
                        content_length = tell(which, value);
                    }
                };
                match self.filter.feed(piece, &mut content.held, &mut heard) {
                    Fed::All => {}
                    Fed::Ended(n) => {
                        in_header = false;
                        self.filter.body(&piece[n..], &mut content.held);
                        if !overruled {
                            split.header_ended(HeaderEnd { body: from + n as u64, content_length })?;
                        }
                    }
                }
            }
            if content.held.len() > HELD {
                self.spill(&mut content)?;
            }
        }
        if in_header {
            self.filter.finish(&mut content.held, &mut |which, value| {
                if !overruled {
                    tell(which, value);
                }
            });
        }
        if content.overflow.is_some() {
            self.spill(&mut content)?;
        }
        Ok(content)
    }

    /// Who the message is that was read last, to Dovecot.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.filter.fingerprint()
    }

    /// Moves what is held to the overflow.
    fn spill(&mut self, content: &mut Content) -> Result<()> {
        let mut overflow = match content.overflow.take() {
            Some(overflow) => overflow,
            None => {
                // No reader takes a name with a dot in front for mail.
                let name = format!(".mailready-large-{}", self.overflows);
                self.overflows += 1;
                let sink = match (self.overflow_dir, self.salvage.and_then(|s| s.twin(&content.held))) {
                    (_, Some(twin)) => Sink::Twin(twin),
                    (Some(folder), None) => Sink::File(dir::create_file(folder, &name)?),
                    (None, None) => Sink::Nowhere,
                };
                Box::new(Overflow::new(sink, name))
            }
        };
        overflow.take(&content.held, self.overflow_dir)?;
        content.held.clear();
        content.overflow = Some(overflow);
        Ok(())
    }
}

impl Overflow {
    fn new(sink: Sink, name: String) -> Self {
        Overflow {
            name,
            sink,
            hasher: blake3::Hasher::new(),
            size: 0,
            bare_line_feeds: 0,
            ends_with_cr: false,
        }
    }

    fn take(&mut self, bytes: &[u8], folder: Option<BorrowedFd<'_>>) -> Result<()> {
        if let (Sink::Twin(twin), Some(folder)) = (&self.sink, folder)
            && !twin.goes_on(bytes, self.size)
        {
            self.leave_twin(folder)?;
        }
        if let Sink::File(file) = &mut self.sink {
            file.write_all(bytes).map_err(Error::io("write", &self.name))?;
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.bare_line_feeds += bare_line_feeds(bytes, self.ends_with_cr);
        self.ends_with_cr = bytes.last().map_or(self.ends_with_cr, |b| *b == b'\r');
        Ok(())
    }

    /// The message is another one after all: what has come of it so far gets a file of its own.
    fn leave_twin(&mut self, folder: BorrowedFd<'_>) -> Result<()> {
        if let Sink::Twin(twin) = &self.sink {
            let mut file = dir::create_file(folder, &self.name)?;
            twin.copy(self.size, &mut file)?;
            self.sink = Sink::File(file);
        }
        Ok(())
    }
}

impl Content {
    /// Counts and hashes.
    pub(crate) fn measure(&self) -> Measure {
        match &self.overflow {
            Some(o) => {
                Measure { size: o.size, virtual_size: o.size + o.bare_line_feeds, hash: o.hasher.finalize() }
            }
            None => {
                let size = self.held.len() as u64;
                let virtual_size = size + bare_line_feeds(&self.held, false);
                Measure { size, virtual_size, hash: blake3::hash(&self.held) }
            }
        }
    }

    /// Gives the message its file: `name` in `folder`, which must not exist. Not synced.
    pub(crate) fn store(
        mut self,
        overflow_dir: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        name: &str,
    ) -> Result<File> {
        let file = match self.overflow.take() {
            Some(mut overflow) => {
                overflow.leave_twin(overflow_dir)?;
                // Nobody stores what was only to be measured.
                let Sink::File(file) = overflow.sink else {
                    return Err(Error::io("name", name)(nix::errno::Errno::EBADF));
                };
                renameat2(overflow_dir, overflow.name.as_str(), folder, name, RenameFlags::RENAME_NOREPLACE)
                    .map_err(Error::io("name", name))?;
                file
            }
            None => {
                let mut file = dir::create_file(folder, name)?;
                file.write_all(&self.held).map_err(Error::io("write", name))?;
                file
            }
        };
        Ok(file)
    }

    /// The file that an earlier stage has made of the same bytes: `name` in `folder` now.
    pub(crate) fn find(
        &mut self,
        salvage: &Salvage,
        measure: &Measure,
        folder: BorrowedFd<'_>,
        name: &str,
    ) -> Option<File> {
        let Some(overflow) = &mut self.overflow else {
            return salvage.take(measure.hash.as_bytes(), measure.size, folder, name);
        };
        match std::mem::replace(&mut overflow.sink, Sink::Nowhere) {
            // It may go on behind the message's end.
            Sink::Twin(twin) if twin.size == overflow.size => match twin.take(folder, name) {
                Ok(file) => return Some(file),
                Err(twin) => overflow.sink = Sink::Twin(twin),
            },
            other => overflow.sink = other,
        }
        None
    }

    /// Forgets a message that gets no file.
    pub(crate) fn discard(self, overflow_dir: BorrowedFd<'_>) -> Result<()> {
        match self.overflow {
            Some(overflow) if matches!(overflow.sink, Sink::File(_)) => {
                dir::unlink(overflow_dir, &overflow.name)
            }
            _ => Ok(()),
        }
    }

    /// Its bytes, if they could be held.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.held
    }

    /// Bytes that it takes in memory.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }
}

/// Line feeds without a CR in front.
fn bare_line_feeds(data: &[u8], after_cr: bool) -> u64 {
    let all = memchr::memchr_iter(b'\n', data).count();
    let with_cr = memchr::memchr_iter(b'\r', data).filter(|i| data.get(i + 1) == Some(&b'\n')).count();
    let first = after_cr && data.first() == Some(&b'\n');
    (all - with_cr - usize::from(first)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_feeds_without_cr_count_also_across_pieces() {
        assert_eq!(bare_line_feeds(b"a\nb\r\nc\r\rd\n\n", false), 3);
        assert_eq!(bare_line_feeds(b"\n\n", true), 1);
        assert_eq!(bare_line_feeds(b"", true), 0);
    }
}
