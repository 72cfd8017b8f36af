//! A socket for D-Bus messages that are not too long. zbus allocates (and clears) what a message's header promises, up to 128 MiB, which any user could
//! promise in sixteen bytes, on every connection; so the header is looked at first. Descriptors are not taken at all.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::fdo::ConnectionCredentials;
use zbus::message::Message;

use crate::peer::Peer;

/// Byte order, type, flags, version, length of the body, serial, length of the fields: as laid down by the D-Bus specification, "Message
/// Format".
const HEADER: usize = 16;

/// A connected stream whose messages are no longer than `limit`.
pub(super) struct Capped {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    pub(super) limit: usize,
}

impl Socket for Capped {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.stream.into_split();
        Split::new(Reader { read: Bytes { read, peer: self.peer }, limit: self.limit }, Writer(write))
    }
}

/// The plain half: zbus's own way to take a message from it is used once its length is known to be fine.
#[derive(Debug)]
struct Bytes {
    read: OwnedReadHalf,
    peer: Peer,
}

#[async_trait]
impl ReadHalf for Bytes {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.read.read(buffer).await?, Vec::new()))
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        Ok(ConnectionCredentials::default().set_unix_user_id(self.peer.uid))
    }
}

/// What messages are read from.
#[derive(Debug)]
pub(super) struct Reader {
    read: Bytes,
    limit: usize,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn receive_message(
        &mut self,
        seq: u64,
        early: &mut Vec<u8>,
        early_fds: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        while early.len() < HEADER {
            let mut rest = [0; HEADER];
            let wanted = HEADER - early.len();
            let (got, _) = self.read.recvmsg(&mut rest[..wanted]).await?;
            if got == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            early.extend_from_slice(&rest[..got]);
        }
        if promised(early).is_none_or(|len| len > self.limit) {
            let text = format!("a message of more than {} bytes, or none", self.limit);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        self.read.receive_message(seq, early, early_fds).await
    }

    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.read.recvmsg(buffer).await
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        self.read.peer_credentials().await
    }
}

/// The length of a message by its header.
fn promised(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| {
        let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        match bytes.first()? {
            b'l' => usize::try_from(u32::from_le_bytes(field)).ok(),
            b'B' => usize::try_from(u32::from_be_bytes(field)).ok(),
            _ => None,
        }
    };
    let (body, fields) = (number(4)?, number(12)?);
    HEADER.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)
}

/// What messages are written to.
#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_known_from_the_first_sixteen_bytes() {
        let header = |order: u8, body: [u8; 4], fields: [u8; 4]| {
            let mut bytes = vec![order, 1, 0, 1];
            bytes.extend(body);
            bytes.extend([1, 0, 0, 0]);
            bytes.extend(fields);
            bytes
        };
        assert_eq!(promised(&header(b'l', [5, 0, 0, 0], [1, 0, 0, 0])), Some(29));
        assert_eq!(promised(&header(b'B', [0, 0, 0, 5], [0, 0, 0, 8])), Some(29));
        assert_eq!(promised(&header(b'l', [0xff; 4], [0xff; 4])), Some(0x1_0000_0010 + 0xffff_ffff));
        assert_eq!(promised(&header(b'x', [0; 4], [0; 4])), None);
        assert_eq!(promised(b"l"), None);
    }
}
