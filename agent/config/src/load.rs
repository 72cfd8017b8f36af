//! Reading the files and putting the configuration together.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check;
use crate::config::{
    Agent, Arrival, Background, BackgroundMode, Bus, Config, Convert, Deliverer, Keep, Layout, Lock, Mail,
    Names, Policy, Probe, Radius, Reader as MailReader, Sessions, Site, Source, Users,
};
use crate::error::{ConfigError, Problem};
use crate::layers::Layers;
use crate::read::Reader;
use crate::{DEFAULT_PATH, Rewrite, Template, Window};

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Dovecot ends a post-login script after 60 s: what is left is for the script itself and a loaded machine.
const LONGEST_BUDGET: Duration = Duration::from_secs(50);

impl Config {
    /// Reads the file named, or [`DEFAULT_PATH`], and `conf.d/*.toml` beside it.
    ///
    /// A default file that is missing is all defaults.
    ///
    /// # Errors
    /// A file that cannot be read (a file that was named must be there), or everything that is wrong in the files.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        for file in files(path)? {
            let text = read(&file)?;
            layers.add(&text, &file);
        }
        finish(layers)
    }

    /// Reads a configuration from text; `name` stands for the file in messages. Nothing else is read.
    ///
    /// # Errors
    /// Everything that is wrong in the text.
    pub fn parse(text: &str, name: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        layers.add(text, name);
        finish(layers)
    }
}

/// The files that [`Config::load`] reads, in order; the first may be the default file only if it is there.
fn files(path: Option<&Path>) -> Result<Vec<PathBuf>, ConfigError> {
    let main = path.unwrap_or(Path::new(DEFAULT_PATH));
    let mut files = Vec::new();
    let is_there = main.try_exists().map_err(|source| ConfigError::Read { path: main.to_owned(), source })?;
    if path.is_some() || is_there {
        files.push(main.to_owned());
    }
    let folder = main.with_file_name("conf.d");
    let mut more = Vec::new();
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|source| ConfigError::Read { path: folder.clone(), source })?;
                let name = entry.file_name();
                // Editors leave .#x.toml and the like beside a file.
                let hidden = name.as_encoded_bytes().starts_with(b".");
                if !hidden && Path::new(&name).extension() == Some(OsStr::new("toml")) {
                    more.push(entry.path());
                }
            }
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(source) => return Err(ConfigError::Read { path: folder, source }),
    }
    more.sort();
    files.append(&mut more);
    Ok(files)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn finish(mut layers: Layers) -> Result<Config, ConfigError> {
    let mut problems = std::mem::take(&mut layers.problems);
    let config = build(&layers, &mut problems);
    // Contradictions are looked for only among values that are right in themselves: else one mistake is told twice.
    if let (Some(config), true) = (&config, problems.is_empty()) {
        check::check(config, &layers, &mut problems);
    }
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => {
            problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
            Err(ConfigError::Problems(problems))
        }
    }
}

/// None: a template is wrong, which `problems` then tells.
fn build(layers: &Layers, problems: &mut Vec<Problem>) -> Option<Config> {
    let mut reader = Reader { layers, problems, section: "" };
    let r = reader.at("users");
    let users = Users {
        convert: r.word("convert", Convert::WORDS),
        allow: r.path("allow"),
        first: r.path("first"),
        hold: r.path("hold"),
        min_uid: r.number("min_uid", 1, u32::MAX - 1),
        max_uid: r.number("max_uid", 1, u32::MAX - 1),
    };
    let r = reader.at("agent");
    let agent = Agent {
        socket: r.path("socket"),
        self_socket: r.path("self_socket"),
        control: r.path("control"),
        bus: r.parsed("bus", Bus::None, bus),
        state: r.path("state"),
        workers: r.number("workers", 1, 64),
    };
    let mail = mail(reader.at("mail"));
    let r = reader.at("site");
    let site = Site {
        readers: r.words("readers", MailReader::WORDS),
        deliverers: r.words("deliverers", Deliverer::WORDS),
        dovecot_config: r.paths("dovecot_config"),
    };
    let r = reader.at("arrival");
    let arrival = Arrival {
        sources: r.words("sources", Source::WORDS),
        services: r.parsed_list("services", |text| {
            let fits = (1..=64).contains(&text.len()) && !text.contains(|c: char| c == '/' || c.is_control());
            fits.then(|| text.to_owned()).ok_or_else(|| "names of 1 to 64 bytes without /".to_owned())
        }),
    };
    let r = reader.at("sessions");
    let sessions = Sessions {
        probe: r.word("probe", Probe::WORDS),
        policy: r.word("policy", Policy::WORDS),
        wait_limit: r.duration("wait_limit", SECOND, YEAR),
        max_waiting: r.number("max_waiting", 0, 100_000),
        budget: r.duration("budget", SECOND, LONGEST_BUDGET),
    };
    let r = reader.at("background");
    let background = Background {
        mode: r.word("mode", BackgroundMode::WORDS),
        window: r.parsed_list("window", |text| {
            Window::parse(text).ok_or_else(|| "times of day such as \"02:00-06:00\"".to_owned())
        }),
        chunk: r.number("chunk", 1, 1_000_000),
        max_failures: r.number("max_failures", 1, 1_000_000),
    };
    let r = reader.at("names");
    let names = Names {
        rewrite: r.parsed_list("rewrite", Rewrite::parse),
        strip_realm: r.flag("strip_realm"),
        detail: r.parsed("detail", None, detail),
        lowercase: r.flag("lowercase"),
    };
    let r = reader.at("radius");
    let radius = Radius {
        listen: r.parsed_list("listen", |text| {
            text.parse()
                .map_err(|_| "an address and a port, such as \"192.0.2.1:1813\" or \"[::]:1813\"".to_owned())
        }),
        clients: r.path("clients"),
        rate: r.number("rate", 0, 1_000_000),
    };
    let r = reader.at("keep");
    let keep =
        Keep { original_days: r.number("original_days", 0, 36_500), reserve: r.percent("reserve", 90) };
    let not_in_use_yet = layers.set_by_files().filter(|key| key.is_not_in_use_yet()).collect();
    Some(Config {
        not_in_use_yet,
        users,
        agent,
        mail: mail?,
        site,
        arrival,
        sessions,
        background,
        names,
        radius,
        keep,
    })
}

fn detail(text: &str) -> Result<Option<char>, String> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if !one.is_alphanumeric() && one != '@' => Ok(Some(one)),
        _ => Err("one character, such as \"+\", no letter, digit or @; or \"\"".to_owned()),
    }
}

fn mail(r: &mut Reader<'_>) -> Option<Mail> {
    let templates: [Option<Template>; 3] = [r.template("inbox"), r.template("maildir"), r.template("work")];
    let folders = r.template_or_none("folders");
    let layout = r.word("layout", Layout::WORDS);
    let archive = r.path("archive");
    let locks = r.words("locks", Lock::WORDS);
    let timezone = r.parsed("timezone", None, timezone);
    let single_host = r.flag("single_host");
    let [Some(inbox), Some(maildir), Some(work)] = templates else { return None };
    Some(Mail { inbox, folders, maildir, layout, work, archive, locks, timezone, single_host })
}

fn bus(text: &str) -> Result<Bus, String> {
    match text {
        "system" => Ok(Bus::System),
        "none" => Ok(Bus::None),
        // The form of the D-Bus specification: transport:key=value,...
        address
            if address.split_once(':').is_some_and(|(kind, rest)| !kind.is_empty() && rest.contains('=')) =>
        {
            Ok(Bus::Address(address.to_owned()))
        }
        _ => Err("\"system\", \"none\" or a D-Bus address such as \"unix:path=/run/dbus/system_bus_socket\""
            .to_owned()),
    }
}

/// A name for TZ. Only its form is looked at; whether the zone is known here is for those to find out who use it.
fn timezone(text: &str) -> Result<Option<String>, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/_+-:,.<>".contains(c);
    if text.is_empty() {
        Ok(None)
    } else if text.chars().all(fits) && !text.contains("..") {
        Ok(Some(text.to_owned()))
    } else {
        Err("a name of a time zone such as \"Europe/Berlin\", or \"\"".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KEYS, SECTIONS, example};

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("x.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn the_built_in_defaults_hold_together() {
        let config = parse("").unwrap();
        assert_eq!(config.users.convert, Convert::None);
        assert_eq!(config.mail.inbox.as_str(), "/var/mail/%u");
        assert_eq!(config.sessions.wait_limit, Duration::from_secs(43_200));
        assert_eq!(config.agent.control, Path::new("/run/mailready/control.sock"));
    }

    #[test]
    fn every_key_belongs_to_a_section_and_stands_once() {
        for key in KEYS {
            assert!(SECTIONS.iter().any(|s| s.name == key.section), "{}", key.full_name());
            assert_eq!(
                KEYS.iter().filter(|k| k.full_name() == key.full_name()).count(),
                1,
                "{}",
                key.full_name()
            );
        }
    }

    #[test]
    fn the_example_with_its_comment_signs_taken_off_is_the_defaults() {
        let keys = example().lines().filter(|l| l.starts_with('#') && l.contains(" = ")).count();
        assert!(keys >= KEYS.len());
        let bare: String = example()
            .lines()
            .map(|l| l.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(l).to_owned() + "\n")
            .collect();
        let mut all_set = parse(&bare).unwrap();
        assert_eq!(all_set.not_in_use_yet.len(), KEYS.iter().filter(|key| key.is_not_in_use_yet()).count());
        all_set.not_in_use_yet.clear();
        assert_eq!(all_set, parse("").unwrap());
        assert_eq!(parse(&example()).unwrap(), parse("").unwrap());
    }

    #[test]
    fn later_files_win_key_by_key() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("mailready.toml");
        let more = dir.path().join("conf.d");
        std::fs::create_dir(&more).unwrap();
        std::fs::write(&main, "[users]\nmin_uid = 500\nmax_uid = 600\n").unwrap();
        std::fs::write(more.join("20-b.toml"), "[users]\nmin_uid = 520\n").unwrap();
        std::fs::write(more.join("10-a.toml"), "[users]\nmin_uid = 510\n[agent]\nworkers = 4\n").unwrap();
        std::fs::write(more.join(".#10-a.toml"), "not toml at all").unwrap();
        std::fs::write(more.join("README"), "not toml at all").unwrap();
        let config = Config::load(Some(&main)).unwrap();
        assert_eq!((config.users.min_uid, config.users.max_uid, config.agent.workers), (520, 600, 4));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let missing = Path::new("/nonexistent/mailready.toml");
        match Config::load(Some(missing)) {
            Err(ConfigError::Read { path, .. }) => assert_eq!(path, missing),
            other => panic!("{other:?}"),
        }
    }
}
