//! What `packaging` ships for deliverers: read from there, and accepted by each program. The other parts of this theme deliver by
//! the very same files.

use std::fs;

use mailready_tests::lab::{Doing, Machine, Result, tests_folder};

use super::post::{self, Told};

/// A shipped file.
///
/// # Errors
/// If it is not there.
pub fn shipped(name: &str) -> Result<String> {
    let tests = tests_folder();
    let path = tests.parent().unwrap_or(&tests).join("packaging").join(name);
    fs::read_to_string(&path).doing(|| format!("read {}", path.display()))
}

/// The value of a parameter in a shipped file for main.cf.
///
/// # Errors
/// As [`shipped`].
pub fn postfix(name: &str, parameter: &str) -> Result<String> {
    let text = shipped(&format!("postfix/{name}.cf"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(parameter)?.trim_start().strip_prefix('='));
    Ok(value.unwrap_or_default().trim().to_owned())
}

#[test]
fn each_program_takes_what_is_shipped_for_it() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    post::install(&machine, Told::Yes)?;

    for file in ["spool", "procmail", "maildrop", "dovecot-lda", "dovecot-lmtp"] {
        let main = [post::MAIN_CF, &shipped(&format!("postfix/{file}.cf"))?].concat();
        machine.write("/etc/postfix/main.cf", main.as_bytes(), (0, 0), 0o644)?;
        // It warns of parameters that nothing uses, and of values that cannot be.
        let output = machine.output("/usr/sbin/postconf", ["-n"], b"")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{file}: {said}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let parameters: Vec<_> = text.lines().filter_map(|line| line.split(" = ").next()).collect();
        assert!(parameters.iter().any(|name| name.starts_with("mailbox_")), "{file}: {text}");
        machine.run("/usr/sbin/postfix", ["check"])?;
    }

    let said = machine.run(post::EXIM, ["-bP", "router", "mailready"])?;
    assert!(said.contains("mailready_maildir") && said.contains("mailready-marker"), "{said}");
    let said = machine.run(post::EXIM, ["-bP", "transport", "mailready_maildir"])?;
    assert!(said.contains("no_create_directory"), "{said}");
    machine.run(post::EXIM, ["-bV"])?;

    let said = machine.run("doveconf", ["-n"])?;
    for line in ["/var/lib/mailready/userdb", "mbox_write_locks = fcntl", "mailready-lmtp"] {
        assert!(said.contains(line), "{line}: {said}");
    }

    // These two have no way to be asked; what they cannot read they tell, and deliver all the same.
    let ann = machine.add_user("ann", "secret", b"")?;
    for program in ["procmail", "maildrop"] {
        let args =
            ["--reuid", "ann", "--regid", "ann", "--init-groups", "env", "HOME=/home/ann", "LOGNAME=ann"];
        let args = args.into_iter().chain([program]);
        let output = machine.output("setpriv", args, b"Subject: a look\n\nbody\n")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{program}: {said}");
    }
    let spool = machine.read(&ann.spool())?;
    assert_eq!(
        String::from_utf8_lossy(&spool).matches("a look").count(),
        2,
        "without a marker both go there"
    );
    Ok(())
}
