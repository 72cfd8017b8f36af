//! `mailready check-config`: is it right, and what does it do?

use std::path::{Path, PathBuf};

use mailready_config::{Config, Convert, DEFAULT_PATH, UserList};

use crate::args::CheckConfigArgs;
use crate::exit::{Exit, Failure};
use crate::terminal;

pub(crate) fn run(config: Option<&Path>, args: &CheckConfigArgs) -> Result<Exit, Failure> {
    let files: Vec<Option<PathBuf>> = if args.files.is_empty() {
        vec![config.map(Path::to_owned)]
    } else {
        args.files.iter().cloned().map(Some).collect()
    };
    let mut exit = Exit::Ok;
    for file in files {
        if let Err(failure) = check(file.as_deref()) {
            exit = failure.report(false);
        }
    }
    Ok(exit)
}

fn check(file: Option<&Path>) -> Result<(), Failure> {
    let name = match file {
        Some(file) => file.display().to_string(),
        None if Path::new(DEFAULT_PATH).exists() => DEFAULT_PATH.to_owned(),
        None => format!("{DEFAULT_PATH} (not there: all defaults)"),
    };
    let config = Config::load(file)?;
    let list = |path: &Path| UserList::load(path).map_err(|e| Failure::new(Exit::Config, e.to_string()));
    let (allow, _, hold) =
        (list(&config.users.allow)?, list(&config.users.first)?, list(&config.users.hold)?);
    terminal::say(&format!("{name}: ok"));
    let whom = match config.users.convert {
        Convert::None => "arrivals convert nobody (users.convert = \"none\")".to_owned(),
        Convert::Listed if allow.is_missing() => {
            format!("arrivals convert nobody: {} is not there", config.users.allow.display())
        }
        Convert::Listed => {
            format!("arrivals convert the {} in {}", people(allow.len()), config.users.allow.display())
        }
        Convert::All => format!(
            "arrivals convert everybody with a uid from {} to {}",
            config.users.min_uid, config.users.max_uid
        ),
    };
    terminal::say(&format!("  {whom}"));
    if !hold.is_empty() {
        terminal::say(&format!("  except the {} in {}", people(hold.len()), config.users.hold.display()));
    }
    let folders = config.mail.folders.as_ref().map(|f| format!(" and {f}")).unwrap_or_default();
    terminal::say(&format!("  from {}{folders} to {}", config.mail.inbox, config.mail.maildir));
    for key in &config.not_in_use_yet {
        terminal::say(&format!(
            "  {} is set and not in use yet: this version does nothing with it",
            key.full_name()
        ));
    }
    Ok(())
}

fn people(count: usize) -> String {
    if count == 1 { "one user".to_owned() } else { format!("{count} users") }
}
