//! One message on its way from the mbox to its file: filtered, counted, hashed.
//!
//! What is small is collected and written by one call under its final name. What is not goes to a file of its own as it comes,
//! and gets its name when its size is known: no message is too large.

use crate::header::{Fed, HeaderFilter, Hidden};
use crate::split::{HeaderEnd, Splitter};
use crate::{Error, Result, dir};
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;

/// Messages up to this size are held in memory.
const HELD: usize = 1 << 20;

/// What a message's bytes amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) size: u64,
    /// Size with each line end as CRLF.
    pub(crate) virtual_size: u64,
    pub(crate) hash: blake3::Hash,
}

/// The message under way. One for all; its buffer is reused.
pub(crate) struct Content<'d> {
    filter: HeaderFilter,
    held: Vec<u8>,
    /// What did not fit: where it is, and what was counted of it.
    overflow: Option<Overflow>,
    /// Folder for what does not fit: `tmp/` of a Maildir, say.
    overflow_dir: BorrowedFd<'d>,
    last_byte_was_cr: bool,
}

struct Overflow {
    file: File,
    hasher: blake3::Hasher,
    size: u64,
    virtual_size: u64,
}

/// Name of the message that is too large to be held, until it has its own. No reader takes a name with a dot in front for mail.
const OVERFLOW_NAME: &str = ".mailready-large";

impl<'d> Content<'d> {
    pub(crate) fn new(overflow_dir: BorrowedFd<'d>) -> Self {
        Content {
            filter: HeaderFilter::default(),
            held: Vec::with_capacity(HELD / 4),
            overflow: None,
            overflow_dir,
            last_byte_was_cr: false,
        }
    }

    /// Reads the message that the splitter stands at. `tell` hears its hidden headers and answers with the Content-Length to go
    /// by; `raw` leaves all bytes as they are.
    pub(crate) fn read(
        &mut self,
        split: &mut Splitter<'_>,
        raw: bool,
        tell: &mut dyn FnMut(Hidden, &[u8]) -> Option<u64>,
    ) -> Result<Measure> {
        self.filter.reset();
        self.held.clear();
        self.drop_overflow()?;
        self.last_byte_was_cr = false;
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
                continue;
            };
            if !in_header {
                self.held.extend_from_slice(piece);
            } else {
                let mut heard = |which: Hidden, value: &[u8]| {
                    if !overruled {
                        content_length = tell(which, value);
                    }
                };
                match self.filter.feed(piece, &mut self.held, &mut heard) {
                    Fed::All => {}
                    Fed::Ended(n) => {
                        in_header = false;
                        self.held.extend_from_slice(&piece[n..]);
                        if !overruled {
                            split.header_ended(HeaderEnd { body: from + n as u64, content_length })?;
                        }
                    }
                }
            }
            if self.held.len() > HELD {
                self.spill()?;
            }
        }
        if in_header {
            self.filter.finish(&mut self.held, &mut |which, value| {
                if !overruled {
                    tell(which, value);
                }
            });
        }
        self.measure()
    }

    fn measure(&mut self) -> Result<Measure> {
        if self.overflow.is_some() {
            self.spill()?;
        }
        let size = self.held.len() as u64;
        Ok(match &self.overflow {
            Some(o) => Measure { size: o.size, virtual_size: o.virtual_size, hash: o.hasher.finalize() },
            None => Measure {
                size,
                virtual_size: size + bare_line_feeds(&self.held, false),
                hash: blake3::hash(&self.held),
            },
        })
    }

    fn spill(&mut self) -> Result<()> {
        if self.overflow.is_none() {
            let file = dir::create_file(self.overflow_dir, OVERFLOW_NAME)?;
            self.overflow = Some(Overflow { file, hasher: blake3::Hasher::new(), size: 0, virtual_size: 0 });
        }
        if let Some(o) = &mut self.overflow {
            o.file.write_all(&self.held).map_err(Error::io("write", OVERFLOW_NAME))?;
            o.hasher.update(&self.held);
            o.size += self.held.len() as u64;
            o.virtual_size += self.held.len() as u64 + bare_line_feeds(&self.held, self.last_byte_was_cr);
            self.last_byte_was_cr = self.held.last().map_or(self.last_byte_was_cr, |b| *b == b'\r');
            self.held.clear();
        }
        Ok(())
    }

    /// Forgets a message that gets no file.
    pub(crate) fn drop_overflow(&mut self) -> Result<()> {
        match self.overflow.take() {
            Some(_) => dir::unlink(self.overflow_dir, OVERFLOW_NAME),
            None => Ok(()),
        }
    }

    /// Gives the message its file: `name` in `folder`, which must not exist, with `date` as its time. Not synced.
    pub(crate) fn store(&mut self, folder: BorrowedFd<'_>, name: &str, date: i64) -> Result<File> {
        let file = match self.overflow.take() {
            Some(overflow) => {
                renameat2(self.overflow_dir, OVERFLOW_NAME, folder, name, RenameFlags::RENAME_NOREPLACE)
                    .map_err(Error::io("name", name))?;
                overflow.file
            }
            None => {
                let mut file = dir::create_file(folder, name)?;
                file.write_all(&self.held).map_err(Error::io("write", name))?;
                file
            }
        };
        // INTERNALDATE is the file's time.
        futimens(&file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(date, 0))
            .map_err(Error::io("set the time of", name))?;
        Ok(file)
    }
}

/// Line feeds without a CR in front.
fn bare_line_feeds(data: &[u8], after_cr: bool) -> u64 {
    let all = memchr::memchr_iter(b'\n', data).count();
    let with_cr = memchr::memchr_iter(b'\r', data).filter(|i| data.get(i + 1) == Some(&b'\n')).count();
    let first = after_cr && data.first() == Some(&b'\n');
    (all - with_cr - usize::from(first)) as u64
}
