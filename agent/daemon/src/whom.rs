//! Whom the agent may convert: the one place where configuration, lists, holds and records come together for a user.

use std::path::Path;

use mailready_config::Convert;

use crate::account::Account;
use crate::holds::Holds;
use crate::outcome::{Outcome, Reason, Why};
use crate::records::{Phase, Records};
use crate::settings::Settings;

/// The reason's code for somebody who was rolled back: an arrival right after it would undo what was asked for.
pub const ROLLED_BACK: &str = "rolled-back";

/// Why a user is not to be converted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The configuration does not name this user.
    NotSelected(Reason),
    /// There is a hold.
    Held(Reason),
    /// The agent's own record of this user cannot be trusted.
    Blocked(Reason),
}

impl Refusal {
    /// The reason, whichever kind it is.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::NotSelected(reason) | Self::Held(reason) | Self::Blocked(reason) => reason,
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Outcome::Blocked(refusal.reason().clone())
    }
}

/// Whether `account` may be converted on behalf of `why`, at a time in unix seconds.
///
/// # Errors
/// The reason why not. An operator's word overrides `users.convert`; nothing overrides a hold, the uid range or a record that cannot be read.
pub fn may_convert(
    settings: &Settings,
    holds: &Holds,
    records: &Records,
    account: &Account,
    why: Why,
    now: u64,
) -> Result<(), Refusal> {
    let users = &settings.config.users;
    if let Some(what) = records.refused(&account.name, account.uid) {
        let mend = "mend or move away that file, then restart the agent";
        return Err(Refusal::Blocked(Reason::new(
            "record",
            format!("an archive record cannot be used: {what}"),
            mend,
        )));
    }
    if let Some(hold) = holds.of(&account.name, now) {
        let said = if hold.why.is_empty() { String::new() } else { format!(": {}", hold.why) };
        let text = format!("held by {}{said}", hold.by);
        return Err(Refusal::Held(Reason::new("held", text, format!("mailready release {}", account.name))));
    }
    if settings.hold.contains(&account.name) {
        return Err(Refusal::Held(listed_in(&users.hold)));
    }
    if !(users.min_uid..=users.max_uid).contains(&account.uid) {
        let text = format!(
            "uid {} is outside of users.min_uid..max_uid ({}..{})",
            account.uid, users.min_uid, users.max_uid
        );
        return Err(Refusal::NotSelected(Reason::new("uid-range", text, "")));
    }
    if why == Why::Operator {
        return Ok(());
    }
    if records.latest(&account.key()).is_some_and(|record| record.phase == Phase::Undone) {
        return Err(Refusal::NotSelected(Reason::new(
            ROLLED_BACK,
            "rolled back, and converted again only on an operator's word",
            format!("mailready convert {}", account.name),
        )));
    }
    match users.convert {
        Convert::All => Ok(()),
        Convert::Listed if settings.allow.contains(&account.name) => Ok(()),
        Convert::Listed => Err(Refusal::NotSelected(Reason::new(
            "not-listed",
            format!("users.convert is \"listed\" and {} does not name this user", users.allow.display()),
            "",
        ))),
        Convert::None => {
            Err(Refusal::NotSelected(Reason::new("convert-none", "users.convert is \"none\"", "")))
        }
    }
}

fn listed_in(file: &Path) -> Reason {
    Reason::new(
        "held",
        format!("named in {}", file.display()),
        format!("take the user out of {}", file.display()),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use mailready_config::{Config, UserList};

    use super::*;
    use crate::holds::Hold;
    use crate::users::Name;

    struct Site {
        settings: Settings,
        holds: Holds,
        records: Records,
        _root: tempfile::TempDir,
    }

    fn site(config: &str) -> Site {
        let root = tempfile::tempdir().unwrap();
        let list = |text: &str| UserList::parse(text.as_bytes(), Path::new("list")).unwrap();
        let settings = Settings {
            config: Config::parse(config, Path::new("test")).unwrap(),
            allow: list("ann\nbob"),
            hold: list("bob"),
            worker: "/bin/true".into(),
        };
        let holds = Holds::open(root.path()).unwrap().0;
        let records = Records::open(root.path()).unwrap().0;
        Site { settings, holds, records, _root: root }
    }

    fn verdict(site: &Site, name: &str, uid: u32, why: Why) -> &'static str {
        let account = Account {
            name: name.into(),
            uid,
            gid: uid,
            home: "/home/x".into(),
            inbox: "/var/mail/x".into(),
            folders: None,
            maildir: "/home/x/Maildir".into(),
            work: "/home/x/.mailready".into(),
            archive: "/var/mail/.mailready".into(),
        };
        match may_convert(&site.settings, &site.holds, &site.records, &account, why, 100) {
            Ok(()) => "yes",
            Err(refusal) => refusal.reason().code,
        }
    }

    #[test]
    fn a_fresh_installation_converts_nobody_but_whom_the_operator_says() {
        let site = site("");
        assert_eq!(verdict(&site, "ann", 1000, Why::Arrival), "convert-none");
        assert_eq!(verdict(&site, "ann", 1000, Why::Background), "convert-none");
        assert_eq!(verdict(&site, "ann", 1000, Why::Operator), "yes");
    }

    #[test]
    fn listed_means_those_in_the_list_and_holds_outrank_everybody() {
        let site = site("[users]\nconvert = \"listed\"");
        assert_eq!(verdict(&site, "ann", 1000, Why::Arrival), "yes");
        assert_eq!(verdict(&site, "cid", 1000, Why::Arrival), "not-listed");
        assert_eq!(verdict(&site, "bob", 1000, Why::Arrival), "held");
        assert_eq!(verdict(&site, "bob", 1000, Why::Operator), "held");
        let hold = |until| Hold { by: "ann".into(), since: 0, until, why: String::new() };
        site.holds.put(&Name::new(b"ann").unwrap(), &hold(Some(101))).unwrap();
        assert_eq!(verdict(&site, "ann", 1000, Why::Operator), "held");
        site.holds.put(&Name::new(b"ann").unwrap(), &hold(Some(100))).unwrap();
        assert_eq!(verdict(&site, "ann", 1000, Why::Arrival), "yes", "the hold is over");
    }

    #[test]
    fn who_was_rolled_back_is_converted_on_an_operators_word_only() {
        use crate::records::{INBOX, RECORD_VERSION, Record, Served, SourceRecord};
        let site = site("[users]\nconvert = \"all\"");
        let source =
            SourceRecord { name: INBOX.into(), path: "/var/mail/x".into(), dev: 1, ino: 2, length: 3 };
        let record = Record {
            version: RECORD_VERSION,
            run: "20260101T000000Z-0123456789abcdef".into(),
            user: "ann".into(),
            uid: 1000,
            gid: 1000,
            phase: Phase::Undone,
            maildir: "/home/x/Maildir".into(),
            work: "/home/x/.mailready".into(),
            archive: "/var/mail/.mailready".into(),
            started: 1,
            sequence: 0,
            home: "/home/x".into(),
            boxes: 1,
            served: Served::default(),
            kept: Default::default(),
            tombstone_taken: 0,
            source: vec![source],
        };
        assert_eq!(verdict(&site, "ann", 1000, Why::Arrival), "yes");
        site.records.put(&record).unwrap();
        assert_eq!(verdict(&site, "ann", 1000, Why::Arrival), ROLLED_BACK);
        assert_eq!(verdict(&site, "ann", 1000, Why::Background), ROLLED_BACK);
        assert_eq!(verdict(&site, "ann", 1000, Why::Operator), "yes");
        site.records.put(&Record { phase: Phase::Converted, ..record }).unwrap();
        assert_eq!(verdict(&site, "ann", 1000, Why::Arrival), "yes");
    }

    #[test]
    fn system_accounts_are_nobodys() {
        let site = site("[users]\nconvert = \"all\"");
        assert_eq!(verdict(&site, "ann", 59_999, Why::Arrival), "yes");
        assert_eq!(verdict(&site, "ann", 999, Why::Operator), "uid-range");
        assert_eq!(verdict(&site, "ann", 60_000, Why::Arrival), "uid-range");
    }
}
