//! Where Exim delivers local users' mail, by `exim -bP routers` and `exim -bP transports`.
//!
//! An appendfile transport that writes to mail.inbox is drained; one that writes Maildirs is right only behind a router that asks for the marker
//! (packaging/exim); pipes to programs that are installed are judged with those.

use std::collections::HashMap;

use mailready_config::{Config, Deliverer, Lock};

use super::fault::Fault;
use super::postfix::{program_of, same_place};
use super::{MARKER, tool};

/// Asks Exim; gives the deliverers that it hands mail to.
pub(super) fn check(config: &Config) -> Result<Vec<Deliverer>, Fault> {
    let unknown = |what: String| {
        Fault::new(
            format!("site.deliverers names exim, and its settings are not known: {what}"),
            "mend it, or take \"exim\" out of site.deliverers",
        )
    };
    let program = ["exim4", "exim"].into_iter().find_map(tool::find);
    let program = program.ok_or_else(|| unknown("exim4 is not installed (looked along PATH)".to_owned()))?;
    let program = program.to_string_lossy();
    let ask = |what| tool::ask(&program, &["-bP", what]).map_err(unknown);
    let (routers, transports) = (parse(&ask("routers")?), parse(&ask("transports")?));
    if routers.is_empty() {
        return Err(unknown(format!("{program} -bP routers says nothing")));
    }
    judge(&routers, &transports, config, &|program| tool::find(program).is_some())
}

/// A router or transport.
#[derive(Debug, Default)]
struct Block {
    name: String,
    options: HashMap<String, String>,
}

impl Block {
    fn get(&self, option: &str) -> &str {
        self.options.get(option).map_or("", String::as_str)
    }

    /// A switch, by its own line or by its `no_`.
    fn is_on(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    fn mentions(&self, word: &str) -> bool {
        self.options.values().any(|value| value.contains(word))
    }
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_suffix(" router:").or_else(|| line.strip_suffix(" transport:")) {
            blocks.push(Block { name: name.to_owned(), ..Block::default() });
        } else if let Some(block) = blocks.last_mut() {
            let (option, value) = line.split_once('=').unwrap_or((line, ""));
            block.options.insert(option.trim().to_owned(), value.trim().to_owned());
        }
    }
    blocks
}

fn judge(
    routers: &[Block],
    transports: &[Block],
    config: &Config,
    is_installed: &dyn Fn(&str) -> bool,
) -> Result<Vec<Deliverer>, Fault> {
    let mut reached = Vec::new();
    let mut delivers = false;
    let local =
        routers.iter().filter(|router| router.is_on("check_local_user") && router.get("driver") == "accept");
    for router in local {
        let Some(transport) = transports.iter().find(|each| each.name == router.get("transport")) else {
            continue;
        };
        match transport.get("driver") {
            "appendfile" => {
                appendfile(router, transport, config).map_err(|fault| {
                    fault.of(format_args!("Exim: router {}, transport {}", router.name, transport.name))
                })?;
                delivers = true;
            }
            "lmtp" => reached.push(Deliverer::DovecotLmtp),
            "pipe" => {
                let command = transport.get("command");
                let program = command.split_whitespace().next().unwrap_or_default();
                // Debian's configuration has routers for programs that are not there, and skips them then.
                if !is_installed(program) {
                    continue;
                }
                reached.push(program_of(command).ok_or_else(|| {
                    Fault::new(
                        format!(
                            "Exim: router {} hands mail to {command}, none of the deliverers that are known here",
                            router.name
                        ),
                        format!("take router {} out, or let its transport write to mail.inbox", router.name),
                    )
                })?);
            }
            // Over the network: not here.
            _ => {}
        }
    }
    if !delivers && reached.is_empty() {
        return Err(Fault::new(
            "Exim: no router with check_local_user leads to a transport that delivers here",
            "see packaging/exim, or take \"exim\" out of site.deliverers",
        ));
    }
    Ok(reached)
}

fn appendfile(router: &Block, transport: &Block, config: &Config) -> Result<(), Fault> {
    let follows = router.mentions(MARKER);
    let (file, folder) = (template(transport.get("file")), template(transport.get("directory")));
    if !folder.is_empty() || transport.is_on("maildir_format") || transport.is_on("mailstore_format") {
        if !follows {
            return Err(Fault::new(
                format!("writes Maildirs ({folder}) for all users, also for those whose mail is an mbox"),
                format!(
                    "give router {} the line require_files = {}/{MARKER} as packaging/exim has it",
                    router.name, config.mail.maildir
                ),
            ));
        }
        let maildir = config.mail.maildir.to_string();
        if !same_place(folder.trim_end_matches('/'), &maildir) {
            return Err(Fault::new(
                format!("delivers to {folder}, and mail.maildir is {maildir}"),
                format!("set directory = {}", spelt(&maildir)),
            ));
        }
        return Ok(());
    }
    let inbox = config.mail.inbox.to_string();
    if !same_place(&file, &inbox) {
        return Err(Fault::new(
            format!("delivers to {file}, and mail.inbox is {inbox}"),
            format!("set file = {}, or mail.inbox to where the mail is", spelt(&inbox)),
        ));
    }
    let has = |lock| match lock {
        Lock::Dotlock => transport.is_on("use_lockfile"),
        Lock::Fcntl => transport.is_on("use_fcntl_lock"),
        Lock::Flock => transport.is_on("use_flock_lock"),
    };
    if config.mail.locks.iter().any(|lock| has(*lock)) {
        return Ok(());
    }
    Err(Fault::new(
        "takes none of the locks of mail.locks",
        "set use_lockfile = true and use_fcntl_lock = true",
    ))
}

/// Exim's variables as ours.
fn template(path: &str) -> String {
    let path = path.trim_matches('"');
    let variables = [
        ("${local_part_data}", "%u"),
        ("$local_part_data", "%u"),
        ("${local_part}", "%u"),
        ("$local_part", "%u"),
        ("${home}", "%h"),
        ("$home", "%h"),
    ];
    variables.into_iter().fold(path.to_owned(), |path, (theirs, ours)| path.replace(theirs, ours))
}

fn spelt(template: &str) -> String {
    template.replace("%u", "$local_part_data").replace("%h", "$home")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTERS: &str = "system_aliases router:\ndriver = redirect\nno_check_local_user\n\nprocmail router:\n\
        driver = accept\ncheck_local_user\ntransport = procmail_pipe\n\nlocaluser router:\ncheck_local_user\n\
        driver = accept\ncondition = \ntransport = local_delivery\n";
    const TRANSPORTS: &str = "remote_smtp transport:\ndriver = smtp\n\nprocmail_pipe transport:\ndriver = pipe\n\
        command = /usr/bin/procmail\n\nlocal_delivery transport:\ndriver = appendfile\ndirectory = \n\
        file = /var/mail/$local_part_data\nno_maildir_format\nuse_fcntl_lock\nno_use_flock_lock\nuse_lockfile\n";

    fn judged(router: (&str, &str), transport: (&str, &str)) -> Result<Vec<Deliverer>, String> {
        let config = Config::parse("", std::path::Path::new("mailready.toml")).unwrap();
        let routers = parse(&ROUTERS.replace(router.0, router.1));
        let transports = parse(&TRANSPORTS.replace(transport.0, transport.1));
        judge(&routers, &transports, &config, &|_| false)
            .map_err(|fault| format!("{} | {}", fault.text, fault.mend))
    }

    #[test]
    fn writing_to_the_inbox_is_drained_and_programs_that_are_not_there_do_not_count() {
        assert_eq!(judged(("", ""), ("", "")), Ok(vec![]));
        assert_eq!(judged(("", ""), ("$local_part_data", "${local_part}")), Ok(vec![]));
        let routers = parse(ROUTERS);
        let config = Config::parse("", std::path::Path::new("mailready.toml")).unwrap();
        assert_eq!(judge(&routers, &parse(TRANSPORTS), &config, &|_| true), Ok(vec![Deliverer::Procmail]));
    }

    #[test]
    fn other_places_and_missing_locks_are_named() {
        let file = "file = /var/mail/$local_part_data\n";
        for (change, words) in [
            (("/var/mail/", "/srv/mail/"), "delivers to /srv/mail/%u"),
            (("directory = ", "directory = $home/Maildir/"), "writes Maildirs (%h/Maildir/)"),
            (
                (
                    "use_fcntl_lock\nno_use_flock_lock\nuse_lockfile",
                    "no_use_fcntl_lock\nuse_flock_lock\nno_use_lockfile",
                ),
                "none of the locks",
            ),
            (("driver = appendfile", "driver = smtp"), "no router with check_local_user"),
        ] {
            let said = judged(("", ""), change).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        let marked = ("condition = ", "condition = ${if exists{$home/Maildir/mailready-marker}}");
        assert_eq!(judged(marked, (file, "directory = $home/Maildir\n")), Ok(vec![]));
        assert!(
            judged(marked, (file, "directory = $home/Mail\n"))
                .unwrap_err()
                .contains("set directory = $home/Maildir")
        );
    }
}
