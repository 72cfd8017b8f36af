//! Whether the promises are kept on disks whose power was cut.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mailready_mailbox::tombstone::TOMBSTONE_LEN;
use mailready_tests::lab::{Daemon, Doing, Folder, LabError, Message, Result};
use mailready_tests::power::inside::FOLDER;
use mailready_tests::power::letters;

use super::promises::{Ended, Promises};
use super::stand::Stand;

/// For a run to be brought to its end, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mounts the disks, starts the agent, and says what the mail is when it has settled. With `heal` the mailbox is converted after that, as if nothing had happened, and looked at again.
///
/// # Errors
/// The promise that was not kept.
pub fn judge(stand: &Stand, disks: &str, promises: &Promises, heal: bool) -> Result<Ended> {
    if let Some(wrong) = &promises.wrong {
        return Err(wrong_because(format!("the guest said: {wrong}")));
    }
    stand.mount(disks)?;
    let mut agent = None;
    let judged = judge_mounted(stand, promises, heal, &mut agent);
    let said = agent.as_ref().map(|agent: &Daemon| agent.log.tail());
    if let Some(agent) = agent {
        agent.terminate()?;
    }
    match judged {
        Ok(ended) => {
            stand.unmount()?;
            Ok(ended)
        }
        Err(error) => {
            stand.unmount_by_force();
            Err(wrong_because(format!("{error}\nthe agent that settled it:\n{}", said.unwrap_or_default())))
        }
    }
}

fn wrong_because(got: String) -> LabError {
    LabError::Protocol { asked: "the promises kept".into(), got }
}

fn judge_mounted(stand: &Stand, promises: &Promises, heal: bool, slot: &mut Option<Daemon>) -> Result<Ended> {
    check_places(stand)?;
    stand.remove_dotlocks_of_deliverer()?;
    let agent = slot.insert(stand.start_agent()?);
    settle(stand, agent, Late::InTheInbox)?;
    // Folders are looked after when the user comes.
    stand.knock()?;
    let ended = settle(stand, agent, Late::Anywhere)?;
    check_mail(&stand.expected, &stand.dump()?, promises)?;
    if promises.answered.is_some_and(|answered| answered != ended) {
        return Err(wrong_because(format!(
            "the agent had answered {:?}, and it is {ended:?}",
            promises.answered
        )));
    }
    if heal && ended == Ended::Mbox {
        let said = stand.machine.run("/usr/bin/mailready", ["convert", "--json", &stand.user.name])?;
        if settle(stand, agent, Late::InTheInbox)? != Ended::Maildir {
            return Err(wrong_because(format!("a conversion afterwards: {said}")));
        }
        check_mail(&stand.expected, &stand.dump()?, promises)?;
    }
    Ok(ended)
}

/// What every moment must show, before any agent has done anything: at the old places stand regular files of the user's, of one link, with something in them.
fn check_places(stand: &Stand) -> Result<()> {
    for path in stand.places() {
        let file =
            stand.machine.inside(|| fs::symlink_metadata(&path))?.doing(|| format!("absent: {path}"))?;
        if !(file.is_file() && file.len() > 0 && file.nlink() == 1 && file.uid() == stand.user.uid) {
            return Err(wrong_because(format!("{path}: {file:?}")));
        }
    }
    Ok(())
}

/// What late mail has to be carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    InTheInbox,
    Anywhere,
}

/// Waits until nothing of an interrupted run is left and late mail is carried over.
fn settle(stand: &Stand, agent: &Daemon, late: Late) -> Result<Ended> {
    let begun = Instant::now();
    loop {
        let (left, found) = stand.machine.inside(|| look(stand, late))?;
        let Some(found) = found.filter(|_| left.is_empty()) else {
            if begun.elapsed() > PATIENCE || !agent.is_running() {
                return Err(LabError::Timeout {
                    what: format!("the interrupted run is settled; still there: {left:?}"),
                    waited: begun.elapsed(),
                    log: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        return Ok(found);
    }
}

/// `drain-RUNID.N-E.TO`, where that of the inbox is `drain-RUNID.E.TO`.
fn is_of_folder(name: &str) -> bool {
    name.starts_with("drain-") && name.split('.').nth(1).is_some_and(|label| label.contains('-'))
}

/// What is left of an interrupted run, and what the mail is, if it is one thing.
fn look(stand: &Stand, late: Late) -> (Vec<String>, Option<Ended>) {
    let home = stand.user.home();
    let (work, maildir) = (format!("{home}/.mailready"), format!("{home}/Maildir"));
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut left: Vec<String> = names(&work);
    left.retain(|name| {
        let beginnings = ["stage-", "back-", "rolling-back", "lock-", "check-"];
        beginnings.iter().any(|begin| name.starts_with(begin)) || name.ends_with(".tmp")
    });
    // What a drain of folders had begun is gone on with when the user comes.
    let before_arrival = late == Late::InTheInbox;
    left.retain(|name| !(before_arrival && (name.starts_with("lock-") || is_of_folder(name))));
    let folders = [format!("{home}/mail"), format!("{home}/mail/lists")];
    let folders = folders.into_iter().filter(|_| !before_arrival);
    for folder in ["/var/mail".to_owned()].into_iter().chain(folders) {
        left.extend(names(&folder).into_iter().filter(|name| name.ends_with(".lock")));
    }
    let records = "/var/lib/mailready/runs";
    for record in names(records) {
        let text = fs::read_to_string(format!("{records}/{record}")).unwrap_or_default();
        if !["converted", "undone"].iter().any(|phase| text.contains(&format!("phase = \"{phase}\""))) {
            left.push(format!("record {record}"));
        }
    }
    let marker = fs::read_to_string(format!("{maildir}/mailready-marker")).unwrap_or_default();
    let run = marker.lines().find_map(|line| line.strip_prefix("run ")).unwrap_or("none");
    let archive = names("/var/mail/.mailready");
    // Runs that were rolled back keep what they had set aside.
    let is_left = |name: &&String| {
        name.ends_with(".lock")
            || name.ends_with(".back")
            || name.ends_with(".new")
            || (name.starts_with(run) && !name.ends_with(".0"))
    };
    left.extend(archive.iter().filter(is_left).map(|name| format!("archive {name}")));
    let tombstone =
        |path: &str| fs::read(path).is_ok_and(|text| text.starts_with(b"This mailbox has become a Maildir"));
    let tombstones: Vec<bool> = stand.places().iter().map(|place| tombstone(place)).collect();
    if !marker.is_empty() {
        let watched = if late == Late::Anywhere { usize::MAX } else { 1 };
        let is_late = |place: &&String| fs::metadata(place).is_ok_and(|file| file.len() > TOMBSTONE_LEN);
        let places = stand.places();
        left.extend(places.iter().take(watched).filter(is_late).map(|place| format!("late mail at {place}")));
        if late == Late::Anywhere {
            let is_rest = |name: &String| !name.ends_with(".0");
            left.extend(names(&format!("{work}/aside-{run}")).into_iter().filter(is_rest));
        }
        let is_drain = |name: &String| {
            name.starts_with(&format!("drain-{run}")) && !(before_arrival && is_of_folder(name))
        };
        let has_mail = |name: &String| !names(&format!("{work}/{name}")).is_empty();
        left.extend(names(&work).into_iter().filter(is_drain).filter(has_mail));
    }
    let (all, none) = (tombstones.iter().all(|each| *each), !tombstones.contains(&true));
    let found = match (!marker.is_empty(), Path::new(&maildir).exists(), all, none) {
        (true, true, true, false) => Some(Ended::Maildir),
        (false, false, false, true) => Some(Ended::Mbox),
        _ => {
            left.push(format!("marker {}, tombstones {tombstones:?}", !marker.is_empty()));
            None
        }
    };
    (left, found)
}

/// A message as it must stay: mod-sequences begin anew without an index, and \Recent is the next session's.
fn lasting(message: &Message) -> Message {
    let mut message = message.clone();
    message.modseq = 0;
    message.flags.remove("\\Recent");
    message
}

/// Exactly the mail that there was, and every acknowledged letter once.
fn check_mail(expected: &[Folder], found: &[Folder], promises: &Promises) -> Result<()> {
    let names = |folders: &[Folder]| {
        folders.iter().map(|f| String::from_utf8_lossy(&f.name).into_owned()).collect::<Vec<_>>()
    };
    if names(expected) != names(found) {
        return Err(wrong_because(format!("folders {:?} became {:?}", names(expected), names(found))));
    }
    let mut letters = Vec::new();
    for (before, after) in expected.iter().zip(found) {
        let name = String::from_utf8_lossy(&before.name);
        let wrong = |what: String| Err(wrong_because(format!("{name}: {what}")));
        if before.uidvalidity != after.uidvalidity {
            return wrong(format!("UIDVALIDITY {} became {}", before.uidvalidity, after.uidvalidity));
        }
        let rest = match after.messages.split_at_checked(before.messages.len()) {
            Some((same, rest)) => {
                if let Some((old, new)) =
                    before.messages.iter().zip(same).find(|(old, new)| lasting(old) != lasting(new))
                {
                    return wrong(format!("{:?}\nbecame\n{:?}", lasting(old), lasting(new)));
                }
                rest
            }
            None => {
                return wrong(format!(
                    "{} messages, there were {}",
                    after.messages.len(),
                    before.messages.len()
                ));
            }
        };
        letters.extend_from_slice(rest);
        if !(name == "INBOX" || FOLDER.ends_with(&*name) || rest.is_empty()) {
            return wrong(format!("{} messages more", rest.len()));
        }
    }
    check_letters(&letters, promises)
}

fn check_letters(found: &[Message], promises: &Promises) -> Result<()> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for message in found {
        let body = String::from_utf8_lossy(&message.body).replace("\r\n", "\n");
        let id = letters::id_of(&message.body).filter(|id| promises.tried.contains(id));
        match id {
            Some(id) if body == letters::message(&id) => *times.entry(id).or_default() += 1,
            // Nobody has acknowledged it, so its beginning is as good as nothing.
            _ => {
                let torn = body.trim_end();
                let unfinished = promises.tried.difference(&promises.acknowledged);
                if !unfinished.clone().any(|id| letters::message(id).starts_with(torn)) {
                    return Err(wrong_because(format!("a message that nobody sent: {body:?}")));
                }
            }
        }
    }
    let lost: Vec<_> = promises.acknowledged.iter().filter(|id| !times.contains_key(*id)).collect();
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    if lost.is_empty() && twice.is_empty() {
        return Ok(());
    }
    Err(wrong_because(format!("letters lost: {lost:?}, more than once: {twice:?}")))
}
