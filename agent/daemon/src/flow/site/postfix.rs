//! Which way Postfix's local delivery takes, by `postconf`.
//!
//! In this order (local(8)): `mailbox_transport_maps`, `mailbox_transport`, `mailbox_command_maps`, `mailbox_command`, `home_mailbox`, and last its own writing to `mail_spool_directory`. Its own writing to the mbox
//! is drained at the tombstone and needs nothing; a program that it calls is judged by itself; a Maildir that it would write by itself is red, since it does so for everybody at once.

use std::collections::HashMap;

use mailready_config::{Config, Deliverer, Lock};

use super::fault::Fault;
use super::tool;

/// What is asked for.
const NAMES: [&str; 11] = [
    "home_mailbox",
    "local_transport",
    "mail_spool_directory",
    "mailbox_command",
    "mailbox_command_maps",
    "mailbox_delivery_lock",
    "mailbox_size_limit",
    "mailbox_transport",
    "mailbox_transport_maps",
    "message_size_limit",
    "virtual_mailbox_limit",
];

/// Asks Postfix; gives the deliverers that it hands mail to.
pub(super) fn check(config: &Config) -> Result<Vec<Deliverer>, Fault> {
    let arguments: Vec<&str> = std::iter::once("-x").chain(NAMES).collect();
    let said = tool::ask("postconf", &arguments).map_err(|what| {
        Fault::new(
            format!("site.deliverers names postfix, and its settings are not known: {what}"),
            "mend it, or take \"postfix\" out of site.deliverers",
        )
    })?;
    judge(&parse(&said), config, &|service| {
        tool::ask("postconf", &["-M", &format!("{service}/unix")]).unwrap_or_default()
    })
}

fn parse(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// `master`: the line of a service in master.cf.
fn judge(
    settings: &HashMap<String, String>,
    config: &Config,
    master: &dyn Fn(&str) -> String,
) -> Result<Vec<Deliverer>, Fault> {
    let value = |name: &str| settings.get(name).map_or("", String::as_str);
    let number = |name| value(name).parse::<u64>().unwrap_or(0);
    if number("mailbox_size_limit") > 0 && number("mailbox_size_limit") < number("message_size_limit") {
        return Err(Fault::new(
            format!(
                "mailbox_size_limit = {} is smaller than message_size_limit = {}, and Postfix delivers nothing then",
                value("mailbox_size_limit"),
                value("message_size_limit")
            ),
            "postconf -e mailbox_size_limit=0",
        )
        .of("Postfix:"));
    }
    let transport = value("local_transport");
    if !transport.is_empty() && transport != "local" && !transport.starts_with("local:") {
        return by_transport("local_transport", transport, master);
    }
    let mut reached = Vec::new();
    for name in ["mailbox_transport_maps", "mailbox_command_maps"] {
        if value(name).is_empty() {
            continue;
        }
        // Where a table leads can be said of one user only; so whoever wrote it says which programs stand in it.
        let others: Vec<Deliverer> =
            config.site.deliverers.iter().copied().filter(|each| *each != Deliverer::Postfix).collect();
        if others.is_empty() {
            return Err(Fault::new(
                format!("Postfix: {name} = {} leads to programs that are not named", value(name)),
                format!("add those to site.deliverers, or postconf -e {name}="),
            ));
        }
        reached.extend(others);
    }
    match (value("mailbox_transport"), value("mailbox_command"), value("home_mailbox")) {
        ("", "", "") => own_spool(value("mail_spool_directory"), config)?,
        ("", "", home) => own_file("home_mailbox", &format!("%h/{home}"), config)?,
        ("", command, _) => {
            let program = program_of(command).ok_or_else(|| {
                Fault::new(
                    format!(
                        "Postfix: mailbox_command = {command} is none of the deliverers that are known here"
                    ),
                    "postconf -e mailbox_command=",
                )
            })?;
            if program == Deliverer::DovecotLda && !command.split_whitespace().any(|word| word == "-d") {
                return Err(Fault::new(
                    format!(
                        "Postfix: mailbox_command = {command} asks no user database (no -d), and would defer the mail of converted users"
                    ),
                    "set mailbox_command as packaging/postfix/dovecot-lda.cf has it",
                ));
            }
            reached.push(program);
            return Ok(reached);
        }
        (transport, ..) => {
            reached.extend(by_transport("mailbox_transport", transport, master)?);
            return Ok(reached);
        }
    }
    locks(value("mailbox_delivery_lock"), &config.mail.locks)?;
    Ok(reached)
}

fn by_transport(
    name: &str,
    transport: &str,
    master: &dyn Fn(&str) -> String,
) -> Result<Vec<Deliverer>, Fault> {
    let service = transport.split(':').next().unwrap_or_default();
    let line = master(service);
    let runs = line.split_whitespace().nth(7).unwrap_or_default();
    if service == "lmtp" || runs == "lmtp" {
        return Ok(vec![Deliverer::DovecotLmtp]);
    }
    program_of(&line).map(|program| vec![program]).ok_or_else(|| {
        Fault::new(
            format!("Postfix: {name} = {transport} is none of the deliverers that are known here"),
            format!(
                "postconf -e {name}={}",
                if name == "local_transport" { "'local:$myhostname'" } else { "" }
            ),
        )
    })
}

/// The deliverer among the words of a command line, behind whatever shell it is wrapped in.
pub(super) fn program_of(command: &str) -> Option<Deliverer> {
    command
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ';' | '&' | '|' | '(' | ')'))
        .find_map(|word| match word.rsplit('/').next()? {
            "procmail" => Some(Deliverer::Procmail),
            "maildrop" => Some(Deliverer::Maildrop),
            "dovecot-lda" | "deliver" => Some(Deliverer::DovecotLda),
            _ => None,
        })
}

fn own_spool(folder: &str, config: &Config) -> Result<(), Fault> {
    own_file("mail_spool_directory", &format!("{}/%u", folder.trim_end_matches('/')), config).and_then(|()| {
        if folder.ends_with('/') { Err(own_maildir("mail_spool_directory", folder)) } else { Ok(()) }
    })
}

fn own_file(name: &str, path: &str, config: &Config) -> Result<(), Fault> {
    if path.ends_with('/') {
        return Err(own_maildir(name, path));
    }
    let inbox = config.mail.inbox.to_string();
    if same_place(path, &inbox) {
        return Ok(());
    }
    let folder = inbox.strip_suffix("/%u").unwrap_or("/var/mail");
    Err(Fault::new(
        format!("Postfix: {name} has it deliver to {path}, and mail.inbox is {inbox}"),
        format!(
            "postconf -e home_mailbox= mail_spool_directory={folder}, or set mail.inbox to where the mail is"
        ),
    ))
}

fn own_maildir(name: &str, path: &str) -> Fault {
    Fault::new(
        format!(
            "Postfix: {name} has it write Maildirs ({path}) for all users, also for those whose mail is an mbox"
        ),
        format!("postconf -e {name}={}", if name == "home_mailbox" { "" } else { "/var/mail" }),
    )
}

/// Whether two templates are one place: spelt the same, or below folders that are one (`/var/spool/mail` is `/var/mail` on many systems).
pub(super) fn same_place(one: &str, other: &str) -> bool {
    let real = |path: &str| {
        let (folder, name) = path.rsplit_once('/')?;
        Some((std::fs::canonicalize(folder).ok()?, name.to_owned()))
    };
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

/// Two programs that have no lock in common write over one another.
fn locks(theirs: &str, ours: &[Lock]) -> Result<(), Fault> {
    let theirs: Vec<&str> = theirs.split([',', ' ']).filter(|word| !word.is_empty()).collect();
    if ours.iter().any(|lock| theirs.contains(&lock.as_str())) {
        return Ok(());
    }
    let spelt: Vec<&str> = ours.iter().map(|lock| lock.as_str()).collect();
    Err(Fault::new(
        format!("Postfix: mailbox_delivery_lock = {} has no lock of mail.locks", theirs.join(", ")),
        format!("postconf -e 'mailbox_delivery_lock = {}'", spelt.join(", ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::parse("", std::path::Path::new("mailready.toml")).unwrap()
    }

    fn judged(changes: &[(&str, &str)]) -> Result<Vec<Deliverer>, String> {
        judged_with(changes, config())
    }

    fn judged_with(changes: &[(&str, &str)], config: Config) -> Result<Vec<Deliverer>, String> {
        let mut settings = parse(
            "mail_spool_directory = /var/mail\nmailbox_delivery_lock = fcntl, dotlock\nmailbox_size_limit = 0\n\
             message_size_limit = 10240000\nlocal_transport = local:mail\nhome_mailbox =\nmailbox_command =\n",
        );
        settings.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let master = |service: &str| {
            match service {
            "dovecot" => "dovecot unix - n n - - pipe flags=DRhu user=vmail argv=/usr/lib/dovecot/dovecot-lda -f ${sender}".to_owned(),
            "backend" => "backend unix - - y - - lmtp".to_owned(),
            _ => String::new(),
        }
        };
        judge(&settings, &config, &master).map_err(|fault| format!("{} | {}", fault.text, fault.mend))
    }

    #[test]
    fn its_own_writing_to_the_spool_needs_nothing() {
        assert_eq!(judged(&[]), Ok(vec![]));
        assert_eq!(judged(&[("mailbox_delivery_lock", "dotlock")]), Ok(vec![]));
    }

    #[test]
    fn programs_that_it_hands_mail_to_are_found() {
        for (command, program) in [
            ("procmail -a \"$EXTENSION\"", Deliverer::Procmail),
            ("IFS=' ' && exec /usr/bin/procmail -f- || exit 75", Deliverer::Procmail),
            ("/usr/bin/maildrop -d ${USER}", Deliverer::Maildrop),
            (
                "/usr/lib/dovecot/dovecot-lda -d \"$USER\" -f \"$SENDER\" -a \"$RECIPIENT\"",
                Deliverer::DovecotLda,
            ),
            ("/usr/lib/dovecot/deliver -d $USER", Deliverer::DovecotLda),
        ] {
            assert_eq!(judged(&[("mailbox_command", command)]), Ok(vec![program]), "{command}");
        }
        assert_eq!(
            judged(&[("mailbox_transport", "lmtp:unix:private/lmtp")]),
            Ok(vec![Deliverer::DovecotLmtp])
        );
        assert_eq!(judged(&[("mailbox_transport", "backend")]), Ok(vec![Deliverer::DovecotLmtp]));
        assert_eq!(judged(&[("mailbox_transport", "dovecot")]), Ok(vec![Deliverer::DovecotLda]));
        assert_eq!(judged(&[("local_transport", "lmtp:unix:x")]), Ok(vec![Deliverer::DovecotLmtp]));
    }

    #[test]
    fn ways_that_lead_elsewhere_are_named_with_the_lines_to_change() {
        for (name, value, words) in [
            ("mailbox_command", "/usr/bin/other", "none of the deliverers"),
            ("mailbox_command", "/usr/lib/dovecot/dovecot-lda -f \"$SENDER\"", "no -d"),
            ("mailbox_transport", "cyrus", "postconf -e mailbox_transport="),
            ("local_transport", "cyrus", "local:$myhostname"),
            ("home_mailbox", "Maildir/", "write Maildirs (%h/Maildir/)"),
            ("home_mailbox", "mbox", "deliver to %h/mbox"),
            ("mail_spool_directory", "/srv/mail", "mail_spool_directory=/var/mail"),
            ("mail_spool_directory", "/var/mail/", "write Maildirs"),
            ("mailbox_delivery_lock", "flock", "'mailbox_delivery_lock = dotlock, fcntl'"),
            ("mailbox_size_limit", "1000", "smaller than message_size_limit"),
            ("mailbox_transport_maps", "hash:/etc/postfix/t", "programs that are not named"),
            ("mailbox_command_maps", "hash:/etc/postfix/c", "programs that are not named"),
        ] {
            let said = judged(&[(name, value)]).unwrap_err();
            assert!(said.contains(words), "{name}: {said}");
        }
    }

    #[test]
    fn tables_count_as_the_programs_that_the_site_names() {
        let mut config = config();
        config.site.deliverers = vec![Deliverer::Postfix, Deliverer::DovecotLmtp];
        let judged = judged_with(&[("mailbox_transport_maps", "hash:/etc/postfix/t")], config);
        assert_eq!(judged, Ok(vec![Deliverer::DovecotLmtp]));
    }
}
