//! FreeRADIUS as `hooks/radius/README` has it configured.

use std::time::Instant;

use mailready_tests::lab::{Daemon, Result, eventually};

use crate::rig::{Rig, SECRET, count, start};

/// What stands around the README's parts: a server that keeps to itself.
const RADIUSD: &str = r#"
prefix = /usr
libdir = /usr/lib/freeradius
name = lab
confdir = /run/rad
raddbdir = /run/rad
run_dir = /run/rad
db_dir = /run/rad
logdir = /run/rad
radacctdir = /run/rad
pidfile = /run/rad/pid
max_request_time = 30
log { destination = files
 file = /run/rad/log }
security { user = freerad
 group = freerad
 allow_core_dumps = no }
proxy_requests = yes
proxy server { default_fallback = no }
client localhost { ipaddr = 127.0.0.1
 secret = testing123
 require_message_authenticator = no }
thread pool { start_servers = 1
 max_servers = 4
 min_spare_servers = 1
 max_spare_servers = 2 }
PROXY
modules {
 always ok { rcode = ok }
 always noop { rcode = noop }
 replicate { }
 pap { }
 files { filename = /run/rad/users }
 MODULES
}
server default {
 listen { type = auth
  ipaddr = 127.0.0.1
  port = 18120 }
 listen { type = acct
  ipaddr = 127.0.0.1
  port = 18130 }
 authorize {
  files
  pap
 }
 authenticate {
  Auth-Type PAP {
   pap
  }
 }
 accounting {
  ok
  ACCOUNTING
 }
 post-auth {
  POSTAUTH
 }
}
SERVERS
"#;

/// The parts of the README, in its order.
struct Page(Vec<String>);

impl Page {
    fn read() -> Self {
        let path = mailready_tests::lab::tests_folder().join("../hooks/radius/README");
        let text = std::fs::read_to_string(path).unwrap();
        let mut parts = vec![String::new()];
        for line in text.lines() {
            match line.strip_prefix("    ") {
                Some(code) => *parts.last_mut().unwrap() += &format!("{code}\n"),
                None if line.is_empty() => *parts.last_mut().unwrap() += "\n",
                None => parts.push(String::new()),
            }
        }
        Self(parts.into_iter().filter(|part| !part.trim().is_empty()).collect())
    }

    fn part(&self, begin: &str, within: &str) -> String {
        let fits = |part: &&String| part.trim_start().starts_with(begin) && part.contains(within);
        self.0
            .iter()
            .find(fits)
            .unwrap_or_else(|| panic!("no part {begin} ... {within}"))
            .replace("SECRET", SECRET)
    }
}

struct Parts<'a> {
    proxy: &'a str,
    modules: &'a str,
    accounting: &'a str,
    postauth: &'a str,
    servers: &'a str,
}

fn start_server(rig: &Rig, parts: &Parts<'_>) -> Result<Daemon> {
    let machine = &rig.machine;
    machine.run("mkdir", ["-p", "/run/rad"])?;
    let config = RADIUSD
        .replace("PROXY", parts.proxy)
        .replace("MODULES", parts.modules)
        .replace("ACCOUNTING", parts.accounting)
        .replace("POSTAUTH", parts.postauth)
        .replace("SERVERS", parts.servers);
    machine.write("/run/rad/radiusd.conf", config.as_bytes(), (0, 0), 0o644)?;
    machine.write("/run/rad/users", b"ann Cleartext-Password := \"annpw\"\n", (0, 0), 0o644)?;
    machine.run("cp", ["/etc/freeradius/3.0/dictionary", "/run/rad/dictionary"])?;
    machine.run("usermod", ["--append", "--groups", "mailready", "freerad"])?;
    machine.run("chown", ["-R", "freerad:freerad", "/run/rad"])?;
    machine.run("chmod", ["-R", "o-rwx", "/run/rad"])?;
    let server = machine.daemon("freeradius", ["-f", "-l", "stdout", "-d", "/run/rad", "-n", "radiusd"])?;
    server.log.wait("FreeRADIUS is ready", |line| line.contains("Ready to process requests"))?;
    Ok(server)
}

#[test]
fn the_exec_module_announces_by_accounting_and_after_authentication() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let page = Page::read();
    let module = page.part("exec mailready", "mailready-notify");
    let accounting = page.part("if (&Acct-Status-Type == Start)", "mailready");
    let parts =
        Parts { proxy: "", modules: &module, accounting: &accounting, postauth: "mailready", servers: "" };
    let server = start_server(&rig, &parts)?;
    let sent = Instant::now();
    let strange = "o'brien $(touch /tmp/harm) `touch /tmp/harm`";
    assert!(rig.send("127.0.0.1:18130", SECRET, 3, &start(strange, "s0"))?, "{}", server.log.tail());
    rig.agent.log.wait("the agent hears of it, as one name", |line| line.contains("o\\\\'brien $(touch"))?;
    assert!(!rig.machine.exists("/tmp/harm")?);
    assert!(rig.send("127.0.0.1:18130", SECRET, 3, &start("ann", "s1"))?, "{}", server.log.tail());
    rig.wait_queued("ann")?;
    println!("FreeRADIUS' exec to the agent's queue, two packets: {} ms", sent.elapsed().as_millis());
    rig.wait_converted()?;
    // Authentication: nobody is announced whose password is wrong, and no password is seen by anybody.
    let heard = rig.heard("ann");
    let words = ["-x", "-t", "2", "-r", "3", "127.0.0.1:18120", "auth", SECRET];
    let asked = |password: &str| {
        let attributes = format!("User-Name = \"ann\"\nUser-Password = \"{password}\"\n");
        rig.machine.output("radclient", words, attributes.as_bytes())
    };
    let said = asked("wrong-8c1f")?;
    assert!(String::from_utf8_lossy(&said.stdout).contains("Access-Reject"), "{said:?}");
    let said = asked("annpw")?;
    assert!(String::from_utf8_lossy(&said.stdout).contains("Access-Accept"), "{said:?}");
    eventually(
        "the agent hears of ann again",
        || rig.agent.log.tail(),
        || (rig.heard("ann") == heard + 1).then_some(()),
    )?;
    assert!(!rig.agent.log.lines().iter().any(|line| line.text.contains("annpw")));
    Ok(())
}

#[test]
fn a_replicated_start_arrives_from_another_server() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let listener = rig.start_listener()?;
    let page = Page::read();
    let proxy = page.part("home_server mailready", "realm").replace("MAILSERVER", "127.0.0.1");
    let accounting = page.part("if (&Acct-Status-Type == Start)", "replicate");
    let parts = Parts { proxy: &proxy, modules: "", accounting: &accounting, postauth: "ok", servers: "" };
    let server = start_server(&rig, &parts)?;
    let sent = Instant::now();
    assert!(rig.send("127.0.0.1:18130", SECRET, 3, &start("ann", "s1"))?, "{}", server.log.tail());
    rig.wait_queued("ann")?;
    println!("replicated start to the agent's queue: {} ms", sent.elapsed().as_millis());
    rig.wait_converted()?;
    assert_eq!(count(&rig.counts(&listener)?, "forged"), 0);
    Ok(())
}

#[test]
fn the_detail_reader_brings_an_arrival_that_came_while_the_agent_was_down() -> Result<()> {
    let Some(mut rig) = Rig::new()? else { return Ok(()) };
    let listener = rig.start_listener()?;
    let page = Page::read();
    let proxy = page.part("home_server mailready", "realm").replace("MAILSERVER", "127.0.0.1");
    let module = page.part("detail mailready", "permissions");
    let accounting = page.part("if (&Acct-Status-Type == Start)", "mailready");
    let reader = page.part("server mailready", "listen");
    let parts =
        Parts { proxy: &proxy, modules: &module, accounting: &accounting, postauth: "ok", servers: &reader };
    let server = start_server(&rig, &parts)?;
    rig.agent.terminate()?;
    assert!(rig.send("127.0.0.1:18130", SECRET, 3, &start("ann", "s1"))?, "{}", server.log.tail());
    eventually(
        "a packet was left without an answer",
        || format!("{}{}", server.log.tail(), listener.log.tail()),
        || (count(&rig.counts(&listener).ok()?, "not_taken") > 0).then_some(()),
    )?;
    rig.restart_agent()?;
    // FreeRADIUS takes its time before it asks a server again that did not answer: longer than the lab waits for anything else.
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 120 && rig.heard("ann") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    rig.wait_queued("ann")?;
    println!("after the agent was back: {} s", begun.elapsed().as_secs());
    rig.wait_converted()?;
    Ok(())
}
