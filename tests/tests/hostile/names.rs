//! Names and mail made to break terminals, logs and parsers.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use mailready_tests::lab::{Result, User};

use crate::site::{CONFIG, Site, letter};

/// A terminal's title, a newline with a forged line of log behind it, the bell, DEL, C1, a right-to-left override, no UTF-8 at all.
const NASTY: [&[u8]; 6] = [
    b"\x1b]0;owned\x07",
    b"x\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    b"\x07\x08\r\x7f",
    b"\xc2\x9b31m",
    "a\u{202e}txt.exe".as_bytes(),
    b"\xff\xfe\x80",
];

/// Whether a text can be shown as it is: no control characters but the ends of lines, nothing that turns the direction.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !(c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)))
}

fn folder(site: &Site, user: &User, name: &[u8], content: &[u8]) -> Result<()> {
    let root = PathBuf::from(user.home()).join("mail");
    site.machine.inside(|| {
        let path = root.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        for each in [&root, &path] {
            chown(each, Some(user.uid), Some(user.gid)).unwrap();
        }
    })
}

#[test]
fn names_with_escapes_and_newlines_reach_no_terminal_and_no_log_raw() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let agent = site.start_with(CONFIG)?;
    for (number, name) in NASTY.iter().enumerate() {
        let user = site.user(&format!("ann{number}"))?;
        folder(&site, &user, name, letter("in a folder").as_bytes())?;
        // Has it block, too, with the name in the reason.
        folder(&site, &user, &[b"dots.", *name].concat(), letter("in another").as_bytes())?;
        for command in
            [&["convert"][..], &["convert", "--json"], &["status"], &["status", "--json"], &["explain"]]
        {
            let args: Vec<&str> = command.iter().copied().chain([user.name.as_str()]).collect();
            let (code, said) = site.mailready(&args)?;
            assert!(is_harmless(&said), "{name:?}: {args:?}: {code}: {said:?}");
            assert!(!said.contains("forged\"}\n"), "{said}");
        }
    }
    // Users who are not there, as anybody may name them.
    for name in ["\x1b[31m", "a\nb", "a\u{202e}b", "\u{9b}31m"] {
        let (code, said) = site.convert(name)?;
        assert_ne!(code, 0);
        assert!(is_harmless(&said), "{name:?}: {said:?}");
        let args = ["--source", "ppp", name];
        let output = site.machine.output("/usr/bin/mailready-notify", args, b"")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(is_harmless(&said), "{name:?}: {said:?}");
    }
    for line in agent.log.lines() {
        assert!(is_harmless(&line.text), "{:?}", line.text);
        assert!(!line.text.starts_with("{\"level\":\"ERROR\",\"message\":\"forged\""), "{:?}", line.text);
    }
    Ok(())
}

/// Mail that is nothing but trouble for a parser: it converts or it blocks, the worker does not die of it, and neither does the agent.
#[test]
fn mail_made_to_break_parsers_converts_or_blocks() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let agent = site.start_with(CONFIG)?;
    let head = "From a@b.example Thu Jan  1 10:00:00 2026\n";
    let nested = |count: usize| {
        let mut mail = format!("{head}Subject: nested\nMIME-Version: 1.0\n");
        for level in 0..count {
            mail += &format!("Content-Type: multipart/mixed; boundary=\"b{level}\"\n\n--b{level}\n");
        }
        mail + "\nx\n\n"
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("separators", format!("{head}\n").repeat(200_000).into_bytes()),
        ("header", format!("{head}X: {}\n\nx\n\n", "y".repeat(20_000_000)).into_bytes()),
        ("headers", format!("{head}{}\nx\n\n", "X-Y: z\n".repeat(500_000)).into_bytes()),
        ("nuls", [head.as_bytes(), &[0; 5_000_000], b"\n\n"].concat()),
        ("nested", nested(100_000).into_bytes()),
        ("line", [head.as_bytes(), b"\n", &b"\xff".repeat(10_000_000)[..]].concat()),
        (
            "numbers",
            format!(
                "{head}X-UID: {0}\nContent-Length: {0}\nStatus: {1}\nX-Keywords: {1}\n\nx\n\n",
                "9".repeat(100_000),
                "ORD".repeat(50_000)
            )
            .into_bytes(),
        ),
        (
            "base",
            format!(
                "{head}X-IMAPbase: {0} {0} {1}\n\nx\n\n",
                "4294967295".repeat(1000),
                "k ".repeat(100_000)
            )
            .into_bytes(),
        ),
        ("returns", format!("{head}{}", "\r".repeat(3_000_000)).into_bytes()),
        (
            "escapes",
            format!("{head}Subject: \u{1b}]0;owned\u{7}\nFrom: \u{1b}[2J\n\n\u{1b}c\n\n").into_bytes(),
        ),
    ];
    for (name, mbox) in cases {
        let user = site.machine.add_user(name, "x", &mbox)?;
        let before = site.look(&user.spool())?;
        let (code, said) = site.convert(name)?;
        assert!(is_harmless(&said), "{name}: {said:?}");
        if code == 0 {
            continue;
        }
        assert_eq!(code, 65, "{name}: it converts or it blocks: {said}\n{}", agent.log.tail());
        assert_eq!(site.look(&user.spool())?, before, "{name}");
    }
    assert!(agent.is_running());
    for line in agent.log.lines() {
        assert!(!line.text.contains("panic") && !line.text.contains("the worker died"), "{}", line.text);
        assert!(is_harmless(&line.text), "{:?}", line.text);
    }
    Ok(())
}

/// A tree that is too deep or too wide to be one of mail: the walk ends, and says so.
#[test]
fn a_tree_without_bounds_blocks_with_a_reason() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let agent = site.start_with(CONFIG)?;
    for (name, program) in [
        // Deeper than any path can be long: folder by folder.
        (
            "deep",
            r#"mkdir "mail"; chdir "mail"; for (1..3000) { mkdir "d" or die $!; chdir "d" or die $!; } "#,
        ),
        ("wide", r#"mkdir "mail"; for my $n (1..20000) { mkdir "mail/$n"; }"#),
    ] {
        let user = site.user(name)?;
        let (uid, gid, home) = (user.uid.to_string(), user.gid.to_string(), user.home());
        let program = format!("chdir '{home}' or die; {program}");
        let args = ["--reuid", &uid, "--regid", &gid, "--clear-groups", "perl", "-e", &program];
        site.machine.run("setpriv", args)?;
        let before = site.look(&user.spool())?;
        let (code, said) = site.convert(name)?;
        assert_eq!(code, 65, "{name}: {said}\n{}", agent.log.tail());
        assert_eq!(site.look(&user.spool())?, before, "{name}");
    }
    assert!(agent.is_running());
    Ok(())
}
