//! logind's signals on a real system bus.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use mailready_tests::lab::{Daemon, Machine, Result, events, eventually, mail};
use zbus::connection::Builder;
use zbus::{Connection, OwnedObjectPath, interface};

const CONFIG: &str = r#"
[users]
convert = "all"
[agent]
bus = "unix:path=/run/dbus/system_bus_socket"
[arrival]
sources = ["logind"]
[site]
readers = []
[sessions]
budget = "5s"
probe = "none"
"#;

const BUS: &str = r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<auth>EXTERNAL</auth><policy context="default"><allow send_destination="*"/><allow own="*"/><allow receive_sender="*"/><allow user="*"/></policy></busconfig>"#;

/// logind as far as the agent asks it: who is there, and whose a session is.
struct Manager(Vec<(u32, String)>);

#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn list_users(&self) -> Vec<(u32, String, OwnedObjectPath)> {
        self.0.iter().map(|(uid, name)| (*uid, name.clone(), user_path(*uid))).collect()
    }
}

struct Session(u32);

#[interface(name = "org.freedesktop.login1.Session")]
impl Session {
    #[zbus(property)]
    fn user(&self) -> (u32, OwnedObjectPath) {
        (self.0, user_path(self.0))
    }
}

fn user_path(uid: u32) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("/org/freedesktop/login1/user/_{uid}")).unwrap()
}

const MANAGER: &str = "/org/freedesktop/login1";

struct Logind {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
}

impl Logind {
    /// `there`: who has logged in already; `session`: whose the session `c7` is.
    fn start(machine: &Machine, there: &[(u32, &str)], session: u32) -> Result<Self> {
        let socket = machine.inside(|| UnixStream::connect("/run/dbus/system_bus_socket"))?.unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let there = there.iter().map(|(uid, name)| (*uid, (*name).to_owned())).collect();
        let connection = runtime.block_on(async {
            Builder::unix_stream(socket)
                .serve_at(MANAGER, Manager(there))
                .serve_at("/org/freedesktop/login1/session/c7", Session(session))
                .name("org.freedesktop.login1")
                .build()
                .await
                .unwrap()
        });
        Ok(Self { runtime, connection })
    }

    fn emit<B: serde::Serialize + zbus::zvariant::DynamicType>(&self, signal: &str, body: &B) {
        let interface = "org.freedesktop.login1.Manager";
        self.runtime
            .block_on(self.connection.emit_signal(None::<&str>, MANAGER, interface, signal, body))
            .unwrap();
    }
}

fn start_bus(machine: &Machine) -> Result<Daemon> {
    machine.run("mkdir", ["-p", "/run/dbus"])?;
    machine.write("/run/dbus/lab.conf", BUS.as_bytes(), (0, 0), 0o644)?;
    machine.run("rm", ["-f", "/run/dbus/system_bus_socket"])?;
    let words = ["--config-file=/run/dbus/lab.conf", "--nofork", "--nopidfile", "--nosyslog"];
    let bus = machine.daemon("dbus-daemon", words)?;
    let listens =
        || machine.inside(|| UnixStream::connect("/run/dbus/system_bus_socket").is_ok()).ok()?.then_some(());
    eventually("the bus listens", || bus.log.tail(), listens)?;
    Ok(bus)
}

fn wait_queued(agent: &Daemon, user: &str) -> Result<Instant> {
    let queued = || {
        let all = events(&agent.log);
        all.into_iter()
            .find(|event| event.get("message") == Some("queued") && event.get("user") == Some(user))
    };
    Ok(eventually(format!("{user} is queued"), || agent.log.tail(), queued)?.at)
}

fn heard(agent: &Daemon) -> usize {
    events(&agent.log).iter().filter(|event| event.get("message") == Some("queued")).count()
}

#[test]
fn logins_are_heard_of_and_those_that_the_agent_missed_are_asked_for() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    let users = ["ann", "bob", "cid", "dan"];
    let users = users.map(|name| machine.add_user(name, "secret", &mail::mbox(1, 3)));
    let [ann, bob, cid, dan] = users.map(|user| user.unwrap());
    // The agent comes first: a bus may be late.
    let agent = machine.start_agent(CONFIG)?;
    let bus = start_bus(&machine)?;
    let logind = Logind::start(&machine, &[(ann.uid, "ann"), (0, "root")], cid.uid)?;
    wait_queued(&agent, "ann")?;
    agent.log.wait("logind is heard", |line| line.contains("logind is heard"))?;

    let sent = Instant::now();
    logind.emit("UserNew", &(bob.uid, user_path(bob.uid)));
    let queued = wait_queued(&agent, "bob")?;
    println!("UserNew to the agent's queue: {} ms", queued.saturating_duration_since(sent).as_millis());
    // A further session of somebody who is there.
    let path = OwnedObjectPath::try_from("/org/freedesktop/login1/session/c7").unwrap();
    logind.emit("SessionNew", &("c7", path));
    wait_queued(&agent, "cid")?;
    // Daemons and people whom nobody knows.
    for uid in [0, 101, 54_321] {
        logind.emit("UserNew", &(uid, user_path(uid)));
    }

    // The bus restarts; who has come meanwhile is asked for.
    drop(logind);
    bus.kill()?;
    drop(bus);
    agent.log.wait("the bus is missed", |line| line.contains("logind is heard again when it is back"))?;
    let _bus = start_bus(&machine)?;
    let _logind = Logind::start(&machine, &[(dan.uid, "dan"), (ann.uid, "ann")], cid.uid)?;
    wait_queued(&agent, "dan")?;
    assert_eq!(heard(&agent), 4, "nobody else, and nobody twice: {}", agent.log.tail());
    Ok(())
}

#[test]
fn a_source_that_does_not_count_is_not_heard_and_a_forged_signal_neither() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    let ann = machine.add_user("ann", "secret", &mail::mbox(1, 3))?;
    let bob = machine.add_user("bob", "secret", &mail::mbox(1, 3))?;
    let _bus = start_bus(&machine)?;
    let agent = machine.start_agent(CONFIG)?;
    let logind = Logind::start(&machine, &[], ann.uid)?;
    agent.log.wait("logind is heard", |line| line.contains("logind is heard"))?;
    // Anybody on the bus can send a signal of this name and path.
    let socket = machine.inside(|| UnixStream::connect("/run/dbus/system_bus_socket"))?.unwrap();
    logind.runtime.block_on(async {
        let forger = Builder::unix_stream(socket).build().await.unwrap();
        let interface = "org.freedesktop.login1.Manager";
        let body = (bob.uid, user_path(bob.uid));
        forger.emit_signal(None::<&str>, MANAGER, interface, "UserNew", &body).await.unwrap();
    });
    logind.emit("UserNew", &(ann.uid, user_path(ann.uid)));
    wait_queued(&agent, "ann")?;
    assert_eq!(heard(&agent), 1, "{}", agent.log.tail());

    let without = CONFIG.replace("[\"logind\"]", "[\"pam\"]");
    machine.write("/etc/mailready/mailready.toml", without.as_bytes(), (0, 0), 0o644)?;
    agent.signal(nix::sys::signal::Signal::SIGHUP)?;
    agent.log.wait("the configuration is read again", |line| line.contains("configuration"))?;
    logind.emit("UserNew", &(bob.uid, user_path(bob.uid)));
    agent.log.wait("the signal is heard", |line| line.contains("\"arrival\"") && line.contains("bob"))?;
    assert_eq!(heard(&agent), 1, "heard, and not counted");
    Ok(())
}
