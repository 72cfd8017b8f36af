//! The MD5 of a message's header by which Dovecot tells mbox messages apart: what clients saw as X-GUID, and POP3 clients as the UIDL of
//! `%m` and `%g` (formats.md 3.2; mbox-md5-apop3d.c of Dovecot 2.3.19).
//!
//! It goes over header values, in the order of the file and without line ends: the first Received header, every Delivered-To and
//! X-Delivery-ID, and Date and Message-ID where they stand above the first Received. Messages without any of these have the MD5 of
//! nothing, all the same.

use md5::{Digest, Md5};

/// A header that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Date,
    DeliveredTo,
    MessageId,
    Received,
    XDeliveryId,
}

const COUNTED: [(&[u8], Counted); 5] = [
    (b"date", Counted::Date),
    (b"delivered-to", Counted::DeliveredTo),
    (b"message-id", Counted::MessageId),
    (b"received", Counted::Received),
    (b"x-delivery-id", Counted::XDeliveryId),
];

impl Counted {
    /// `name` ends where Dovecot's C string does.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        COUNTED.iter().find(|(counted, _)| counted.eq_ignore_ascii_case(name)).map(|(_, which)| *which)
    }
}

/// What a message's header says about who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    pub(crate) md5: [u8; 16],
    /// It has a header X-UIDL, by which some servers go instead.
    pub(crate) has_x_uidl: bool,
}

/// Gathers a [`Fingerprint`] while a header passes.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    md5: Md5,
    received: bool,
    has_x_uidl: bool,
    /// Nothing that follows counts any more.
    closed: bool,
}

impl Gather {
    pub(crate) fn reset(&mut self) {
        *self = Gather::default();
    }

    /// A header begins.
    pub(crate) fn begin(&mut self, name: &[u8]) {
        self.has_x_uidl |= !self.closed && name.eq_ignore_ascii_case(b"x-uidl");
    }

    /// A part of a value, without the line end.
    pub(crate) fn value(&mut self, of: Counted, part: &[u8]) {
        let counts = match of {
            Counted::DeliveredTo | Counted::XDeliveryId => true,
            Counted::Date | Counted::MessageId | Counted::Received => !self.received,
        };
        if counts && !self.closed {
            self.md5.update(part);
        }
    }

    /// A header is complete.
    pub(crate) fn complete(&mut self, which: Counted) {
        self.received |= which == Counted::Received;
    }

    /// What follows belongs to the header's bytes only.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        Fingerprint { md5: self.md5.clone().finalize().into(), has_x_uidl: self.has_x_uidl }
    }
}
