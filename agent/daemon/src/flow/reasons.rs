//! The words for everything that can be in the way: what it is, and what to do about it.

use std::path::Path;

use mailready_worker::wire::Block;
use nix::errno::Errno;

use super::crew::WorkerError;
use super::spool::SpoolError;
use crate::account::Account;
use crate::outcome::{Outcome, Reason, WORKER_STOPPED};

/// `words`: the worker's own, since names of folders are the user's and its to tell.
pub(super) fn blocked(block: Block, detail: u64, words: &str, account: &Account) -> Reason {
    let Account { home, maildir, work, inbox, .. } = account;
    let (home, maildir, work, inbox) = (home.display(), maildir.display(), work.display(), inbox.display());
    let mailbox = |position| match position {
        0 => "the inbox".to_owned(),
        position => format!("mailbox number {position}"),
    };
    let named = if words.is_empty() { String::new() } else { format!(": {words}") };
    let errno = || Errno::from_raw(i32::try_from(detail).unwrap_or(0)).desc();
    let (text, mend) = match block {
        Block::MaildirExists => (
            format!("{maildir} exists already, and whose mail it holds cannot be told"),
            "move it away if it is not in use, or hold this user".to_owned(),
        ),
        Block::HomeMissing => (
            format!("the home {home}, or the folder for {maildir}, is not there"),
            "mount or make it".to_owned(),
        ),
        Block::HomeForeign => (
            format!("the home {home}, or the folder for {maildir}, is not the user's own"),
            "give it to the user".to_owned(),
        ),
        Block::OtherMount => (
            format!("{work} and {maildir}, or the mbox folders, are on different mounts"),
            "put mail.work on the mount of mail.maildir and mail.folders".to_owned(),
        ),
        Block::WorkForeign => (format!("{work} is no folder of the user's own"), "move it away".to_owned()),
        Block::NotMbox => (
            format!("{inbox} is no mbox by Dovecot's rules: no From_ line at byte {detail}"),
            "Dovecot refuses it too; mend that line or move the file away".to_owned(),
        ),
        Block::Keywords => (
            format!(
                "{} uses more keywords than a Maildir can name (26), and Dovecot has no index of it{named}",
                mailbox(detail)
            ),
            "open it once in a mail client, which makes the index, or remove keywords there".to_owned(),
        ),
        Block::UidsUsedUp => (
            format!("the UIDs of {} are used up{named}", mailbox(detail)),
            "copy its messages to a new folder in a mail client, and delete it".to_owned(),
        ),
        Block::Names => (
            format!("the name of {} cannot be kept{named}", mailbox(detail)),
            "rename it in a mail client, or set mail.layout = \"fs\"".to_owned(),
        ),
        Block::Link => (
            format!("{detail} of the files and folders below the mbox root are symbolic links{named}"),
            "put the files themselves there".to_owned(),
        ),
        Block::Differs => (
            format!("what Dovecot says of {} is not what its file holds{named}", mailbox(detail)),
            "run `doveadm force-resync` on it, and look whether another Dovecot or mail program uses it"
                .to_owned(),
        ),
        Block::TooManyFolders => (
            format!("{detail} mailboxes, or levels of them, are more than one commit can hold safely"),
            "raise LimitNOFILE of mailready-agent.service, or hold this user".to_owned(),
        ),
        Block::SameRoot => (
            format!("{maildir} and the mbox root lie within one another"),
            "set mail.maildir to a folder of its own".to_owned(),
        ),
        Block::FolderForeign => (
            format!("{} or the folder that it lies in is not the user's own{named}", mailbox(detail)),
            "give it to the user, or move it away".to_owned(),
        ),
        Block::NotRepresentable => (
            format!("the message with UID {detail} cannot be kept as it is in an mbox{named}"),
            "delete that message, or move it to where it is kept otherwise".to_owned(),
        ),
        Block::MailWithChildren => (
            format!(
                "{} holds messages and has mailboxes below it, which no mbox can{named}",
                mailbox(detail)
            ),
            "move its messages to another folder in a mail client".to_owned(),
        ),
        Block::PlaceTaken => (
            format!("something that is not ours stands where {} belongs{named}", mailbox(detail)),
            "move it away".to_owned(),
        ),
        Block::OriginalLost => (
            format!("the original of {} is not where it was set aside{named}", mailbox(detail)),
            "bring it back from a backup".to_owned(),
        ),
        Block::NoRoom if detail == 0 => (
            format!("not enough would stay free{named}"),
            format!("make room on the file system of {home}, or lower keep.reserve"),
        ),
        Block::NoRoom => (
            format!("no room or quota: {}{named}", errno()),
            "make room: as much as the mailbox has, and keep.reserve besides".to_owned(),
        ),
        Block::WorkBusy => (format!("something else works on {work}"), String::new()),
        Block::Rewritten => (
            format!("another program is rewriting {}, which is looked at again later", mailbox(detail)),
            String::new(),
        ),
        Block::MaildirLost => (
            format!("{maildir} is gone, or is not the one that was made from the mbox"),
            "bring it back from where it was moved; mail waits in the archive folder".to_owned(),
        ),
        Block::StageDiffers => (
            format!("Dovecot shows {detail} things otherwise from the Maildir than from the mbox{named}"),
            "nothing was changed; compare Dovecot's settings for mbox and Maildir, and report it".to_owned(),
        ),
        Block::NoRename => (
            "the file system cannot rename without replacing".to_owned(),
            "use a local ext4, xfs or btrfs".to_owned(),
        ),
        Block::ReadOnly => ("the file system is read-only".to_owned(), "mount it read-write".to_owned()),
    };
    Reason::new(block.word(), text, mend)
}

pub(super) fn worker(error: &WorkerError, account: &Account) -> Outcome {
    match error {
        WorkerError::Blocked(block @ (Block::WorkBusy | Block::Rewritten), detail, words) => {
            Outcome::Busy(blocked(*block, *detail, words, account))
        }
        WorkerError::Blocked(block, detail, words) => {
            Outcome::Blocked(blocked(*block, *detail, words, account))
        }
        WorkerError::Stopped => Outcome::Stopped,
        WorkerError::Start(_) => Outcome::Failed(Reason::new(
            "worker",
            error.to_string(),
            "see that mailready-worker lies beside the agent",
        )),
        WorkerError::Failed(step, Errno::EIO) => {
            let Account { home, inbox, .. } = account;
            Outcome::Failed(disk(format!(
                "the disk of {} or {} gives errors: {}",
                home.display(),
                inbox.display(),
                step.word()
            )))
        }
        WorkerError::Halted | WorkerError::Resting(_) => Outcome::Failed(Reason::new(
            WORKER_STOPPED,
            error.to_string(),
            "see which of the user's processes sends signals to the worker",
        )),
        WorkerError::Late | WorkerError::Died(_) | WorkerError::Silent | WorkerError::Failed(..) => {
            Outcome::Failed(Reason::new(
                "worker",
                error.to_string(),
                "see the journal for the worker's own words",
            ))
        }
    }
}

/// The same for the journal: what is in the way, and what to do.
pub(super) fn of(error: &SpoolError) -> String {
    match spool(error) {
        Outcome::Blocked(reason) | Outcome::Failed(reason) => reason.to_string(),
        _ => error.to_string(),
    }
}

pub(super) fn spool(error: &SpoolError) -> Outcome {
    if let Some((what, mend)) = &error.archive {
        return Outcome::Blocked(Reason::new("archive", what, mend));
    }
    let reason = |code, mend: &str| Reason::new(code, error.to_string(), mend);
    match error.errno {
        Errno::ENOSPC | Errno::EDQUOT => {
            Outcome::Blocked(reason("no-room", "make room on the spool's file system, or raise the quota"))
        }
        Errno::EROFS => Outcome::Blocked(reason("read-only", "mount it read-write")),
        Errno::EIO => Outcome::Failed(disk(error.to_string())),
        Errno::EPERM | Errno::EACCES => Outcome::Blocked(reason("spool", "see to owner and mode")),
        Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOLCK => Outcome::Blocked(reason(
            "no-locks",
            "the file system lacks leases, locks or exchange; use a local ext4, xfs or btrfs",
        )),
        Errno::ENOENT => {
            Outcome::Blocked(reason("spool", "see that mail.inbox and mail.archive name existing folders"))
        }
        _ => Outcome::Failed(reason("spool", "")),
    }
}

/// Nothing that mailready can do anything about, but for trying again.
fn disk(text: String) -> Reason {
    Reason::new("disk", text, "look into the kernel's log and after that disk; it is tried again")
}

pub(super) fn not_committed(why: &str) -> Reason {
    Reason::new(
        "interrupted",
        format!("the commit was not carried out, the mbox is in use as before: {why}"),
        "see to what is named there if it does not pass; it is tried again",
    )
}

pub(super) fn foreign_spool(inbox: &Path, what: &str) -> Reason {
    Reason::new(
        "spool",
        format!("{} is {what}, and is left alone", inbox.display()),
        "make it a regular file of the user's own, or hold this user",
    )
}

pub(super) fn shared(inbox: &Path) -> Reason {
    Reason::new(
        "shared",
        format!("{} is on a file system that other machines may write to", inbox.display()),
        "set mail.single_host = true if this machine alone reads and writes it",
    )
}

pub(super) fn sessions(protocols: &[String]) -> Reason {
    let which: Vec<String> = protocols.iter().map(|each| each.escape_debug().to_string()).collect();
    Reason::new("busy", format!("sessions are using the mbox ({})", which.join(", ")), "")
}

pub(super) fn in_use() -> Reason {
    Reason::new("in-use", "another program keeps the mbox open or locked", "")
}

pub(super) fn at_work() -> Reason {
    Reason::new("busy", "another job is working on this mailbox", "")
}

pub(super) fn unsettled() -> Reason {
    Reason::new(
        "unsettled",
        "an interrupted run of this mailbox is not settled yet",
        "see the journal for what it waits for",
    )
}

pub(super) fn thread_ended() -> Reason {
    Reason::new("internal", "the thread of this job ended", "please report this")
}

pub(super) fn no_run_id() -> Reason {
    Reason::new("state", "the archive record has no run id", "look at it by hand")
}

pub(super) fn state(error: &std::io::Error) -> Reason {
    Reason::new(
        "state",
        format!("the archive record cannot be written: {error}"),
        "make room in the state folder",
    )
}

/// The record of the run that set this mbox aside is not there, or cannot be read: the agent knows nothing of that run, and only its tombstone speaks.
pub(super) fn tombstone(inbox: &Path, run: &str) -> Reason {
    Reason::new(
        "tombstone",
        format!(
            "{} is the tombstone of the conversion {run}, of which this user has no archive record that can be read",
            inbox.display()
        ),
        format!(
            "mend or bring back the record {run} in the folder runs/ of agent.state and restart the agent; if the mailbox is another person's by now, move the tombstone away (mail may stand behind it)"
        ),
    )
}

/// What verify can still say after the retention.
pub(super) fn originals_gone(since: u64) -> Reason {
    let days = super::unix_seconds().saturating_sub(since) / (24 * 60 * 60);
    Reason::new(
        "originals-gone",
        format!(
            "the originals were removed {days} days ago, after keep.original_days, so there is nothing to compare with; what was made of them was verified before its commit, and a rollback makes mboxes of the Maildir as before"
        ),
        "",
    )
}

/// A converted user's Maildir is not there: whatever stands at the old place may be somebody else's.
pub(super) fn not_standing(user: &str, run: &str, why: &str) -> String {
    format!(
        "{why}; what stands at the old place is left alone. If the account has been given to somebody else since, move the record {run} of {user:?} out of the folder runs/ of agent.state and restart the agent"
    )
}

pub(super) fn no_original(archive: &Path) -> Reason {
    Reason::new(
        "original-lost",
        format!(
            "the original inbox is not in {} any more, so there is nothing to compare with",
            archive.display()
        ),
        "bring it back from a backup",
    )
}

pub(super) fn doveadm(error: &std::io::Error) -> Reason {
    Reason::new(
        "doveadm",
        format!("Dovecot's doveadm cannot be started: {error}"),
        "see that it is installed and along the agent's PATH",
    )
}

pub(super) fn not_drained(why: &str) -> Reason {
    Reason::new(
        "drain",
        format!("mail at the old place cannot be carried over: {why}"),
        "see to what is named there if it does not pass; it is tried again",
    )
}

pub(super) fn over_limit(inbox: &Path, length: u64, limit: u64) -> Reason {
    Reason::new(
        "size-limit",
        format!(
            "{} would have {length} bytes, and Postfix bounces mail to a mailbox of more than {limit}",
            inbox.display()
        ),
        "raise mailbox_size_limit in Postfix's main.cf and reload it, or have the user move messages to folders",
    )
}

pub(super) fn rollback_given_up(why: &str) -> Reason {
    Reason::new(
        "rollback",
        format!("the rollback was given up, the Maildir is in use as before: {why}"),
        "see to what is named there, and order it again",
    )
}

/// Past its commit: there is nothing to be done but to wait, or to mend what it waits for.
pub(super) fn rolling_forward(why: &str) -> Reason {
    Reason::new("unsettled", format!("the rollback is under way and goes on by itself: {why}"), "")
}

pub(super) fn folders_in_use(count: u64) -> String {
    format!("{count} folders are locked or open at their old places")
}

/// For the journal: the run is settled later.
pub(super) fn folders_left(count: u64) -> String {
    format!("{count} folders still stand at their old places")
}

pub(super) fn changing() -> Reason {
    Reason::new("changing", "the mbox kept changing", "")
}
