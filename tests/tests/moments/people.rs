//! Users by the hundred, all with the same mail: what one of them sees is what each must see.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};

use mailready_tests::lab::{Doing, MAIL_GID, Machine, Result, User};

const PASSWORD: &str = "secret";

/// A few messages that have been read and marked before: UIDs and flags stand in the file, so that no session needs to write
/// to it, and nothing in it depends on when it was first opened.
pub fn mbox() -> Vec<u8> {
    let mut mbox = String::new();
    let status =
        ["Status: RO\n", "Status: RO\nX-Status: AF\n", "Status: O\n", "Status: RO\nX-Keywords: $Forwarded\n"];
    for number in 1..=6 {
        let base = if number == 1 { "X-IMAPbase: 1700000000 0000000016 $Forwarded\n" } else { "" };
        let flags = status[number % status.len()];
        mbox.push_str(&format!(
            "From eve@example.org  Tue Feb  3 04:05:{number:02} 2009\n\
             From: eve@example.org\nTo: all\nSubject: message {number}\nMessage-ID: <{number}@example.org>\n\
             {base}X-UID: {}\n{flags}\nLine of message {number}.\n>From the second line.\n\n",
            number * 2 + 1,
        ));
    }
    mbox.into_bytes()
}

/// As many users as asked for. The tools for accounts take a tenth of a second a user, so only the first is made by them,
/// and the others after its pattern.
pub fn add(machine: &Machine, count: usize) -> Result<Vec<User>> {
    let first = machine.add_user("p0", PASSWORD, &mbox())?;
    let mut people = vec![first.clone()];
    for number in 1..u32::try_from(count).unwrap_or(0) {
        people.push(User {
            name: format!("p{number}"),
            uid: first.uid + number,
            gid: first.gid,
            ..first.clone()
        });
    }
    machine.inside(|| write_accounts(&people))?.doing(|| "make accounts")?;
    Ok(people)
}

fn write_accounts(people: &[User]) -> io::Result<()> {
    let Some((first, others)) = people.split_first() else { return Ok(()) };
    let shadow = fs::read_to_string("/etc/shadow")?;
    let prefix = format!("{}:", first.name);
    let hash = shadow.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default();
    let (mut accounts, mut hashes) = (String::new(), String::new());
    for user in others {
        accounts.push_str(&format!("{}:x:{}:{}::{}:/bin/sh\n", user.name, user.uid, user.gid, user.home()));
        hashes.push_str(&format!("{}:{hash}\n", user.name));
        fs::create_dir(user.home())?;
        fs::set_permissions(user.home(), Permissions::from_mode(0o700))?;
        chown(user.home(), Some(user.uid), Some(user.gid))?;
        fs::write(user.spool(), mbox())?;
        fs::set_permissions(user.spool(), Permissions::from_mode(0o660))?;
        chown(user.spool(), Some(user.uid), Some(MAIL_GID))?;
    }
    OpenOptions::new().append(true).open("/etc/passwd")?.write_all(accounts.as_bytes())?;
    OpenOptions::new().append(true).open("/etc/shadow")?.write_all(hashes.as_bytes())
}
