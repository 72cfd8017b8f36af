//! A client that looks at mail where it is and keeps what it has seen: headers by UID, bodies by UIDVALIDITY and UID.

use std::cell::RefCell;

use mailready_tests::lab::Result;

use super::account::subject;
use super::journey::{Changes, Client, Journey, with_changes};
use super::laptop::{Laptop, said};

/// mutt with a header cache and a message cache. It is at a terminal: its user types.
struct Mutt {
    /// How it asks what is new: by QRESYNC, or by the UIDs and flags of all.
    by_qresync: bool,
    /// Keys to be typed at the next run.
    keys: RefCell<String>,
}

impl Mutt {
    fn new(by_qresync: bool) -> Self {
        Self { by_qresync, keys: RefCell::default() }
    }

    /// On the letter of that subject, alone among the others by the search.
    fn on(&self, subject: &str, command: &str) {
        let subject = subject.replace(' ', ".");
        self.keys.borrow_mut().push_str(&format!("<search>~s{subject}<enter>{command}"));
    }
}

impl Client for Mutt {
    fn configure(&self, laptop: &Laptop) -> Result<()> {
        for folder in [".cache/headers", ".cache/bodies"] {
            laptop.folder(folder)?;
        }
        let ask = if self.by_qresync { "yes" } else { "no" };
        laptop.file(
            ".muttrc",
            &format!(
                "set folder=imap://ann@127.0.0.2/ imap_pass=correct-horse ssl_starttls=no ssl_force_tls=no\n\
                 set spoolfile=imap://ann@127.0.0.2/INBOX imap_authenticators=login\n\
                 set header_cache=~/.cache/headers message_cachedir=~/.cache/bodies\n\
                 set imap_qresync={ask} imap_condstore={ask}\n\
                 set quit=yes delete=yes move=no wait_key=no mark_old=no sleep_time=0 wrap_search=yes\n"
            ),
        )
    }

    fn run(&self, laptop: &Laptop) -> Result<String> {
        let keys = self.keys.take();
        let typed = format!("mutt -F ~/.muttrc -e 'push \"{keys}<quit>\"'");
        // A terminal for it, and an end for the case that it asks what nobody answers.
        let output = laptop
            .run("timeout", ["30", "script", "--quiet", "--return", "--command", &typed, "/dev/null"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }
}

impl Changes for Mutt {
    const KEEPS_ALL: bool = false;

    fn flag(&self, _: &Laptop, subject: &str) -> Result<()> {
        self.on(subject, "<flag-message>");
        Ok(())
    }

    fn delete(&self, _: &Laptop, subject: &str) -> Result<()> {
        self.on(subject, "<delete-message>");
        Ok(())
    }
}

#[test]
fn mutt_keeps_its_cache_of_headers() -> Result<()> {
    with_changes(Mutt::new(false))
}

#[test]
fn mutt_keeps_its_cache_of_headers_by_qresync() -> Result<()> {
    with_changes(Mutt::new(true))
}

/// A body that it has is not fetched again.
#[test]
fn mutt_keeps_its_cache_of_bodies() -> Result<()> {
    let Some(mut journey) = Journey::set_up(Mutt::new(true))? else { return Ok(()) };
    let read = |journey: &Journey<Mutt>, number| {
        journey.client.on(&subject(number), "<display-message><exit>");
        journey.run()
    };
    for (number, bodies) in [(9, 1), (10, 1), (9, 0)] {
        let (traffic, said) = read(&journey, number)?;
        assert_eq!(traffic.bodies, bodies, "letter {number} on the mbox: {traffic:?}\n{said}");
    }
    journey.account.install_mailready()?;
    for (number, bodies) in [(9, 0), (10, 0), (12, 1)] {
        let (traffic, said) = read(&journey, number)?;
        assert_eq!(traffic.bodies, bodies, "letter {number} on the Maildir: {traffic:?}\n{said}");
        assert_eq!(traffic.headers, 0, "{traffic:?}");
    }
    assert!(journey.account.is_converted()?, "{}", journey.account.logs());
    Ok(())
}
