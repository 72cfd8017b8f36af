//! The measure itself: a Maildir as other converters leave it, and the same clients. If nothing were seen here, nothing that the
//! other tests do not see would mean anything.

use mailready_tests::lab::Result;

use super::account::{LETTERS, subject};
use super::collectors::Fetchmail;
use super::journey::{Client, Journey};
use super::store;
use super::synchronisers::{InterImap, Mbsync};
use super::traffic::Traffic;

/// A client that has run, and then a conversion whose uidlist was changed in this way and whose index is lost.
fn spoilt<C: Client>(client: C, change: impl Fn(&str) -> String) -> Result<Option<Journey<C>>> {
    let Some(mut journey) = Journey::set_up(client)? else { return Ok(None) };
    journey.run()?;
    let account = &mut journey.account;
    account.install_mailready()?;
    account.elsewhere()?.logout()?;
    assert!(account.is_converted()?, "{}", account.logs());
    account.without_dovecot(|account| {
        let maildir = format!("{}/Maildir", account.ann.home());
        let list = format!("{maildir}/dovecot-uidlist");
        account.replace(&list, &change(&account.text(&list)?))?;
        account.machine.run("find", [&maildir, "-name", "dovecot.index*", "-delete"]).map(|_| ())
    })?;
    Ok(Some(journey))
}

/// What travels at the next run, and how many files the store then has.
fn after(client: impl Client, change: impl Fn(&str) -> String) -> Result<Option<(Traffic, usize)>> {
    let Some(journey) = spoilt(client, change)? else { return Ok(None) };
    let (traffic, _) = journey.run()?;
    Ok(Some((traffic, store::files(&journey.laptop)?.len())))
}

/// `3 V1795322588 N41 G...`: another UIDVALIDITY, as after mb2md, or after any converter that leaves the uidlist to Dovecot.
fn another_validity(list: &str) -> String {
    let validity = list.split_once(" V").and_then(|(_, rest)| rest.split(' ').next()).unwrap();
    let other = validity.parse::<u32>().unwrap() + 1;
    list.replacen(&format!("V{validity}"), &format!("V{other}"), 1)
}

/// All UIDs one higher, as when messages are saved one by one into a folder that has had mail before.
fn shifted(list: &str) -> String {
    let (head, records) = list.split_once('\n').unwrap();
    let next = head.split(' ').find_map(|field| field.strip_prefix('N')).unwrap();
    let higher = |number: &str| (number.parse::<u32>().unwrap() + 1).to_string();
    let head = head.replacen(&format!("N{next}"), &format!("N{}", higher(next)), 1);
    let record =
        |line: &str| line.split_once(' ').map(|(uid, rest)| format!("{} {rest}\n", higher(uid))).unwrap();
    format!("{head}\n{}", records.lines().map(record).collect::<String>())
}

#[test]
fn fetchmail_sees_a_new_validity() -> Result<()> {
    let Some((traffic, files)) = after(Fetchmail, another_validity)? else { return Ok(()) };
    assert_eq!((traffic.bodies, files), (u64::from(LETTERS), 2 * LETTERS as usize));
    Ok(())
}

#[test]
fn mbsync_sees_shifted_uids() -> Result<()> {
    let Some((traffic, _)) = after(Mbsync, shifted)? else { return Ok(()) };
    assert_ne!(traffic.bodies, 0, "{traffic:?}");
    Ok(())
}

/// The modification sequence has gone backwards, so that the answer is that nothing has changed.
#[test]
fn interimap_misses_a_flag_where_the_index_is_lost() -> Result<()> {
    let Some(journey) = spoilt(InterImap, str::to_owned)? else { return Ok(()) };
    journey.account.use_elsewhere(1, 3)?;
    journey.run()?;
    let (server, store) = (journey.account.contents()?, store::contents(&journey.laptop)?);
    let letter = ("INBOX".to_owned(), subject(1));
    assert_eq!((&server[&letter], &store[&letter]), (&vec!["RS".to_owned()], &vec!["S".to_owned()]));
    Ok(())
}
