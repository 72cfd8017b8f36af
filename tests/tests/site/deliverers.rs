//! Postfix, Exim, procmail and maildrop, asked by their own tools.

use mailready_tests::lab::{Result, tests_folder};

use super::bench::{ALL, Bench, EXIM, Wrong};

#[test]
fn postfix_that_delivers_elsewhere() -> Result<()> {
    let Some(bench) = Bench::start(r#"["postfix"]"#)? else { return Ok(()) };
    // What mends it is what the text says, to the letter.
    for (name, value, words, mend) in [
        ("home_mailbox", "Maildir/", "write Maildirs (%h/Maildir/)", "postconf -e home_mailbox="),
        (
            "home_mailbox",
            "mbox",
            "deliver to %h/mbox",
            "postconf -e home_mailbox= mail_spool_directory=/var/mail",
        ),
        (
            "mail_spool_directory",
            "/srv/mail",
            "deliver to /srv/mail/%u",
            "postconf -e home_mailbox= mail_spool_directory=/var/mail",
        ),
        (
            "mail_spool_directory",
            "/var/mail/",
            "write Maildirs",
            "postconf -e mail_spool_directory=/var/mail",
        ),
        ("mailbox_command", "/usr/bin/other", "none of the deliverers", "postconf -e mailbox_command="),
        ("mailbox_transport", "cyrus:x", "none of the deliverers", "postconf -e mailbox_transport="),
        (
            "mailbox_transport_maps",
            "hash:/etc/postfix/t",
            "that are not named",
            "postconf -e mailbox_transport_maps=",
        ),
        (
            "mailbox_command_maps",
            "hash:/etc/postfix/c",
            "that are not named",
            "postconf -e mailbox_command_maps=",
        ),
        (
            "local_transport",
            "cyrus:x",
            "none of the deliverers",
            "postconf -e local_transport='local:$myhostname'",
        ),
        (
            "mailbox_delivery_lock",
            "flock",
            "no lock of mail.locks",
            "postconf -e 'mailbox_delivery_lock = dotlock, fcntl'",
        ),
        ("mailbox_size_limit", "1000", "delivers nothing then", "postconf -e mailbox_size_limit=0"),
    ] {
        let what = format!("{name} = {value}");
        bench.machine.run("postconf", ["-e", &what])?;
        bench.is_red(&what, &[words, mend])?;
        bench.run(mend)?;
        bench.is_green(&what)?;
    }
    // A program that it hands all mail to counts, though nobody has named it.
    bench.machine.run("postconf", ["-e", "mailbox_command=/usr/bin/procmail"])?;
    bench.is_green("procmail, untold")?;
    bench.machine.write("/etc/procmailrc", b"DEFAULT=$HOME/Maildir/\n", (0, 0), 0o644)?;
    bench.is_red("procmail, told wrongly", &["/etc/procmailrc", "packaging/procmail"])?;
    bench.run("rm /etc/procmailrc")?;
    bench.machine.run("postconf", ["-e", "mailbox_command=/usr/lib/dovecot/dovecot-lda -f $SENDER"])?;
    bench.is_red("an LDA that asks nobody", &["no -d", "packaging/postfix/dovecot-lda.cf"])
}

#[test]
fn exim_procmail_and_maildrop_that_deliver_elsewhere() -> Result<()> {
    let Some(bench) = Bench::start(ALL)? else { return Ok(()) };
    let wrong = |from, to, words| Wrong { file: EXIM, from, to, words };
    let file = "file = /var/mail/$local_part_data";
    bench.go_through(&[
        wrong(file, "file = /srv/mail/$local_part_data", &["Exim", "/srv/mail/%u", "file = /var/mail/$local_part_data"]),
        wrong(file, "maildir_format\n directory = $home/Maildir", &["writes Maildirs", "packaging/exim"]),
        wrong(file, "file = /var/mail/$local_part_data\n use_lockfile = false\n use_fcntl_lock = false\n use_flock_lock", &["none of the locks"]),
        wrong("check_local_user", "local_parts = x", &["no router with check_local_user"]),
        wrong("begin routers", "begin routes", &["settings are not known"]),
    ])?;
    bench.machine.write("/etc/maildroprc", b"", (0, 0), 0o644)?;
    bench.machine.write("/etc/procmailrc", b"", (0, 0), 0o644)?;
    for (rules, name) in [("/etc/procmailrc", "procmail"), ("/etc/maildroprc", "maildrop")] {
        for (text, words) in [
            ("DEFAULT=$HOME/Maildir/", "deliver to %h/Maildir/"),
            ("DEFAULT=\"/srv/mail/$LOGNAME\"", "deliver to /srv/mail/%u"),
            ("# x\n* ? test -f $HOME/Mail/mailready-marker", "marker that is not at"),
        ] {
            bench.machine.write(rules, format!("{text}\n").as_bytes(), (0, 0), 0o644)?;
            bench.is_red(text, &[words, rules, &format!("packaging/{name}")])?;
            bench.machine.write(rules, b"", (0, 0), 0o644)?;
            bench.is_green(text)?;
        }
        // What this package ships for it.
        let shipped = tests_folder().join(format!("../packaging/{name}/{name}rc"));
        if let Ok(shipped) = std::fs::read(shipped) {
            bench.machine.write(rules, &shipped, (0, 0), 0o644)?;
            bench.is_green("as shipped")?;
        }
    }
    Ok(())
}
