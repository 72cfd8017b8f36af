//! The ways in which administrators have laid out their mail, and those that cannot be converted: nothing is done there.

use mailready_tests::differential::{Committed, Layout, Stand, Variation, example};
use mailready_tests::lab::{Differences, Look, Machine, Result, User};

/// The example on a site with another layout.
fn nothing_changes(variation: Variation) -> Result<()> {
    nothing_changes_after(variation, |_, _| Ok(()))
}

/// As [`nothing_changes`], after some preparation of the user's home.
fn nothing_changes_after(
    variation: Variation,
    prepare: impl FnOnce(&Stand, &User) -> Result<()>,
) -> Result<()> {
    let Some(mut stand) = Stand::before(variation)? else { return Ok(()) };
    let ann = stand.user("ann")?;
    prepare(&stand, &ann)?;
    example(&stand, &ann, true)?;
    let before = stand.look(&ann)?;
    assert_eq!(before.folders.len(), 6, "{}: the inbox and five folders", stand.variation.name);
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let faults = Committed::new(&stand, &ann, &before)?.faults(Look::AsClients)?;
    assert!(faults.is_empty(), "{}: {} faults:\n{}", stand.variation.name, faults.len(), faults.join("\n"));
    Ok(())
}

#[test]
fn as_debian_has_it() -> Result<()> {
    nothing_changes(Variation::debian())
}

#[test]
fn folders_as_folders() -> Result<()> {
    nothing_changes(Variation::fs())
}

#[test]
fn indexes_elsewhere() -> Result<()> {
    let location = "mail_location = mbox:~/mail:INBOX=/var/mail/%u:INDEX=~/.index\n";
    nothing_changes(Variation::with_dovecot("INDEX=", location))
}

#[test]
fn control_files_elsewhere() -> Result<()> {
    let location = "mail_location = mbox:~/mail:INBOX=/var/mail/%u:CONTROL=~/.control\n";
    nothing_changes(Variation::with_dovecot("CONTROL=", location))
}

/// In a home, mail lies among everything else. What is no mail is no folder of a Maildir, and is left where it is; an empty file
/// is mail if a client has subscribed to it.
#[test]
fn the_home_is_the_mbox_root() -> Result<()> {
    let Some(mut stand) = Stand::before(Variation::home())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    let folder =
        |path: &str| stand.machine.run("install", ["-d", "-o", "ann", "-g", "ann", "-m", "700", path]);
    folder("/home/maildirs/ann")?;
    example(&stand, &ann, true)?;
    let mut imap = stand.imap(&ann)?;
    imap.ok("SUBSCRIBE empty")?;
    imap.logout()?;
    for deep in ["src", "src/deep", "src/deep/er"] {
        folder(&format!("{}/{deep}", ann.home()))?;
    }
    let owner = (ann.uid, ann.gid);
    stand.machine.write(&format!("{}/notes.txt", ann.home()), b"no mail\n", owner, 0o644)?;
    stand.machine.write(&format!("{}/src/deep/main.c", ann.home()), b"int main;\n", owner, 0o644)?;
    stand.machine.write(&format!("{}/.hushlogin", ann.home()), b"", owner, 0o644)?;
    let before = stand.look(&ann)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let mut faults = Committed::new(&stand, &ann, &before)?.faults(Look::AsClients)?;
    let no_mail = ["LIST \"src", "LIST \".hushlogin\"", "LIST: lines: ", "messages in each folder: "];
    faults.retain(|fault| !no_mail.iter().any(|what| fault.contains(what)));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    for left in ["notes.txt", "src/deep/main.c", ".hushlogin"] {
        assert!(stand.machine.exists(&format!("{}/{left}", ann.home()))?, "{left} was left alone");
    }
    Ok(())
}

/// The folders were moved to a larger disk once, and a link was left.
fn linked_to(target: &'static str) -> Result<()> {
    nothing_changes_after(
        Variation { name: "the mbox root is a link", ..Variation::debian() },
        |stand, ann| {
            let path = target.replace('~', &ann.home());
            stand.machine.run("install", ["-d", "-o", "ann", "-g", "ann", "-m", "700", &path])?;
            stand.machine.run("ln", ["-s", &path, &format!("{}/mail", ann.home())])?;
            stand.machine.run("chown", ["-h", "ann:ann", &format!("{}/mail", ann.home())])?;
            Ok(())
        },
    )
}

#[test]
fn the_mbox_root_is_a_link() -> Result<()> {
    linked_to("~/disk2/mail")
}

#[test]
fn clients_see_a_prefix() -> Result<()> {
    nothing_changes(Variation::prefix())
}

#[test]
fn clients_see_another_separator() -> Result<()> {
    let separator = Variation {
        name: "another separator",
        dovecot: "namespace inbox {\n  prefix = INBOX.\n  separator = .\n}\n".into(),
        prefix: "INBOX.",
        separator: '.',
        ..Variation::debian()
    };
    nothing_changes(separator)
}

#[test]
fn pop3_identifiers_of_all_kinds() -> Result<()> {
    for format in ["%g", "%v.%u", "%08Xv%08Xu", "%u"] {
        nothing_changes(Variation::with_dovecot(
            "pop3_uidl_format",
            &format!("pop3_uidl_format = {format}\n"),
        ))?;
    }
    Ok(())
}

#[test]
fn pop3_identifiers_of_another_server() -> Result<()> {
    nothing_changes(Variation::with_dovecot("pop3_reuse_xuidl", "pop3_reuse_xuidl = yes\n"))
}

/// Such mail is not touched, the operator hears why, and everybody goes on reading it.
fn nothing_is_done(
    variation: Variation,
    reason: &str,
    prepare: impl FnOnce(&Stand, &User) -> Result<()>,
) -> Result<()> {
    let Some(mut stand) = Stand::before(variation)? else { return Ok(()) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, true)?;
    prepare(&stand, &ann)?;
    let before = stand.look(&ann)?;
    let listing = files(&stand, &ann)?;
    stand.bring_mailready()?;
    let output = stand.machine.output("/usr/bin/mailready", ["convert", "ann", "--wait"], b"")?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{}: converted", stand.variation.name);
    assert!(said.contains(reason), "{}: the reason is told, {reason:?}: {said}", stand.variation.name);
    assert!(!stand.is_converted(&ann)?, "{}: no Maildir", stand.variation.name);
    let now = files(&stand, &ann)?;
    assert_eq!(now, listing, "{}: nothing was changed", stand.variation.name);
    let found = Differences::between(&before, &stand.look(&ann)?);
    assert!(found.is_empty(), "{}: {found}", stand.variation.name);
    Ok(())
}

/// Names, kinds and contents of all mboxes.
fn files(stand: &Stand, user: &User) -> Result<String> {
    let script = "find \"$1\" \"$2\" -name '.imap' -prune -o -name .mailready -prune -o -printf '%y %p %l\\n' | sort; \
        find \"$1\" \"$2\" -name '.imap' -prune -o -name .mailready -prune -o -type f -exec sha256sum {} + | sort";
    stand.machine.run("sh", ["-c", script, "sh", &user.spool(), &stand.root(user)])
}

#[test]
fn a_name_that_the_layout_cannot_keep() -> Result<()> {
    nothing_is_done(Variation::debian(), "cannot be kept", |stand, ann| {
        let mbox = stand.mbox(ann, "v1.2");
        stand.machine.write(&mbox, &mailready_tests::lab::mail::mbox(3, 2), (ann.uid, ann.gid), 0o600)
    })
}

#[test]
fn a_folder_named_as_a_part_of_a_maildir() -> Result<()> {
    nothing_is_done(Variation::fs(), "cannot be kept", |stand, ann| {
        stand
            .machine
            .run("install", ["-d", "-o", "ann", "-g", "ann", &format!("{}/lists2", stand.root(ann))])?;
        let mbox = stand.mbox(ann, "lists2/cur");
        stand.machine.write(&mbox, &mailready_tests::lab::mail::mbox(3, 2), (ann.uid, ann.gid), 0o600)
    })
}

#[test]
fn a_link_inside_of_the_root() -> Result<()> {
    nothing_is_done(Variation::debian(), "link", |stand, ann| {
        let root = stand.root(ann);
        stand.machine.run("ln", ["-s", &format!("{root}/Sent"), &format!("{root}/linked")])?;
        Ok(())
    })
}

/// The configuration says so: the agent does not even start.
#[test]
fn the_same_root_for_both() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    let config = "[mail]\nmaildir = \"%h/mail\"\nfolders = \"%h/mail\"\n";
    machine.write("/tmp/mailready.toml", config.as_bytes(), (0, 0), 0o644)?;
    for program in ["/usr/bin/mailready", "/usr/sbin/mailready-agent"] {
        let arguments: &[&str] = match program {
            "/usr/bin/mailready" => &["check-config", "/tmp/mailready.toml"],
            _ => &["--config", "/tmp/mailready.toml"],
        };
        let output = machine.output(program, arguments, b"")?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{program}: {said}");
        assert!(said.contains("same place"), "{program}: {said}");
    }
    Ok(())
}

/// The user has made them the same, by a link.
#[test]
fn the_same_root_by_a_link() -> Result<()> {
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    let (maildir, root) = (stand.maildir(&ann), stand.root(&ann));
    stand.machine.run("install", ["-d", "-o", "ann", "-g", "ann", "-m", "700", &maildir])?;
    stand.machine.run("ln", ["-s", "Maildir", &root])?;
    example(&stand, &ann, true)?;
    let before = stand.look(&ann)?;
    stand.bring_mailready()?;
    let output = stand.machine.output("/usr/bin/mailready", ["convert", "ann", "--wait"], b"")?;
    assert!(!output.status.success() && !stand.is_converted(&ann)?, "{}", stand.agent_log());
    let found = Differences::between(&before, &stand.look(&ann)?);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

#[test]
fn identifiers_that_only_an_mbox_has() -> Result<()> {
    let only = Variation::with_dovecot("%m", "pop3_uidl_format = %m\n");
    nothing_is_done(only, "pop3_uidl_format", |_, _| Ok(()))
}

/// The layout is the site's, and both ways of keeping it are really used.
#[test]
fn both_layouts_are_what_they_are_called() -> Result<()> {
    for variation in [Variation::debian(), Variation::fs()] {
        let Some(mut stand) = Stand::before(variation)? else { return Ok(()) };
        let ann = stand.user("ann")?;
        example(&stand, &ann, true)?;
        stand.bring_mailready()?;
        stand.convert(&ann)?;
        let folder = match stand.variation.layout {
            Layout::MaildirPlusPlus => ".lists.debian/cur",
            Layout::Fs => "lists/debian/cur",
        };
        assert!(stand.machine.exists(&format!("{}/{folder}", stand.maildir(&ann)))?, "{folder}");
    }
    Ok(())
}
