//! The header filter of the server in charge.

use crate::Server;
use crate::fingerprint::Fingerprint;
use crate::header::{Fed, HeaderFilter, Hidden};
use crate::qpopper_header::QpopperFilter;
use crate::uw_header::{UwFilter, without_cr};

/// What a message's bytes go through. One for all messages; [`Filter::begin`] in between.
pub(crate) enum Filter {
    Dovecot(Box<HeaderFilter>),
    Uw(UwFilter),
    Qpopper(Box<QpopperFilter>),
}

impl Filter {
    pub(crate) fn of(server: Server) -> Self {
        match server {
            Server::Dovecot => Filter::Dovecot(Box::default()),
            Server::Uw => Filter::Uw(UwFilter::default()),
            Server::Qpopper => Filter::Qpopper(Box::default()),
        }
    }

    /// A new message.
    pub(crate) fn begin(&mut self, from_line: &[u8]) {
        match self {
            Filter::Dovecot(filter) => filter.reset(),
            Filter::Uw(filter) => filter.reset(),
            Filter::Qpopper(filter) => filter.begin(from_line),
        }
    }

    /// The next bytes of the header; see [`HeaderFilter::feed`].
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        tell: &mut dyn FnMut(Hidden, &[u8]),
    ) -> Fed {
        match self {
            Filter::Dovecot(filter) => filter.feed(input, out, tell),
            Filter::Uw(filter) => filter.feed(input, out, tell),
            Filter::Qpopper(filter) => filter.feed(input, out, tell),
        }
    }

    /// The next bytes of the body.
    pub(crate) fn body(&self, input: &[u8], out: &mut Vec<u8>) {
        match self {
            // `unix_text_work`: a CR is never text.
            Filter::Uw(_) => without_cr(input, out),
            Filter::Dovecot(_) | Filter::Qpopper(_) => out.extend_from_slice(input),
        }
    }

    /// The message ended within its header; see [`HeaderFilter::finish`].
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, tell: &mut dyn FnMut(Hidden, &[u8])) {
        match self {
            Filter::Dovecot(filter) => filter.finish(out, tell),
            Filter::Uw(filter) => filter.finish(out, tell),
            Filter::Qpopper(filter) => filter.finish(out, tell),
        }
    }

    /// See [`HeaderFilter::tell_pending`]: only for Dovecot does a message's end depend on it.
    pub(crate) fn tell_pending(&mut self, tell: &mut dyn FnMut(Hidden, &[u8])) {
        if let Filter::Dovecot(filter) = self {
            filter.tell_pending(tell);
        }
    }

    /// See [`HeaderFilter::says_no_more`].
    pub(crate) fn says_no_more(&mut self) {
        if let Filter::Dovecot(filter) = self {
            filter.says_no_more();
        }
    }

    /// See [`HeaderFilter::fingerprint`].
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Filter::Dovecot(filter) => Some(filter.fingerprint()),
            Filter::Uw(_) | Filter::Qpopper(_) => None,
        }
    }
}
