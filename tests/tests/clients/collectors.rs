//! POP3 clients that leave mail on the server and remember which they have by its identifier (UIDL). One that changes makes
//! them fetch years of mail once more.

use mailready_tests::lab::Result;

use super::account::{Contents, LETTERS};
use super::journey::{Client, Journey};
use super::laptop::{Laptop, said};
use super::store;

/// All of it, for a client that only fetches.
fn collects_each_letter_once(client: impl Client) -> Result<()> {
    let Some(mut journey) = Journey::set_up(client)? else { return Ok(()) };

    let (traffic, said) = journey.run()?;
    assert_eq!(traffic.bodies, u64::from(LETTERS), "the first run takes everything: {traffic:?}\n{said}");
    a_day(&journey, 0)?;
    let calm = journey.is_calm()?;

    journey.account.install_mailready()?;
    journey.is_calm_since(&calm, "the run that converts")?;
    assert!(journey.account.is_converted()?, "{}", journey.account.logs());
    journey.is_calm_since(&calm, "the run after the conversion")?;
    a_day(&journey, 1)?;
    journey.account.verifies()?;
    let calm = journey.is_calm()?;

    journey.account.roll_back()?;
    journey.is_calm_since(&calm, "the run after the way back")?;
    assert!(!journey.account.is_converted()?, "{}", journey.account.logs());
    a_day(&journey, 2)?;
    let calm = journey.is_calm()?;

    journey.account.convert_again()?;
    journey.is_calm_since(&calm, "the run after another conversion")?;
    Ok(())
}

/// Two letters come; one is answered and one deleted from elsewhere, which is nothing to a client that fetches.
fn a_day(journey: &Journey<impl Client>, day: u32) -> Result<()> {
    let fresh = LETTERS + 10 * day;
    journey.account.deliver(fresh + 1)?;
    journey.account.deliver(fresh + 2)?;
    journey.account.use_elsewhere(6 * day + 1, 6 * day + 3)?;
    let (traffic, said) = journey.run()?;
    assert_eq!((traffic.bodies, traffic.expunged), (2, 0), "day {day}: {traffic:?}\n{said}");
    let store: Contents = store::contents(&journey.laptop)?;
    let expected = (LETTERS + 2 * (day + 1)) as usize;
    assert_eq!(store.values().map(Vec::len).sum::<usize>(), expected, "day {day}: {said}");
    assert_eq!(store.len(), expected, "day {day}: each letter once");
    Ok(())
}

/// fetchmail, told to keep what it fetches.
pub struct Fetchmail;

impl Client for Fetchmail {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        laptop.maildir("store/INBOX")?;
        laptop.file(
            ".fetchmailrc",
            &format!(
                "set no bouncemail\npoll 127.0.0.2 proto POP3 uidl\n  \
                 user ann password \"correct-horse\" is laptop here keep sslproto \"\"\n  \
                 mda \"cat > $(mktemp {}/INBOX/new/XXXXXXXX)\"\n",
                laptop.store()
            ),
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let output = laptop.run("fetchmail", ["--verbose"])?;
        // 1: there was nothing new.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", said(&output));
        Ok(said(&output))
    }
}

#[test]
fn fetchmail_fetches_nothing_twice() -> Result<()> {
    collects_each_letter_once(Fetchmail)
}

struct Mpop;

impl Client for Mpop {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        laptop.maildir("store/INBOX")?;
        laptop.file(
            ".mpoprc",
            &format!(
                "account mail\nhost 127.0.0.2\nuser ann\npassword correct-horse\ntls off\nauth user\nkeep on\n\
                 delivery maildir {}/INBOX\nuidls_file ~/.mpop_uidls\n",
                laptop.store()
            ),
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let output = laptop.run("mpop", ["--all-accounts"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }
}

#[test]
fn mpop_fetches_nothing_twice() -> Result<()> {
    collects_each_letter_once(Mpop)
}

struct Fdm;

impl Client for Fdm {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        laptop.maildir("store/INBOX")?;
        laptop.file(
            ".fdm.conf",
            &format!(
                "set unmatched-mail keep\naction \"box\" maildir \"{}/INBOX\"\n\
                 account \"mail\" pop3 server \"127.0.0.2\" user \"ann\" pass \"correct-horse\" \
                 new-only cache \"%h/.fdm.cache\" keep\nmatch all action \"box\"\n",
                laptop.store()
            ),
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let output = laptop.run("fdm", ["-v", "fetch"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }
}

#[test]
fn fdm_fetches_nothing_twice() -> Result<()> {
    collects_each_letter_once(Fdm)
}
