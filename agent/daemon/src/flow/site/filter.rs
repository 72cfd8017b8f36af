//! What procmail and maildrop are told for all users, in /etc/procmailrc and /etc/maildroprc.
//!
//! Untold, both write to the mbox and are drained. A default place elsewhere is red, unless the file asks for the marker first, as those in packaging/ do.

use std::path::Path;

use mailready_config::Config;

use super::fault::Fault;
use super::postfix::same_place;
use super::{MARKER, tool};

/// One of the two.
pub(super) struct Filter {
    pub(super) name: &'static str,
    pub(super) rules: &'static str,
}

pub(super) const PROCMAIL: Filter = Filter { name: "procmail", rules: "/etc/procmailrc" };
pub(super) const MAILDROP: Filter = Filter { name: "maildrop", rules: "/etc/maildroprc" };

/// Names under which a default place is set.
const DEFAULTS: [&str; 2] = ["DEFAULT", "ORGMAIL"];

pub(super) fn check(filter: &Filter, config: &Config) -> Result<(), Fault> {
    let Filter { name, rules } = filter;
    if tool::find(name).is_none() {
        return Err(Fault::new(
            format!("mail is delivered by {name}, which is not installed (looked along PATH)"),
            "install it, or take it out of site.deliverers and the mail server's configuration",
        ));
    }
    let text = tool::read(Path::new(rules)).map_err(|what| Fault::new(what, format!("mend {rules}")))?;
    text.map_or(Ok(()), |text| judge(filter, &text, config))
}

fn judge(filter: &Filter, text: &str, config: &Config) -> Result<(), Fault> {
    let Filter { name, rules } = filter;
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let marker = format!("{}/{MARKER}", config.mail.maildir);
    if lines().any(|line| line.contains(MARKER)) {
        let asks = lines().any(|line| template(line).contains(&marker));
        return if asks {
            Ok(())
        } else {
            Err(Fault::new(
                format!("{rules} asks for a marker that is not at {marker}"),
                format!("put packaging/{name}'s lines there, with mail.maildir's path"),
            ))
        };
    }
    let inbox = config.mail.inbox.to_string();
    for line in lines() {
        let Some((left, right)) = line.split_once('=') else { continue };
        let value = template(right.trim().trim_matches(['"', '\'']));
        if DEFAULTS.contains(&left.trim()) && !same_place(&value, &inbox) {
            return Err(Fault::new(
                format!("{rules} has {name} deliver to {value} for all users, and mail.inbox is {inbox}"),
                format!("take `{line}` out of {rules}, or put packaging/{name}'s lines in its place"),
            ));
        }
    }
    Ok(())
}

/// Their variables as ours.
fn template(path: &str) -> String {
    let variables = [
        ("${HOME}", "%h"),
        ("$HOME", "%h"),
        ("${LOGNAME}", "%u"),
        ("$LOGNAME", "%u"),
        ("${USER}", "%u"),
        ("$USER", "%u"),
    ];
    variables.into_iter().fold(path.to_owned(), |path, (theirs, ours)| path.replace(theirs, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<(), String> {
        let config = Config::parse("", Path::new("mailready.toml")).unwrap();
        judge(&PROCMAIL, text, &config).map_err(|fault| format!("{} | {}", fault.text, fault.mend))
    }

    #[test]
    fn a_default_place_that_is_not_the_inbox_is_named() {
        for good in [
            "",
            "DEFAULT=/var/mail/$LOGNAME\n",
            "VERBOSE=on\nDEFAULT=\"/var/mail/${USER}\"\n",
            "# DEFAULT=x\n",
        ] {
            assert_eq!(judged(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("DEFAULT=$HOME/Maildir/\n", "deliver to %h/Maildir/"),
            ("ORGMAIL = /srv/mail/$LOGNAME\n", "/srv/mail/%u"),
        ] {
            let said = judged(bad).unwrap_err();
            assert!(said.contains(words) && said.contains("packaging/procmail"), "{said}");
        }
    }

    #[test]
    fn a_test_of_the_marker_counts_where_it_is_the_marker() {
        let rules =
            "MAILDIR=$HOME\n:0\n* ? test -f $HOME/Maildir/mailready-marker\n{ DEFAULT=$HOME/Maildir/ }\n";
        assert_eq!(judged(rules), Ok(()));
        let said = judged(&rules.replace("Maildir/mailready", "Mail/mailready")).unwrap_err();
        assert!(said.contains("marker that is not at %h/Maildir/mailready-marker"), "{said}");
    }
}
