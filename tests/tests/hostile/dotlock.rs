//! Dotlocks of an attacker's making. (A plain one: `refusals::a_mailbox_that_is_in_use`.)

use std::fs;
use std::os::unix::fs::symlink;

use mailready_tests::lab::Result;

use crate::site::{CONFIG, Site, letter, setup};

/// `mailready convert`: it is in use.
const TEMPORARY: i32 = 75;

/// Makes something at a path.
type Make = fn(&str);

/// A folder, a link, a second name of somebody's mbox: it is nobody's lock of ours, so it stands, and is not followed, written to or removed.
#[test]
fn a_dotlock_of_any_kind_is_respected_and_left_as_it_is() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let mallory = site.member_of_group_mail("mallory")?;
    site.machine.write("/etc/secret", letter("for root").as_bytes(), (0, 0), 0o600)?;
    let make: [(&str, Make); 3] = [
        ("folder", |lock| fs::create_dir(lock).unwrap()),
        ("link", |lock| symlink("/etc/secret", lock).unwrap()),
        ("twin", |lock| fs::hard_link("/var/mail/mallory", lock).unwrap()),
    ];
    let agent = site.start_with(CONFIG)?;
    for (name, make) in make {
        let user = site.user(name)?;
        let lock = format!("{}.lock", user.spool());
        site.as_user(&mallory, true, || make(&lock))?;
        let look = || -> Result<_> {
            Ok([
                site.look(&lock)?,
                site.look(&user.spool())?,
                site.look("/etc/secret")?,
                site.look(&mallory.spool())?,
            ])
        };
        let before = look()?;
        let (code, said) = site.convert(name)?;
        assert_eq!(
            (code, said.contains("locked")),
            (TEMPORARY, true),
            "{name}: {said}\n{}",
            agent.log.tail()
        );
        assert_eq!(look()?, before, "{name}");
        assert!(!site.machine.exists(&format!("{}/Maildir", user.home()))?);
    }
    let left: Vec<_> =
        site.archive()?.into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".lock")).collect();
    if !left.is_empty() {
        return Err(setup(format!("our ends of dotlocks stay behind: {left:?}")));
    }
    Ok(())
}
