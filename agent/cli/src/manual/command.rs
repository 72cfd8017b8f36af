//! mailready(1), from the command line's definition.

use clap::{Arg, Command, CommandFactory};

use super::roff::Page;
use crate::args::Args;
use crate::exit::EXITS;

pub(crate) fn page() -> String {
    let mut root = Args::command();
    root.build();
    let about = root.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = Page::new("mailready", 1, &first_lower(about.trim_end_matches('.')));
    let commands: Vec<&Command> = root.get_subcommands().filter(|command| !command.is_hide_set()).collect();

    page.heading("SYNOPSIS");
    page.example(&commands.iter().map(|command| usage(command)).collect::<Vec<_>>().join("\n"));
    page.heading("DESCRIPTION");
    page.text(
        "mailready converts a user's mbox mail to Maildir at the moment the user arrives, by an agent that runs all the \
         time, mailready-agent(8). This is the command by which its operator asks it, and tells it what to do. It changes \
         nobody who has not been named, here or in mailready.toml(5).\n\n\
         All commands but convert-file and check-config go to the agent over its control socket (agent.control). One sees \
         one's own state; root and the group adm see all. Changing something takes root, but users may hold, release, \
         verify and roll back themselves.",
    );
    page.heading("COMMANDS");
    for command in &commands {
        page.subheading(&usage(command));
        page.text(
            &command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default(),
        );
        for arg in command.get_arguments().filter(|arg| is_own(arg)) {
            item(&mut page, arg);
        }
    }
    page.heading("OPTIONS");
    for arg in root.get_arguments().filter(|arg| arg.get_id() == "config") {
        item(&mut page, arg);
    }
    page.item("-h, --help", "Print help; of a command: mailready COMMAND --help");
    page.item("-V, --version", "Print the version");
    page.heading("EXIT STATUS");
    for (exit, meaning) in EXITS {
        page.item(&(*exit as u8).to_string(), meaning);
    }
    json(&mut page);
    page.heading("EXAMPLES");
    page.text("Try it on a copy of somebody's mail, without an agent:");
    page.example("mailready convert-file /tmp/copy.mbox /tmp/copy.maildir");
    page.text("Convert yourself, and see what became of it:");
    page.example("mailready convert --dry-run ann && mailready convert ann\nmailready explain ann");
    page.text("Leave somebody alone for a month:");
    page.example("mailready hold bob --until 30d --why \"thesis\"");
    page.heading("SEE ALSO");
    page.text("mailready.toml(5), mailready-agent(8), mailready-notify(1), pam_mailready(8)");
    page.finish()
}

fn json(page: &mut Page) {
    page.heading("JSON");
    page.text(
        "With --json a command prints one object on one line. Keys may be added; none are renamed, removed or given another \
         meaning without another \"version\". Times are unix seconds, sizes bytes; a key without a value is left out.",
    );
    page.item(
        "convert",
        "version; users: a list of user, answer (converted, already, would-convert, waiting, held, blocked, failed, stopped, \
         refused), on_maildir (true or false), text",
    );
    page.item(
        "rollback",
        "version; users: a list of user, answer (rolledback, mbox (was on mbox), waiting, blocked, failed, stopped, refused), \
         on_mbox (true or false), text",
    );
    page.item(
        "verify",
        "version; users: a list of user, answer (verified, damaged, mbox, waiting, blocked, failed, stopped, refused), and \
         counts of messages: same, gone (deleted since), lost, damaged, unknown (Dovecot shows it in the original, the receipt \
         does not have it), unseen (the other way round); mailboxes, missing (their original is not there any more); reason",
    );
    page.item(
        "status",
        "version; stopped (why the agent converts nobody by arriving, if it has stopped by itself); users: a list of user, state (mbox, staging, staged, waiting, committing, maildir, held, blocked, failed, \
         rollingback, rolledback), and as far as they are known run, messages, messages_total, bytes, bytes_total, reason, code (the reason \
         as a stable word), mend, since, until, by, ahead, mail, original, original_gone, uid",
    );
    page.item(
        "convert-file",
        "version, mbox, maildir, messages, bytes, blake3 (of the mbox), uidvalidity, uidnext, took_ms",
    );
    page.item("any that fails", "version, error, exit");
}

fn usage(command: &Command) -> String {
    command.clone().render_usage().to_string().replace("Usage: ", "")
}

/// Options that every command has are told once.
fn is_own(arg: &Arg) -> bool {
    !arg.is_hide_set() && !arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

fn item(page: &mut Page, arg: &Arg) {
    let values: Vec<&str> = arg.get_value_names().into_iter().flatten().map(|name| name.as_str()).collect();
    let takes_value = arg.get_action().takes_values();
    let term = match (arg.get_long(), takes_value) {
        (Some(long), true) => format!("--{long} {}", values.join(" ")),
        (Some(long), false) => format!("--{long}"),
        (None, _) => values.join(" "),
    };
    let mut text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let possible: Vec<_> = arg.get_possible_values().into_iter().filter(|_| takes_value).collect();
    if !possible.is_empty() {
        let each: Vec<String> = possible
            .iter()
            .map(|value| match value.get_help() {
                Some(help) => format!("{} ({help})", value.get_name()),
                None => value.get_name().to_owned(),
            })
            .collect();
        text = format!("{text}: {}", each.join(", "));
    }
    page.item(&term, &sentence(&text));
}

/// clap's texts end without a full stop where they are a line.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

fn first_lower(text: &str) -> String {
    let mut text = text.to_owned();
    text[..1].make_ascii_lowercase();
    text
}
