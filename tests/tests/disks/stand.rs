//! A machine without servers, with disks of its own.

use mailready_tests::lab::{Daemon, LabError, Machine, Result, Site, User};

/// Nobody is converted by arriving, and no commit waits for sessions: there are none. `reserve` as in `keep.reserve`.
pub fn config(reserve: &str) -> String {
    format!(
        "[users]\nconvert = \"none\"\n[agent]\nbus = \"none\"\n[site]\nreaders = []\ndeliverers = []\n\
         [sessions]\nprobe = \"none\"\n[keep]\nreserve = \"{reserve}\"\n"
    )
}

/// A machine with mailready, and Dovecot installed for proofs.
pub fn machine() -> Result<Option<Machine>> {
    let Some(machine) = Machine::for_test()? else { return Ok(None) };
    machine.install_site(Site::Small)?;
    machine.install_mailready(Site::Small)?;
    Ok(Some(machine))
}

/// An mbox of so many messages, of so many bytes each and a little.
pub fn mbox(messages: usize, bytes: usize) -> Vec<u8> {
    let line = "A line that stands for all that people write to one another.\n";
    let text = line.repeat(bytes.div_ceil(line.len()));
    let message = |number| {
        format!(
            "From eve@example.org  Tue Feb  3 04:05:06 2009\nFrom: eve@example.org\nSubject: {number}\n\
             Message-ID: <{number}@example.org>\n\n{text}\n"
        )
    };
    (0..messages).map(message).collect::<String>().into_bytes()
}

/// Answer and text of `convert`.
pub fn convert(machine: &Machine, user: &User) -> Result<(String, String)> {
    let output = machine.output("/usr/bin/mailready", ["convert", "--json", &user.name], b"")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let json: serde_json::Value = serde_json::from_str(said.trim()).unwrap_or(serde_json::Value::Null);
    let text = |key: &str| json["users"][0][key].as_str().map(str::to_owned);
    match (text("answer"), text("text")) {
        (Some(answer), Some(text)) => Ok((answer, text)),
        _ => Err(LabError::Protocol { asked: "convert".into(), got: said }),
    }
}

/// Converts, and has Dovecot prove it.
pub fn convert_and_verify(machine: &Machine, user: &User, agent: &Daemon) -> Result<()> {
    let (answer, text) = convert(machine, user)?;
    assert_eq!(answer, "converted", "{text}\n{}", agent.log.tail());
    let said = machine.run("/usr/bin/mailready", ["verify", "--json", &user.name])?;
    assert!(said.contains("\"verified\""), "{said}\n{}", agent.log.tail());
    Ok(())
}

/// Nothing of an attempt is left: the mbox as it was, work folder, archive and records empty.
pub fn check_untouched(machine: &Machine, user: &User, mbox: &[u8], agent: &Daemon) -> Result<()> {
    assert!(machine.read(&user.spool())? == mbox, "the mbox is byte for byte what it was");
    let script = format!(
        "for folder in {}/.mailready /var/mail/.mailready /var/lib/mailready/runs; do \
         if [ -d $folder ]; then find $folder -mindepth 1; fi; done; ls -d {0}/Maildir {}.lock 2>/dev/null || true",
        user.home(),
        user.spool()
    );
    let left = machine.run("sh", ["-c", &script])?;
    assert!(left.is_empty(), "left of the attempt: {left}\n{}", agent.log.tail());
    Ok(())
}
