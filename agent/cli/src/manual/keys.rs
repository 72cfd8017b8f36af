//! mailready.toml(5), from the table of keys.

use mailready_config::{KEYS, SECTIONS};

use super::roff::Page;

pub(crate) fn page() -> String {
    let mut page = Page::new("mailready.toml", 5, "configuration of mailready");
    page.heading("SYNOPSIS");
    page.text("/etc/mailready/mailready.toml, /etc/mailready/conf.d/*.toml");
    page.heading("DESCRIPTION");
    page.text(
        "The file is TOML. Every key has a default, so an empty file, or none, is a configuration: one that converts nobody.\n\n\
         The files in conf.d beside it are read after it, sorted by name; the later one wins, key by key. Unknown keys are \
         errors, told with file, line and the nearest known key. `mailready check-config` tells all that is wrong at once. \
         The agent reads the files at start and on reload (SIGHUP); a reload with something wrong in it is refused, and \
         the agent goes on with what it had.",
    );
    for section in SECTIONS {
        page.heading(&format!("[{}]", section.name));
        let mut about = section.about.to_owned();
        about[..1].make_ascii_uppercase();
        page.text(&format!("{about}."));
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            page.item(&format!("{} = {}", key.name, key.default), key.meaning);
            if !key.reason.is_empty() {
                page.more(key.reason);
            }
            if key.is_not_in_use_yet() {
                page.more("Not in use yet: this version takes the key and does nothing with it.");
            }
        }
    }
    page.heading("TEMPLATES");
    page.text("The paths of a user's mail are templates with variables, as in Dovecot:");
    page.item("%u", "the user");
    page.item("%n", "the user without what follows an @");
    page.item("%d", "what follows the @");
    page.item("%h", "the home; only at the beginning of the path");
    page.item("%1u", "the first byte of the user; 1 to 9, and with n and d as well");
    page.item("%%", "a percent sign");
    page.text(
        "A path begins with / or %h and holds %u, %n or %h, so that each user has one of its own. A name with a slash, and one \
         that would make a component . or .., is refused.",
    );
    page.heading("TIMES");
    page.text("A length of time is a number and ms, s, m, h or d: \"20s\", \"12h\".");
    page.heading("EXAMPLES");
    page.text("Convert three users as they arrive, nobody else:");
    page.example(
        "[users]\nconvert = \"listed\"          # the names, one a line, are in /etc/mailready/allow",
    );
    page.text("Spools in folders by the first letter, no further mbox files, mail delivered by Dovecot:");
    page.example(
        "[mail]\ninbox   = \"/var/spool/mail/%1u/%u\"\nfolders = \"\"\narchive = \"/var/spool/mail/.mailready\"\n\n[site]\ndeliverers = [\"dovecot-lmtp\"]",
    );
    page.heading("SEE ALSO");
    page.text("mailready(1), mailready-agent(8)");
    page.finish()
}
