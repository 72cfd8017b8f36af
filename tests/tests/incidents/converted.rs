//! A mailbox as the engine alone converts it, by `mailready convert-file`, read back file by file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use mailready_tests::lab::{Binaries, Result};
use tempfile::TempDir;

/// A message of the Maildir.
#[derive(Clone, Debug)]
pub struct Mail {
    pub uid: u32,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// Letters behind `:2,`.
    pub flags: String,
    /// Whether it lies in new/, and so is \Recent for the next session.
    pub recent: bool,
    /// Its time: INTERNALDATE in unix seconds.
    pub date: i64,
    /// Its name without the flags.
    pub name: String,
}

impl Mail {
    /// The file as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// As it goes over the wire: every line ends in CRLF.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.bytes.len());
        for (at, &byte) in self.bytes.iter().enumerate() {
            if byte == b'\n' && (at == 0 || self.bytes[at - 1] != b'\r') {
                wire.push(b'\r');
            }
            wire.push(byte);
        }
        wire
    }
}

/// What became of a mailbox.
pub struct Converted {
    /// In the order of their UIDs.
    pub mail: Vec<Mail>,
    /// UIDVALIDITY and UIDNEXT.
    pub numbers: (u32, u32),
    /// The names of keywords, by their letters.
    pub keywords: Vec<(char, String)>,
    _folder: TempDir,
}

impl Converted {
    /// Converts a mailbox in the time zone of the tests' site.
    pub fn of(mbox: &[u8]) -> Result<Self> {
        Self::in_zone(mbox, "UTC")
    }

    /// As [`Self::of`], where the server's clock shows another time.
    pub fn in_zone(mbox: &[u8], zone: &str) -> Result<Self> {
        let program = Binaries::find()?.path("mailready");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("mbox"), mbox).unwrap();
        fs::write(at("mailready.toml"), "").unwrap();
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(at("mailready.toml"))
            .arg("convert-file")
            .arg(at("mbox"))
            .arg(at("Maildir"));
        let output = command.env("TZ", zone).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read(at("mbox")).unwrap(), mbox, "the original is as it was");
        let maildir = at("Maildir");
        let list = fs::read_to_string(maildir.join("dovecot-uidlist")).unwrap();
        let mut lines = list.lines();
        let head = lines.next().unwrap();
        let number =
            |letter| head.split(' ').find_map(|field| field.strip_prefix(letter)?.parse().ok()).unwrap();
        let mail = lines.map(|line| read(&maildir, line)).collect::<Vec<_>>();
        let files = |part| fs::read_dir(maildir.join(part)).unwrap().count();
        assert_eq!(mail.len(), files("cur") + files("new"), "every file is listed");
        let keywords = fs::read_to_string(maildir.join("dovecot-keywords")).unwrap_or_default();
        Ok(Self {
            mail,
            numbers: (number('V'), number('N')),
            keywords: keywords.lines().map(keyword).collect(),
            _folder: folder,
        })
    }

    /// The messages as texts, for a test that knows how many there must be.
    pub fn texts<const N: usize>(&self) -> [String; N] {
        let texts: Vec<String> = self.mail.iter().map(Mail::text).collect();
        let count = texts.len();
        texts.clone().try_into().unwrap_or_else(|_| panic!("{count} messages instead of {N}: {texts:#?}"))
    }
}

/// A line of dovecot-uidlist: `UID FIELD... :NAME`.
fn read(maildir: &Path, line: &str) -> Mail {
    let (fields, name) = line.split_once(" :").unwrap();
    let uid = fields.split(' ').next().unwrap().parse().unwrap();
    for part in ["cur", "new"] {
        for entry in fs::read_dir(maildir.join(part)).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            let (base, flags) = file.split_once(":2,").unwrap_or((&file, ""));
            if base == name {
                return Mail {
                    uid,
                    bytes: fs::read(entry.path()).unwrap(),
                    flags: flags.to_owned(),
                    recent: part == "new",
                    date: entry.metadata().unwrap().mtime(),
                    name: name.to_owned(),
                };
            }
        }
    }
    panic!("{name} is listed and not there")
}

/// A line of dovecot-keywords: `NUMBER NAME`.
fn keyword(line: &str) -> (char, String) {
    let (number, name) = line.split_once(' ').unwrap();
    (char::from(b'a' + number.parse::<u8>().unwrap()), name.to_owned())
}
