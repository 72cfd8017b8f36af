//! A mail site in a machine: Dovecot with PAM as an administrator has it, without mailready at first, then with it.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::daemon::Daemon;
use super::error::{Doing, LabError, Result};
use super::machine::{Machine, tests_folder};
use super::wait::eventually;

/// Whose Dovecot configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Debian's, as shipped; the PAM module comes in by `pam-auth-update`, as the package would do it.
    Debian,
    /// A small one of its own with a PAM service of its own (`tests/lab/dovecot/small-site.conf`).
    Small,
}

const ROOT: (u32, u32) = (0, 0);

impl Machine {
    /// Configures Dovecot and PAM, without a trace of mailready.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn install_site(&self, site: Site) -> Result<()> {
        let lab = tests_folder().join("lab/dovecot");
        self.copy(&lab.join("local.conf"), "/etc/dovecot/local.conf", 0o644)?;
        if site == Site::Small {
            self.copy(&lab.join("small-site.conf"), "/etc/dovecot/dovecot.conf", 0o644)?;
            let service = read_text(&lab.join("pam-service"))?;
            let plain: String = service
                .lines()
                .filter(|line| !line.contains("pam_mailready"))
                .map(|l| format!("{l}\n"))
                .collect();
            self.write("/etc/pam.d/mailready-lab", plain.as_bytes(), ROOT, 0o644)?;
        }
        Ok(())
    }

    /// Adds to a configured site what an administrator adds for mailready: PAM lines, the post-login script, the Dovecot
    /// snippet. A running Dovecot must be restarted by the caller.
    ///
    /// # Errors
    /// If a file cannot be read or written, or `pam-auth-update` fails.
    pub fn install_mailready(&self, site: Site) -> Result<()> {
        let tests = tests_folder();
        let project = tests.parent().unwrap_or(&tests);
        self.inside(|| fs::create_dir_all("/etc/mailready"))?.doing(|| "make /etc/mailready")?;
        self.copy(&project.join("hooks/dovecot/postlogin"), "/etc/mailready/postlogin", 0o755)?;
        let snippet = project.join("packaging/dovecot/99-mailready.conf");
        self.copy(&snippet, "/etc/dovecot/conf.d/99-mailready.conf", 0o644)?;
        match site {
            Site::Debian => {
                let profile = project.join("packaging/pam-configs/mailready");
                self.copy(&profile, "/usr/share/pam-configs/mailready", 0o644)?;
                self.run("pam-auth-update", ["--package"])?;
                let account = self.read("/etc/pam.d/common-account")?;
                if !String::from_utf8_lossy(&account).contains("pam_mailready.so") {
                    return Err(LabError::Setup("pam-auth-update left pam_mailready.so out".into()));
                }
            }
            Site::Small => {
                self.copy(&tests.join("lab/dovecot/pam-service"), "/etc/pam.d/mailready-lab", 0o644)?;
            }
        }
        Ok(())
    }

    /// Starts Dovecot, and comes back when IMAP and POP3 greet.
    ///
    /// # Errors
    /// If they do not.
    pub fn start_dovecot(&self) -> Result<Daemon> {
        let dovecot = self.daemon("/usr/sbin/dovecot", ["-F"])?;
        let log = dovecot.log.clone();
        for (port, hello) in [(143, b"* OK"), (110, b"+OK ")] {
            eventually(
                format!("Dovecot greets on port {port}"),
                || log.tail(),
                || {
                    let mut greeting = [0; 4];
                    self.connect(port).ok()?.read_exact(&mut greeting).ok()?;
                    (&greeting == hello).then_some(())
                },
            )?;
        }
        Ok(dovecot)
    }

    /// Ends Dovecot, and comes back when its ports are free: its login processes may outlive the first one by a moment.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_dovecot(&self, dovecot: &Daemon) -> Result<()> {
        dovecot.terminate()?;
        eventually(
            "Dovecot has left its ports",
            || dovecot.log.tail(),
            || {
                // An agent that finds this socket open waits for sessions that may have decided without it.
                let anvil = || std::os::unix::net::UnixStream::connect("/run/dovecot/anvil").is_ok();
                let free = [143, 110].iter().all(|port| self.connect(*port).is_err());
                (free && !self.inside(anvil).unwrap_or(false)).then_some(())
            },
        )
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).doing(|| format!("read {}", from.display()))?;
        self.write(to, &content, ROOT, mode)
    }
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).doing(|| format!("read {}", path.display()))
}
