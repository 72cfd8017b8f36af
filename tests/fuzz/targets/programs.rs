//! What other programs and administrators write: doveadm's tables, settings.

use std::path::Path;

use mailready_config::Config;
use mailready_mailbox::Uidl;
use mailready_worker::fuzzing;

/// A wrong configuration is refused with a line that is in it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = Config::parse(text, Path::new("mailready.toml")) {
        let said = error.to_string();
        assert!(said.contains("mailready.toml"), "{said}");
        assert!(!said.is_empty());
    }
}

/// Names lead to mailboxes that a source can have, and each once.
pub fn told(data: &[u8]) {
    for (prefix, separator) in [("", '/'), ("INBOX.", '.')] {
        let names = fuzzing::told_names(data, prefix, separator);
        let lines = data.split(|b| *b == b'\n').count();
        assert!(names.len() <= lines, "a line tells of one mailbox");
        for name in names {
            assert!(!name.contains(['\t', '\n']), "{name:?}");
        }
    }
}

/// What is taken of `pop3_uidl_format` can be stored.
pub fn uidl(data: &[u8]) {
    let Ok(format) = std::str::from_utf8(data) else { return };
    for reuse in [false, true] {
        let uidl = Uidl::parse(format, reuse);
        assert_eq!(uidl, Uidl::parse(format, reuse));
        if uidl.is_some() {
            assert!(!format.is_empty() && !format.contains([' ', '\n', '\0']), "{format:?}");
        }
    }
}
