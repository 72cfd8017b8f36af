//! Values that are right each for itself and contradict each other. Some of these would lose mail, so they are found before
//! anything starts.

use crate::config::{Config, Convert, Reader};
use crate::error::{Problem, Wrong};
use crate::layers::Layers;
use crate::{Template, show_duration};

pub(crate) fn check(config: &Config, layers: &Layers, problems: &mut Vec<Problem>) {
    let mut found = Found { layers, problems };
    let (users, mail, agent) = (&config.users, &config.mail, &config.agent);

    if users.min_uid > users.max_uid {
        let what = format!("users.min_uid = {} is above users.max_uid = {}", users.min_uid, users.max_uid);
        found.conflict(&[("users", "min_uid"), ("users", "max_uid")], what);
    }
    if users.convert == Convert::Listed && users.allow == users.hold {
        let what =
            "users.allow and users.hold are the same file: whoever is allowed would be held".to_owned();
        found.conflict(&[("users", "hold"), ("users", "allow")], what);
    }
    for (a, b, a_path, b_path) in [
        ("socket", "self_socket", &agent.socket, &agent.self_socket),
        ("socket", "control", &agent.socket, &agent.control),
        ("self_socket", "control", &agent.self_socket, &agent.control),
    ] {
        if a_path == b_path {
            let what = format!("agent.{a} and agent.{b} are both {}", a_path.display());
            found.conflict(&[("agent", b), ("agent", a)], what);
        }
    }
    if mail.locks.is_empty() {
        let what = "mail.locks is empty: nothing would keep deliverers away during a conversion".to_owned();
        found.conflict(&[("mail", "locks")], what);
    }
    if config.site.readers.contains(&Reader::Dovecot) && config.site.dovecot_config.is_empty() {
        let what =
            "site.readers names dovecot, but site.dovecot_config names no file to check it by".to_owned();
        found.conflict(&[("site", "dovecot_config"), ("site", "readers")], what);
    }
    if config.sessions.budget > config.sessions.wait_limit {
        let budget = show_duration(config.sessions.budget);
        let limit = show_duration(config.sessions.wait_limit);
        let what = format!("sessions.budget = {budget} is longer than sessions.wait_limit = {limit}");
        found.conflict(&[("sessions", "budget"), ("sessions", "wait_limit")], what);
    }
    places(config, &mut found);
}

/// The places of mail against each other: what lies in what.
fn places(config: &Config, found: &mut Found<'_>) {
    let mail = &config.mail;
    if mail.inbox.is_within(&mail.maildir) || mail.maildir.is_within(&mail.inbox) {
        found.overlap(
            "maildir",
            &mail.maildir,
            "inbox",
            &mail.inbox,
            "one of them is a file and the other a folder",
        );
    }
    if mail.work.is_within(&mail.maildir) || mail.maildir.is_within(&mail.work) {
        let why = "servers show what is in a Maildir, and the work folder is not mail";
        found.overlap("work", &mail.work, "maildir", &mail.maildir, why);
    }
    if mail.work.is_within(&mail.inbox) || mail.inbox.is_within(&mail.work) {
        found.overlap("work", &mail.work, "inbox", &mail.inbox, "the inbox is no folder");
    }
    let Some(folders) = &mail.folders else { return };
    if mail.maildir == *folders {
        let why = "the new mail would stand among the old mbox files; choose another maildir";
        found.overlap("maildir", &mail.maildir, "folders", folders, why);
    }
    if mail.work.is_within(folders) {
        let why = "a server would show each message file in it as a folder; put it outside, on the same file system";
        found.overlap("work", &mail.work, "folders", folders, why);
    }
    if folders.is_within(&mail.maildir) && mail.maildir != *folders {
        let why = "the Maildir must not exist yet, and the mbox files do";
        found.overlap("folders", folders, "maildir", &mail.maildir, why);
    }
}

struct Found<'a> {
    layers: &'a Layers,
    problems: &'a mut Vec<Problem>,
}

impl Found<'_> {
    /// Notes a contradiction at the first of its keys that a file sets: that is the line to change.
    fn conflict(&mut self, keys: &[(&'static str, &'static str)], what: String) {
        let places =
            || keys.iter().filter_map(|(section, name)| self.layers.get(section, name)).map(|l| &l.place);
        let Some(place) = places().find(|place| place.line.is_some()).or_else(|| places().next()) else {
            return;
        };
        let (file, line) = (place.file.clone(), place.line);
        self.problems.push(Problem { file, line, wrong: Wrong::Conflict(what) });
    }

    fn overlap(&mut self, a: &'static str, a_at: &Template, b: &'static str, b_at: &Template, why: &str) {
        let how = if a_at == b_at {
            "the same place as"
        } else if a_at.is_within(b_at) {
            "inside"
        } else {
            "around"
        };
        let what = format!("mail.{a} = \"{a_at}\" is {how} mail.{b} = \"{b_at}\": {why}");
        self.conflict(&[("mail", a), ("mail", b)], what);
    }
}
