//! The first commit on a site, which proves it or stops it.
//!
//! Before it, Dovecot reads the stage, with the site's own settings and as the user, and what it shows is compared with what it shows of the mbox. After it, the post-login script is run for the converted user. Until
//! both are on record for the site as it is now, one mailbox is committed at a time, and a mismatch stops the site for everybody.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{MutexGuard, TryLockError};
use std::time::Duration;

use mailready_config::{Config, Layout};

use super::super::dovecot::Dovecot;
use super::super::unix_seconds;
use super::fault::Fault;
use super::proof::{self, Proven, Stopped};
use super::script::{self, Person};
use super::{Found, POSTLOGIN, Site, lock, tool};
use crate::account::Account;
use crate::outcome::Reason;
use crate::records::{self, Record};

/// Of everything that decides how mail is read.
pub(super) struct Digest(blake3::Hasher);

impl Digest {
    pub(super) fn new(config: &Config) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.update(format!("{:?}{:?}", config.mail, config.site).as_bytes());
        Self(hasher)
    }

    /// `doveconf -n`, but for its comments: they hold the kernel's version.
    pub(super) fn add(&mut self, settings: &str) {
        for line in settings.lines().filter(|line| !line.starts_with('#')) {
            self.0.update(line.as_bytes()).update(b"\n");
        }
    }

    pub(super) fn end(mut self) -> Result<String, Fault> {
        let version = Dovecot::version().map_err(|what| Fault::new(what, "see `dovecot --version`"))?;
        self.0.update(version.as_bytes());
        let script = tool::read(Path::new(POSTLOGIN)).map_err(|what| Fault::new(what, "see to its mode"))?;
        self.0.update(script.unwrap_or_default().as_bytes());
        Ok(self.0.finalize().to_hex().to_string())
    }
}

/// The right to make the one commit that proves the site.
pub(in crate::flow) struct Proving<'a> {
    site: &'a Site,
    _turn: MutexGuard<'a, ()>,
    digest: String,
}

impl Site {
    /// Waits for the turn to prove the site; `None`: it is proven already, or has no reader to be proven with. `stop` ends the wait.
    pub(in crate::flow) fn prove(
        &self,
        config: &Config,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Proving<'_>>, Option<Reason>> {
        loop {
            let found = self.check(config).map_err(Some)?;
            if is_proven(config, &found).map_err(|fault| Some(fault.into()))? {
                return Ok(None);
            }
            let turn = match self.proving.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
                Err(TryLockError::WouldBlock) if stop() => return Err(None),
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            // Whoever had it before may have come to an end, either way.
            let found = self.check(config).map_err(Some)?;
            if is_proven(config, &found).map_err(|fault| Some(fault.into()))? {
                return Ok(None);
            }
            return Ok(Some(Proving { site: self, _turn: turn, digest: found.digest }));
        }
    }

    /// Changes what is on record, and has everybody look at it anew.
    fn keep(&self, config: &Config, change: impl FnOnce(&mut proof::Record)) {
        let mut record = proof::read(&config.agent.state).unwrap_or_default();
        change(&mut record);
        if let Err(error) = proof::write(&config.agent.state, &record) {
            tracing::error!("{}: {error}", config.agent.state.join(proof::NAME).display());
        }
        self.forget();
    }
}

fn is_proven(config: &Config, found: &Found) -> Result<bool, Fault> {
    let proven = || Ok(proof::read(&config.agent.state)?.proven);
    Ok(found.digest.is_empty() || proven()?.is_some_and(|proven| proven.digest == found.digest))
}

impl Proving<'_> {
    /// Stops the site: nothing more is committed.
    pub(in crate::flow) fn stop(&self, config: &Config, run: &str, text: String, mend: String) -> Reason {
        let mend = format!(
            "{mend}; when that is done, or to try again as it is: rm {}, then reload mailready-agent",
            config.agent.state.join(proof::NAME).display()
        );
        let reason = Reason::new("site-stopped", text, mend);
        tracing::error!(
            run,
            code = reason.code,
            "the site is stopped, no mailbox is committed any more: {reason}"
        );
        self.site.keep(config, |record| {
            record.proven = None;
            record.stopped = Some(Stopped {
                digest: self.digest.clone(),
                since: unix_seconds(),
                run: run.to_owned(),
                text: reason.text.clone(),
                mend: reason.mend.clone(),
            });
        });
        *lock(&self.site.trouble) = Some(reason.clone());
        reason
    }

    /// Whether the site's own script leads a converted user to the Maildir.
    pub(in crate::flow) fn follows(&self, config: &Config, record: &Record) -> Result<(), Reason> {
        let person = Person { name: &record.user, uid: record.uid, gid: record.gid, home: &record.home };
        let layout = match record.served.layout {
            records::Layout::MaildirPlusPlus => Layout::MaildirPlusPlus,
            records::Layout::Fs => Layout::Fs,
        };
        Ok(script::follows(config, &person, &record.maildir, layout)?)
    }

    /// After the commit: proven, or stopped.
    pub(in crate::flow) fn conclude(&self, config: &Config, record: &Record) {
        match self.follows(config, record) {
            Ok(()) => {
                tracing::info!(run = record.run, user = ?record.user, "the site has followed a first commit");
                self.site.keep(config, |kept| {
                    kept.stopped = None;
                    kept.proven = Some(Proven {
                        digest: self.digest.clone(),
                        since: unix_seconds(),
                        run: record.run.clone(),
                    });
                });
            }
            Err(reason) => {
                self.stop(
                    config,
                    &record.run,
                    format!("after the first commit: {}", reason.text),
                    reason.mend,
                );
            }
        }
    }
}

/// Dovecot's tool at work on a copy, with the rights of its owner and the settings of the site.
pub(in crate::flow) struct Reading {
    child: Child,
    what: &'static str,
}

impl Reading {
    pub(in crate::flow) fn start(
        config: &Config,
        instance: &Path,
        account: &Account,
        location: &str,
        (what, arguments): (&'static str, &[&str]),
    ) -> std::io::Result<(Self, ChildStdout)> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new("doveadm");
        // Besides these two, the supplementary groups go: std clears them for a child that gets another uid.
        command
            .arg("-c")
            .arg(instance)
            .args(["-o", &format!("mail_location={location}"), "-o", "stats_writer_socket_path="])
            .args(arguments)
            .uid(account.uid)
            .gid(account.gid)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(zone) = &config.mail.timezone {
            command.env("TZ", zone);
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("no pipe"))?;
        Ok((Self { child, what }, stdout))
    }

    /// After everything was read: did it do what it was asked to? What it says besides is a line of a log.
    pub(in crate::flow) fn end(mut self) -> Result<(), String> {
        let mut said = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            // It has closed its output, so it is at its end.
            let _ = stderr.take(64 << 10).read_to_end(&mut said);
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        match status.code() {
            // 65: a file that is no mbox is among the folders.
            Some(0 | 65) => Ok(()),
            _ => {
                let said = tool::last_line(&String::from_utf8_lossy(&said));
                Err(format!("doveadm reading the {}: {status}: {said}", self.what))
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // It has ended, or nobody reads what it prints any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the copies for a proof lie: the mbox as it was staged, and the stage.
pub(in crate::flow) fn places(account: &Account, run: &str) -> [PathBuf; 2] {
    let folder = account.work.join(format!("proof-{run}"));
    [folder.join("mbox"), folder.join("stage")]
}
