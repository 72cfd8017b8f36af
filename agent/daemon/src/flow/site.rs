//! The interlock: nothing is committed while the site's reader would not follow.
//!
//! A Dovecot whose imap or pop3 does not run our post-login script opens the mbox of a converted user, finds the tombstone and answers NO. So `doveconf -n` of every instance
//! is asked for the script, for the two settings that make one process serve several sessions, which leases do not cover yet,
//! and for POP3 identifiers that a Maildir would not have.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mailready_config::{Config, Reader};

use super::dovecot::Dovecot;
use crate::outcome::Reason;

/// Where the script has to be (design contract; the package puts it there and leaves it there).
pub(super) const POSTLOGIN: &str = "/etc/mailready/postlogin";

/// How long an answer holds. Short, because an administrator who has just mended something tries again at once.
const HOLDS: Duration = Duration::from_secs(10);

/// When, what was asked, and the answer.
type Answer = (Instant, Vec<PathBuf>, Result<(), Reason>);

/// The last answer.
#[derive(Default)]
pub(super) struct Site {
    last: Mutex<Option<Answer>>,
}

impl Site {
    /// Whether a commit is allowed; the reason names the lines to change.
    pub(super) fn check(&self, config: &Config) -> Result<(), Reason> {
        if !config.site.readers.contains(&Reader::Dovecot) {
            return Ok(());
        }
        let configs = &config.site.dovecot_config;
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((when, asked, answer)) = &*last
            && when.elapsed() < HOLDS
            && asked == configs
        {
            return answer.clone();
        }
        let answer = configs.iter().try_for_each(|config| check_instance(&Dovecot::new(config)));
        if let Err(reason) = &answer {
            tracing::error!(code = reason.code, "no mailbox is committed: {reason}");
        }
        *last = Some((Instant::now(), configs.clone(), answer.clone()));
        answer
    }
}

fn check_instance(dovecot: &Dovecot) -> Result<(), Reason> {
    let settings = dovecot.settings().map_err(|error| {
        Reason::new(
            "site",
            format!("Dovecot's configuration cannot be read: {error}"),
            "mend it, or set site.readers and site.dovecot_config to what this machine has",
        )
    })?;
    let protocols = dovecot.setting("protocols").unwrap_or_default();
    let uidl_format = dovecot.setting("pop3_uidl_format").unwrap_or_default();
    judge(&Section::parse(&settings), &protocols, &uidl_format).map_err(|(text, mend)| {
        Reason::new("site", format!("{} {text}", dovecot.config().display()), mend)
    })?;
    if Path::new(POSTLOGIN).exists() {
        Ok(())
    } else {
        Err(Reason::new(
            "site",
            format!("{POSTLOGIN} is missing, and Dovecot refuses every login without it"),
            format!(
                "put hooks/dovecot/postlogin there with mode 755, or take {POSTLOGIN} out of Dovecot's configuration"
            ),
        ))
    }
}

/// What is wrong with an instance, and the lines that mend it.
fn judge(root: &Section, protocols: &str, uidl_format: &str) -> Result<(), (String, String)> {
    for protocol in
        ["imap", "pop3"].into_iter().filter(|each| protocols.split_whitespace().any(|word| word == *each))
    {
        let service = root.section("service", protocol);
        let executable = service.and_then(|service| service.value("executable")).unwrap_or_default();
        let runs_script = executable
            .split_whitespace()
            .nth(1)
            .and_then(|postlogin| root.section("service", postlogin)?.value("executable"))
            .is_some_and(|script| {
                let mut words = script.split_whitespace();
                words.next().is_some_and(|program| program.rsplit('/').next() == Some("script-login"))
                    && words.any(|word| word == POSTLOGIN)
            });
        if !runs_script {
            return Err((
                format!("does not run {POSTLOGIN} for {protocol}"),
                format!(
                    "add: service {protocol} {{ executable = {protocol} {protocol}-postlogin }} \
                     service {protocol}-postlogin {{ executable = script-login -d {POSTLOGIN} \
                     user = $default_internal_user unix_listener {protocol}-postlogin {{ }} }}"
                ),
            ));
        }
        let count = service.and_then(|service| service.value("service_count")).unwrap_or("1");
        if count != "1" {
            return Err((
                format!(
                    "lets one {protocol} process serve several sessions (service_count = {count}), which leases do not cover yet"
                ),
                format!("set service {protocol} {{ service_count = 1 }}"),
            ));
        }
    }
    if protocols.split_whitespace().any(|word| word == "pop3") && !is_kept(uidl_format) {
        return Err((
            format!(
                "makes POP3 identifiers that a Maildir would not have (pop3_uidl_format = {uidl_format})"
            ),
            "wait for the version that carries them over, or set a format of %u and %v alone".to_owned(),
        ));
    }
    match root.value("imap_hibernate_timeout") {
        None | Some("0" | "0 secs") => Ok(()),
        Some(timeout) => Err((
            format!(
                "hibernates IMAP sessions (imap_hibernate_timeout = {timeout}), which leases do not cover yet"
            ),
            "set imap_hibernate_timeout = 0".to_owned(),
        )),
    }
}

/// Whether a format is made of UID and UIDVALIDITY alone, which a Maildir keeps; an empty one cannot be told.
fn is_kept(format: &str) -> bool {
    let mut rest = format.split('%').skip(1);
    rest.all(|token| {
        token.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'X').starts_with(['u', 'v'])
    })
}

/// A block of `doveconf -n`: `name = value` lines and `type name {` blocks.
#[derive(Debug, Default)]
struct Section {
    kind: String,
    name: String,
    values: Vec<(String, String)>,
    sections: Vec<Section>,
}

impl Section {
    fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(head) = line.strip_suffix('{') {
                let (kind, name) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
                open.push(Self { kind: kind.to_owned(), name: name.trim().to_owned(), ..Self::default() });
            } else if line == "}" {
                if let Some(closed) = open.pop()
                    && let Some(parent) = open.last_mut()
                {
                    parent.sections.push(closed);
                }
                if open.is_empty() {
                    open.push(Self::default());
                }
            } else if let (Some((key, value)), Some(section)) = (line.split_once('='), open.last_mut()) {
                section.values.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        open.into_iter().next().unwrap_or_default()
    }

    fn section(&self, kind: &str, name: &str) -> Option<&Self> {
        self.sections.iter().find(|section| section.kind == kind && section.name == name)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# 2.3.19.1
mail_location = mbox:~/mail:INBOX=/var/mail/%u
service imap-postlogin {
  executable = script-login -d /etc/mailready/postlogin
  unix_listener imap-postlogin {
  }
}
service imap {
  executable = imap imap-postlogin
}
service pop3-postlogin {
  executable = /usr/lib/dovecot/script-login -d /etc/mailready/postlogin
}
service pop3 {
  executable = pop3 pop3-postlogin
}
";

    fn judged(text: &str) -> Result<(), String> {
        judge(&Section::parse(text), " imap lmtp pop3", "%08Xu%08Xv").map_err(|(text, _)| text)
    }

    #[test]
    fn a_site_with_the_script_for_both_protocols_is_good() {
        assert_eq!(judged(GOOD), Ok(()));
    }

    #[test]
    fn a_protocol_without_the_script_is_named() {
        let without = GOOD.replace("executable = pop3 pop3-postlogin", "client_limit = 1");
        assert_eq!(judged(&without), Err("does not run /etc/mailready/postlogin for pop3".into()));
        let another = GOOD.replacen("/etc/mailready/postlogin", "/etc/other", 1);
        assert_eq!(judged(&another), Err("does not run /etc/mailready/postlogin for imap".into()));
        assert!(judged("").is_err());
    }

    #[test]
    fn pop3_identifiers_of_uid_and_uidvalidity_are_kept_and_others_are_not() {
        for kept in ["%08Xu%08Xv", "%u", "%v.%u", "UID%u-%v"] {
            assert!(is_kept(kept), "{kept}");
        }
        for lost in ["%m", "%g", "%f", "%08Xu%m", "%Mf"] {
            assert!(!is_kept(lost), "{lost}");
        }
        let said = judge(&Section::parse(GOOD), "pop3", "%m").unwrap_err().0;
        assert!(said.contains("pop3_uidl_format = %m"), "{said}");
        assert_eq!(judge(&Section::parse(GOOD), "imap", "%m"), Ok(()));
    }

    #[test]
    fn processes_that_serve_several_sessions_are_refused() {
        let many = GOOD.replace(
            "executable = imap imap-postlogin",
            "executable = imap imap-postlogin\n  service_count = 0",
        );
        assert!(judged(&many).unwrap_err().contains("service_count = 0"));
        let asleep = format!("imap_hibernate_timeout = 30 secs\n{GOOD}");
        assert!(judged(&asleep).unwrap_err().contains("imap_hibernate_timeout"));
    }
}
