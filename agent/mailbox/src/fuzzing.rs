//! What fuzz targets need to see of the engine's inside (`tests/fuzz`). Not part of its interface.

use crate::content::Reader;
use crate::filter::Filter;
use crate::from_line::{self, right};
use crate::header::Fed;
use crate::meta::{Folder, Meta};
use crate::receipt::Entry;
use crate::rules::LocalTime;
use crate::split::Splitter;
use crate::window::Window;
use crate::{Known, Result, Server, Zone, mutf7, percent, uidlist};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

/// A message as a pass over an mbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Offset of its From_ line.
    pub offset: u64,
    /// Offset behind its last byte.
    pub end: u64,
    /// What clients see.
    pub bytes: Vec<u8>,
    pub date: i64,
    /// 0 for the pseudo message.
    pub uid: u32,
    pub flags: String,
    pub keywords: Vec<u16>,
    pub pseudo: bool,
    pub uidl: Option<String>,
}

/// What a whole mbox says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    pub messages: Vec<Seen>,
    pub uid_next: u32,
    pub keywords: Vec<String>,
    /// Of all bytes.
    pub hash: [u8; 32],
}

/// Reads an mbox of less than a MiB through a window of that many bytes.
pub fn read(server: Server, mbox: &[u8], window: usize) -> Result<Mailbox> {
    let memory = memfd_create(c"mbox", MFdFlags::MFD_CLOEXEC).map_err(crate::Error::io("make", "mbox"))?;
    let mut file = File::from(memory);
    file.write_all(mbox).map_err(crate::Error::io("write", "mbox"))?;
    // Nothing of this size overflows.
    let nowhere = File::open("/").map_err(crate::Error::io("open", "/"))?;
    let window = Window::with_capacity(
        file.as_fd(),
        "mbox".into(),
        0,
        mbox.len() as u64,
        blake3::Hasher::new(),
        0,
        window,
    );
    let mut split = Splitter::by(server, window);
    let mut reader = Reader::new(server, nowhere.as_fd());
    let mut folder = Folder::by(server, &Known { uid_validity: Some(7), ..Known::default() });
    let zone = Zone::utc();
    let mut local = LocalTime::new(&zone);
    let (mut meta, mut messages) = (Meta::default(), Vec::new());
    while let Some(head) = split.next_message()? {
        let date = head.stamp.map_or(0, |stamp| stamp.unix_seconds(&mut local));
        folder.begin();
        meta.reset();
        let content = reader.read(&mut split, false, &mut |which, value| {
            folder.header(&mut meta, which, value);
            meta.content_length
        })?;
        folder.complete(&mut meta).map_err(|reason| crate::Error::Blocked { path: "mbox".into(), reason })?;
        messages.push(Seen {
            offset: head.offset,
            end: split.pos(),
            bytes: content.bytes().to_vec(),
            date,
            uid: meta.uid,
            flags: meta.flags.letters().collect(),
            keywords: meta.keywords.clone(),
            pseudo: meta.pseudo,
            uidl: folder.uidl(&meta, 7),
        });
    }
    let hash = *split.into_window().into_hasher()?.finalize().as_bytes();
    Ok(Mailbox { messages, uid_next: folder.uid_next(), keywords: folder.keywords().to_vec(), hash })
}

/// INTERNALDATE of a From_ line by Dovecot's grammar, which begins behind its `From ` and may look on behind its end.
pub fn from_line(data: &[u8]) -> Option<i64> {
    from_line::parse(data).map(|stamp| stamp.unix_seconds(&mut LocalTime::new(&Zone::utc())))
}

/// How far behind the end of a line that may be.
pub const LOOK_AHEAD: usize = from_line::LOOK_AHEAD;

/// INTERNALDATE of a From_ line by UW's grammar.
pub fn from_line_right(line: &[u8], crlf: bool) -> Option<i64> {
    right::parse(line, crlf).map(|stamp| stamp.unix_seconds(&mut LocalTime::new(&Zone::utc())))
}

/// What a header filter makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filtered {
    /// What is shown of its header; behind the header's end nothing is.
    pub shown: Vec<u8>,
    /// What was told, in order.
    pub told: Vec<(String, Vec<u8>)>,
    /// Bytes of the header, if it ended.
    pub ended: Option<usize>,
    pub md5: Option<[u8; 16]>,
}

/// Filters a message that comes in pieces.
pub fn filter(server: Server, pieces: &[&[u8]]) -> Filtered {
    let mut filter = Filter::of(server);
    filter.begin(b"From a@b Fri Nov  9 22:33:52 2001\n");
    let (mut shown, mut told, mut before, mut ended) = (Vec::new(), Vec::new(), 0, None);
    let mut tell = |which, value: &[u8]| told.push((format!("{which:?}"), value.to_vec()));
    for piece in pieces {
        if let Fed::Ended(n) = filter.feed(piece, &mut shown, &mut tell) {
            ended = Some(before + n);
            break;
        }
        before += piece.len();
    }
    if ended.is_none() {
        filter.finish(&mut shown, &mut tell);
    }
    let md5 = filter.fingerprint().map(|who| who.md5);
    Filtered { shown, told, ended, md5 }
}

/// A line of a uidlist.
pub fn uidlist_line(uid: u32, guid: Option<[u8; 16]>, uidl: Option<String>, file: &str) -> String {
    let mut text = String::new();
    uidlist::line(&mut text, uid, &uidlist::Ids { guid, uidl }, file);
    text
}

/// UID, GUID and file of a line of a uidlist.
pub fn read_uidlist_line(line: &str) -> Option<(u32, Option<[u8; 16]>, String)> {
    uidlist::parse(line).map(|(uid, file)| (uid, uidlist::guid(line), file.to_owned()))
}

/// A line of a receipt, read and written again.
pub fn receipt_line(line: &str) -> Option<(Entry, String)> {
    let entry = Entry::parse(line)?;
    let mut text = String::new();
    entry.write(&mut text);
    Some((entry, text))
}

/// A name on disk, and back.
pub fn mutf7(name: &str) -> String {
    mutf7::encode(name)
}

/// See [`mutf7`].
pub fn from_mutf7(disk: &[u8]) -> Option<String> {
    mutf7::decode(disk)
}

/// Any bytes as one word, and back.
pub fn percent(bytes: &[u8]) -> String {
    percent::encode(bytes)
}

/// See [`percent`].
pub fn from_percent(text: &str) -> Option<Vec<u8>> {
    percent::decode(text)
}

/// The hash of all bytes of an mbox.
pub fn hash(data: &[u8]) -> [u8; 32] {
    *blake3::hash(data).as_bytes()
}
