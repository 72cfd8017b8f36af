//! Those who write into mailboxes. Real programs where the lab has them; of the others the exact bytes that they append.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};

use crate::lab::mail::Seeded;
use crate::lab::{Doing, LabError, Machine, Result, User};

use super::letters::{Letter, crlf, pick};
use super::stand::Stand;

/// A deliverer or another program that appends to an mbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliverer {
    /// The program of that name, to the inbox.
    Procmail,
    /// Dovecot's local delivery agent, to any folder.
    DovecotLda,
    /// Postfix local(8): two spaces before the date, quotes `From `.
    Postfix,
    /// Exim: one space, quotes `From `.
    Exim,
    /// maildrop: quotes `>From `, too.
    Maildrop,
    /// Pine's c-client saving from another folder: zone behind the year, its own metadata.
    Pine,
    /// mutt saving from another folder: quotes nothing, relies on Content-Length.
    Mutt,
    /// A gateway from a system with CRLF.
    Crlf,
    /// An old sendmail: zone word, `remote from`.
    Sendmail,
}

impl Deliverer {
    const ALL: [Self; 9] = [
        Self::Procmail,
        Self::DovecotLda,
        Self::Postfix,
        Self::Exim,
        Self::Maildrop,
        Self::Pine,
        Self::Mutt,
        Self::Crlf,
        Self::Sendmail,
    ];

    /// Any of them.
    pub fn any(random: &mut Seeded) -> Self {
        Self::ALL[pick(random, Self::ALL.len())]
    }

    /// Delivers to a folder, by its name as on the wire. No session must be open.
    ///
    /// # Errors
    /// If a program fails or a file cannot be written.
    pub fn deliver(self, stand: &Stand, user: &User, wire: &str, letter: &Letter) -> Result<()> {
        let machine = &stand.machine;
        let as_it_is = matches!(self, Self::DovecotLda | Self::Mutt);
        match self {
            _ if as_it_is && !letter.suits_dovecot() => {
                append(machine, user, &stand.mbox(user, wire), &Self::Postfix.written(letter))
            }
            // Without a recipe of the user's, procmail knows the inbox alone.
            Self::Procmail if wire == "INBOX" => {
                program(machine, "/usr/bin/procmail", &["-f", letter.sender, "-d", &user.name], letter)
            }
            Self::DovecotLda => {
                let zone = format!("TZ={}", stand.variation.zone);
                let name = stand.variation.client_name(&utf8(wire));
                let lda = [
                    &zone,
                    "/usr/lib/dovecot/dovecot-lda",
                    "-d",
                    &user.name,
                    "-f",
                    letter.sender,
                    "-m",
                    &name,
                ];
                program(machine, "/usr/bin/env", &lda, letter)
            }
            _ => append(machine, user, &stand.mbox(user, wire), &self.written(letter)),
        }
    }

    /// What is appended to the mbox.
    fn written(self, letter: &Letter) -> Vec<u8> {
        let Letter { sender, day, year, bytes } = letter;
        let (from, content) = match self {
            Self::Exim => (format!("From {sender} {day} {year}\n"), quoted(bytes, b"From ")),
            Self::Maildrop => (format!("From {sender} {day} {year}\n"), quoted_deeply(bytes)),
            Self::Pine => {
                let meta = b"Status: RO\nX-Status: A\nX-Keywords: \n";
                let plain: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
                let zone = if bytes.len() % 2 == 0 { "+0530" } else { "-0730" };
                (format!("From {sender} {day} {year} {zone}\n"), in_header(&quoted(&plain, b"From "), meta))
            }
            Self::Mutt => {
                let length = body(bytes).len();
                let meta = format!("Status: RO\nContent-Length: {length}\nLines: 9\n");
                (format!("From {sender} {day} {year}\n"), in_header(bytes, meta.as_bytes()))
            }
            Self::Crlf => {
                let lf: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
                (format!("From {sender} {day} {year}\r\n"), crlf(&quoted(&lf, b"From ")))
            }
            Self::Sendmail => {
                let from = match bytes.len() % 3 {
                    0 => format!("From {sender} {day} MET {year}\n"),
                    1 => format!("From {sender} {day} {year} remote from gateway\n"),
                    _ => format!("From {sender} {day} +0300 {year}\n"),
                };
                (from, quoted(bytes, b"From "))
            }
            Self::Procmail | Self::DovecotLda | Self::Postfix => {
                (format!("From {sender}  {day} {year}\n"), quoted(bytes, b"From "))
            }
        };
        let end: &[u8] = if self == Self::Crlf { b"\r\n" } else { b"\n" };
        [from.as_bytes(), &content, end].concat()
    }
}

/// Appends as its owner does; a file that is new gets its owner.
///
/// # Errors
/// As the system calls.
pub fn append(machine: &Machine, user: &User, path: &str, bytes: &[u8]) -> Result<()> {
    machine
        .inside(|| {
            let mut mbox = OpenOptions::new().create(true).append(true).open(path)?;
            if mbox.metadata()?.uid() != user.uid {
                chown(path, Some(user.uid), None)?;
            }
            mbox.write_all(bytes)
        })?
        .doing(|| format!("append to {path}"))
}

fn program(machine: &Machine, program: &str, args: &[&str], letter: &Letter) -> Result<()> {
    let output = machine.output(program, args, &letter.bytes)?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Command {
        command: format!("{program} {}", args.join(" ")),
        said: format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    })
}

/// With `>` before each line that begins with `what`.
fn quoted(bytes: &[u8], what: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .flat_map(|line| if line.starts_with(what) { [b">", line].concat() } else { line.to_vec() })
        .collect()
}

/// With `>` before each line that begins with any number of them and `From `.
fn quoted_deeply(bytes: &[u8]) -> Vec<u8> {
    let bare = |line: &[u8]| line.iter().position(|byte| *byte != b'>').unwrap_or(0);
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .flat_map(|line| {
            if line[bare(line)..].starts_with(b"From ") { [b">", line].concat() } else { line.to_vec() }
        })
        .collect()
}

/// With `more` at the end of the header.
fn in_header(bytes: &[u8], more: &[u8]) -> Vec<u8> {
    let (head, body) = bytes.split_at(bytes.len() - body(bytes).len());
    match head.strip_suffix(b"\n") {
        Some(lines) if lines.is_empty() || lines.ends_with(b"\n") => [lines, more, b"\n", body].concat(),
        _ => [head, more, body].concat(),
    }
}

/// What stands behind the first empty line.
fn body(bytes: &[u8]) -> &[u8] {
    if let Some(body) = bytes.strip_prefix(b"\n") {
        return body;
    }
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    end.map_or(&[], |end| &bytes[end + 2..])
}

/// dovecot-lda takes names in UTF-8. Only the names of this harness come here, and they are listed where they are made.
fn utf8(name: &str) -> String {
    let all = super::names::PLAIN.iter().chain(&super::names::WITH_DOTS);
    all.copied().find(|plain| super::names::wire(plain) == name).unwrap_or(name).to_owned()
}
