//! Clients that keep a whole copy and carry changes both ways. Their state is pairs of UIDs, and they are the ones that can
//! do harm: a message that seems to be gone is deleted in the copy, one that seems to be new is doubled.

use mailready_tests::lab::Result;

use super::journey::{Changes, Client, with_changes};
use super::laptop::{Laptop, said};
use super::store;

macro_rules! copy_of_everything {
    ($client:ty) => {
        impl Changes for $client {
            const KEEPS_ALL: bool = true;

            fn flag(&self, laptop: &Laptop, subject: &str) -> Result<()> {
                store::flag(laptop, subject, 'F')
            }

            fn delete(&self, laptop: &Laptop, subject: &str) -> Result<()> {
                store::delete(laptop, subject)
            }
        }
    };
}

/// isync.
pub struct Mbsync;

impl Client for Mbsync {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        let store = laptop.store();
        laptop.file(
            ".mbsyncrc",
            &format!(
                "IMAPAccount mail\nHost 127.0.0.2\nUser ann\nPass correct-horse\nSSLType None\nAuthMechs LOGIN\n\n\
                 IMAPStore far\nAccount mail\n\n\
                 MaildirStore near\nPath {store}/\nInbox {store}/INBOX\nSubFolders Verbatim\n\n\
                 Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\nExpunge Both\n\
                 CopyArrivalDate yes\nSyncState *\n"
            ),
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let output = laptop.run("mbsync", ["--all", "--verbose"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }
}

copy_of_everything!(Mbsync);

#[test]
fn mbsync_notices_nothing() -> Result<()> {
    with_changes(Mbsync)
}

/// OfflineIMAP, which pairs messages by UID and keeps the flags that it saw last in a database.
struct OfflineImap;

impl Client for OfflineImap {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        let store = laptop.store();
        laptop.file(
            ".offlineimaprc",
            &format!(
                "[general]\naccounts = mail\n\n[Account mail]\nlocalrepository = near\nremoterepository = far\n\n\
                 [Repository near]\ntype = Maildir\nlocalfolders = {store}\nsep = /\n\n\
                 [Repository far]\ntype = IMAP\nremotehost = 127.0.0.2\nremoteuser = ann\nremotepass = correct-horse\n\
                 ssl = no\nstarttls = no\nauth_mechanisms = LOGIN\n"
            ),
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let output = laptop.run("offlineimap", ["-u", "basic", "-o", "-1"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }
}

copy_of_everything!(OfflineImap);

#[test]
fn offlineimap_notices_nothing() -> Result<()> {
    with_changes(OfflineImap)
}

/// InterIMAP, which asks by QRESYNC what has changed since the modification sequence that it remembers and believes the answer:
/// one that has gone backwards loses it changes, one that has jumped ahead sends it all flags again.
pub struct InterImap;

impl Client for InterImap {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        let store = laptop.store();
        for folder in [".config/interimap", ".local/share/interimap"] {
            laptop.folder(folder)?;
        }
        laptop.file(
            ".config/interimap/near.conf",
            &format!(
                "mail_location = maildir:{store}:LAYOUT=fs:INBOX={store}/INBOX\nssl = no\nlog_path = /dev/null\n\
                 namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n"
            ),
        )?;
        laptop.file(
            ".config/interimap/config",
            "database = mail.db\nlist-mailbox = *\n\n\
             [local]\ntype = tunnel\ncommand = exec /usr/lib/dovecot/imap -c ~/.config/interimap/near.conf\n\n\
             [remote]\ntype = imap\nhost = 127.0.0.2\nport = 143\nusername = ann\npassword = correct-horse\n\
             STARTTLS = NO\nauth = LOGIN\n",
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let output = laptop.run("interimap", ["--quiet"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }
}

copy_of_everything!(InterImap);

#[test]
fn interimap_notices_nothing() -> Result<()> {
    with_changes(InterImap)
}
