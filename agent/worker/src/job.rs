//! The job: what a worker is told first, once, by the agent. Plain text fields, each ended by a NUL, in a fixed order.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::wire::Garbled;

/// Longest job in bytes.
pub const MAX: usize = 32 * 1024;

/// Version of the fields below; agent and worker of one installation always agree, one left over from before an upgrade must not guess.
const VERSION: &str = "mailready-job 1";

/// One mailbox and who it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Run id.
    pub run: String,
    /// Login name, for messages only.
    pub user: String,
    /// To become; never 0.
    pub uid: u32,
    /// To become.
    pub gid: u32,
    /// The home.
    pub home: PathBuf,
    /// Where the Maildir is or is going to be.
    pub maildir: PathBuf,
    /// The work folder.
    pub work: PathBuf,
    /// The spool's path, for the marker; the worker never opens it by name.
    pub inbox: PathBuf,
    /// Root of the mbox folders; empty if none.
    pub folders: PathBuf,
    /// `TZ` of the mail server; empty = the machine's.
    pub timezone: String,
}

impl Job {
    /// As it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let numbers = [self.uid.to_string(), self.gid.to_string()];
        let texts = [VERSION, &self.run, &self.user, &numbers[0], &numbers[1], &self.timezone];
        let paths = [&self.home, &self.maildir, &self.work, &self.inbox, &self.folders];
        for field in texts
            .iter()
            .map(|text| text.as_bytes())
            .chain(paths.iter().map(|path| path.as_os_str().as_bytes()))
        {
            out.extend_from_slice(field);
            out.push(0);
        }
        out
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Garbled`] for a job of another version, with fields missing or over, or for user 0.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        let fields: Vec<&[u8]> = packet.strip_suffix(&[0]).ok_or(Garbled)?.split(|byte| *byte == 0).collect();
        let [version, run, user, uid, gid, timezone, home, maildir, work, inbox, folders] = fields[..] else {
            return Err(Garbled);
        };
        if version != VERSION.as_bytes() {
            return Err(Garbled);
        }
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).map_err(|_| Garbled);
        let number = |field: &[u8]| text(field)?.parse::<u32>().map_err(|_| Garbled);
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(field.to_vec()));
        let uid = number(uid)?;
        if uid == 0 {
            return Err(Garbled);
        }
        Ok(Self {
            run: text(run)?,
            user: text(user)?,
            uid,
            gid: number(gid)?,
            home: path(home),
            maildir: path(maildir),
            work: path(work),
            inbox: path(inbox),
            folders: path(folders),
            timezone: text(timezone)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            run: "20260102T030405Z-0123456789abcdef".into(),
            user: "ann".into(),
            uid: 1001,
            gid: 1001,
            home: "/home/ann".into(),
            maildir: "/home/ann/Maildir".into(),
            work: "/home/ann/.mailready".into(),
            inbox: "/var/mail/ann".into(),
            folders: PathBuf::new(),
            timezone: String::new(),
        }
    }

    #[test]
    fn comes_back_as_it_went() {
        assert_eq!(Job::decode(&job().encode()), Ok(job()));
    }

    #[test]
    fn user_0_and_cut_or_foreign_jobs_are_refused() {
        assert_eq!(Job::decode(&Job { uid: 0, ..job() }.encode()), Err(Garbled));
        let whole = job().encode();
        for cut in 0..whole.len() {
            // A cut that ends exactly before the last NUL's field separator still misses a field.
            assert_eq!(Job::decode(&whole[..cut]), Err(Garbled), "cut at {cut}");
        }
        let mut newer = whole.clone();
        newer[14] = b'2';
        assert_eq!(Job::decode(&newer), Err(Garbled));
    }
}
