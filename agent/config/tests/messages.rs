//! What an administrator reads when the configuration is wrong: word for word, with file and line.

use std::path::Path;

use mailready_config::{Config, ConfigError, KEYS};

/// The message for a text, line by line.
fn said(text: &str) -> Vec<String> {
    match Config::parse(text, Path::new("m.toml")) {
        Ok(_) => Vec::new(),
        Err(e) => e.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
fn says(text: &str, lines: &[&str]) {
    assert_eq!(said(text), lines, "{text}");
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_one() {
    says(
        "[users]\nconvert = \"none\"\nmin_iud = 500\n",
        &["m.toml:3: unknown key users.min_iud; the nearest known key is users.min_uid"],
    );
    says(
        "[users]\nmaildir = \"%h/M\"\n",
        &["m.toml:2: unknown key users.maildir; the nearest known key is mail.maildir"],
    );
    says("workers = 4\n", &["m.toml:1: unknown key workers; the nearest known key is agent.workers"]);
    says(
        "\n\n[session]\n",
        &["m.toml:3: unknown section [session]; the nearest known section is [sessions]"],
    );
}

#[test]
fn every_key_is_found_from_a_slip_in_it() {
    for key in KEYS {
        let slip = format!("[{}]\n{}x = {}\n", key.section, key.name, key.default);
        let expected = format!(
            "m.toml:2: unknown key {}x; the nearest known key is {}",
            key.full_name(),
            key.full_name()
        );
        assert_eq!(said(&slip), [expected]);
    }
}

#[test]
fn every_key_refuses_another_type() {
    for key in KEYS {
        let wrong = if key.default.starts_with('"') { "5" } else { "\"x\"" };
        let lines = said(&format!("[{}]\n{} = {wrong}\n", key.section, key.name));
        assert_eq!(lines.len(), 1, "{}: {lines:?}", key.full_name());
        assert!(lines[0].starts_with(&format!("m.toml:2: {} is ", key.full_name())), "{lines:?}");
    }
}

#[test]
fn a_wrong_type_is_told_with_the_right_one() {
    says("[users]\nmin_uid = \"500\"\n", &["m.toml:2: users.min_uid is text, but must be a whole number"]);
    says(
        "[mail]\nsingle_host = 1\n",
        &["m.toml:2: mail.single_host is a whole number, but must be true or false"],
    );
    says(
        "[mail]\nlocks = \"fcntl\"\n",
        &["m.toml:2: mail.locks is text, but must be a list of texts, such as [\"one\", \"two\"]"],
    );
    says(
        "[site]\nreaders = [\"dovecot\", 3]\n",
        &["m.toml:2: site.readers is a list, but must be a list of texts, such as [\"one\", \"two\"]"],
    );
    says("users = 3\n", &["m.toml:1: users is a whole number, but must be a section in brackets"]);
}

#[test]
fn a_wrong_value_is_told_with_what_is_allowed() {
    says(
        "[users]\nconvert = \"some\"\n",
        &["m.toml:2: users.convert = \"some\" is not allowed: \"none\", \"listed\", \"all\""],
    );
    says("[agent]\nworkers = 0\n", &["m.toml:2: agent.workers = 0 is not allowed: a number from 1 to 64"]);
    says(
        "[agent]\nworkers = 99999999999999999999\n",
        &["m.toml:2: agent.workers = 99999999999999999999 is not allowed: a number from 1 to 64"],
    );
    says(
        "[sessions]\nbudget = \"2m\"\n",
        &[
            "m.toml:2: sessions.budget = \"2m\" is not allowed: a time from 1s to 50s: a number and ms, s, m, h or d, such as \"20s\"",
        ],
    );
    says(
        "[mail]\nlocks = [\"dotlock\", \"lockf\"]\n",
        &[
            "m.toml:2: mail.locks = [\"dotlock\", \"lockf\"] is not allowed: \"lockf\" in it; allowed: \"dotlock\", \"fcntl\", \"flock\"",
        ],
    );
    says(
        "[mail]\nlocks = [\"fcntl\", \"fcntl\"]\n",
        &["m.toml:2: mail.locks = [\"fcntl\", \"fcntl\"] is not allowed: \"fcntl\" stands in it twice"],
    );
    says(
        "[names]\ndetail = \"a\"\n",
        &[
            "m.toml:2: names.detail = \"a\" is not allowed: one character, such as \"+\", no letter, digit or @; or \"\"",
        ],
    );
    says(
        "[names]\nrewrite = [\"ppp-\"]\n",
        &[
            "m.toml:2: names.rewrite = [\"ppp-\"] is not allowed: \"ppp-\" in it; allowed: a pattern and what becomes of it, such as \"ppp-(.*) => $1\"",
        ],
    );
    says(
        "[background]\nwindow = [\"2-6\"]\n",
        &[
            "m.toml:2: background.window = [\"2-6\"] is not allowed: \"2-6\" in it; allowed: times of day such as \"02:00-06:00\"",
        ],
    );
    says(
        "[agent]\nstate = \"var/lib\"\n",
        &["m.toml:2: agent.state = \"var/lib\" is not allowed: an absolute path without . and .."],
    );
    says(
        "[agent]\nbus = \"session\"\n",
        &[
            "m.toml:2: agent.bus = \"session\" is not allowed: \"system\", \"none\" or a D-Bus address such as \"unix:path=/run/dbus/system_bus_socket\"",
        ],
    );
}

#[test]
fn paths_of_users_have_to_be_each_users_own() {
    says(
        "[mail]\ninbox = \"/var/mail/inbox\"\n",
        &[
            "m.toml:2: mail.inbox = \"/var/mail/inbox\" is not allowed: every user needs a path of their own: %u, %n or %h must be in it",
        ],
    );
    says(
        "[mail]\ninbox = \"/var/mail/%1u\"\n",
        &[
            "m.toml:2: mail.inbox = \"/var/mail/%1u\" is not allowed: every user needs a path of their own: %u, %n or %h must be in it",
        ],
    );
    says(
        "[mail]\nmaildir = \"~/Maildir\"\n",
        &["m.toml:2: mail.maildir = \"~/Maildir\" is not allowed: a path begins with / or %h"],
    );
    says(
        "[mail]\nmaildir = \"/m/%s\"\n",
        &[
            "m.toml:2: mail.maildir = \"/m/%s\" is not allowed: %s is no variable; there are %u %n %d %h, %1u (first byte), %% (a percent sign)",
        ],
    );
}

#[test]
fn contradictions_are_told_at_the_line_that_makes_them() {
    says("[users]\nmax_uid = 500\n", &["m.toml:2: users.min_uid = 1000 is above users.max_uid = 500"]);
    says(
        "[mail]\nwork = \"%h/Maildir/.work\"\n",
        &[
            "m.toml:2: mail.work = \"%h/Maildir/.work\" is inside mail.maildir = \"%h/Maildir\": servers show what is in a Maildir, and the work folder is not mail",
        ],
    );
    says(
        "[mail]\n\nfolders = \"%h\"\n",
        &[
            "m.toml:3: mail.work = \"%h/.mailready\" is inside mail.folders = \"%h\": a server would show each message file in it as a folder; put it outside, on the same file system",
        ],
    );
    says(
        "[mail]\nmaildir = \"%h/mail/\"\n",
        &[
            "m.toml:2: mail.maildir = \"%h/mail\" is the same place as mail.folders = \"%h/mail\": the new mail would stand among the old mbox files; choose another maildir",
        ],
    );
    says(
        "[mail]\nlocks = []\n",
        &["m.toml:2: mail.locks is empty: nothing would keep deliverers away during a conversion"],
    );
    says(
        "[agent]\ncontrol = \"/run/mailready/self.sock\"\n",
        &["m.toml:2: agent.self_socket and agent.control are both /run/mailready/self.sock"],
    );
    says(
        "[site]\ndovecot_config = []\n",
        &["m.toml:2: site.readers names dovecot, but site.dovecot_config names no file to check it by"],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    says(
        "[users]\nconvert = \"some\"\nmin_iud = 5\n[agent]\nworkers = 0\n",
        &[
            "m.toml:2: users.convert = \"some\" is not allowed: \"none\", \"listed\", \"all\"",
            "m.toml:3: unknown key users.min_iud; the nearest known key is users.min_uid",
            "m.toml:5: agent.workers = 0 is not allowed: a number from 1 to 64",
        ],
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let lines = said("[users]\nconvert = none\n");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("m.toml:2: not valid TOML: "), "{lines:?}");
    let lines = said("[users]\nmin_uid = 5\nmin_uid = 6\n");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("m.toml:3: not valid TOML: duplicate key"), "{lines:?}");
}

#[test]
fn a_file_among_several_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("mailready.toml");
    let more = dir.path().join("conf.d/50-site.toml");
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    std::fs::write(&main, "[users]\nmin_uid = 2000\n").unwrap();
    std::fs::write(&more, "# ours\n[users]\nmax_uid = 1999\n").unwrap();
    let error = Config::load(Some(&main)).unwrap_err();
    assert!(matches!(&error, ConfigError::Problems(p) if p.len() == 1));
    // The main file sets the first of the two keys, so it is named first.
    let expected = format!("{}:2: users.min_uid = 2000 is above users.max_uid = 1999", main.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_that_cannot_be_read_as_text_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("mailready.toml");
    std::fs::write(&main, b"[users]\n# \xff\n").unwrap();
    let said = Config::load(Some(&main)).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}: ", main.display())), "{said}");
}
