//! Our own files and Dovecot's uidlist: what was written is read as it was, and what is read is written as it was.

use mailready_mailbox::fuzzing;
use mailready_mailbox::marker::Marker;
use mailready_mailbox::tombstone::{self, TOMBSTONE_LEN};

pub fn marker(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(Some(marker)) = Marker::parse(text) else { return };
    let printed = marker.text();
    assert_eq!(Marker::parse(&printed).expect("ours"), Some(marker), "{printed}");
    // One that was not written to its end is none.
    let cut = printed.len() - 1 - "end".len();
    assert_eq!(Marker::parse(&printed[..cut]).expect("the beginning of ours"), None);
}

pub fn receipt(data: &[u8]) {
    let Some(line) = data.split(|b| *b == b'\n').next() else { return };
    let Ok(line) = std::str::from_utf8(line) else { return };
    let Some((entry, printed)) = fuzzing::receipt_line(line) else { return };
    assert_eq!(fuzzing::receipt_line(printed.trim_end_matches('\n')), Some((entry.clone(), printed.clone())));
    assert_eq!(printed.matches('\n').count(), 1, "one line: {printed:?}");
    assert!(!entry.file.contains('/') && !entry.file.starts_with('.'), "it leads elsewhere: {}", entry.file);
}

pub fn tombstone(data: &[u8]) {
    let length = TOMBSTONE_LEN as usize;
    let found = tombstone::recognise(data);
    if let Some(run) = &found {
        assert_eq!(&data[..length], tombstone::text(run));
    }
    assert_eq!(
        found,
        tombstone::recognise(&data[..data.len().min(length)]),
        "what stands behind it does not count"
    );
}

pub fn uidlist(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some((uid, guid, file)) = fuzzing::read_uidlist_line(&text)
        && !file.contains('\n')
    {
        let printed = fuzzing::uidlist_line(uid, guid, None, &file);
        assert_eq!(fuzzing::read_uidlist_line(printed.trim_end_matches('\n')), Some((uid, guid, file)));
    }
    // Any identifier that POP3 allows, in front of any name that a file of ours has.
    let uidl: String = data.iter().take(70).map(|b| char::from(b'!' + b % 94)).collect();
    let file = "1.M2P3.host,S=4,W=5";
    for guid in [None, Some([data.len() as u8; 16])] {
        let uidl = (!uidl.is_empty()).then(|| uidl.clone());
        let line = fuzzing::uidlist_line(7, guid, uidl, file);
        let read = fuzzing::read_uidlist_line(line.trim_end_matches('\n'));
        assert_eq!(read, Some((7, guid, file.to_owned())), "{line}");
    }
}
