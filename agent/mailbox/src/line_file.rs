//! A text file that grows by a line a message and can be cut back.

use crate::{Error, Result, dir};
use nix::errno::Errno;
use nix::sys::uio::pwrite;
use std::fs::File;
use std::os::fd::BorrowedFd;

/// Bytes gathered before they are written.
const GATHER: usize = 64 << 10;

/// See the module's text. Without [`LineFile::flush`] the last lines are in memory only.
#[derive(Debug)]
pub(crate) struct LineFile {
    file: File,
    name: &'static str,
    written: u64,
    pending: String,
}

impl LineFile {
    /// A new, empty file.
    pub(crate) fn create(folder: BorrowedFd<'_>, name: &'static str) -> Result<Self> {
        Ok(LineFile { file: dir::create_file(folder, name)?, name, written: 0, pending: String::new() })
    }

    /// A file that is there already, whose last line ends at `written`.
    pub(crate) fn open(folder: BorrowedFd<'_>, name: &'static str, written: u64) -> Result<Self> {
        let file = dir::open_to_write(folder, name)?;
        Ok(LineFile { file, name, written, pending: String::new() })
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub(crate) fn write(&mut self, line: &str) -> Result<()> {
        self.write_with(|pending| pending.push_str(line))
    }

    /// Appends what `line` appends.
    pub(crate) fn write_with(&mut self, line: impl FnOnce(&mut String)) -> Result<()> {
        line(&mut self.pending);
        if self.pending.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    /// Hands everything to the kernel.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let mut rest = self.pending.as_bytes();
        while !rest.is_empty() {
            let at = i64::try_from(self.written).map_err(|_| Error::io("write", self.name)(Errno::EFBIG))?;
            match pwrite(&self.file, rest, at) {
                Ok(n) => {
                    self.written += n as u64;
                    rest = &rest[n..];
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::io("write", self.name)(e)),
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// Takes everything from `len` on back.
    pub(crate) fn cut(&mut self, len: u64) -> Result<()> {
        self.flush()?;
        self.file.set_len(len).map_err(Error::io("shorten", self.name))?;
        self.written = len;
        Ok(())
    }

    /// The file, with everything in the kernel.
    pub(crate) fn close(mut self) -> Result<File> {
        self.flush()?;
        Ok(self.file)
    }
}
