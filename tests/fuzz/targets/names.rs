//! Names of folders, on disk and off it.

use mailready_mailbox::layout::{INBOX, Layout, mbox_name};
use mailready_mailbox::{fuzzing, subscriptions};

const LAYOUTS: [Layout; 2] = [Layout::MaildirPlusPlus, Layout::Fs];

pub fn mutf7(data: &[u8]) {
    if let Some(name) = fuzzing::from_mutf7(data) {
        assert_eq!(fuzzing::mutf7(&name).as_bytes(), data, "{name:?}");
    }
    let name = String::from_utf8_lossy(data);
    let disk = fuzzing::mutf7(&name);
    assert!(disk.is_ascii());
    let expected = (!name.contains('\0')).then(|| name.clone().into_owned());
    assert_eq!(fuzzing::from_mutf7(disk.as_bytes()), expected);
}

/// A folder that a name leads to leads back to the name, and stays below the root.
pub fn layout(data: &[u8]) {
    let name = String::from_utf8_lossy(data);
    for layout in LAYOUTS {
        if let Ok(directory) = layout.directory(&name) {
            assert_eq!(layout.name(directory.as_bytes()).as_deref(), Some(&*name), "{directory}");
            assert!(directory.split('/').all(|level| level != ".."), "{directory}");
            assert!(!directory.starts_with('/') && !directory.contains('\0'), "{directory}");
            assert_eq!(directory.is_empty(), name == INBOX, "the root is the inbox");
        }
        if let Some(name) = layout.name(data) {
            assert_eq!(layout.directory(&name).as_deref().map(str::as_bytes), Ok(data), "{name}");
        }
    }
    if let Some(name) = mbox_name(data) {
        assert!(!name.eq_ignore_ascii_case(INBOX) && !name.split('/').any(str::is_empty), "{name}");
    }
}

pub fn percent(data: &[u8]) {
    let word = fuzzing::percent(data);
    assert!(word.bytes().all(|b| b.is_ascii_graphic()));
    assert_eq!(fuzzing::from_percent(&word).as_deref(), Some(data));
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(bytes) = fuzzing::from_percent(text)
    {
        assert_eq!(fuzzing::percent(&bytes), text, "one word, one spelling");
    }
}

/// There, back and there again is there.
pub fn subscriptions(data: &[u8]) {
    for layout in LAYOUTS {
        let there = subscriptions::to_maildir(data, layout);
        let back = subscriptions::to_mbox(&there.text, layout);
        assert_eq!(back.left_out, [""; 0], "what the Maildir says the mbox tree can say");
        let again = subscriptions::to_maildir(&back.text, layout);
        assert_eq!((&again.text, again.left_out), (&there.text, Vec::new()));
        subscriptions::from_mailboxlist(data, "mail", layout);
    }
}
