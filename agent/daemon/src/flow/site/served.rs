//! What Dovecot's own settings say: does every session ask our script, do clients see the same names and identifiers on both sides, is the mail where `mail.*` says.
//!
//! A Dovecot whose imap or pop3 does not run our post-login script opens the mbox of a converted user, finds the tombstone and answers NO.

use mailready_config::{Config, Deliverer, Layout, Lock};

use super::fault::Fault;
use super::section::Section;
use super::{POSTLOGIN, Seen};

/// What Dovecot shows for an mbox tree where nobody says otherwise.
pub(super) const MBOX_SEPARATOR: char = '/';

/// The lines that this package ships.
const SNIPPET: &str = "/etc/dovecot/conf.d/99-mailready.conf (packaging/dovecot)";

/// `default_process_limit` where nobody says otherwise.
const DEFAULT_PROCESS_LIMIT: u32 = 100;

/// Settings that are asked for one by one, since `doveconf -n` leaves out what is as by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) protocols: String,
    pub(super) uidl_format: String,
    pub(super) write_locks: String,
    pub(super) reuse_xuidl: bool,
}

/// What is wrong with how an instance serves, and the lines that mend it.
pub(super) fn judge(root: &Section, asked: &Asked, config: &Config) -> Result<Seen, Fault> {
    let serves = |protocol: &str| asked.protocols.split_whitespace().any(|word| word == protocol);
    for protocol in ["imap", "pop3"].into_iter().filter(|each| serves(each)) {
        session(root, protocol, config)?;
    }
    locks(&asked.write_locks, &config.mail.locks)?;
    let uidl = if serves("pop3") { kept_uidl(&asked.uidl_format)? } else { String::new() };
    let (prefix, separator) = names(root, config.mail.layout)?;
    match root.value("imap_hibernate_timeout") {
        None | Some("0" | "0 secs") => {}
        Some(timeout) => {
            return Err(Fault::new(
                format!(
                    "hibernates IMAP sessions (imap_hibernate_timeout = {timeout}), which leases do not cover yet"
                ),
                "set imap_hibernate_timeout = 0",
            ));
        }
    }
    Ok(Seen { prefix, separator, uidl, reuse_xuidl: asked.reuse_xuidl })
}

/// Does a session of this protocol come by the script, alone and as its user?
fn session(root: &Section, protocol: &str, config: &Config) -> Result<(), Fault> {
    let service = root.section("service", protocol);
    let executable = service.and_then(|service| service.value("executable")).unwrap_or_default();
    let name = executable.split_whitespace().nth(1).unwrap_or_default();
    let postlogin = root.section("service", name);
    let script = postlogin.and_then(|service| service.value("executable")).unwrap_or_default();
    let words: Vec<&str> = script.split_whitespace().collect();
    let by_script_login = words.first().is_some_and(|word| word.rsplit('/').next() == Some("script-login"));
    let Some(postlogin) = postlogin.filter(|_| by_script_login && words.contains(&POSTLOGIN)) else {
        return Err(Fault::new(
            format!("does not run {POSTLOGIN} for {protocol}"),
            format!(
                "put {SNIPPET} in place, or add: service {protocol} {{ executable = {protocol} {protocol}-postlogin }} \
                 service {protocol}-postlogin {{ executable = script-login -d {POSTLOGIN} \
                 user = root unix_listener {protocol}-postlogin {{ }} }}"
            ),
        ));
    };
    let wrong = |text: String, mend: String| Err(Fault::new(text, mend));
    if !words.iter().take_while(|word| **word != POSTLOGIN).any(|word| *word == "-d") {
        return wrong(
            format!("runs {POSTLOGIN} for {protocol} as root"),
            format!("set service {name} {{ executable = script-login -d {POSTLOGIN} }}"),
        );
    }
    if !matches!(postlogin.value("user"), None | Some("root" | "")) {
        return wrong(
            format!(
                "runs script-login for {protocol} without the right to become the user, and every login fails"
            ),
            format!("set service {name} {{ user = root }}"),
        );
    }
    let number =
        |value: Option<&str>| value.and_then(|value| value.parse::<u32>().ok()).filter(|number| *number > 0);
    let limit = number(postlogin.value("process_limit"))
        .or_else(|| number(root.value("default_process_limit")))
        .unwrap_or(DEFAULT_PROCESS_LIMIT);
    if limit <= config.sessions.max_waiting {
        return wrong(
            format!(
                "runs at most {limit} post-login scripts of {protocol} at once, and sessions.max_waiting = {} of them may wait",
                config.sessions.max_waiting
            ),
            format!(
                "set service {name} {{ process_limit = {} }}, or a smaller sessions.max_waiting",
                4 * config.sessions.max_waiting
            ),
        );
    }
    let count = service.and_then(|service| service.value("service_count")).unwrap_or("1");
    if count != "1" {
        return wrong(
            format!(
                "lets one {protocol} process serve several sessions (service_count = {count}), which leases do not cover yet"
            ),
            format!("set service {protocol} {{ service_count = 1 }}"),
        );
    }
    Ok(())
}

/// Two programs that have no lock in common write over one another.
fn locks(theirs: &str, ours: &[Lock]) -> Result<(), Fault> {
    let shared = theirs.split_whitespace().any(|word| ours.iter().any(|lock| lock.as_str() == word));
    if shared || theirs.trim().is_empty() {
        return Ok(());
    }
    let spelt: Vec<&str> = ours.iter().map(|lock| lock.as_str()).collect();
    Err(Fault::new(
        format!("locks an mbox by {theirs}, none of mail.locks"),
        format!("set mbox_write_locks = {}", spelt.join(" ")),
    ))
}

/// Is the mail of everybody where `mail.*` says? A location that each user has of their own in a user database is asked for user by user.
pub(super) fn location(root: &Section, location: &str, config: &Config) -> Result<(), Fault> {
    let told_elsewhere = root.of_kind("userdb").any(|each| {
        !matches!(each.value("driver"), Some("passwd" | "passwd-file" | "prefetch"))
            || each.value("override_fields").is_some()
    });
    let folders = config.mail.folders.as_ref().map_or("/var/empty".to_owned(), ToString::to_string);
    let lines = format!("set mail_location = mbox:{folders}:INBOX={}", config.mail.inbox).replace("%h", "~");
    if !told_elsewhere {
        if location.is_empty() {
            return Err(Fault::new(
                "leaves mail_location to autodetection, which goes by the folder Maildir/cur alone, and other programs make that",
                lines,
            ));
        }
        super::super::location::judge_for_all(location, config).map_err(|(text, mend)| {
            Fault::new(format!("has everybody's mail at {location:?}, {text}"), mend)
        })?;
    }
    Ok(())
}

/// A location for one protocol alone.
pub(super) fn overrides(root: &Section, location: &str, reached: &[Deliverer]) -> Result<(), Fault> {
    for protocol in root.of_kind("protocol") {
        let counts = match protocol.name.as_str() {
            "imap" | "pop3" => true,
            "lda" => reached.contains(&Deliverer::DovecotLda),
            "lmtp" => reached.contains(&Deliverer::DovecotLmtp),
            _ => false,
        };
        if let Some(own) = protocol.value("mail_location").filter(|own| counts && *own != location) {
            return Err(Fault::new(
                format!("has a mail_location of its own for {} ({own})", protocol.name),
                format!("take mail_location out of protocol {} {{ }}", protocol.name),
            ));
        }
    }
    Ok(())
}

/// Prefix and separator of the namespace that holds the inbox. They have to be the same on mbox and Maildir, or every client would see other folders.
fn names(root: &Section, layout: Layout) -> Result<(String, char), Fault> {
    let is_inbox = |section: &&Section| section.kind == "namespace" && section.value("inbox") == Some("yes");
    let inbox = root.sections.iter().find(is_inbox);
    let value = |key| inbox.and_then(|inbox| inbox.value(key)).unwrap_or_default();
    let name = inbox.map_or("inbox", |inbox| inbox.name.as_str());
    if !value("location").is_empty() {
        return Err(Fault::new(
            format!(
                "has a location of its own in namespace {name} ({}), which the post-login script cannot change",
                value("location")
            ),
            format!("set mail_location to it, and take the line out of namespace {name}"),
        ));
    }
    let prefix = value("prefix").to_owned();
    match (value("separator").chars().next(), layout) {
        (None, Layout::MaildirPlusPlus) => Err(Fault::new(
            format!("leaves the separator of namespace {name} to the format: / for mbox, . for a Maildir"),
            format!("set namespace {name} {{ inbox = yes separator = {MBOX_SEPARATOR} }}"),
        )),
        (None, Layout::Fs) => Ok((prefix, MBOX_SEPARATOR)),
        (Some(separator), _) => Ok((prefix, separator)),
    }
}

/// Whether clients are told the same POP3 identifiers from a Maildir: of UID and UIDVALIDITY (`%u`, `%v`) they are by themselves, and of the header's MD5 (`%g`) if it is kept, for which the
/// format is given back. An empty one cannot be told.
fn kept_uidl(format: &str) -> Result<String, Fault> {
    let mut needs_md5 = false;
    for token in format.split('%').skip(1) {
        match token.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'X').chars().next() {
            Some('u' | 'v') => {}
            Some('g') if token.starts_with('g') => needs_md5 = true,
            // On an mbox it is the same as %g, which a Maildir has too.
            Some('m') if token.starts_with('m') => {
                return Err(Fault::new(
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
                return Err(Fault::new(
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
  unix_listener pop3-postlogin {
  }
  user = root
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

    fn config() -> Config {
        Config::parse("", std::path::Path::new("mailready.toml")).unwrap()
    }

    fn asked() -> Asked {
        Asked {
            protocols: " imap lmtp pop3".into(),
            uidl_format: "%08Xu%08Xv".into(),
            write_locks: "fcntl dotlock".into(),
            reuse_xuidl: false,
        }
    }

    fn judged_as(text: &str, layout: Layout) -> Result<Seen, String> {
        let mut config = config();
        config.mail.layout = layout;
        judge(&Section::parse(text), &asked(), &config).map_err(|fault| fault.text)
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
        assert!(kept_uidl("%m").unwrap_err().mend.contains("pop3_uidl_format = %g"));
        let judged = |protocols: &str| {
            let asked = Asked { protocols: protocols.into(), uidl_format: "%m".into(), ..asked() };
            judge(&Section::parse(GOOD), &asked, &config())
        };
        assert!(judged("pop3").unwrap_err().text.contains("pop3_uidl_format = %m"));
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

    #[test]
    fn a_script_service_that_is_half_done_is_named() {
        for (from, to, words) in [
            ("script-login -d /etc", "script-login /etc", "as root"),
            ("  user = root\n", "  user = $default_internal_user\n", "without the right to become the user"),
            (
                "  user = root\n",
                "  user = root\n  process_limit = 8\n",
                "at most 8 post-login scripts of pop3",
            ),
        ] {
            let said = judged(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_lock_in_common_is_asked_for() {
        assert_eq!(locks("dotlock", &config().mail.locks), Ok(()));
        assert!(
            locks("flock", &config().mail.locks)
                .unwrap_err()
                .mend
                .contains("mbox_write_locks = dotlock fcntl")
        );
    }

    #[test]
    fn the_mail_is_where_the_configuration_says_for_everybody() {
        let judged = |text: &str, at: &str| {
            location(&Section::parse(text), at, &config())
                .map_err(|fault| format!("{} | {}", fault.text, fault.mend))
        };
        assert_eq!(judged("", "mbox:~/mail:INBOX=/var/mail/%u"), Ok(()));
        let said = judged("", "").unwrap_err();
        assert!(
            said.contains("autodetection") && said.contains("mail_location = mbox:~/mail:INBOX=/var/mail/%u"),
            "{said}"
        );
        for (at, words) in [
            ("mbox:~/Mail:INBOX=/var/mail/%u", "whose root is %h/Mail"),
            ("mbox:~/mail:INBOX=/srv/mail/%u", "whose INBOX is /srv/mail/%u"),
            ("maildir:~/Maildir", "which is no mbox"),
            ("mbox:~/mail:INBOX=/var/mail/%u:INDEX=MEMORY", "INDEX=MEMORY"),
        ] {
            let said = judged("", at).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        let each_their_own = "userdb {\n driver = sql\n args = /etc/dovecot/sql.conf\n}\n";
        assert_eq!(judged(each_their_own, ""), Ok(()));
    }

    #[test]
    fn a_location_of_one_protocol_alone_is_named_where_it_counts() {
        let root =
            Section::parse("protocol lda {\n mail_location = maildir:~/Maildir\n}\nprotocol imap {\n}\n");
        assert_eq!(overrides(&root, "mbox:~/mail", &[]), Ok(()));
        assert!(
            overrides(&root, "mbox:~/mail", &[Deliverer::DovecotLda]).unwrap_err().text.contains("for lda")
        );
    }
}
