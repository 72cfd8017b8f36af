//! The moment of an exchange: whoever may write to the spool folder swaps something else in between the agent's last look and its `RENAME_EXCHANGE`.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use mailready_tests::lab::{Daemon, Result, User, eventually};
use mailready_tests::stops::Order;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::site::{ARCHIVE, CONFIG, Look, Site, letter, setup, swap};

/// The exchange of a spool, the agent's alone.
fn exchange_of(user: &User) -> Order {
    Order::StopBefore { call: "renameat2".into(), about: format!(" {}", user.spool()) }
}

/// Starts an agent that stops before the exchange of this user's spool, asks for something that leads there, and has `act` done at that moment.
fn at_the_exchange(
    site: &Site,
    user: &User,
    lead: impl FnOnce() -> Result<(i32, String)> + Send,
    act: impl FnOnce() -> Result<()>,
) -> Result<(Daemon, (i32, String))> {
    let agent = site.start_stopping(&exchange_of(user), &["mailready-agent"])?;
    let control = site.control()?;
    let said = std::thread::scope(|scope| -> Result<_> {
        let asked = scope.spawn(lead);
        let reached = control.wait_reached(|| false).and_then(|place| {
            place.ok_or_else(|| setup("the agent does not come to the exchange"))?;
            act()
        });
        control.go()?;
        reached?;
        asked.join().unwrap()
    })?;
    Ok((agent, said))
}

/// Root's, and looks like mail.
const SECRET: &str = "/etc/secret";

/// What is put at a user's path, and what must be found there afterwards, just as it was.
struct Swap {
    what: &'static str,
    make: fn(&str),
}

const SWAPS: [Swap; 5] = [
    Swap { what: "a symbolic link", make: |path| symlink(SECRET, path).unwrap() },
    Swap { what: "no regular file", make: |path| mkfifo(path, Mode::S_IRWXU).unwrap() },
    Swap { what: "no regular file", make: |path| fs::create_dir(path).unwrap() },
    Swap { what: "no regular file", make: |path| drop(UnixListener::bind(path).unwrap()) },
    Swap { what: "another user's file", make: |path| fs::write(path, letter("mallory's own")).unwrap() },
];

/// Nothing of the archive is anybody's but the user's, root's by our own hand, or a tombstone.
fn check_archive(site: &Site, strangers: &[&Look]) -> Result<()> {
    for (name, look) in site.archive()? {
        assert!(
            !strangers.iter().any(|stranger| stranger.inode == look.inode),
            "{name} is somebody else's: {look:?}"
        );
    }
    Ok(())
}

/// Another user's mbox is neither read nor taken nor given to root: it goes back to where the attacker had put it.
#[test]
fn another_users_mbox_swapped_in_at_the_set_aside_goes_back_untouched() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let (ann, bob) = (site.user("ann")?, site.machine.add_user("bob", "x", letter("for bob").as_bytes())?);
    let mallory = site.member_of_group_mail("mallory")?;
    let bobs = site.look(&bob.spool())?.unwrap();
    let anns = site.look(&ann.spool())?.unwrap();
    let exchange = || site.as_user(&mallory, true, || swap(&ann.spool(), &bob.spool()));
    let (agent, (code, said)) = at_the_exchange(&site, &ann, || site.convert("ann"), exchange)?;
    assert_eq!(code, 0, "the commit had been made: {said}");
    assert_eq!(
        site.look(&ann.spool())?.unwrap(),
        bobs,
        "bob's mbox, where mallory put it\n{}",
        agent.log.tail()
    );
    assert_eq!(site.look(&bob.spool())?.unwrap(), anns, "ann's, too");
    check_archive(&site, &[&bobs])?;
    assert_eq!(site.maildir(&ann)?.len(), 5, "ann's mail and no other");
    assert!(Site::said(&agent, "it was put back there"), "{}", agent.log.tail());
    // Somebody mends it: the run comes to its end, late mail arrives, once.
    site.machine.inside(|| swap(&ann.spool(), &bob.spool()))?;
    site.deliver(&ann, "late for ann")?;
    site.wait_for(&agent, &ann, "late for ann")?;
    eventually(
        "ann's mbox is set aside",
        || agent.log.tail(),
        || {
            let archive = site.archive().unwrap();
            archive.iter().any(|(name, look)| name.ends_with(".0") && look.inode == anns.inode).then_some(())
        },
    )?;
    assert_eq!(site.maildir(&ann)?.len(), 6);
    assert_eq!(site.look(&bob.spool())?.unwrap(), bobs);
    Ok(())
}

/// Whatever it is, it is not opened, not followed, not changed, and the mail of the user is whole.
#[test]
fn whatever_is_swapped_in_at_the_set_aside_goes_back() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let mallory = site.member_of_group_mail("mallory")?;
    site.machine.write(SECRET, letter("for root").as_bytes(), (0, 0), 0o600)?;
    let secret = site.look(SECRET)?;
    for (number, Swap { what, make }) in SWAPS.iter().enumerate() {
        let user = site.user(&format!("ann{number}"))?;
        let trap = format!("/var/mail/trap{number}");
        site.as_user(&mallory, true, || make(&trap))?;
        let before = site.look(&trap)?.unwrap();
        let act = || site.as_user(&mallory, true, || swap(&user.spool(), &trap));
        let (agent, (code, said)) = at_the_exchange(&site, &user, || site.convert(&user.name), act)?;
        assert_eq!(code, 0, "{said}");
        assert_eq!(site.look(&user.spool())?.unwrap(), before, "{what}\n{}", agent.log.tail());
        assert!(Site::said(&agent, &format!("{what} was put at")), "{what}: {}", agent.log.tail());
        assert_eq!(site.maildir(&user)?.len(), 5);
        check_archive(&site, &[&before])?;
        agent.terminate()?;
    }
    assert_eq!(site.look(SECRET)?, secret);
    Ok(())
}

/// A second name of the spool: what has two names is not given to root, since one of them stays outside of the archive.
#[test]
fn a_spool_that_gets_a_second_name_at_the_set_aside_is_not_given_to_root() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let (ann, mallory) = (site.user("ann")?, site.member_of_group_mail("mallory")?);
    let act = || site.as_user(&mallory, true, || fs::hard_link(ann.spool(), "/var/mail/mine").unwrap());
    let (agent, (code, said)) = at_the_exchange(&site, &ann, || site.convert("ann"), act)?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(site.look("/var/mail/mine")?.unwrap().uid, ann.uid, "{}", agent.log.tail());
    // The other name gone, it is.
    site.machine.run("rm", ["/var/mail/mine"])?;
    eventually(
        "the spool is set aside and root's",
        || agent.log.tail(),
        || {
            let archive = site.archive().unwrap();
            archive.iter().any(|(name, look)| name.ends_with(".0") && look.uid == 0).then_some(())
        },
    )?;
    assert_eq!(site.maildir(&ann)?.len(), 5);
    Ok(())
}

/// The same at the rotation of a drain: bob's mail does not come to ann.
#[test]
fn another_users_mbox_swapped_in_at_a_drain_is_not_delivered() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let (ann, bob) = (site.user("ann")?, site.machine.add_user("bob", "x", letter("for bob").as_bytes())?);
    let mallory = site.member_of_group_mail("mallory")?;
    let agent = site.start_with(CONFIG)?;
    let (code, said) = site.convert("ann")?;
    assert_eq!(code, 0, "{said}");
    agent.terminate()?;
    let bobs = site.look(&bob.spool())?.unwrap();
    let deliver = || site.deliver(&ann, "late for ann").map(|()| (0, String::new()));
    let act = || site.as_user(&mallory, true, || swap(&ann.spool(), &bob.spool()));
    let (agent, _) = at_the_exchange(&site, &ann, deliver, act)?;
    agent.log.wait("the swap is told", |line| line.contains("it was put back there"))?;
    assert_eq!(site.look(&ann.spool())?.unwrap(), bobs, "{}", agent.log.tail());
    check_archive(&site, &[&bobs])?;
    site.machine.inside(|| swap(&ann.spool(), &bob.spool()))?;
    site.wait_for(&agent, &ann, "late for ann")?;
    assert_eq!(site.maildir(&ann)?.len(), 6, "and nothing of bob's");
    assert_eq!(site.look(&bob.spool())?.unwrap(), bobs);
    Ok(())
}

/// And at the last exchange of a rollback.
#[test]
fn another_users_mbox_swapped_in_at_a_rollback_goes_back_untouched() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let (ann, bob) = (site.user("ann")?, site.machine.add_user("bob", "x", letter("for bob").as_bytes())?);
    let mallory = site.member_of_group_mail("mallory")?;
    let agent = site.start_with(CONFIG)?;
    let (code, said) = site.convert("ann")?;
    assert_eq!(code, 0, "{said}");
    agent.terminate()?;
    let bobs = site.look(&bob.spool())?.unwrap();
    let act = || site.as_user(&mallory, true, || swap(&ann.spool(), &bob.spool()));
    let lead = || site.mailready(&["rollback", "--yes", "ann"]);
    let (agent, (_, said)) = at_the_exchange(&site, &ann, lead, act)?;
    assert_eq!(site.look(&ann.spool())?.unwrap(), bobs, "{said}\n{}", agent.log.tail());
    check_archive(&site, &[&bobs])?;
    site.machine.inside(|| swap(&ann.spool(), &bob.spool()))?;
    eventually(
        "ann has an mbox again",
        || agent.log.tail(),
        || {
            let spool = site.look(&ann.spool()).unwrap()?;
            (spool.uid == ann.uid && spool.content.starts_with(b"From ")).then_some(spool)
        },
    )?;
    assert_eq!(site.look(&bob.spool())?.unwrap(), bobs);
    Ok(())
}

/// Killed between the exchange and the look at what it brought: the next start looks, before it does anything with it.
#[test]
fn a_death_between_the_swap_and_the_look_gives_nobody_elses_mail_away() -> Result<()> {
    let Some(site) = Site::traced()? else { return Ok(()) };
    let (ann, bob) = (site.user("ann")?, site.machine.add_user("bob", "x", letter("for bob").as_bytes())?);
    let mallory = site.member_of_group_mail("mallory")?;
    let bobs = site.look(&bob.spool())?.unwrap();
    let act = || -> Result<()> {
        site.as_user(&mallory, true, || swap(&ann.spool(), &bob.spool()))?;
        // What the agent does next, and dies of.
        let entry = original(&site)?;
        site.machine.inside(|| swap(&entry, &ann.spool()))?;
        site.machine
            .processes("mailready-agent")?
            .iter()
            .try_for_each(|pid| site.machine.signal(*pid, "KILL"))
    };
    let (agent, _) = at_the_exchange(&site, &ann, || site.convert("ann"), act)?;
    agent.wait_end()?;
    assert_eq!(site.look(&original(&site)?)?.unwrap().inode, bobs.inode);
    let agent = site.start_with(CONFIG)?;
    is_back(&site, &agent, &ann, &bobs)?;
    // Mended, it is set aside, and an entry of a drain is looked at in the same way.
    site.machine.inside(|| swap(&ann.spool(), &bob.spool()))?;
    eventually(
        "ann's mbox is set aside",
        || agent.log.tail(),
        || {
            original(&site)
                .is_ok_and(|path| site.look(&path).is_ok_and(|look| look.is_some_and(|look| look.uid == 0)))
                .then_some(())
        },
    )?;
    agent.terminate()?;
    let entry = original(&site)?.trim_end_matches('0').to_owned() + "1";
    site.machine.inside(|| {
        swap(&ann.spool(), &bob.spool());
        fs::rename(ann.spool(), entry).unwrap();
        fs::rename(bob.spool(), ann.spool()).unwrap();
    })?;
    let agent = site.start_with(CONFIG)?;
    is_back(&site, &agent, &ann, &bobs)?;
    assert_eq!(site.maildir(&ann)?.len(), 5);
    Ok(())
}

/// Path of the only original, or of the tombstone that is going to be exchanged for it.
fn original(site: &Site) -> Result<String> {
    let archive = site.archive()?;
    let name = archive.iter().map(|(name, _)| name).find(|name| name.ends_with(".0"));
    Ok(format!("{ARCHIVE}/{}", name.ok_or_else(|| setup("no original"))?))
}

/// Bob's mbox is back at ann's place, where it was put, with its owner, its mode and every byte.
fn is_back(site: &Site, agent: &Daemon, ann: &User, bobs: &Look) -> Result<()> {
    eventually(
        "bob's mbox is out of the archive",
        || format!("{:?}\n{}", site.archive(), agent.log.tail()),
        || (!site.archive().ok()?.iter().any(|(_, look)| look.inode == bobs.inode)).then_some(()),
    )?;
    assert_eq!(site.look(&ann.spool())?.as_ref(), Some(bobs), "{}", agent.log.tail());
    assert_eq!(site.maildir(ann)?.len(), 5);
    Ok(())
}
