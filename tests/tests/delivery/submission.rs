//! Just enough of SMTP and LMTP to hand a message over and hear whether it was taken.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mailready_tests::lab::{Doing, LabError, Machine, Result};

/// An LMTP delivery may wait for a lock of the mailbox.
const DEADLINE: Duration = Duration::from_secs(120);

/// The domain of all addresses.
pub const DOMAIN: &str = "mail.example.org";

/// Who has an account for what comes back.
pub const SENDER: &str = "eve";

/// What a server said of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is the server's now; with its answer.
    Taken(String),
    /// Not now.
    Later(String),
}

/// Hands a message over by SMTP.
///
/// # Errors
/// A final refusal, or a server that says something else than SMTP.
pub fn smtp(machine: &Machine, port: u16, user: &str, message: &[u8]) -> Result<Word> {
    let stream = machine.connect(port).doing(|| format!("connect to port {port}"))?;
    stream.set_read_timeout(Some(DEADLINE)).doing(|| "set a deadline")?;
    let writer: TcpStream = stream.try_clone().doing(|| "clone a connection")?;
    talk("EHLO", BufReader::new(stream), writer, user, message)
}

/// Delivers a message by LMTP.
///
/// # Errors
/// As [`smtp`].
pub fn lmtp(machine: &Machine, socket: &str, user: &str, message: &[u8]) -> Result<Word> {
    let stream = machine.inside(|| UnixStream::connect(socket))?.doing(|| format!("connect to {socket}"))?;
    stream.set_read_timeout(Some(DEADLINE)).doing(|| "set a deadline")?;
    let writer = stream.try_clone().doing(|| "clone a connection")?;
    talk("LHLO", BufReader::new(stream), writer, user, message)
}

fn talk(
    hello: &str,
    mut reader: impl BufRead,
    mut writer: impl Write,
    user: &str,
    message: &[u8],
) -> Result<Word> {
    let mut answer = String::new();
    let lines = [
        String::new(),
        format!("{hello} {DOMAIN}\r\n"),
        format!("MAIL FROM:<{SENDER}@{DOMAIN}>\r\n"),
        format!("RCPT TO:<{user}@{DOMAIN}>\r\n"),
        "DATA\r\n".to_owned(),
    ];
    for line in lines {
        answer = exchange(&mut reader, &mut writer, line.as_bytes())?;
        if answer.starts_with('4') {
            return Ok(Word::Later(answer));
        }
    }
    let mut data = Vec::new();
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(b".\r\n");
    if answer.starts_with('3') {
        answer = exchange(&mut reader, &mut writer, &data)?;
    }
    // The answer stands; whether the server hears of the end is its own business.
    let _ = writer.write_all(b"QUIT\r\n");
    match answer.as_bytes().first() {
        Some(b'2') => Ok(Word::Taken(answer)),
        Some(b'4') => Ok(Word::Later(answer)),
        _ => Err(LabError::Protocol { asked: "a message to be taken".into(), got: answer }),
    }
}

/// Sends, and reads one answer: its last line.
fn exchange(reader: &mut impl BufRead, writer: &mut impl Write, line: &[u8]) -> Result<String> {
    writer.write_all(line).doing(|| "write to a mail server")?;
    loop {
        let mut answer = String::new();
        reader.read_line(&mut answer).doing(|| "read from a mail server")?;
        if answer.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        let answer = answer.trim_end().to_owned();
        if matches!(answer.as_bytes().first(), Some(b'2'..=b'4')) {
            return Ok(answer);
        }
        return Err(LabError::Protocol { asked: String::from_utf8_lossy(line).into_owned(), got: answer });
    }
}
