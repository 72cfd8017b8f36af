//! Who may see and do what: one sees and changes oneself, group `adm` sees all, root sees and changes all.

use std::os::fd::AsFd;

use mailready_bus::Error;
use nix::unistd::Group;

use crate::account::Account;
use crate::peer::{Peer, groups};

/// The group that may see everybody's state; it may read the logs too.
const OBSERVERS: &str = "adm";

/// What a caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) uid: u32,
    pub(super) sees_all: bool,
}

impl Rights {
    /// Of a caller with these groups.
    pub(super) fn of(uid: u32, groups: &[u32]) -> Self {
        Self { uid, sees_all: uid == 0 || observers().is_some_and(|gid| groups.contains(&gid)) }
    }

    /// Of the peer of a socket. Groups that cannot be read are none.
    pub(super) fn of_peer(peer: Peer, socket: &impl AsFd) -> Self {
        let mut found = groups(socket).unwrap_or_default();
        found.push(peer.gid);
        Self::of(peer.uid, &found)
    }

    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub(super) fn sees(&self, account: &Account) -> bool {
        self.sees_all || account.uid == self.uid
    }

    /// Whether this caller may change something about `account`.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn changes(&self, account: &Account) -> Result<(), Error> {
        if self.is_root() || account.uid == self.uid {
            return Ok(());
        }
        Err(Error::AccessDenied("only root may do this to other users".to_owned()))
    }
}

/// Looked up in the local files and the name service each time it is needed, which is once a connection; an installation may make it later.
fn observers() -> Option<u32> {
    Group::from_name(OBSERVERS).ok().flatten().map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_see_themselves_and_root_everybody() {
        assert!(Rights::of(0, &[]).sees_all);
        assert!(!Rights::of(1000, &[1000, 8]).sees_all);
        assert!(Rights::of(1000, &[]).changes(&account(1001)).is_err());
        assert!(Rights::of(1000, &[]).changes(&account(1000)).is_ok());
        assert!(Rights::of(0, &[]).changes(&account(1000)).is_ok());
        if let Some(adm) = observers() {
            let observer = Rights::of(1000, &[adm]);
            assert!(observer.sees(&account(1001)));
            assert!(observer.changes(&account(1001)).is_err(), "to see is not to change");
        }
    }

    fn account(uid: u32) -> Account {
        Account {
            name: "x".into(),
            uid,
            gid: uid,
            home: "/".into(),
            inbox: "/".into(),
            folders: None,
            maildir: "/".into(),
            work: "/".into(),
            archive: "/".into(),
        }
    }
}
