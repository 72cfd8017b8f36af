//! Dovecot: does every session ask the script, is the mail where we think, does its delivery read the map?

use mailready_tests::lab::Result;

use super::bench::{ALL, Bench, LOCAL, SNIPPET, USERDB, Wrong};

const fn wrong(
    file: &'static str,
    from: &'static str,
    to: &'static str,
    words: &'static [&'static str],
) -> Wrong {
    Wrong { file, from, to, words }
}

#[test]
fn sessions_that_would_not_come_by_the_script_or_see_other_names() -> Result<()> {
    let Some(bench) = Bench::start(r#"["postfix"]"#)? else { return Ok(()) };
    bench.go_through(&[
        wrong(SNIPPET, "imap imap-postlogin", "imap", &["for imap", "packaging/dovecot"]),
        wrong(SNIPPET, "pop3 pop3-postlogin", "pop3", &["for pop3", "service pop3 {"]),
        wrong(SNIPPET, "script-login -d", "script-login", &["as root", "script-login -d"]),
        wrong(SNIPPET, "user = root", "user = dovecot", &["every login fails", "user = root"]),
        wrong(
            LOCAL,
            "",
            "service imap-postlogin {\n process_limit = 8\n}",
            &["at most 8", "process_limit ="],
        ),
        wrong(
            LOCAL,
            "",
            "service imap {\n service_count = 0\n}",
            &["service_count = 0", "service_count = 1"],
        ),
        wrong(LOCAL, "", "imap_hibernate_timeout = 30s", &["hibernates", "imap_hibernate_timeout = 0"]),
        wrong(SNIPPET, "separator = /", "", &["separator of namespace inbox", "separator = /"]),
        wrong(SNIPPET, "separator = /", "separator = /\n location = mbox:~/mail", &["location of its own"]),
        wrong(LOCAL, "", "pop3_uidl_format = %m", &["pop3_uidl_format = %m", "pop3_uidl_format = %g"]),
        wrong(
            LOCAL,
            "",
            "mbox_write_locks = flock",
            &["none of mail.locks", "mbox_write_locks = dotlock fcntl"],
        ),
        wrong(LOCAL, "", "no such line", &["cannot be read", "dovecot_config"]),
    ])
}

#[test]
fn mail_that_is_elsewhere_for_everybody_or_for_one_protocol() -> Result<()> {
    let Some(bench) = Bench::start(r#"["postfix", "dovecot-lda", "dovecot-lmtp"]"#)? else { return Ok(()) };
    bench.go_through(&[
        wrong(
            LOCAL,
            "",
            "mail_location =",
            &["autodetection", "mail_location = mbox:~/mail:INBOX=/var/mail/%u"],
        ),
        wrong(
            LOCAL,
            "",
            "mail_location = mbox:~/Mail:INBOX=/var/mail/%u",
            &["whose root is %h/Mail", "mail.folders"],
        ),
        wrong(
            LOCAL,
            "",
            "mail_location = mbox:~/mail:INBOX=/srv/mail/%u",
            &["whose INBOX is /srv/mail/%u", "mail.inbox"],
        ),
        wrong(LOCAL, "", "mail_location = maildir:~/Maildir", &["which is no mbox"]),
        wrong(LOCAL, "", "mail_location = mbox:~/mail:INBOX=/var/mail/%u:INDEX=MEMORY", &["INDEX=MEMORY"]),
        wrong(
            LOCAL,
            "",
            "protocol lda {\n mail_location = maildir:~/Maildir\n}",
            &["of its own for lda", "protocol lda"],
        ),
        wrong(LOCAL, "", "protocol lmtp {\n mail_location = maildir:~/Maildir\n}", &["of its own for lmtp"]),
        wrong(LOCAL, "", "protocol imap {\n mail_location = maildir:~/Maildir\n}", &["of its own for imap"]),
        wrong(LOCAL, "", "protocols = imap pop3", &["LMTP", "add lmtp to protocols"]),
    ])
}

#[test]
fn a_map_that_is_not_read_where_dovecot_delivers() -> Result<()> {
    let Some(bench) = Bench::start(ALL)? else { return Ok(()) };
    bench.go_through(&[
        wrong(
            USERDB,
            "mailready/userdb",
            "mailready/users",
            &["reads /var/lib/mailready/users", "packaging/dovecot"],
        ),
        wrong(USERDB, "username_format=%n", "username_format=%u@%d", &["as %u@%d", "username_format=%n"]),
        wrong(
            USERDB,
            "  result_success = continue-ok\n",
            "",
            &["before it comes to the map", "result_success = continue-ok"],
        ),
        wrong(
            USERDB,
            "userdb {\n  driver = passwd-file\n  args = username_format=%n /var/lib/mailready/userdb\n}\n",
            "",
            &["does not read the map", "userdb { driver = passwd-file"],
        ),
    ])?;
    bench.run("chmod 700 /var/lib/mailready")?;
    bench.reload_and_wait("is closed to Dovecot")?;
    bench.is_red("a closed folder", &["closed to Dovecot", "chmod o+x /var/lib/mailready"])?;
    bench.run("chmod o+x /var/lib/mailready")?;
    bench.reload_and_wait("would follow")?;
    bench.is_green("an open folder")
}

/// Its files say so and it was never told: what counts is what the running one answers.
#[test]
fn a_dovecot_that_was_not_reloaded() -> Result<()> {
    let Some(bench) = Bench::start(ALL)? else { return Ok(()) };
    let right = bench.machine.read(USERDB)?;
    bench.edit(
        USERDB,
        "userdb {\n  driver = passwd-file\n  args = username_format=%n /var/lib/mailready/userdb\n}\n",
        "",
    )?;
    bench.machine.stop_dovecot(&bench.dovecot)?;
    let dovecot = bench.machine.start_dovecot()?;
    bench.restore(USERDB, &right)?;
    bench.is_red("not reloaded", &["does not find mailready-probe", "then reload Dovecot"])?;
    bench.machine.stop_dovecot(&dovecot)?;
    let _dovecot = bench.machine.start_dovecot()?;
    bench.reload_and_wait("would follow")?;
    bench.is_green("started again")
}
