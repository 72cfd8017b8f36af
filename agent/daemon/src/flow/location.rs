//! Does Dovecot serve this user's mail from where the configuration says that it is?
//!
//! If not, everything that follows would be about the wrong file: flags that wait in an index elsewhere would be lost, or a mailbox converted that nobody reads. So the
//! location that Dovecot itself gives for the user is compared, part by part, with `mail.inbox` and `mail.folders`. Where it keeps its indexes and control files is taken from it.

use std::path::{Path, PathBuf};

use mailready_config::{Config, Reader, Template};

use super::dovecot::Dovecot;
use crate::account::Account;
use crate::outcome::Reason;
use crate::records::Record;
use crate::settings::Settings;

/// Where Dovecot keeps what belongs to the mboxes; empty: beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// `INDEX=`
    pub(super) index: PathBuf,
    /// `CONTROL=`
    pub(super) control: PathBuf,
}

/// Blocks a user whom Dovecot serves from elsewhere, or differently by two instances.
pub(super) fn check(settings: &Settings, account: &Account) -> Result<Beside, Reason> {
    if account.folders.as_ref().is_some_and(|root| same_path(root, &account.maildir)) {
        return Err(Reason::new(
            "same-root",
            format!("{} is to be the Maildir and holds the mbox folders", account.maildir.display()),
            "set mail.maildir to a folder that does not exist yet",
        ));
    }
    if !settings.config.site.readers.contains(&Reader::Dovecot) {
        return Ok(Beside::default());
    }
    let mut found: Option<Beside> = None;
    for config in &settings.config.site.dovecot_config {
        let location = Dovecot::new(config).location(&account.name, &account.home).map_err(|error| {
            Reason::new(
                "location",
                format!("Dovecot does not say where this user's mail is: {error}"),
                "see `doveadm user`",
            )
        })?;
        let beside = judge(&location, account).map_err(|(text, mend)| {
            Reason::new("location", format!("Dovecot has this user's mail at {location:?}, {text}"), mend)
        })?;
        if found.as_ref().is_some_and(|other| *other != beside) {
            return Err(Reason::new(
                "location",
                "two Dovecot instances keep this user's indexes or control files in different places",
                "give INDEX= and CONTROL= the same paths in all of them",
            ));
        }
        found = Some(beside);
    }
    Ok(found.unwrap_or_default())
}

/// Blocks the way back of a user whose mboxes Dovecot would not look for where they are going to be.
pub(super) fn check_back(settings: &Settings, account: &Account, record: &Record) -> Result<(), Reason> {
    if !settings.config.site.readers.contains(&Reader::Dovecot) {
        return Ok(());
    }
    let maildir = format!("maildir:{}", record.maildir.display());
    let expected = Beside { index: record.served.index.clone(), control: record.served.control.clone() };
    for config in &settings.config.site.dovecot_config {
        let dovecot = Dovecot::new(config);
        let location = dovecot.location(&account.name, &account.home).and_then(|location| {
            // Our own map says so; without it, this is what counts.
            if location.starts_with(&maildir) { dovecot.setting("mail_location") } else { Ok(location) }
        });
        let location = location.map_err(|error| {
            Reason::new(
                "location",
                format!("Dovecot does not say where this user's mail would be: {error}"),
                "see `doveadm user`",
            )
        })?;
        let judged = judge(&location, account).and_then(|beside| match beside == expected {
            true => Ok(()),
            false => Err((
                "with indexes or control files elsewhere than before the conversion".to_owned(),
                "set INDEX= and CONTROL= as they were".to_owned(),
            )),
        });
        judged.map_err(|(text, mend)| {
            Reason::new(
                "location",
                format!(
                    "without the Maildir Dovecot would look for this user's mail at {location:?}, {text}"
                ),
                mend,
            )
        })?;
    }
    Ok(())
}

/// The same of everybody at once, with the variables left as they are.
pub(super) fn judge_for_all(location: &str, config: &Config) -> Result<Beside, (String, String)> {
    let path = |template: &Template| PathBuf::from(template.as_str());
    let everybody = Account {
        name: "%u".to_owned(),
        uid: 0,
        gid: 0,
        home: "%h".into(),
        inbox: path(&config.mail.inbox),
        folders: config.mail.folders.as_ref().map(path),
        maildir: path(&config.mail.maildir),
        work: path(&config.mail.work),
        archive: config.mail.archive.clone(),
    };
    judge(location, &everybody)
}

fn judge(location: &str, account: &Account) -> Result<Beside, (String, String)> {
    let mut parts = location.split(':');
    if parts.next() != Some("mbox") {
        return Err(("which is no mbox".to_owned(), "hold this user, or mend mail_location".to_owned()));
    }
    let path = |path| expand(path, account);
    let root = path(parts.next().unwrap_or_default());
    if !account.folders.as_ref().is_some_and(|folders| same_path(&root, folders)) {
        return Err((
            format!("whose root is {}, not mail.folders", root.display()),
            "set mail.folders to the path behind `mbox:`".to_owned(),
        ));
    }
    let mut inbox = root.join("inbox");
    let mut beside = Beside::default();
    for part in parts {
        match part.split_once('=') {
            Some(("INBOX", value)) => inbox = path(value),
            // In memory: what only the index knows would be gone with the session.
            Some(("INDEX", "MEMORY")) => return Err(not_kept(part)),
            Some(("INDEX", value)) => beside.index = path(value),
            Some(("CONTROL", value)) => beside.control = path(value),
            _ => return Err(not_kept(part)),
        }
    }
    if !same_file(&inbox, &account.inbox, &account.home) {
        return Err((
            format!("whose INBOX is {}, not mail.inbox", inbox.display()),
            "set mail.inbox to the path behind `INBOX=`".to_owned(),
        ));
    }
    // Said as well where it says nothing new.
    if beside.index == root {
        beside.index = PathBuf::new();
    }
    if beside.control == root {
        beside.control = PathBuf::new();
    }
    Ok(beside)
}

fn not_kept(part: &str) -> (String, String) {
    (format!("and what {part} asks for cannot be kept"), format!("take {part} out of mail_location"))
}

/// A path of a location: `~` and `%h` are the home, and the names are spelt out where nobody has done it yet.
fn expand(path: &str, account: &Account) -> PathBuf {
    let (name, domain) = account.name.split_once('@').unwrap_or((&account.name, ""));
    let home = account.home.to_string_lossy();
    let path = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}/{rest}"),
        _ => path.to_owned(),
    };
    let path =
        path.replace("%h", &home).replace("%u", &account.name).replace("%n", name).replace("%d", domain);
    // Collected again from its parts, so that `//` and a slash at the end make no difference.
    Path::new(&path).components().collect()
}

fn same_path(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

/// Whether two paths of an inbox lead to one file: `/var/spool/mail` is `/var/mail` on many systems. Looked up only outside of the home, where the way is root's and no user can lay it.
fn same_file(one: &Path, other: &Path, home: &Path) -> bool {
    if same_path(one, other) {
        return true;
    }
    let real = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.starts_with(home))?;
        Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    real(one).is_some_and(|one| Some(one) == real(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            name: "ann".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/ann".into(),
            inbox: "/var/mail/ann".into(),
            folders: Some("/home/ann/mail".into()),
            maildir: "/home/ann/Maildir".into(),
            work: "/home/ann/.mailready".into(),
            archive: "/var/mail/.mailready".into(),
        }
    }

    fn judged(location: &str) -> Result<Beside, String> {
        judge(location, &account()).map_err(|(text, _)| text)
    }

    #[test]
    fn the_configured_places_are_recognised_however_they_are_spelt() {
        for location in [
            "mbox:~/mail:INBOX=/var/mail/ann",
            "mbox:/home/ann/mail/:INBOX=/var/mail//ann",
            "mbox:%h/mail:INBOX=/var/mail/%u",
            "mbox:~/mail:INBOX=/var/mail/%n:INDEX=~/mail:CONTROL=/home/ann/mail/",
        ] {
            assert_eq!(judged(location), Ok(Beside::default()), "{location}");
        }
    }

    #[test]
    fn the_home_itself_may_be_the_root() {
        let account = Account { folders: Some("/home/ann".into()), ..account() };
        for location in
            ["mbox:~:INBOX=/var/mail/ann", "mbox:~/:INBOX=/var/mail/ann", "mbox:%h:INBOX=/var/mail/ann"]
        {
            assert!(judge(location, &account).is_ok(), "{location}");
        }
    }

    #[test]
    fn indexes_and_control_files_elsewhere_are_told() {
        let found = judged("mbox:~/mail:INBOX=/var/mail/ann:INDEX=/var/index/%u:CONTROL=~/control").unwrap();
        assert_eq!(found, Beside { index: "/var/index/ann".into(), control: "/home/ann/control".into() });
    }

    #[test]
    fn one_spool_folder_may_have_two_names_outside_of_the_home() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("mail"), root.path().join("spool"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let home = Path::new("/home/ann");
        assert!(same_file(&link.join("ann"), &real.join("ann"), home));
        assert!(!same_file(&link.join("ann"), &real.join("bob"), home));
        assert!(!same_file(&link.join("ann"), &real.join("ann"), root.path()), "a link that the user laid");
    }

    #[test]
    fn anything_else_is_named() {
        for (location, word) in [
            ("maildir:~/Maildir", "no mbox"),
            ("", "no mbox"),
            ("mbox:~/Mail:INBOX=/var/mail/ann", "/home/ann/Mail"),
            ("mbox:~/mail", "/home/ann/mail/inbox"),
            ("mbox:~/mail:INBOX=/var/nowhere/ann", "/var/nowhere/ann"),
            ("mbox:~/mail:INBOX=/var/mail/ann:INDEX=MEMORY", "INDEX=MEMORY"),
            ("mbox:~/mail:INBOX=/var/mail/ann:LAYOUT=maildir++", "LAYOUT="),
            ("mbox:~/mail:INBOX=/var/mail/ann:DIRNAME=x", "DIRNAME="),
            ("mbox:~/mail:INBOX=/var/mail/ann:NO-NOSELECT", "NO-NOSELECT"),
            ("mbox:~/mail:INBOX=/var/mail/ann:UTF-8", "UTF-8"),
        ] {
            let said = judged(location).unwrap_err();
            assert!(said.contains(word), "{location}: {said}");
        }
    }
}
