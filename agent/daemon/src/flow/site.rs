//! The interlock: nothing is committed while the site's reader would not follow.
//!
//! A Dovecot whose imap or pop3 does not run our post-login script opens the mbox of a converted user, finds the tombstone and answers NO. So `doveconf -n` of every instance
//! is asked for the script, for the two settings that make one process serve several sessions, which leases do not cover yet, for the names that clients see folders under,
//! and for POP3 identifiers that a Maildir would not have.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mailready_config::{Config, Layout, Reader};

use super::dovecot::Dovecot;
use crate::outcome::Reason;

/// Where the script has to be (design contract; the package puts it there and leaves it there).
pub(super) const POSTLOGIN: &str = "/etc/mailready/postlogin";

/// How long an answer holds. Short, because an administrator who has just mended something tries again at once.
const HOLDS: Duration = Duration::from_secs(10);

/// When, what was asked, and the answer.
type Answer = (Instant, (Vec<PathBuf>, Layout), Result<Seen, Reason>);

/// What clients see of the site; the same on mbox and Maildir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of the inbox namespace.
    pub(super) prefix: String,
    /// Between the levels of a folder's name.
    pub(super) separator: char,
    /// `pop3_uidl_format`, if a message's identifier has to be kept beside its UID; else empty.
    pub(super) uidl: String,
    /// `pop3_reuse_xuidl`
    pub(super) reuse_xuidl: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self { prefix: String::new(), separator: MBOX_SEPARATOR, uidl: String::new(), reuse_xuidl: false }
    }
}

/// What Dovecot shows for an mbox tree where nobody says otherwise.
const MBOX_SEPARATOR: char = '/';

/// The last answer.
#[derive(Default)]
pub(super) struct Site {
    last: Mutex<Option<Answer>>,
}

impl Site {
    /// Whether a commit is allowed; the reason names the lines to change.
    pub(super) fn check(&self, config: &Config) -> Result<Seen, Reason> {
        if !config.site.readers.contains(&Reader::Dovecot) {
            return Ok(Seen::default());
        }
        let question = (config.site.dovecot_config.clone(), config.mail.layout);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((when, asked, answer)) = &*last
            && when.elapsed() < HOLDS
            && *asked == question
        {
            return answer.clone();
        }
        let answer = check_all(&question.0, question.1);
        if let Err(reason) = &answer {
            tracing::error!(code = reason.code, "no mailbox is committed: {reason}");
        }
        *last = Some((Instant::now(), question, answer.clone()));
        answer
    }
}

fn check_all(configs: &[PathBuf], layout: Layout) -> Result<Seen, Reason> {
    let mut all: Option<Seen> = None;
    for config in configs {
        let seen = check_instance(&Dovecot::new(config), layout)?;
        if all.as_ref().is_some_and(|other| *other != seen) {
            return Err(Reason::new(
                "site",
                format!(
                    "{} shows folders or POP3 identifiers otherwise than the instance before it",
                    config.display()
                ),
                "give prefix, separator and pop3_uidl_format the same values in all instances",
            ));
        }
        all = Some(seen);
    }
    Ok(all.unwrap_or_default())
}

fn check_instance(dovecot: &Dovecot, layout: Layout) -> Result<Seen, Reason> {
    let settings = dovecot.settings().map_err(|error| {
        Reason::new(
            "site",
            format!("Dovecot's configuration cannot be read: {error}"),
            "mend it, or set site.readers and site.dovecot_config to what this machine has",
        )
    })?;
    let protocols = dovecot.setting("protocols").unwrap_or_default();
    let uidl_format = dovecot.setting("pop3_uidl_format").unwrap_or_default();
    let seen =
        judge(&Section::parse(&settings), &protocols, &uidl_format, layout).map_err(|(text, mend)| {
            Reason::new("site", format!("{} {text}", dovecot.config().display()), mend)
        })?;
    if Path::new(POSTLOGIN).exists() {
        let reuse_xuidl = dovecot.setting("pop3_reuse_xuidl").is_ok_and(|value| value == "yes");
        Ok(Seen { reuse_xuidl, ..seen })
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
fn judge(
    root: &Section,
    protocols: &str,
    uidl_format: &str,
    layout: Layout,
) -> Result<Seen, (String, String)> {
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
    let serves_pop3 = protocols.split_whitespace().any(|word| word == "pop3");
    let uidl = if serves_pop3 { kept_uidl(uidl_format)? } else { String::new() };
    let (prefix, separator) = names(root, layout)?;
    match root.value("imap_hibernate_timeout") {
        None | Some("0" | "0 secs") => Ok(Seen { prefix, separator, uidl, reuse_xuidl: false }),
        Some(timeout) => Err((
            format!(
                "hibernates IMAP sessions (imap_hibernate_timeout = {timeout}), which leases do not cover yet"
            ),
            "set imap_hibernate_timeout = 0".to_owned(),
        )),
    }
}

/// Prefix and separator of the namespace that holds the inbox. They have to be the same on mbox and Maildir, or every client would see other folders.
fn names(root: &Section, layout: Layout) -> Result<(String, char), (String, String)> {
    let is_inbox = |section: &&Section| section.kind == "namespace" && section.value("inbox") == Some("yes");
    let inbox = root.sections.iter().find(is_inbox);
    let value = |key| inbox.and_then(|inbox| inbox.value(key)).unwrap_or_default();
    let name = inbox.map_or("inbox", |inbox| inbox.name.as_str());
    if !value("location").is_empty() {
        return Err((
            format!(
                "has a location of its own in namespace {name} ({}), which the post-login script cannot change",
                value("location")
            ),
            format!("set mail_location to it, and take the line out of namespace {name}"),
        ));
    }
    let prefix = value("prefix").to_owned();
    match (value("separator").chars().next(), layout) {
        (None, Layout::MaildirPlusPlus) => Err((
            format!("leaves the separator of namespace {name} to the format: / for mbox, . for a Maildir"),
            format!("set namespace {name} {{ inbox = yes separator = {MBOX_SEPARATOR} }}"),
        )),
        (None, Layout::Fs) => Ok((prefix, MBOX_SEPARATOR)),
        (Some(separator), _) => Ok((prefix, separator)),
    }
}

/// Whether clients are told the same POP3 identifiers from a Maildir: of UID and UIDVALIDITY (`%u`, `%v`) they are by themselves, and of the header's MD5 (`%g`) if it is kept, for which the
/// format is given back. An empty one cannot be told.
fn kept_uidl(format: &str) -> Result<String, (String, String)> {
    let mut needs_md5 = false;
    for token in format.split('%').skip(1) {
        match token.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'X').chars().next() {
            Some('u' | 'v') => {}
            Some('g') if token.starts_with('g') => needs_md5 = true,
            // On an mbox it is the same as %g, which a Maildir has too.
            Some('m') if token.starts_with('m') => {
                return Err((
                    format!(
                        "makes POP3 identifiers that new mail in a Maildir would not have (pop3_uidl_format = {format})"
                    ),
                    format!(
                        "set pop3_uidl_format = {}, which gives the same identifiers now",
                        format.replace("%m", "%g")
                    ),
                ));
            }
            _ => {
                return Err((
                    format!(
                        "makes POP3 identifiers that a Maildir would not have (pop3_uidl_format = {format})"
                    ),
                    "set a format of %u, %v and %g".to_owned(),
                ));
            }
        }
    }
    Ok(if needs_md5 { format.to_owned() } else { String::new() })
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
namespace inbox {
  inbox = yes
  location =
  mailbox Sent {
    special_use = \\Sent
  }
  prefix =
  separator = /
}
";

    fn judged_as(text: &str, layout: Layout) -> Result<Seen, String> {
        judge(&Section::parse(text), " imap lmtp pop3", "%08Xu%08Xv", layout).map_err(|(text, _)| text)
    }

    fn judged(text: &str) -> Result<Seen, String> {
        judged_as(text, Layout::MaildirPlusPlus)
    }

    #[test]
    fn a_site_with_the_script_for_both_protocols_is_good() {
        assert_eq!(judged(GOOD), Ok(Seen::default()));
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
    fn the_separator_has_to_be_the_one_that_clients_know() {
        let unsaid = GOOD.replace("  separator = /\n", "");
        assert!(judged(&unsaid).unwrap_err().contains("separator of namespace inbox"));
        assert_eq!(judged_as(&unsaid, Layout::Fs), Ok(Seen::default()), "the same for mbox and fs");
        let dot = GOOD.replace("separator = /", "separator = .").replace("prefix =\n", "prefix = INBOX.\n");
        let seen = judged(&dot).unwrap();
        assert_eq!((seen.prefix.as_str(), seen.separator), ("INBOX.", '.'));
        let without_namespace = GOOD.split("namespace").next().unwrap();
        assert!(judged(without_namespace).unwrap_err().contains("separator"));
    }

    #[test]
    fn a_location_inside_of_the_namespace_would_win_over_the_scripts() {
        let own = GOOD.replace("location =\n", "location = mbox:~/mail\n");
        assert!(judged(&own).unwrap_err().contains("mbox:~/mail"));
    }

    #[test]
    fn pop3_identifiers_that_a_maildir_keeps_are_told_from_others() {
        for kept in ["%08Xu%08Xv", "%u", "%v.%u", "UID%u-%v"] {
            assert_eq!(kept_uidl(kept), Ok(String::new()), "{kept}");
        }
        assert_eq!(kept_uidl("%g"), Ok("%g".into()));
        for lost in ["%m", "%f", "%08Xu%m", "%Mf", "%8g"] {
            assert!(kept_uidl(lost).is_err(), "{lost}");
        }
        assert!(kept_uidl("%m").unwrap_err().1.contains("pop3_uidl_format = %g"));
        let judged = |protocols| judge(&Section::parse(GOOD), protocols, "%m", Layout::MaildirPlusPlus);
        assert!(judged("pop3").unwrap_err().0.contains("pop3_uidl_format = %m"));
        assert_eq!(judged("imap"), Ok(Seen::default()));
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
