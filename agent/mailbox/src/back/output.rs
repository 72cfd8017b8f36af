//! The mbox under construction: bytes appended to a descriptor whose offset is not ours to move.

use crate::window::read_at;
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::uio::pwrite;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Bytes gathered before they are written.
const GATHER: usize = 256 << 10;

/// See the module's text. What is not flushed is lost.
pub(super) struct Output<'a> {
    fd: BorrowedFd<'a>,
    path: &'a Path,
    written: u64,
    pending: Vec<u8>,
    hasher: blake3::Hasher,
}

impl<'a> Output<'a> {
    /// Goes on at `length` with a hash of all bytes below it.
    pub(super) fn resume(fd: BorrowedFd<'a>, path: &'a Path, length: u64, hasher: blake3::Hasher) -> Self {
        Output { fd, path, written: length, pending: Vec::with_capacity(GATHER + (64 << 10)), hasher }
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.hasher.update(&self.pending);
        let mut rest = &self.pending[..];
        while !rest.is_empty() {
            let at = i64::try_from(self.written).map_err(|_| Error::io("write", self.path)(Errno::EFBIG))?;
            match pwrite(self.fd, rest, at) {
                Ok(n) => {
                    self.written += n as u64;
                    rest = &rest[n..];
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::io("write", self.path)(e)),
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// Everything is durable: length and hash.
    pub(super) fn finish(mut self) -> Result<(u64, blake3::Hasher)> {
        self.flush()?;
        nix::unistd::fsync(self.fd).map_err(Error::io("sync", self.path))?;
        Ok((self.written, self.hasher))
    }
}

/// The first bytes of a line of a file, up to its end or to the end of `into`.
pub(super) fn line_at<'b>(fd: BorrowedFd<'_>, at: u64, into: &'b mut [u8]) -> &'b [u8] {
    // What cannot be read is not there: its only use is to look nicer.
    let n = read_at(fd, into, at).unwrap_or(0);
    let end = memchr::memchr(b'\n', &into[..n]).map_or(n, |lf| lf + 1);
    &into[..end]
}
