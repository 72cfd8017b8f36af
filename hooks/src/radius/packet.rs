//! RADIUS accounting packets (RFC 2865 section 3, RFC 2866, RFC 5997), as bytes: what is needed of them, and nothing else.
//!
//! The authenticators are hashes over the very bytes that came, so a parser that made values of them would only have to be undone.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

/// Longest packet (RFC 2865 section 3), bytes.
pub(crate) const PACKET_MAX: usize = 4096;
/// Code, identifier, length, authenticator.
const HEADER: usize = 20;

const ACCOUNTING_REQUEST: u8 = 4;
const ACCOUNTING_RESPONSE: u8 = 5;
const STATUS_SERVER: u8 = 12;

const USER_NAME: u8 = 1;
const PROXY_STATE: u8 = 33;
const ACCT_STATUS_TYPE: u8 = 40;
const MESSAGE_AUTHENTICATOR: u8 = 80;

/// Why a datagram is no packet for this program. It gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Fewer bytes than a header, or than the header says.
    #[error("cut short")]
    Short,
    /// The header says less than a header, or more than a packet may have.
    #[error("length {0} in the header")]
    Length(u16),
    /// Neither an Accounting-Request nor a Status-Server.
    #[error("code {0}, and only accounting is answered here")]
    Code(u8),
    /// An attribute that is shorter than its own head, or goes past the end; counted in bytes from the packet's beginning.
    #[error("broken attribute at byte {0}")]
    Attribute(usize),
    /// An Accounting-Request without a status of four bytes.
    #[error("no Acct-Status-Type")]
    NoStatus,
}

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About<'a> {
    /// A session has begun, or goes on: whoever it names is there. None: it names nobody.
    Arrival(Option<&'a [u8]>),
    /// The client has started (true) or is about to stop (false): all its sessions have ended.
    Client(bool),
    /// Accounting that is no arrival: a session's end, a tunnel's.
    Else,
    /// Are you there? (Status-Server)
    Probe,
}

/// One packet, checked in form; not yet known to be genuine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// From the code to the last attribute; what the datagram has behind it is padding.
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a datagram apart.
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let head = datagram.get(..HEADER).ok_or(Malformed::Short)?;
        let length = u16::from_be_bytes([head[2], head[3]]);
        if !(HEADER..=PACKET_MAX).contains(&usize::from(length)) {
            return Err(Malformed::Length(length));
        }
        let packet = Self { bytes: datagram.get(..usize::from(length)).ok_or(Malformed::Short)? };
        let mut at = HEADER;
        while at < packet.bytes.len() {
            let length = usize::from(*packet.bytes.get(at + 1).ok_or(Malformed::Attribute(at))?);
            if length < 2 || at + length > packet.bytes.len() {
                return Err(Malformed::Attribute(at));
            }
            at += length;
        }
        match head[0] {
            ACCOUNTING_REQUEST if packet.status().is_none() => Err(Malformed::NoStatus),
            ACCOUNTING_REQUEST | STATUS_SERVER => Ok(packet),
            code => Err(Malformed::Code(code)),
        }
    }

    /// Attributes in order: where the value begins, its type, the value. The form has been checked.
    fn attributes(self) -> impl Iterator<Item = (usize, u8, &'a [u8])> {
        let mut at = HEADER;
        std::iter::from_fn(move || {
            let (kind, length) = (*self.bytes.get(at)?, usize::from(*self.bytes.get(at + 1)?));
            let value = self.bytes.get(at + 2..at + length)?;
            at += length;
            Some((at - value.len(), kind, value))
        })
    }

    fn first(self, wanted: u8) -> Option<&'a [u8]> {
        self.attributes().find(|(_, kind, _)| *kind == wanted).map(|(_, _, value)| value)
    }

    fn status(self) -> Option<u32> {
        self.first(ACCT_STATUS_TYPE)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The request authenticator.
    pub(crate) fn authenticator(self) -> [u8; 16] {
        let mut authenticator = [0; 16];
        authenticator.copy_from_slice(&self.bytes[4..HEADER]);
        authenticator
    }

    /// The identifier that an answer repeats.
    pub(crate) fn identifier(self) -> u8 {
        self.bytes[1]
    }

    /// What it says (RFC 2866 section 5.1).
    pub(crate) fn about(self) -> About<'a> {
        if self.bytes[0] == STATUS_SERVER {
            return About::Probe;
        }
        match self.status() {
            // Start, Interim-Update
            Some(1 | 3) => About::Arrival(self.first(USER_NAME)),
            // Accounting-On, Accounting-Off
            Some(7) => About::Client(true),
            Some(8) => About::Client(false),
            _ => About::Else,
        }
    }

    /// Whether somebody who knows the secret made it: by the authenticator of RFC 2866 section 3, and by the Message-Authenticator where there is one
    /// (RFC 3579 section 3.2; a Status-Server must have one, RFC 5997 section 3).
    pub(crate) fn is_genuine(self, secret: &[u8]) -> bool {
        let is_probe = self.bytes[0] == STATUS_SERVER;
        let mut zeroed = self.bytes.to_vec();
        if !is_probe {
            zeroed[4..HEADER].fill(0);
            let expected = Md5::new().chain_update(&zeroed).chain_update(secret).finalize();
            if !constant_time_eq::constant_time_eq(&expected, &self.bytes[4..HEADER]) {
                return false;
            }
        }
        let mut sealed = self.attributes().filter(|(_, kind, _)| *kind == MESSAGE_AUTHENTICATOR);
        match (sealed.next(), sealed.next()) {
            (None, _) => !is_probe,
            // Its own place counts as zeros.
            (Some((at, _, value)), None) if value.len() == 16 => {
                zeroed[at..at + 16].fill(0);
                let Ok(mac) = Hmac::<Md5>::new_from_slice(secret) else { return false };
                mac.chain_update(&zeroed).verify_slice(value).is_ok()
            }
            _ => false,
        }
    }

    /// The answer that tells a client that it need not send this again: an Accounting-Response with each Proxy-State as it came (RFC 2865 section 5.33).
    pub(crate) fn response(self, secret: &[u8]) -> Vec<u8> {
        let mut response = vec![ACCOUNTING_RESPONSE, self.identifier(), 0, 0];
        response.extend(self.authenticator());
        for (at, _, value) in self.attributes().filter(|(_, kind, _)| *kind == PROXY_STATE) {
            response.extend(&self.bytes[at - 2..at + value.len()]);
        }
        // No longer than the request, so it fits.
        let length = u16::try_from(response.len()).unwrap_or(u16::MAX);
        response[2..4].copy_from_slice(&length.to_be_bytes());
        let authenticator = Md5::new().chain_update(&response).chain_update(secret).finalize();
        response[4..HEADER].copy_from_slice(&authenticator);
        response
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SECRET: &[u8] = b"testing123";

    /// A packet as an honest client makes it.
    pub(crate) fn request(code: u8, identifier: u8, attributes: &[(u8, &[u8])], secret: &[u8]) -> Vec<u8> {
        let mut packet = vec![code, identifier, 0, 0];
        packet.extend([0; 16]);
        for (kind, value) in attributes {
            packet.extend([*kind, value.len() as u8 + 2]);
            packet.extend(*value);
        }
        let length = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&length);
        if code == STATUS_SERVER {
            packet[4..20].fill(7);
        }
        if let Some((at, ..)) = Packet::parse(&packet)
            .ok()
            .and_then(|it| it.attributes().find(|(_, kind, value)| (*kind, value.len()) == (80, 16)))
        {
            let seal = Hmac::<Md5>::new_from_slice(secret).unwrap().chain_update(&packet).finalize();
            packet[at..at + 16].copy_from_slice(&seal.into_bytes());
        }
        if code == ACCOUNTING_REQUEST {
            let hash = Md5::new().chain_update(&packet).chain_update(secret).finalize();
            packet[4..20].copy_from_slice(&hash);
        }
        packet
    }

    fn start(name: &str) -> Vec<u8> {
        request(4, 9, &[(40, &[0, 0, 0, 1]), (1, name.as_bytes())], SECRET)
    }

    #[test]
    fn a_start_names_who_arrives() {
        let bytes = start("ann");
        let packet = Packet::parse(&bytes).unwrap();
        assert!(packet.is_genuine(SECRET) && !packet.is_genuine(b"testing124"));
        assert_eq!(packet.about(), About::Arrival(Some(b"ann")));
    }

    #[test]
    fn every_status_has_its_meaning() {
        for (status, about) in [
            (1, About::Arrival(None)),
            (3, About::Arrival(None)),
            (2, About::Else),
            (7, About::Client(true)),
            (8, About::Client(false)),
            (15, About::Else),
        ] {
            let bytes = request(4, 1, &[(40, &[0, 0, 0, status])], SECRET);
            assert_eq!(Packet::parse(&bytes).unwrap().about(), about, "{status}");
        }
    }

    #[test]
    fn any_changed_bit_makes_it_a_forgery() {
        let seal = [0; 16];
        for bytes in [start("ann"), request(4, 9, &[(40, &[0, 0, 0, 1]), (80, &seal)], SECRET)] {
            assert!(Packet::parse(&bytes).unwrap().is_genuine(SECRET));
            for bit in 0..bytes.len() * 8 {
                let mut forged = bytes.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                let genuine = Packet::parse(&forged).is_ok_and(|packet| packet.is_genuine(SECRET));
                assert!(!genuine, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_wrong_seal_counts_though_the_authenticator_is_right() {
        let mut bytes = request(4, 9, &[(40, &[0, 0, 0, 1]), (80, &[0; 16])], SECRET);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes[4..20].fill(0);
        let hash = Md5::new().chain_update(&bytes).chain_update(SECRET).finalize();
        bytes[4..20].copy_from_slice(&hash);
        assert!(!Packet::parse(&bytes).unwrap().is_genuine(SECRET));
        // Two of them: which one is meant?
        let two = request(4, 9, &[(40, &[0, 0, 0, 1]), (80, &[0; 16]), (80, &[0; 16])], SECRET);
        assert!(!Packet::parse(&two).unwrap().is_genuine(SECRET));
    }

    #[test]
    fn a_probe_has_to_be_sealed() {
        assert!(!Packet::parse(&request(12, 1, &[], SECRET)).unwrap().is_genuine(SECRET));
        let sealed = request(12, 1, &[(80, &[0; 16])], SECRET);
        let packet = Packet::parse(&sealed).unwrap();
        assert!(packet.is_genuine(SECRET));
        assert_eq!(packet.about(), About::Probe);
    }

    #[test]
    fn the_answer_repeats_the_proxies_state_and_is_signed() {
        let bytes = request(4, 77, &[(33, b"one"), (40, &[0, 0, 0, 2]), (33, b"two")], SECRET);
        let mut answer = Packet::parse(&bytes).unwrap().response(SECRET);
        assert_eq!(answer[..4], [5, 77, 0, 30]);
        assert_eq!(answer[20..], *b"\x21\x05one\x21\x05two");
        let signature: Vec<u8> = answer[4..20].to_vec();
        answer[4..20].copy_from_slice(&bytes[4..20]);
        assert_eq!(signature[..], Md5::new().chain_update(&answer).chain_update(SECRET).finalize()[..]);
    }

    #[test]
    fn what_is_broken_says_where() {
        let good = start("ann");
        let parsed = |bytes: &[u8]| Packet::parse(bytes).map(|_| ()).unwrap_err();
        assert_eq!(parsed(&good[..19]), Malformed::Short);
        assert_eq!(parsed(&good[..good.len() - 1]), Malformed::Short);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(parsed(&with(3, 19)), Malformed::Length(19));
        assert_eq!(parsed(&with(2, 255)), Malformed::Length(u16::from_be_bytes([255, good[3]])));
        assert_eq!(parsed(&with(0, 1)), Malformed::Code(1));
        assert_eq!(parsed(&with(21, 1)), Malformed::Attribute(20));
        assert_eq!(parsed(&with(27, 200)), Malformed::Attribute(26));
        assert_eq!(parsed(&request(4, 1, &[(1, b"ann")], SECRET)), Malformed::NoStatus);
        assert_eq!(parsed(&request(4, 1, &[(40, b"1")], SECRET)), Malformed::NoStatus);
        let padded = [good.clone(), vec![0; 9]].concat();
        assert!(Packet::parse(&padded).unwrap().is_genuine(SECRET), "padding is no part of it");
    }
}
