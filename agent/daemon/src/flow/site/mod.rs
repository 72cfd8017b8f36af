//! The interlock: nothing is committed while the site's readers and deliverers would not follow.
//!
//! Everything here is asked of the programs themselves, each with a deadline: Dovecot's settings and user database, the post-login script by playing it, Postfix and Exim by their own tools. Deliverers that
//! need not be told, since they write to the old place and are drained, are right as they are; one that would write elsewhere, bounce or lose is red, and so is one that cannot be asked. Red is an answer
//! for everybody, an operator's word included.
//!
//! An answer holds while nothing changes that it hangs on ([`stamps`]), and not for ever. What only a first commit can show is in [`first`]; what it showed is kept in [`proof`].

mod exim;
mod fault;
mod filter;
mod first;
mod map_read;
mod postfix;
mod proof;
mod script;
mod section;
mod served;
mod stamps;
pub(in crate::flow) mod tool;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mailready_config::{Config, Deliverer, Reader};

use super::dovecot::Dovecot;
use crate::outcome::Reason;
use fault::Fault;
pub(super) use first::{Proving, Reading, places as proof_places};
use section::Section;
use served::{Asked, MBOX_SEPARATOR};
use stamps::Stamps;

/// Where the script has to be (design contract; the package puts it there and leaves it there).
pub(super) const POSTLOGIN: &str = "/etc/mailready/postlogin";

/// What readers and deliverers test.
const MARKER: &str = "mailready-marker";

/// How long a good answer holds when no file changes: a Dovecot may be started with other rights, a tool may vanish.
const GREEN_HOLDS: Duration = Duration::from_secs(300);

/// How long a bad one does. Short, since what an administrator has mended need not be a file that is watched.
const RED_HOLDS: Duration = Duration::from_secs(10);

/// What clients see of the site; the same on mbox and Maildir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of the inbox namespace.
    pub(super) prefix: String,
    /// Between the levels of a folder's name.
    pub(super) separator: char,
    /// `pop3_uidl_format`, if a message's identifier has to be kept beside its UID; else empty.
    pub(super) uidl: String,
    /// `pop3_reuse_xuidl`
    pub(super) reuse_xuidl: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self { prefix: String::new(), separator: MBOX_SEPARATOR, uidl: String::new(), reuse_xuidl: false }
    }
}

/// A site that would follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) seen: Seen,
    /// Of everything that decides how mail is read; empty where nobody reads.
    digest: String,
}

/// The last answer.
struct Answer {
    when: Instant,
    config: Config,
    stamps: Stamps,
    verdict: Result<Found, Reason>,
}

impl Answer {
    fn holds(&self, config: &Config) -> bool {
        let long = if self.verdict.is_ok() { GREEN_HOLDS } else { RED_HOLDS };
        self.when.elapsed() < long && self.config == *config && self.stamps == Stamps::take(config)
    }
}

/// What is known of the site.
#[derive(Default)]
pub(super) struct Site {
    last: Mutex<Option<Answer>>,
    /// The reason of the last answer, to be told without waiting for one that is being found.
    trouble: Mutex<Option<Reason>>,
    /// Held by the one conversion that proves the site.
    proving: Mutex<()>,
}

impl Site {
    /// Whether a commit is allowed; the reason names the lines to change.
    pub(super) fn check(&self, config: &Config) -> Result<Found, Reason> {
        let mut last = lock(&self.last);
        if let Some(answer) = last.as_ref().filter(|answer| answer.holds(config)) {
            return answer.verdict.clone();
        }
        // Before the look: what changes during it is looked at again.
        let stamps = Stamps::take(config);
        let verdict = check_all(config).map_err(Reason::from).and_then(|found| not_stopped(config, found));
        let news = last.as_ref().is_none_or(|before| before.verdict != verdict);
        match &verdict {
            Err(reason) if news => {
                tracing::error!(code = reason.code, "no mailbox is committed: {reason}");
            }
            Ok(_) if news => tracing::info!("the site's readers and deliverers would follow"),
            _ => {}
        }
        *lock(&self.trouble) = verdict.as_ref().err().cloned();
        *last =
            Some(Answer { when: Instant::now(), config: config.clone(), stamps, verdict: verdict.clone() });
        verdict
    }

    /// What is in the way of everybody, as far as known.
    pub(super) fn trouble(&self) -> Option<Reason> {
        lock(&self.trouble).clone()
    }

    /// The next question is looked into anew.
    pub(super) fn forget(&self) {
        if let Some(answer) = &mut *lock(&self.last) {
            // As if it had been found before the machine started; the verdict stays, to tell what is news.
            answer.stamps = Stamps::default();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is guarded here is left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_stopped(config: &Config, found: Found) -> Result<Found, Reason> {
    let record = proof::read(&config.agent.state)?;
    match record.stopped.filter(|stopped| stopped.digest == found.digest) {
        Some(stopped) => Err(Reason::new("site-stopped", stopped.text, stopped.mend)),
        None => Ok(found),
    }
}

fn check_all(config: &Config) -> Result<Found, Fault> {
    let serves = config.site.readers.contains(&Reader::Dovecot);
    let reached = deliverers(config)?;
    let by_map = [Deliverer::DovecotLda, Deliverer::DovecotLmtp].iter().any(|each| reached.contains(each));
    let mut all: Option<Seen> = None;
    let mut digest = first::Digest::new(config);
    if serves && config.site.dovecot_config.is_empty() {
        return Err(Fault::new(
            "site.readers names dovecot, and site.dovecot_config no configuration of one",
            "set site.dovecot_config = [\"/etc/dovecot/dovecot.conf\"]",
        ));
    }
    let instances = if serves || by_map { config.site.dovecot_config.as_slice() } else { &[] };
    let mut takes_lmtp = false;
    for instance in instances {
        let dovecot = Dovecot::new(instance);
        let named = |fault: Fault| fault.of(instance.display());
        let settings = dovecot.settings().map_err(|error| {
            Fault::new(
                format!("Dovecot's configuration cannot be read: {error}"),
                "mend it, or set site.readers and site.dovecot_config to what this machine has",
            )
        })?;
        digest.add(&settings);
        let root = Section::parse(&settings);
        let asked = ask(&dovecot)?;
        takes_lmtp |= asked.protocols.split_whitespace().any(|word| word == "lmtp");
        let location = dovecot.setting("mail_location").unwrap_or_default();
        served::overrides(&root, &location, &reached).map_err(named)?;
        if by_map {
            map_read::check(&dovecot, &root, &config.agent.state).map_err(named)?;
        }
        if !serves {
            continue;
        }
        let seen = served::judge(&root, &asked, config).map_err(named)?;
        served::location(&root, &location, config).map_err(named)?;
        if all.as_ref().is_some_and(|other| *other != seen) {
            return Err(Fault::new(
                format!(
                    "{} shows folders or POP3 identifiers otherwise than the instance before it",
                    instance.display()
                ),
                "give prefix, separator and pop3_uidl_format the same values in all instances",
            ));
        }
        all = Some(seen);
    }
    if reached.contains(&Deliverer::DovecotLmtp) && !takes_lmtp {
        return Err(Fault::new(
            "mail is delivered by Dovecot's LMTP, and no instance of site.dovecot_config serves it",
            "add lmtp to protocols in dovecot.conf, or take \"dovecot-lmtp\" out of site.deliverers",
        ));
    }
    if serves {
        script::check(config)?;
    }
    Ok(Found { seen: all.unwrap_or_default(), digest: if serves { digest.end()? } else { String::new() } })
}

fn ask(dovecot: &Dovecot) -> Result<Asked, Fault> {
    let ask = |name| {
        dovecot.setting(name).map_err(|error| {
            Fault::new(
                format!("Dovecot's configuration cannot be read: {error}"),
                "mend it, or set site.readers and site.dovecot_config to what this machine has",
            )
        })
    };
    Ok(Asked {
        protocols: ask("protocols")?,
        uidl_format: ask("pop3_uidl_format")?,
        write_locks: ask("mbox_write_locks")?,
        reuse_xuidl: ask("pop3_reuse_xuidl")? == "yes",
    })
}

/// Judges the deliverers that the configuration names, and those that they hand mail to; gives all of them.
fn deliverers(config: &Config) -> Result<Vec<Deliverer>, Fault> {
    let mut reached: Vec<Deliverer> = Vec::new();
    let mut ahead = config.site.deliverers.clone();
    while let Some(deliverer) = ahead.pop() {
        if reached.contains(&deliverer) {
            continue;
        }
        reached.push(deliverer);
        match deliverer {
            Deliverer::Postfix => ahead.extend(postfix::check(config)?),
            Deliverer::Exim => ahead.extend(exim::check(config)?),
            Deliverer::Procmail => filter::check(&filter::PROCMAIL, config)?,
            Deliverer::Maildrop => filter::check(&filter::MAILDROP, config)?,
            // By the map, below.
            Deliverer::DovecotLda | Deliverer::DovecotLmtp => {}
        }
    }
    Ok(reached)
}

/// The configuration files of programs that are not ours.
const FILES: [&str; 8] = [
    "/etc/postfix/main.cf",
    "/etc/postfix/master.cf",
    "/etc/exim4",
    "/etc/exim/exim.conf",
    "/var/lib/exim4/config.autogenerated",
    "/etc/procmailrc",
    "/etc/maildroprc",
    POSTLOGIN,
];

/// All that an answer hangs on, as far as it is files.
fn watched(config: &Config) -> Vec<PathBuf> {
    let state = &config.agent.state;
    let mut paths: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for instance in &config.site.dovecot_config {
        // With conf.d and whatever else is beside it.
        paths.push(instance.parent().unwrap_or(instance).to_owned());
    }
    paths.extend([state.join(proof::NAME)]);
    paths
}
