//! Datagrams with the address that they were sent to, so that the answer comes from there: a client drops what comes from another address than it asked.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Room for what comes while every thread waits for the agent. The kernel gives what net.core.rmem_max allows.
const BUFFER: usize = 4 << 20;

/// A bound socket; several threads may receive from it.
pub(crate) struct Bound {
    socket: OwnedFd,
    /// Where it is bound.
    pub(crate) address: SocketAddr,
    /// Bytes of its receive buffer, as the kernel counts them.
    pub(crate) buffer: usize,
}

/// The address that a datagram came to.
#[derive(Clone, Copy)]
pub(crate) enum Local {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
    Untold,
}

impl Bound {
    /// Binds; `[::]` takes IPv4 too, and becomes `0.0.0.0` on a machine without IPv6.
    ///
    /// # Errors
    /// As the system calls.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        match Self::bind(address) {
            Err(error)
                if address.ip().is_unspecified()
                    && address.is_ipv6()
                    && matches!(
                        error.raw_os_error().map(Errno::from_raw),
                        Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)
                    ) =>
            {
                Self::bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            bound => bound,
        }
    }

    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        }
        socket.set_recv_buffer_size(BUFFER)?;
        socket.bind(&address.into())?;
        let buffer = socket.recv_buffer_size()?;
        Ok(Self { socket: socket.into(), address, buffer })
    }

    /// Waits for the next datagram; its length, who sent it, and where to.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Local)> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let got = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let mut local = Local::Untold;
        for message in got.cmsgs().into_iter().flatten() {
            match message {
                ControlMessageOwned::Ipv4PacketInfo(info) => local = Local::V4(info),
                ControlMessageOwned::Ipv6PacketInfo(info) => local = Local::V6(info),
                _ => {}
            }
        }
        let from = got.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
        Ok((got.bytes, from, local))
    }

    /// Answers from the address that was asked. One that does not get through is asked for again.
    pub(crate) fn answer(&self, answer: &[u8], to: SocketAddr, local: Local) -> io::Result<()> {
        let slices = [IoSlice::new(answer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let socket = self.socket.as_raw_fd();
        let messages: &[ControlMessage<'_>] = match &local {
            Local::V4(info) => &[ControlMessage::Ipv4PacketInfo(info)],
            Local::V6(info) => &[ControlMessage::Ipv6PacketInfo(info)],
            Local::Untold => &[],
        };
        match to {
            SocketAddr::V4(to) => sendmsg(socket, &slices, messages, flags, Some(&SockaddrIn::from(to)))?,
            SocketAddr::V6(to) => sendmsg(socket, &slices, messages, flags, Some(&SockaddrIn6::from(to)))?,
        };
        Ok(())
    }
}

fn address(of: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = of.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| of.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_answer_comes_from_the_address_that_was_asked() {
        let bound = Bound::new("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = nix::sys::socket::getsockname::<SockaddrIn>(bound.socket.as_raw_fd()).unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asked: SocketAddr = format!("127.0.0.9:{port}").parse().unwrap();
        client.send_to(b"?", asked).unwrap();
        let mut buffer = [0; 10];
        let (length, from, local) = bound.receive(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"?"[..], client.local_addr().unwrap()));
        bound.answer(b"!", from, local).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (1, asked));
    }
}
