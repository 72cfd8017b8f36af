//! The post-login script, changed by somebody.

use mailready_tests::lab::Result;

use super::bench::{Bench, SCRIPT, Wrong};

#[test]
fn a_script_that_leads_elsewhere_or_nowhere() -> Result<()> {
    let Some(bench) = Bench::start(r#"["postfix"]"#)? else { return Ok(()) };
    let wrong = |from, to, words| Wrong { file: SCRIPT, from, to, words };
    bench.go_through(&[
        wrong(
            "maildir=\"$HOME/Maildir\"",
            "maildir=\"$HOME/Mail\"",
            &["whose mail is a Maildir", "maildir:", "maildir, work and layout"],
        ),
        wrong("work=\"$HOME/.mailready\"", "work=\"$HOME/.elsewhere\"", &["taken back to the mbox"]),
        wrong("layout=maildir++", "layout=fs", &["LAYOUT=fs", "is right"]),
        wrong("[ -f \"$maildir/mailready-marker\" ]", "true", &["whose mail is an mbox"]),
        wrong("exec \"$@\"", "exit 0", &["without going on", "every login fails"]),
        wrong("exec \"$@\"", "fi", &["fails, and the login with it"]),
        wrong("USERDB_KEYS=\"$USERDB_KEYS mail\"", "true", &["USERDB_KEYS"]),
        wrong(
            "exec \"$@\"",
            "echo hello; exec \"$@\"",
            &["the client's connection", "hooks/dovecot/postlogin"],
        ),
    ])?;
    let content = bench.machine.read(SCRIPT)?;
    for (spoil, words, mend) in [
        (
            "chmod 700",
            ["cannot be run by users", "chmod 755 /etc/mailready/postlogin"],
            "chmod 755 /etc/mailready/postlogin",
        ),
        (
            "chmod 757",
            ["changed by others than root", "chown root:root"],
            "chmod 755 /etc/mailready/postlogin",
        ),
        (
            "chown nobody",
            ["changed by others than root", "chown root:root"],
            "chown root:root /etc/mailready/postlogin",
        ),
    ] {
        bench.run(&format!("{spoil} {SCRIPT}"))?;
        bench.is_red(spoil, &words)?;
        bench.run(mend)?;
        bench.is_green(spoil)?;
    }
    bench.run(&format!("rm {SCRIPT}"))?;
    bench.is_red("missing", &["is missing", "hooks/dovecot/postlogin"])?;
    bench.restore(SCRIPT, &content)?;
    bench.is_green("there again")
}
