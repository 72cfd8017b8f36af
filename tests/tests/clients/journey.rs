//! The way of one client's user: years on the mbox, the conversion at a login of that very client, life on the Maildir, and the
//! way back.

use mailready_tests::lab::{Differences, Dump, Result};

use super::account::{Account, Contents, FOLDERS, LETTERS, subject};
use super::laptop::Laptop;
use super::store::{self, Files};
use super::traffic::Traffic;

/// A program that reads mail.
pub trait Client {
    /// Writes its configuration.
    fn configure(&self, laptop: &Laptop) -> Result<()>;
    /// One run to its end; gives what it said.
    fn run(&self, laptop: &Laptop) -> Result<String>;
}

/// A client through which its user changes something, to be sent with the next run.
pub trait Changes: Client {
    /// Whether it keeps a copy of everything, or looks at headers and keeps those.
    const KEEPS_ALL: bool;
    /// Sets \Flagged on a letter of the inbox.
    fn flag(&self, laptop: &Laptop, subject: &str) -> Result<()>;
    /// Deletes a letter of the inbox.
    fn delete(&self, laptop: &Laptop, subject: &str) -> Result<()>;
}

/// What must be as it was after the next run.
pub struct Calm {
    dump: Dump,
    files: Files,
    sent: u64,
}

/// A client, its user and the account.
pub struct Journey<C> {
    pub account: Account,
    pub laptop: Laptop,
    pub client: C,
}

impl<C: Client> Journey<C> {
    /// A site without mailready, and a client that has not run yet; `None` where there can be no machines.
    pub fn set_up(client: C) -> Result<Option<Self>> {
        let Some(account) = Account::set_up()? else { return Ok(None) };
        let laptop = Laptop::set_up(&account.machine)?;
        client.configure(&laptop)?;
        Ok(Some(Self { account, laptop, client }))
    }

    /// Runs the client once, and gives what travelled and what it said.
    pub fn run(&self) -> Result<(Traffic, String)> {
        let log = &self.account.dovecot().log;
        let from = log.len();
        let said = self.client.run(&self.laptop)?;
        Ok((Traffic::since(log, from)?, said))
    }

    /// Nothing has happened to the mail, and so nothing happens: what a client does that is content. Gives that state.
    pub fn is_calm(&self) -> Result<Calm> {
        let calm = Calm { dump: self.account.dump()?, files: store::files(&self.laptop)?, sent: u64::MAX };
        let sent = self.is_calm_since(&calm, "a run after a run")?;
        Ok(Calm { sent, ..calm })
    }

    /// As [`Self::is_calm`], though something has happened that nobody should be able to tell. Gives the bytes sent.
    pub fn is_calm_since(&self, calm: &Calm, when: &str) -> Result<u64> {
        /// What two answers may differ by that say the same (a number with a digit more).
        const TOLERANCE: u64 = 200;
        let (traffic, said) = self.run()?;
        let logs = || self.account.logs();
        assert!(traffic.is_quiet(), "{when}: {traffic:?}\n{said}\n{}", logs());
        let files = store::files(&self.laptop)?;
        assert_eq!(files.len(), calm.files.len(), "{when}: files in the store\n{said}");
        assert_eq!(files, calm.files, "{when}: the store\n{said}");
        let found = Differences::between(&calm.dump, &self.account.dump()?);
        assert!(found.is_empty(), "{when}: {found}\n{said}");
        let most = calm.sent.saturating_add(TOLERANCE);
        assert!(traffic.sent <= most, "{when}: {} bytes came, {} before\n{said}", traffic.sent, calm.sent);
        Ok(traffic.sent)
    }
}

impl<C: Changes> Journey<C> {
    /// A day on which mail comes and is read, flagged and deleted on both sides: exactly that travels. `day` counts from 0.
    pub fn a_day(&self, day: u32) -> Result<()> {
        let Self { account, laptop, client } = self;
        let (fresh, old) = (LETTERS + 10 * day, 6 * day);
        account.deliver(fresh + 1)?;
        account.deliver(fresh + 2)?;
        account.save("Sent", fresh + 3)?;
        account.make_folder(&format!("project {day}"), fresh + 4)?;
        account.use_elsewhere(old + 1, old + 3)?;
        client.flag(laptop, &subject(old + 4))?;
        client.delete(laptop, &subject(old + 6))?;

        let (traffic, said) = self.run()?;
        let context = || format!("day {day}: {traffic:?}\n{said}\n{}", account.logs());
        let travelled = if C::KEEPS_ALL { (0, 4) } else { (2, 0) };
        assert_eq!((traffic.headers, traffic.bodies), travelled, "{}", context());
        assert_eq!(traffic.expunged, 1, "{}", context());

        let server = account.contents()?;
        let flags = |number| server.get(&("INBOX".to_owned(), subject(number))).map(|each| each.concat());
        assert!(flags(old + 1).is_some_and(|flags| flags.contains('R')), "{}", context());
        assert_eq!(flags(old + 3), None, "deleted elsewhere: {}", context());
        assert!(flags(old + 4).is_some_and(|flags| flags.contains('F')), "{}", context());
        assert_eq!(flags(old + 6), None, "deleted here: {}", context());
        if C::KEEPS_ALL {
            self.has_everything(&server, &context())?;
        }
        Ok(())
    }

    fn has_everything(&self, server: &Contents, context: &str) -> Result<()> {
        let store = store::contents(&self.laptop)?;
        let count = |contents: &Contents| contents.values().map(Vec::len).sum::<usize>();
        assert_eq!(count(&store), count(server), "{context}");
        assert_eq!(&store, server, "{context}");
        Ok(())
    }
}

/// All of it, for a client that sends changes back.
pub fn with_changes<C: Changes>(client: C) -> Result<()> {
    let Some(mut journey) = Journey::set_up(client)? else { return Ok(()) };

    let (traffic, said) = journey.run()?;
    let all = if C::KEEPS_ALL { FOLDERS.iter().map(|(_, letters)| letters).sum() } else { 0 } + LETTERS;
    let seen = if C::KEEPS_ALL { traffic.bodies } else { traffic.headers };
    assert_eq!(seen, u64::from(all), "the first run takes everything: {traffic:?}\n{said}");
    journey.a_day(0)?;
    let calm = journey.is_calm()?;

    journey.account.install_mailready()?;
    journey.is_calm_since(&calm, "the run that converts")?;
    assert!(journey.account.is_converted()?, "{}", journey.account.logs());
    journey.is_calm_since(&calm, "the run after the conversion")?;
    journey.a_day(1)?;
    journey.account.verifies()?;
    let calm = journey.is_calm()?;

    journey.account.roll_back()?;
    journey.is_calm_since(&calm, "the run after the way back")?;
    assert!(!journey.account.is_converted()?, "{}", journey.account.logs());
    journey.a_day(2)?;
    let calm = journey.is_calm()?;

    journey.account.convert_again()?;
    journey.is_calm_since(&calm, "the run after another conversion")?;
    Ok(())
}
