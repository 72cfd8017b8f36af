//! A sliding window over an mbox, filled by `pread` only.
//!
//! The mbox's open file description is shared with another process that holds the locks on it: its offset is not ours to move.
//! What passes through the window for the first time also goes into the hash that the marker carries.

use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::uio::pread;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Bytes in the window. Most messages fit whole, and a read of this size costs next to nothing over a larger one.
pub(crate) const CAPACITY: usize = 2 << 20;

/// See the module's text.
pub(crate) struct Window<'fd> {
    fd: BorrowedFd<'fd>,
    path: PathBuf,
    buf: Box<[u8]>,
    /// Offset in the file of `buf[0]`.
    base: u64,
    filled: usize,
    /// Where the mbox ends for us, whatever is appended meanwhile.
    end: u64,
    hasher: blake3::Hasher,
    /// Bytes below this offset are in the hash.
    hashed_to: u64,
}

impl<'fd> Window<'fd> {
    /// A window over `[from, end)`.
    pub(crate) fn new(fd: BorrowedFd<'fd>, path: PathBuf, from: u64, end: u64) -> Self {
        Self::resume(fd, path, from, end, blake3::Hasher::new(), from)
    }

    /// A window that goes on with a hash that holds all bytes below `hashed_to`.
    pub(crate) fn resume(
        fd: BorrowedFd<'fd>,
        path: PathBuf,
        from: u64,
        end: u64,
        hasher: blake3::Hasher,
        hashed_to: u64,
    ) -> Self {
        Self::with_capacity(fd, path, from, end, hasher, hashed_to, CAPACITY)
    }

    pub(crate) fn with_capacity(
        fd: BorrowedFd<'fd>,
        path: PathBuf,
        from: u64,
        end: u64,
        hasher: blake3::Hasher,
        hashed_to: u64,
        capacity: usize,
    ) -> Self {
        Window { fd, path, buf: vec![0; capacity].into(), base: from, filled: 0, end, hasher, hashed_to }
    }

    /// The hash of everything below the window's end; what has not passed through yet does so now.
    pub(crate) fn into_hasher(mut self) -> Result<blake3::Hasher> {
        while self.fill(self.filled_to())? {}
        Ok(self.hasher)
    }

    /// Where the mbox ends for us.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// First offset behind the window.
    pub(crate) fn filled_to(&self) -> u64 {
        self.base + self.filled as u64
    }

    /// Nothing is left to read behind the window.
    pub(crate) fn at_end(&self) -> bool {
        self.filled_to() >= self.end
    }

    /// The window from `from` on; `from` lies in it.
    pub(crate) fn from(&self, from: u64) -> &[u8] {
        &self.buf[(from - self.base) as usize..self.filled]
    }

    /// The bytes `[from, to)`; both lie in the window.
    pub(crate) fn slice(&self, from: u64, to: u64) -> &[u8] {
        &self.buf[(from - self.base) as usize..(to - self.base) as usize]
    }

    /// The byte at `at`, if it is in the window.
    pub(crate) fn byte(&self, at: u64) -> Option<u8> {
        let index = usize::try_from(at.checked_sub(self.base)?).ok()?;
        self.buf[..self.filled].get(index).copied()
    }

    /// Reads on, keeping everything from `keep` on. `false`: the end is reached, or there is no room.
    pub(crate) fn fill(&mut self, keep: u64) -> Result<bool> {
        if self.at_end() {
            return Ok(false);
        }
        if self.filled == self.buf.len() {
            let start = (keep - self.base) as usize;
            if start == 0 {
                return Ok(false);
            }
            self.buf.copy_within(start..self.filled, 0);
            self.base = keep;
            self.filled -= start;
        }
        let at = self.filled_to();
        let room = (self.buf.len() - self.filled).min(usize::try_from(self.end - at).unwrap_or(usize::MAX));
        let new = &mut self.buf[self.filled..self.filled + room];
        let n = read_at(self.fd, new, at).map_err(Error::io("read", &self.path))?;
        if n == 0 {
            return Err(self.shrunk(at));
        }
        let fresh = self.hashed_to.saturating_sub(at).min(n as u64) as usize;
        self.hasher.update(&new[fresh..n]);
        self.hashed_to = self.hashed_to.max(at + n as u64);
        self.filled += n;
        Ok(true)
    }

    /// Bytes anywhere, outside the window's course; as many as `into` holds, fewer only at the end.
    pub(crate) fn peek<'b>(&self, at: u64, into: &'b mut [u8]) -> Result<&'b [u8]> {
        let want = into.len().min(usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX));
        let into = &mut into[..want];
        if at >= self.base && at + want as u64 <= self.filled_to() {
            into.copy_from_slice(self.slice(at, at + want as u64));
            return Ok(into);
        }
        let mut done = 0;
        while done < want {
            let n = read_at(self.fd, &mut into[done..], at + done as u64)
                .map_err(Error::io("read", &self.path))?;
            if n == 0 {
                return Err(self.shrunk(at + done as u64));
            }
            done += n;
        }
        Ok(into)
    }

    fn shrunk(&self, at: u64) -> Error {
        Error::Changed { path: self.path.clone(), offset: at, why: "it became shorter" }
    }

    /// The mbox as errors name it.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}

/// `pread` that a signal does not stop.
pub(crate) fn read_at(fd: BorrowedFd<'_>, into: &mut [u8], at: u64) -> nix::Result<usize> {
    let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    loop {
        match pread(fd, into, at) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
