//! The first commit on a site proves it, or stops it.

use mailready_tests::lab::{Dump, Result, mail};

use super::bench::{Bench, DATA, LOCAL, SCRIPT};

const POSTFIX: &str = r#"["postfix"]"#;
const STATE: &str = "/var/lib/mailready/site";

/// Takes a message out of every stage that it is to read.
const LOSES: &str = "#!/bin/sh\ncase \"$*\" in\n*maildir:*proof-*fetch*)\n  set -- \"$@\"\n\
    for stage in /home/*/.mailready/proof-*/stage; do\n    for file in \"$stage\"/cur/* \"$stage\"/new/*; do [ -f \"$file\" ] && rm \"$file\" && break; done\n  done;;\n\
    esac\nexec /usr/bin/doveadm \"$@\"\n";

#[test]
fn a_dovecot_that_reads_the_stage_otherwise_stops_the_site() -> Result<()> {
    let Some(mut bench) = Bench::start(POSTFIX)? else { return Ok(()) };
    let cy = bench.machine.add_user("cy", "correct-horse", &mail::mbox(9, 4))?;
    // Nobody has opened it yet, so no index remembers anything else. All headers make a message's identity on the mbox, where a Maildir has kept that of a few.
    let right = bench.machine.read(LOCAL)?;
    bench.edit(LOCAL, "", "mbox_md5 = all")?;
    let (code, said) = bench.convert("cy")?;
    assert_eq!(code, DATA, "{said}\n{}", bench.agent.log.tail());
    assert!(said.contains("GUID") && said.contains("rm /var/lib/mailready/site"), "{said}");
    // Everybody is stopped, now and after a restart.
    for again in ["now", "after a restart"] {
        let (code, said) = bench.convert("ann")?;
        assert!(code == DATA && said.contains("before the first commit, of cy"), "{again}: {said}");
        assert!(bench.explain("ann")?.contains("reason   site-stopped"), "{again}");
        bench.restart_agent(POSTFIX)?;
    }
    for user in ["ann", "cy"] {
        assert!(!bench.machine.exists(&format!("/home/{user}/Maildir"))?);
    }
    let left = bench.run("ls -A /home/cy/.mailready /var/mail/.mailready /var/lib/mailready/runs")?;
    assert!(!left.contains("proof-") && !left.contains("stage-") && !left.contains("Z-"), "{left}");
    // What was wrong is changed back: that is another site.
    bench.restore(LOCAL, &right)?;
    let (code, said) = bench.convert("cy")?;
    assert_eq!(code, 0, "{said}\n{}", bench.agent.log.tail());
    assert!(bench.run(&format!("cat {STATE}"))?.contains("[proven]"));
    assert_eq!(Dump::take(&bench.machine, &cy)?.inbox()?.messages.len(), 4);
    Ok(())
}

#[test]
fn a_broken_stage_stops_the_site_until_an_operator_says_otherwise() -> Result<()> {
    let Some(bench) = Bench::start(POSTFIX)? else { return Ok(()) };
    bench.machine.write("/usr/local/bin/doveadm", LOSES.as_bytes(), (0, 0), 0o755)?;
    let (code, said) = bench.convert("ann")?;
    assert!(code == DATA && said.contains("is not in the Maildir"), "{said}\n{}", bench.agent.log.tail());
    assert!(!bench.machine.exists("/home/ann/Maildir")?);
    bench.run("rm /usr/local/bin/doveadm")?;
    // No setting has changed, so it stays stopped.
    let (code, said) = bench.convert("ann")?;
    assert!(code == DATA && said.contains("before the first commit"), "{said}");
    bench.run(&format!("rm {STATE}"))?;
    bench.reload_and_wait("would follow")?;
    let (code, said) = bench.convert("ann")?;
    assert_eq!(code, 0, "{said}\n{}", bench.agent.log.tail());
    Ok(())
}

/// Right for everybody but the one who is converted: only the probe after the commit can see that.
#[test]
fn a_script_that_does_not_follow_the_first_commit_stops_the_site() -> Result<()> {
    let Some(mut bench) = Bench::start(POSTFIX)? else { return Ok(()) };
    bench.machine.add_user("cy", "correct-horse", &mail::mbox(9, 4))?;
    bench.edit(
        SCRIPT,
        "\non_maildir() {",
        "\n[ \"$USER\" != ann ] || maildir=/nonexistent\non_maildir() {",
    )?;
    let (code, said) = bench.convert("ann")?;
    assert_eq!(code, 0, "the mail is there: {said}\n{}", bench.agent.log.tail());
    assert!(bench.is_on_maildir("ann")?);
    for again in ["now", "after a restart"] {
        let (code, said) = bench.convert("cy")?;
        assert!(code == DATA && said.contains("after the first commit: ann"), "{again}: {said}");
        // Known after a restart, too, as soon as the site was looked at, which this conversion has waited for.
        let page = bench.explain("ann")?;
        assert!(page.contains("/home/ann/Maildir") && page.contains("site-stopped"), "{again}: {page}");
        assert!(!bench.machine.exists("/home/cy/Maildir")?);
        bench.restart_agent(POSTFIX)?;
    }
    assert!(bench.is_on_maildir("ann")?, "she stays where the mail is");
    bench.edit(SCRIPT, "[ \"$USER\" != ann ] || maildir=/nonexistent\n", "")?;
    let (code, said) = bench.convert("cy")?;
    assert_eq!(code, 0, "{said}\n{}", bench.agent.log.tail());
    assert!(bench.run(&format!("cat {STATE}"))?.contains("[proven]"));
    // Spoilt again: who is on Maildir already tells it before anybody else is committed.
    bench.machine.add_user("dee", "correct-horse", &mail::mbox(11, 3))?;
    bench.edit(
        SCRIPT,
        "\non_maildir() {",
        "\n[ \"$USER\" != cy ] || maildir=/nonexistent\non_maildir() {",
    )?;
    let (code, said) = bench.convert("dee")?;
    assert!(code == DATA && said.contains("cy"), "{said}");
    assert!(!bench.machine.exists("/home/dee/Maildir")?);
    Ok(())
}

#[test]
fn a_site_is_proven_once_and_several_at_once_wait_for_the_first() -> Result<()> {
    let Some(bench) = Bench::start(POSTFIX)? else { return Ok(()) };
    let names: Vec<String> = (0..4).map(|number| format!("u{number}")).collect();
    for name in &names {
        bench.machine.add_user(name, "correct-horse", &mail::mbox(9, 4))?;
    }
    let output = bench.machine.output("mailready", ["convert".to_owned()].iter().chain(&names), b"")?;
    assert!(output.status.success(), "{output:?}\n{}", bench.agent.log.tail());
    let lines = bench.agent.log.lines();
    let said = |words: &str| lines.iter().filter(|line| line.text.contains(words)).count();
    assert_eq!(said("step=proof_compare") + said("\"step\":\"proof_compare\""), 1, "one stage is read");
    assert_eq!(said("the site has followed a first commit"), 1);
    Ok(())
}
