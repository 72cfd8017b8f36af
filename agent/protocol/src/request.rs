//! What a hook tells the agent: one packet, one arrival.

use std::fmt;
use std::time::Duration;

use crate::{MAGIC, NameError, PACKET_MAX, Service, User, VERSION};

/// Magic, version, kind, source, phase, zero, wait, and the lengths of the two names.
const HEAD: usize = 16;

// The longest request of this version fits every receiver's buffer.
const _: () = assert!(HEAD + User::MAX + Service::MAX <= PACKET_MAX);

/// One arrival, as a hook saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether the hook only tells, or asks for a lease.
    pub kind: Kind,
    /// Which hook speaks.
    pub source: Source,
    /// Where in a PAM login it was; [`Phase::None`] for all others.
    pub phase: Phase,
    /// Who arrives.
    pub user: User,
    /// What they came through.
    pub service: Service,
    /// How long the hook is ready to wait for the mail.
    pub wait: Wait,
}

/// What the hook wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A user arrives.
    Arrival = 1,
    /// A session is about to decide where its mail is, and wants that decision to hold. The request carries a socket
    /// whose peer is the session's process; the lease ends with that process.
    Lease = 2,
}

/// The hook that saw the arrival. Who may speak as which source is for the agent to judge, by the peer's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Source {
    /// `pam_mailready.so`.
    Pam = 1,
    /// pppd's `ip-up.d`.
    Ppp = 2,
    /// RADIUS accounting.
    Radius = 3,
    /// systemd-logind.
    Logind = 4,
    /// Dovecot's post-login script.
    Dovecot = 5,
    /// Anything else an administrator runs.
    Script = 6,
}

/// The part of a PAM login in which the module was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Phase {
    /// Not from PAM.
    #[default]
    None = 0,
    /// `pam_acct_mgmt`: the user may come in.
    Account = 1,
    /// `pam_open_session`: the user is in.
    Session = 2,
}

/// How long a hook is ready to wait, in whole milliseconds; none of them: it only announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wait(u32);

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Shorter than its own head, or than the names that it promises.
    Short {
        /// Bytes there are.
        len: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// Longer than what it says it holds.
    Long {
        /// Bytes there are.
        len: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// Not of this protocol at all.
    Magic,
    /// Of a version that this program does not speak.
    Version(u8),
    /// A byte that means nothing where it stands.
    Unknown {
        /// The field's name in `ARCHITECTURE.md`.
        field: &'static str,
        /// Where it stands in the packet, counted from 0.
        at: usize,
        /// What was there.
        value: u8,
    },
    /// The user's name cannot be one.
    User(NameError),
    /// The service's name cannot be one.
    Service(NameError),
}

impl Request {
    /// The packet that says this.
    pub fn encode(&self) -> Vec<u8> {
        let (user, service) = (self.user.as_bytes(), self.service.as_bytes());
        let mut packet = Vec::with_capacity(HEAD + user.len() + service.len());
        packet.extend(MAGIC);
        packet.extend([VERSION, self.kind as u8, self.source as u8, self.phase as u8, 0, 0]);
        packet.extend(self.wait.0.to_le_bytes());
        // The name types bound both lengths far below 2^16.
        packet.extend((user.len() as u16).to_le_bytes());
        packet.extend((service.len() as u16).to_le_bytes());
        packet.extend(user);
        packet.extend(service);
        packet
    }

    /// Reads a packet. Every byte must mean something: a request that is almost right comes from a program that
    /// takes us for something else.
    pub fn decode(packet: &[u8]) -> Result<Request, RequestError> {
        let len = packet.len();
        let Some((head, names)) = packet.split_first_chunk::<HEAD>() else {
            return Err(RequestError::Short { len, need: HEAD });
        };
        let &[m0, m1, version, kind, source, phase, z0, z1, w0, w1, w2, w3, u0, u1, s0, s1] = head;
        if [m0, m1] != MAGIC {
            return Err(RequestError::Magic);
        }
        if version != VERSION {
            return Err(RequestError::Version(version));
        }
        let unknown = |field, at, value| RequestError::Unknown { field, at, value };
        let kind = Kind::from_byte(kind).ok_or(unknown("kind", 3, kind))?;
        let source = Source::from_byte(source).ok_or(unknown("source", 4, source))?;
        let phase = Phase::from_byte(phase).ok_or(unknown("phase", 5, phase))?;
        for (at, value) in [(6, z0), (7, z1)] {
            if value != 0 {
                return Err(unknown("zero", at, value));
            }
        }
        let user_len = usize::from(u16::from_le_bytes([u0, u1]));
        let need = HEAD + user_len + usize::from(u16::from_le_bytes([s0, s1]));
        if len > need {
            return Err(RequestError::Long { len, need });
        }
        if len < need {
            return Err(RequestError::Short { len, need });
        }
        let (user, service) = names.split_at(user_len);
        Ok(Request {
            kind,
            source,
            phase,
            user: User::new(user).map_err(RequestError::User)?,
            service: Service::new(service).map_err(RequestError::Service)?,
            wait: Wait(u32::from_le_bytes([w0, w1, w2, w3])),
        })
    }
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Arrival, Kind::Lease].into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl Source {
    /// All sources there are.
    pub const ALL: [Source; 6] =
        [Source::Pam, Source::Ppp, Source::Radius, Source::Logind, Source::Dovecot, Source::Script];

    fn from_byte(byte: u8) -> Option<Source> {
        Self::ALL.into_iter().find(|source| *source as u8 == byte)
    }

    /// The source of this name, as in the configuration's `arrival.sources` and after `--source`.
    pub fn from_name(name: &str) -> Option<Source> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    /// Its name, as in the configuration's `arrival.sources` and after `--source`.
    pub fn name(self) -> &'static str {
        match self {
            Source::Pam => "pam",
            Source::Ppp => "ppp",
            Source::Radius => "radius",
            Source::Logind => "logind",
            Source::Dovecot => "dovecot",
            Source::Script => "script",
        }
    }
}

impl Phase {
    fn from_byte(byte: u8) -> Option<Phase> {
        [Phase::None, Phase::Account, Phase::Session].into_iter().find(|phase| *phase as u8 == byte)
    }
}

impl Wait {
    /// The hook only announces and goes its way.
    pub const NONE: Wait = Wait(0);

    /// Rounded up to milliseconds, so that a short wait does not become none; the longest there is are 49 days.
    pub fn new(wait: Duration) -> Wait {
        let ms = wait.as_nanos().div_ceil(1_000_000);
        Wait(u32::try_from(ms).unwrap_or(u32::MAX))
    }

    /// Whether the hook only announces.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The same as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Short { len, need } => write!(f, "the request has {len} bytes of {need}"),
            RequestError::Long { len, need } => {
                write!(f, "the request has {len} bytes, but speaks of {need}")
            }
            RequestError::Magic => write!(f, "not a request to mailready"),
            RequestError::Version(version) => {
                write!(f, "a request of version {version}; this program speaks version {VERSION}")
            }
            RequestError::Unknown { field, at, value } => {
                write!(f, "the request's {field} (byte {at}) is {value}, which means nothing")
            }
            RequestError::User(error) => write!(f, "the request's user: {error}"),
            RequestError::Service(error) => write!(f, "the request's service: {error}"),
        }
    }
}

impl std::error::Error for RequestError {}
