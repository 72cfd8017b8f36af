//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Converts mbox mail to Maildir at the moment its user arrives.
#[derive(Debug, Parser)]
#[command(name = "mailready", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Args {
    /// Configuration to go by; conf.d/*.toml beside it is read too
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert users' mail now, through the agent
    ///
    /// Shows progress on a terminal. Ends with 0 only when all the users are on Maildir. Whether arrivals convert a user
    /// (users.convert) does not matter here: you are asking. A hold does.
    #[command(override_usage = "mailready convert [OPTIONS] <USER...|--all>")]
    Convert(ConvertArgs),
    /// Show where users stand
    Status(StatusArgs),
    /// Tell all about one user: where the mail is, why, and what comes next
    Explain(ExplainArgs),
    /// Prove that converted users' mail is what it was
    ///
    /// Has Dovecot read the original mboxes again, message by message, and compares what it shows with the Maildir. Takes about as long as
    /// reading the mail; nobody is disturbed. Ends with 0 only if nothing is lost or damaged.
    Verify(VerifyArgs),
    /// Give converted users their mail back as mbox
    ///
    /// With everything that has happened since the conversion: new mail, flags, deletions, folders. IMAP sessions are ended, and logins
    /// wait for a moment. Who was rolled back is converted again only by `mailready convert`, not by arriving.
    #[command(override_usage = "mailready rollback [OPTIONS] <USER...|--all>")]
    Rollback(RollbackArgs),
    /// Keep a user from being converted
    ///
    /// Users may do this for themselves.
    Hold(HoldArgs),
    /// End a hold
    Release(ReleaseArgs),
    /// Let conversions go on after the agent has stopped by itself
    ///
    /// The agent stops converting arrivals when too many mailboxes fail (background.max_failures), and says so in the journal and in
    /// `mailready status`. See what went wrong, try one user with `mailready convert`, then say `mailready background start`.
    Background(BackgroundArgs),
    /// Convert one mbox file into a new Maildir, without the agent
    ///
    /// Takes the mbox's locks, writes, reads back, and puts the Maildir in place by one rename. The mbox stays as it is,
    /// and mail that arrives there later is not carried over. As root it first becomes the mbox's owner.
    ConvertFile(ConvertFileArgs),
    /// Check the configuration and tell what it does
    CheckConfig(CheckConfigArgs),
}

impl Command {
    /// Whether the output is for a program.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Convert(args) => args.json,
            Self::Status(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Rollback(args) => args.json,
            Self::ConvertFile(args) => args.json,
            Self::Explain(_)
            | Self::Hold(_)
            | Self::Release(_)
            | Self::Background(_)
            | Self::CheckConfig(_) => false,
        }
    }
}

/// Arguments of `convert`.
#[derive(Debug, ClapArgs)]
pub struct ConvertArgs {
    /// Users to convert
    #[arg(value_name = "USER", required_unless_present = "all")]
    pub users: Vec<String>,
    /// Convert all users whom the configuration allows
    #[arg(long, conflicts_with = "users")]
    pub all: bool,
    /// Wait for open sessions to end instead of reporting `waiting`
    #[arg(long)]
    pub wait: bool,
    /// Look and tell, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Users to show; nobody named: all that you may see
    #[arg(value_name = "USER")]
    pub users: Vec<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    /// The user
    #[arg(value_name = "USER")]
    pub user: String,
}

/// Arguments of `verify`.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Users to verify
    #[arg(value_name = "USER", required = true)]
    pub users: Vec<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rollback`.
#[derive(Debug, ClapArgs)]
pub struct RollbackArgs {
    /// Users to roll back
    #[arg(value_name = "USER", required_unless_present = "all")]
    pub users: Vec<String>,
    /// Roll back all users who are on Maildir
    #[arg(long, conflicts_with = "users")]
    pub all: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON object instead of lines; asks nothing, so it needs --yes
    #[arg(long, requires = "yes")]
    pub json: bool,
}

/// Arguments of `hold`.
#[derive(Debug, ClapArgs)]
pub struct HoldArgs {
    /// The user
    #[arg(value_name = "USER")]
    pub user: String,
    /// Until when: 12h, 30d, 2027-01-31 or "2027-01-31 18:00" (local time); without it for ever
    #[arg(long, value_name = "T")]
    pub until: Option<String>,
    /// Why; shown by status and explain
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub why: String,
}

/// Arguments of `release`.
#[derive(Debug, ClapArgs)]
pub struct ReleaseArgs {
    /// The user
    #[arg(value_name = "USER")]
    pub user: String,
}

/// Arguments of `background`.
#[derive(Debug, ClapArgs)]
pub struct BackgroundArgs {
    /// What to do
    #[arg(value_name = "WHAT", value_enum)]
    pub what: BackgroundWhat,
}

/// What `background` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackgroundWhat {
    /// Go on after a stop
    Start,
    /// Tell whether the agent has stopped
    Status,
}

/// Arguments of `convert-file`.
#[derive(Debug, ClapArgs)]
pub struct ConvertFileArgs {
    /// The mbox file
    #[arg(value_name = "MBOX")]
    pub mbox: PathBuf,
    /// Where the Maildir will be; must not exist
    #[arg(value_name = "MAILDIR")]
    pub maildir: PathBuf,
    /// Whose rules the mbox follows: the server that shows it today
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Server::Dovecot)]
    pub server: Server,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Servers whose rules an mbox may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// Dovecot 2.3 or 2.4
    Dovecot,
    /// UW imapd and ipop3d, Alpine
    Uw,
    /// qpopper 2 to 4
    Qpopper,
}

/// Arguments of `check-config`.
#[derive(Debug, ClapArgs)]
pub struct CheckConfigArgs {
    /// Files to check; nothing named: the configuration in use
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn rollback_wants_users_or_all_and_programs_have_to_say_yes() {
        assert!(Args::try_parse_from(["mailready", "rollback"]).is_err());
        assert!(Args::try_parse_from(["mailready", "rollback", "--all", "ann"]).is_err());
        assert!(Args::try_parse_from(["mailready", "rollback", "--json", "ann"]).is_err());
        assert!(Args::try_parse_from(["mailready", "rollback", "--json", "--yes", "ann"]).is_ok());
        assert!(Args::try_parse_from(["mailready", "verify"]).is_err());
    }

    #[test]
    fn convert_wants_users_or_all_and_not_both() {
        assert!(Args::try_parse_from(["mailready", "convert"]).is_err());
        assert!(Args::try_parse_from(["mailready", "convert", "--all", "ann"]).is_err());
        assert!(Args::try_parse_from(["mailready", "convert", "--all", "--wait", "--json"]).is_ok());
        assert!(Args::try_parse_from(["mailready", "convert", "ann", "bob", "--config", "x"]).is_ok());
    }
}
