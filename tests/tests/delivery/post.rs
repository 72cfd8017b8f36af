//! A machine with every deliverer: Postfix, Exim and Dovecot's LMTP as running servers, procmail, maildrop and the LDA behind
//! Postfix, told of mailready by the shipped snippets or not at all.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mailready_tests::lab::{Daemon, LabError, MAIL_GID, Machine, Result, Site, User, eventually};

use super::snippets::{self, shipped};
use super::submission::SENDER;

/// Whether the deliverers know of mailready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By what is shipped.
    Yes,
    /// Nobody has told them; LDA and LMTP defer what is for the converted.
    No,
}

/// Exim's program in the lab's root.
pub const EXIM: &str = "/opt/beside/usr/sbin/exim4";
/// Where the servers take mail.
pub const POSTFIX_PORT: u16 = 25;
/// As above.
pub const EXIM_PORT: u16 = 2525;
/// Dovecot's LMTP.
pub const LMTP: &str = "/run/dovecot/mailready-lmtp";

const EXIM_LOG: &str = "/var/log/exim4";
const ROOT: (u32, u32) = (0, 0);

/// A site's main.cf, up to the lines about delivery: short times to wait, so that a deferred message is tried again soon.
pub const MAIN_CF: &str = "\
compatibility_level = 3.6
myhostname = mail.example.org
mydestination = mail.example.org, localhost
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
smtp_dns_support_level = disabled
alias_maps =
alias_database =
biff = no
maillog_file = /dev/stdout
maillog_file_prefixes = /var, /dev
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 4s
smtpd_client_connection_rate_limit = 0
";

const EXIM_HEAD: &str = "\
exim_path = /opt/beside/usr/sbin/exim4
keep_environment =
primary_hostname = mail.example.org
domainlist local_domains = mail.example.org
qualify_domain = mail.example.org
never_users = root
tls_advertise_hosts =
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = rcpt
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
begin acl
rcpt:
  require verify = recipient
  accept
begin routers
forward:
  driver = redirect
  check_local_user
  file = $home/.forward
  no_verify
  no_expn
  file_transport = address_file
";
const EXIM_SPOOL: &str = "
local_user:
  driver = accept
  domains = +local_domains
  check_local_user
  transport = mail_spool
  cannot_route_message = Unknown user
begin transports
";
const EXIM_TAIL: &str = "
address_file:
  driver = appendfile
  delivery_date_add
  envelope_to_add
  return_path_add
mail_spool:
  driver = appendfile
  file = /var/mail/$local_part_data
  delivery_date_add
  envelope_to_add
  return_path_add
  group = mail
  mode = 0660
  mode_fail_narrower = false
begin retry
* * F,1h,1s
begin rewrite
begin authenticators
";

/// How a user's mail is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Also the user's name.
    pub name: &'static str,
    /// The server that takes it.
    pub port: u16,
    /// Postfix hands it to what this shipped file says.
    snippet: Option<&'static str>,
    /// A file of the user's, and what is in it.
    dotfile: Option<(&'static str, &'static str)>,
}

impl Way {
    /// By Dovecot, which defers what it was not told of.
    pub fn is_dovecot(&self) -> bool {
        matches!(self.name, "lda" | "lmtp")
    }
}

const fn way(name: &'static str, port: u16, snippet: Option<&'static str>) -> Way {
    Way { name, port, snippet, dotfile: None }
}

/// The folder that users' own files name.
pub const FOLDER: &str = "mail/lists";

/// All of them.
pub const WAYS: [Way; 10] = [
    way("spool", POSTFIX_PORT, None),
    way("procmail", POSTFIX_PORT, Some("procmail")),
    way("maildrop", POSTFIX_PORT, Some("maildrop")),
    way("lda", POSTFIX_PORT, Some("dovecot-lda")),
    way("lmtp", POSTFIX_PORT, Some("dovecot-lmtp")),
    way("exim", EXIM_PORT, None),
    Way { dotfile: Some((".forward", "/home/forward/mail/lists\n")), ..way("forward", POSTFIX_PORT, None) },
    Way { dotfile: Some((".forward", "/home/eximfwd/mail/lists\n")), ..way("eximfwd", EXIM_PORT, None) },
    Way {
        dotfile: Some((".procmailrc", ":0:\n$HOME/mail/lists\n")),
        ..way("recipe", POSTFIX_PORT, Some("procmail"))
    },
    Way {
        dotfile: Some((".mailfilter", "to \"mail/lists\"\n")),
        ..way("filter", POSTFIX_PORT, Some("maildrop"))
    },
];

/// The servers, running.
pub struct Post {
    /// Where they run.
    pub machine: Machine,
    /// Of [`WAYS`], in that order.
    pub users: Vec<User>,
    /// Its log tells what was delivered when.
    pub postfix: Daemon,
    _exim: Daemon,
    _dovecot: Daemon,
}

impl Post {
    /// Starts everything but the agent; `None` (said loudly) where there are no machines.
    pub fn start(told: Told, agent: impl FnOnce(&Machine) -> Result<()>) -> Result<Option<Self>> {
        let Some(machine) = Machine::for_test()? else { return Ok(None) };
        install(&machine, told)?;
        machine.add_user(SENDER, "secret", b"")?;
        let users = WAYS.iter().map(|way| add_user(&machine, way)).collect::<Result<Vec<_>>>()?;
        // Before Dovecot, if at all: an agent that comes later waits for sessions that may have decided without it.
        agent(&machine)?;
        let dovecot = machine.start_dovecot()?;
        let postfix = machine.daemon("/usr/sbin/postfix", ["start-fg"])?;
        let listen = format!("127.0.0.1.{EXIM_PORT}");
        let exim = machine.daemon(EXIM, ["-bdf", "-q2s", "-oX", &listen])?;
        for (port, daemon) in [(POSTFIX_PORT, &postfix), (EXIM_PORT, &exim)] {
            let connect = || machine.connect(port).ok();
            eventually(format!("a server on port {port}"), || daemon.log.tail(), connect)?;
        }
        eventually(
            "Dovecot's LMTP",
            || dovecot.log.tail(),
            || machine.inside(|| UnixStream::connect(LMTP).ok()).ok().flatten(),
        )?;
        Ok(Some(Self { machine, users, postfix, _exim: exim, _dovecot: dovecot }))
    }

    /// A user by name.
    ///
    /// # Errors
    /// If no way has this name.
    pub fn user(&self, name: &str) -> Result<&User> {
        let found = self.users.iter().find(|user| user.name == name);
        found.ok_or_else(|| LabError::Setup(format!("no user is called {name}")))
    }

    /// What both servers still hold.
    fn queues(&self) -> Result<String> {
        let postfix = self.machine.run("/usr/bin/mailq", [] as [&str; 0])?;
        let exim = self.machine.run(EXIM, ["-bp"])?;
        let is_empty = postfix.trim() == "Mail queue is empty" && exim.trim().is_empty();
        Ok(if is_empty { String::new() } else { format!("{postfix}{exim}") })
    }

    /// Has everything tried again until both queues are empty.
    ///
    /// # Errors
    /// What is still there after `patience`.
    pub fn flush(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = self.queues()?;
            if left.is_empty() {
                return Ok(());
            }
            if start.elapsed() > patience {
                let got = format!("{left}\n{}\n{}", self.postfix.log.tail(), self.exim_log()?);
                return Err(LabError::Protocol { asked: "empty queues".into(), got });
            }
            self.machine.run("/usr/sbin/postqueue", ["-f"])?;
            self.machine.run(EXIM, ["-qff"])?;
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn exim_log(&self) -> Result<String> {
        let log = self.machine.run("sh", ["-c", &format!("cat {EXIM_LOG}/*log 2>/dev/null; true")])?;
        let lines: Vec<_> = log.lines().collect();
        Ok(lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    /// That nothing was ever bounced: no server says so, and nothing came back to the sender.
    ///
    /// # Errors
    /// What was.
    pub fn nothing_bounced(&self) -> Result<()> {
        let bounced = |line: &&str| line.contains("status=bounced") || line.contains("status=expired");
        let lines = self.postfix.log.lines();
        let mut found: Vec<String> =
            lines.iter().map(|line| line.text.as_str()).filter(bounced).map(str::to_owned).collect();
        let exim = self.machine.run("sh", ["-c", &format!("cat {EXIM_LOG}/*log")])?;
        let refused =
            |line: &&str| line.contains(" ** ") || line.contains("frozen") || line.contains("panic");
        found.extend(exim.lines().filter(refused).map(str::to_owned));
        let back = self.machine.read(&format!("/var/mail/{SENDER}"))?;
        if !back.is_empty() {
            found.push(String::from_utf8_lossy(&back).into_owned());
        }
        if found.is_empty() {
            return Ok(());
        }
        Err(LabError::Protocol { asked: "nothing to be bounced".into(), got: found.join("\n") })
    }
}

/// Configures all of it.
///
/// # Errors
/// If a file cannot be written.
pub fn install(machine: &Machine, told: Told) -> Result<()> {
    machine.install_site(Site::Small)?;
    machine.install_mailready(Site::Small)?;
    let write = |path: &str, text: &str| machine.write(path, text.as_bytes(), ROOT, 0o644);

    // The LMTP socket is there in any case; what makes the difference is the map.
    write("/etc/dovecot/conf.d/98-mailready-deliver.conf", &shipped("dovecot/98-mailready-deliver.conf")?)?;
    let main = String::from_utf8_lossy(&machine.read("/etc/dovecot/dovecot.conf")?).into_owned();
    let mut main = format!("{main}\n!include conf.d/98-mailready-deliver.conf\n");
    if told == Told::Yes {
        // As the package's tmpfiles have it: Dovecot's auth process, which is not root, reads the map there.
        machine.run("chmod", ["711", "/var/lib/mailready"])?;
        write("/etc/dovecot/conf.d/userdb-mailready.conf.ext", &shipped("dovecot/userdb.conf.ext")?)?;
        let plain = "userdb {\n  driver = passwd\n}\n";
        assert!(main.contains(plain), "the small site has one user database");
        main = main.replace(plain, "!include conf.d/userdb-mailready.conf.ext\n");
        write("/etc/procmailrc", &shipped("procmail/procmailrc")?)?;
        write("/etc/maildroprc", &shipped("maildrop/maildroprc")?)?;
    }
    write("/etc/dovecot/dovecot.conf", &main)?;

    write("/etc/postfix/main.cf", &main_cf(machine)?)?;
    // No chroot of its own within a machine of its own.
    let unchroot = r"s/^([a-z]+ +(unix|inet|unix-dgram|fifo) +[-a-z]+ +[-a-z]+ +)[y-]( .*)$/\1n\3/";
    machine.run("sed", ["-i", "-E", unchroot, "/etc/postfix/master.cf"])?;
    let log = "grep -q ^postlog /etc/postfix/master.cf || \
               echo 'postlog unix-dgram n - n - 1 postlogd' >> /etc/postfix/master.cf";
    machine.run("sh", ["-c", log])?;

    let (router, transport) = match told {
        Told::Yes => (shipped("exim/router.conf")?, shipped("exim/transport.conf")?),
        Told::No => (String::new(), String::new()),
    };
    let folders = format!(
        "mkdir -p /etc/exim4 {EXIM_LOG} /var/spool/exim4; chown Debian-exim: {EXIM_LOG} /var/spool/exim4"
    );
    machine.run("sh", ["-c", &folders])?;
    write("/etc/exim4/exim4.conf", &[EXIM_HEAD, &router, EXIM_SPOOL, &transport, EXIM_TAIL].concat())
}

/// Each user's way, by what the shipped files say.
fn main_cf(machine: &Machine) -> Result<String> {
    let (mut commands, mut transports) = (String::new(), String::new());
    for way in &WAYS {
        let Some(snippet) = way.snippet else { continue };
        let command = snippets::postfix(snippet, "mailbox_command")?;
        let transport = snippets::postfix(snippet, "mailbox_transport")?;
        match (command.as_str(), transport.as_str()) {
            ("", "") => return Err(LabError::Setup(format!("{snippet}.cf says nothing"))),
            ("", _) => transports.push_str(&format!("{} {transport}\n", way.name)),
            _ => commands.push_str(&format!("{} {command}\n", way.name)),
        }
    }
    machine.write("/etc/postfix/commands", commands.as_bytes(), ROOT, 0o644)?;
    machine.write("/etc/postfix/transports", transports.as_bytes(), ROOT, 0o644)?;
    let maps = "mailbox_command_maps = texthash:/etc/postfix/commands\n\
                mailbox_transport_maps = texthash:/etc/postfix/transports\n";
    Ok([MAIN_CF, &shipped("postfix/spool.cf")?, maps].concat())
}

fn add_user(machine: &Machine, way: &Way) -> Result<User> {
    let user = machine.add_user(way.name, "secret", b"")?;
    let home = user.home();
    machine.run("install", ["-d", "-o", way.name, "-g", way.name, "-m", "700", &format!("{home}/mail")])?;
    machine.run("chmod", ["700", &home])?;
    let first =
        "From eve@example.org  Tue Feb  3 04:05:06 2009\nFrom: eve@example.org\nSubject: first\n\nfirst\n\n";
    let owner = (user.uid, user.gid);
    machine.write(&format!("{home}/{FOLDER}"), first.as_bytes(), owner, 0o600)?;
    machine.write(&user.spool(), first.as_bytes(), (user.uid, MAIL_GID), 0o660)?;
    if let Some((name, content)) = way.dotfile {
        machine.write(&format!("{home}/{name}"), content.as_bytes(), owner, 0o600)?;
    }
    Ok(user)
}
