//! What the post-login script does, by running it.
//!
//! An administrator may have changed it, or put it into one of their own, so it is not read but played: with a home that has the marker, one that has not, and one where a rollback is under way, as a user who is
//! nobody, it has to say where the mail is each time, and to go on to the program it is given. Whatever it asks the agent is asked for a user who does not exist. After the first commit it is run
//! for the user who was converted.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mailready_config::{Config, Layout};

use super::super::map::PROBE;
use super::fault::Fault;
use super::{MARKER, POSTLOGIN, tool};

/// Dovecot ends a script after 60 s, and ours gives up its wait after 25.
const DEADLINE: Duration = Duration::from_secs(40);

/// Runs instead of imap, and says what imap would have been told.
const TELL: &str = "printf 'mailready-told\\n%s\\n%s\\n' \"$MAIL\" \"$USERDB_KEYS\"";

/// Debian's nobody and nogroup; any user without a home of its own would do.
const NOBODY: (u32, u32) = (65534, 65534);

/// As whom the script runs.
pub(super) struct Person<'a> {
    pub(super) name: &'a str,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: &'a Path,
}

pub(super) fn check(config: &Config) -> Result<(), Fault> {
    let whole = format!("install hooks/dovecot/postlogin as {POSTLOGIN}, owner root, mode 755");
    let Ok(found) = Path::new(POSTLOGIN).metadata() else {
        return Err(Fault::new(
            format!("{POSTLOGIN} is missing, and Dovecot refuses every login without it"),
            whole,
        ));
    };
    if found.permissions().mode() & 0o005 != 0o005 {
        return Err(Fault::new(
            format!("{POSTLOGIN} cannot be run by users, and Dovecot refuses every login then"),
            format!("chmod 755 {POSTLOGIN}"),
        ));
    }
    if found.uid() != 0 || found.permissions().mode() & 0o022 != 0 {
        return Err(Fault::new(
            format!("{POSTLOGIN} can be changed by others than root, and runs as every user"),
            format!("chown root:root {POSTLOGIN}; chmod 755 {POSTLOGIN}"),
        ));
    }
    let scene = Scene::make(config).map_err(|error| {
        Fault::new(
            format!("the post-login script cannot be tried out: {error}"),
            format!("see to the folder of {}", config.agent.self_socket.display()),
        )
    })?;
    scene.play(config, NOBODY)
}

/// Whether the script shows a converted user the Maildir, and somebody who is not converted the mbox. The error says what it does instead.
pub(super) fn follows(
    config: &Config,
    person: &Person<'_>,
    maildir: &Path,
    layout: Layout,
) -> Result<(), Fault> {
    expect(person, &location(maildir, layout), "whose mail is a Maildir")
        .map_err(|fault| fault.of(person.name))?;
    let scene = Scene::make(config);
    let scene = scene.map_err(|error| Fault::new(format!("the script cannot be tried out: {error}"), ""))?;
    scene.play(config, (person.uid, person.gid))
}

fn location(maildir: &Path, layout: Layout) -> String {
    let layout = match layout {
        Layout::MaildirPlusPlus => "",
        Layout::Fs => ":LAYOUT=fs",
    };
    format!("maildir:{}{layout}", maildir.display())
}

/// Runs it, and compares what it says; an empty location means that it leaves Dovecot's own.
fn expect(person: &Person<'_>, expected: &str, whose: &str) -> Result<(), Fault> {
    let mend = |what: &str| {
        format!(
            "install hooks/dovecot/postlogin as {POSTLOGIN} again, with {what} as in mailready.toml at its top"
        )
    };
    let (mail, keys) = run(person).map_err(|what| Fault::new(what, mend("the lines")))?;
    if mail != expected {
        let shown =
            |mail: &str| if mail.is_empty() { "Dovecot's own location".to_owned() } else { mail.to_owned() };
        return Err(Fault::new(
            format!("{POSTLOGIN} shows {} to a user {whose}, and {} is right", shown(&mail), shown(expected)),
            mend("maildir, work and layout"),
        ));
    }
    if !expected.is_empty() && !keys.split_whitespace().any(|key| key == "mail") {
        return Err(Fault::new(
            format!("{POSTLOGIN} sets MAIL without naming it in USERDB_KEYS, and Dovecot does not see it"),
            mend("USERDB_KEYS"),
        ));
    }
    Ok(())
}

fn run(person: &Person<'_>) -> Result<(String, String), String> {
    let mut command = Command::new(POSTLOGIN);
    // What script-login gives. Descriptor 3 is left out: there is no session that a lease could belong to.
    command
        .args(["/bin/sh", "-c", TELL])
        .uid(person.uid)
        .gid(person.gid)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("USER", person.name)
        .env("HOME", person.home)
        .env("IP", "127.0.0.1")
        .env("LOCAL_IP", "127.0.0.1")
        .env("USERDB_KEYS", "")
        .current_dir("/");
    let said = match tool::run(&mut command, DEADLINE) {
        Ok(said) if said.ok => said,
        Ok(said) => {
            return Err(format!(
                "{POSTLOGIN} fails, and the login with it: {}",
                tool::last_line(&said.stderr)
            ));
        }
        Err(mute) => return Err(format!("{POSTLOGIN} {mute}")),
    };
    let lines: Vec<&str> = said.stdout.split('\n').collect();
    match lines.as_slice() {
        ["mailready-told", mail, keys, ""] => Ok(((*mail).to_owned(), (*keys).to_owned())),
        [] | [""] => {
            Err(format!("{POSTLOGIN} ends without going on to the mail program, so every login fails"))
        }
        [first, ..] => Err(format!(
            "{POSTLOGIN} writes to standard output, which is the client's connection: {}",
            tool::last_line(first)
        )),
    }
}

/// A home that is nobody's, beside the socket that scripts ask at; removed when dropped.
struct Scene {
    home: PathBuf,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Scene {
    fn make(config: &Config) -> std::io::Result<Self> {
        let folder = config.agent.self_socket.parent().unwrap_or(Path::new("/run/mailready"));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = folder.join(format!("probe-{}-{number}", std::process::id()));
        // Root's: whoever runs the script may look and not touch.
        std::fs::DirBuilder::new().mode(0o755).create(&home)?;
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { home })
    }

    fn play(&self, config: &Config, (uid, gid): (u32, u32)) -> Result<(), Fault> {
        let person = Person { name: PROBE, uid, gid, home: &self.home };
        expect(&person, "", "whose mail is an mbox")?;
        // A place that is not below the home cannot be made up without being made there.
        let below = |template: &mailready_config::Template| {
            template.as_str().starts_with("%h/").then(|| template.expand(PROBE, &self.home).ok()).flatten()
        };
        let Some(maildir) = below(&config.mail.maildir) else { return Ok(()) };
        let made = |done: std::io::Result<()>| {
            done.map_err(|error| Fault::new(format!("the script cannot be tried out: {error}"), ""))
        };
        made(touch(&self.home, &maildir.join(MARKER)))?;
        expect(&person, &location(&maildir, config.mail.layout), "whose mail is a Maildir")?;
        let Some(work) = below(&config.mail.work) else { return Ok(()) };
        made(touch(&self.home, &work.join("rolling-back")))?;
        expect(&person, "", "whose mail is being taken back to the mbox")
    }
}

/// An empty file, its folders made and open to all who look.
fn touch(home: &Path, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(home);
    std::fs::create_dir_all(folder)?;
    std::fs::write(path, b"")?;
    let between = path.ancestors().take_while(|each| *each != home);
    for each in between {
        let mode = if each == path { 0o644 } else { 0o755 };
        std::fs::set_permissions(each, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.home) {
            tracing::warn!("{} stays behind: {error}", self.home.display());
        }
    }
}
