//! Does Dovecot serve this user's mail from where the configuration says that it is?
//!
//! If not, everything that follows would be about the wrong file: flags that wait in an index elsewhere would be lost, or a mailbox converted that nobody reads. So the
//! location that Dovecot itself gives for the user is compared, part by part, with `mail.inbox` and `mail.folders`.

use std::path::{Path, PathBuf};

use mailready_config::Reader;

use super::dovecot::Dovecot;
use crate::account::Account;
use crate::outcome::Reason;
use crate::settings::Settings;

/// Blocks a user whom Dovecot serves from elsewhere.
pub(super) fn check(settings: &Settings, account: &Account) -> Result<(), Reason> {
    if !settings.config.site.readers.contains(&Reader::Dovecot) {
        return Ok(());
    }
    for config in &settings.config.site.dovecot_config {
        let location = Dovecot::new(config).location(&account.name, &account.home).map_err(|error| {
            Reason::new(
                "location",
                format!("Dovecot does not say where this user's mail is: {error}"),
                "see `doveadm user`",
            )
        })?;
        judge(&location, account).map_err(|(text, mend)| {
            Reason::new("location", format!("Dovecot has this user's mail at {location:?}, {text}"), mend)
        })?;
    }
    Ok(())
}

fn judge(location: &str, account: &Account) -> Result<(), (String, String)> {
    let mut parts = location.split(':');
    if parts.next() != Some("mbox") {
        return Err(("which is no mbox".to_owned(), "hold this user, or mend mail_location".to_owned()));
    }
    let root = at_home(parts.next().unwrap_or_default(), &account.home);
    if Some(&root) != account.folders.as_ref() {
        return Err((
            format!("whose root is {}, not mail.folders", root.display()),
            "set mail.folders to the path behind `mbox:`".to_owned(),
        ));
    }
    let mut inbox = root.join("inbox");
    for part in parts {
        match part.split_once('=') {
            Some(("INBOX", path)) => inbox = at_home(path, &account.home),
            _ => {
                return Err((
                    format!("and what {part} asks for cannot be kept yet"),
                    "wait for the version that can, or have indexes and control files lie beside the mail"
                        .to_owned(),
                ));
            }
        }
    }
    if inbox != account.inbox {
        return Err((
            format!("whose INBOX is {}, not mail.inbox", inbox.display()),
            "set mail.inbox to the path behind `INBOX=`".to_owned(),
        ));
    }
    Ok(())
}

/// A path of a location, `~` being the home.
fn at_home(path: &str, home: &Path) -> PathBuf {
    // Collected again from its parts, so that `//` and a slash at the end make no difference.
    let path = match path.strip_prefix('~') {
        Some(rest) => home.join(rest.trim_start_matches('/')),
        None => PathBuf::from(path),
    };
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(location: &str) -> Result<(), String> {
        let account = Account {
            name: "ann".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/ann".into(),
            inbox: "/var/mail/ann".into(),
            folders: Some("/home/ann/mail".into()),
            maildir: "/home/ann/Maildir".into(),
            work: "/home/ann/.mailready".into(),
            archive: "/var/mail/.mailready".into(),
        };
        judge(location, &account).map_err(|(text, _)| text)
    }

    #[test]
    fn the_configured_places_are_recognised_however_they_are_spelt() {
        assert_eq!(judged("mbox:~/mail:INBOX=/var/mail/ann"), Ok(()));
        assert_eq!(judged("mbox:/home/ann/mail/:INBOX=/var/mail//ann"), Ok(()));
    }

    #[test]
    fn anything_else_is_named() {
        for (location, word) in [
            ("maildir:~/Maildir", "no mbox"),
            ("", "no mbox"),
            ("mbox:~/Mail:INBOX=/var/mail/ann", "/home/ann/Mail"),
            ("mbox:~/mail", "/home/ann/mail/inbox"),
            ("mbox:~/mail:INBOX=/var/spool/mail/ann", "/var/spool/mail/ann"),
            ("mbox:~/mail:INBOX=/var/mail/ann:INDEX=/var/index/ann", "INDEX="),
            ("mbox:~/mail:INBOX=/var/mail/ann:LAYOUT=maildir++", "LAYOUT="),
        ] {
            let said = judged(location).unwrap_err();
            assert!(said.contains(word), "{location}: {said}");
        }
    }
}
