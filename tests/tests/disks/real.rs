//! The same on real file systems: full by blocks, by inodes, over quota, read-only.

use mailready_tests::lab::{Differences, Disk, Dump, Format, Machine, Result, Site, User};

use super::people;
use super::stand::{check_untouched, config, convert, convert_and_verify, machine, mbox};

const MIB: usize = 1 << 20;

/// A user with 6 MiB of mail, and a home on a disk of its own.
fn with_home(machine: &Machine, format: Format) -> Result<Option<(User, Disk<'_>)>> {
    let Some(disk) = Disk::mount(machine, "/home", 64, format)? else { return Ok(None) };
    let user = machine.add_user("ann", "secret", &mbox(60, MIB / 10))?;
    Ok(Some((user, disk)))
}

#[test]
fn a_full_home_is_told_with_figures_before_anything_is_written() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((user, disk)) = with_home(&machine, Format::Ext4 { inodes: 4000 })? else { return Ok(()) };
    let before = machine.read(&user.spool())?;
    let agent = machine.start_agent(&config("5%"))?;
    // 6 MiB would fit, and nothing else after them.
    disk.fill(8 << 10)?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("MiB are needed") && text.contains("keep.reserve"), "{text}");
    assert!(!agent.log.tail().contains("create"), "nothing was written");
    check_untouched(&machine, &user, &before, &agent)?;
    disk.empty()?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
fn a_home_that_fills_up_is_left_as_it_was() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((user, disk)) = with_home(&machine, Format::Ext4 { inodes: 4000 })? else { return Ok(()) };
    let before = machine.read(&user.spool())?;
    let agent = machine.start_agent(&config("0%"))?;
    // By the sum of all sizes it fits, and with what each file takes besides it does not.
    disk.fill(6 << 10)?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("make room"), "{text}");
    check_untouched(&machine, &user, &before, &agent)?;
    disk.empty()?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
fn a_home_without_inodes_is_left_as_it_was() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((user, _disk)) = with_home(&machine, Format::Ext4 { inodes: 64 })? else { return Ok(()) };
    let before = machine.read(&user.spool())?;
    let agent = machine.start_agent(&config("0%"))?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("make room"), "{text}");
    check_untouched(&machine, &user, &before, &agent)?;
    // What takes inodes on this disk is nothing but the disk's own size: a shorter mailbox fits.
    let short = mbox(5, MIB / 10);
    machine.write(&user.spool(), &short, (user.uid, mailready_tests::lab::MAIL_GID), 0o660)?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
fn a_share_that_is_used_up_is_given_back_at_once() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((user, _disk)) = with_home(&machine, Format::Btrfs { quota_mib: 5 })? else { return Ok(()) };
    let before = machine.read(&user.spool())?;
    let agent = machine.start_agent(&config("5%"))?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("quota"), "{text}");
    check_untouched(&machine, &user, &before, &agent)?;
    // A delivery of 2 MiB that comes now has its room; it would not have it before btrfs's next commit.
    let deliver =
        format!("head -c 2097152 /dev/urandom > {0}/new && sync {0}/new && rm {0}/new", user.home());
    machine.run("setpriv", [&format!("--reuid={}", user.uid), "--clear-groups", "sh", "-c", &deliver])?;
    machine.run("btrfs", ["qgroup", "limit", "none", "/run/btrfs/share"])?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
fn a_read_only_home_is_told_and_waited_for() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some((user, disk)) = with_home(&machine, Format::Ext4 { inodes: 4000 })? else { return Ok(()) };
    let before = machine.read(&user.spool())?;
    let agent = machine.start_agent(&config("5%"))?;
    disk.read_only(true)?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("read-only") && text.contains("mount it read-write"), "{text}");
    check_untouched(&machine, &user, &before, &agent)?;
    disk.read_only(false)?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
fn a_full_or_read_only_spool_disk_is_told_and_waited_for() -> Result<()> {
    let Some(machine) = machine()? else { return Ok(()) };
    let Some(disk) = Disk::mount(&machine, "/var/mail", 32, Format::Ext4 { inodes: 400 })? else {
        return Ok(());
    };
    let user = machine.add_user("ann", "secret", &mbox(5, 1000))?;
    let before = machine.read(&user.spool())?;
    let agent = machine.start_agent(&config("5%"))?;
    disk.read_only(true)?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("mount it read-write"), "{text}");
    disk.read_only(false)?;
    check_untouched(&machine, &user, &before, &agent)?;
    // Not even a tombstone has room.
    disk.fill(0)?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "blocked", "{text}");
    assert!(text.contains("make room on the spool's file system"), "{text}");
    check_untouched(&machine, &user, &before, &agent)?;
    disk.empty()?;
    convert_and_verify(&machine, &user, &agent)
}

#[test]
#[ignore = "the agent gives a block back now and then, and a record fits into it: the disk has to be filled in step with the agent"]
fn with_a_full_state_folder_people_log_in_and_nothing_is_begun() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Small)?;
    machine.install_mailready(Site::Small)?;
    let Some(disk) = Disk::mount(&machine, "/var/lib/mailready", 8, Format::Ext4 { inodes: 100 })? else {
        return Ok(());
    };
    let user = people::add(&machine, 1)?.swap_remove(0);
    let agent = machine.start_agent(&config("5%").replace("\"none\"\n[agent]", "\"all\"\n[agent]"))?;
    let _dovecot = machine.start_dovecot()?;
    disk.fill(0)?;
    // Logins announce, and each is answered; what they are answered by cannot be written down.
    let first = Dump::take(&machine, &user)?;
    let (answer, text) = convert(&machine, &user)?;
    assert_eq!(answer, "failed", "{text}");
    assert!(text.contains("make room in the state folder"), "{text}");
    assert!(!machine.exists(&format!("{}/Maildir", user.home()))?, "nothing was begun");
    assert!(!machine.exists(&format!("{}/.mailready", user.home()))?, "nothing was begun");
    let second = Dump::take(&machine, &user)?;
    let found = Differences::between(&first, &second);
    assert!(found.is_empty(), "{found}");
    disk.empty()?;
    convert_and_verify(&machine, &user, &agent)
}
