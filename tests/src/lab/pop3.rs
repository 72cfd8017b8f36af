//! A small, strict POP3 client (RFC 1939) that keeps every byte as the server sent it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::error::{Doing, LabError, Result};
use super::machine::Machine;

/// A connection to a POP3 server, logged in.
pub struct Pop3 {
    stream: BufReader<TcpStream>,
}

impl Pop3 {
    /// Connects to the machine's POP3 port and logs in.
    ///
    /// # Errors
    /// If there is no server or it refuses.
    pub fn login(machine: &Machine, user: &str, password: &str) -> Result<Self> {
        let stream = machine.connect(110).doing(|| "connect to POP3")?;
        stream.set_read_timeout(Some(Duration::from_secs(50))).doing(|| "set a deadline")?;
        let mut client = Self { stream: BufReader::new(stream) };
        client.status("a greeting")?;
        client.command(&format!("USER {user}"))?;
        client.command(&format!("PASS {password}"))?;
        Ok(client)
    }

    /// Sends a command; the text behind `+OK`.
    ///
    /// # Errors
    /// [`LabError::Protocol`] on `-ERR`.
    pub fn command(&mut self, command: &str) -> Result<String> {
        self.stream
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())
            .doing(|| format!("send {command}"))?;
        self.status(command)
    }

    /// Sends a command with an answer of many lines; all bytes of it, dots unstuffed, without the last line.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn lines(&mut self, command: &str) -> Result<Vec<u8>> {
        self.command(command)?;
        let mut content = Vec::new();
        loop {
            let line = self.line()?;
            if line == b".\r\n" {
                return Ok(content);
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Ends the session in order: deletions happen, locks go.
    ///
    /// # Errors
    /// If the server does not agree.
    pub fn quit(mut self) -> Result<()> {
        self.command("QUIT")?;
        let mut rest = Vec::new();
        self.stream.read_until(0, &mut rest).doing(|| "read to the end after QUIT")?;
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).doing(|| "read from the POP3 server")?;
        if line.ends_with(b"\r\n") {
            return Ok(line);
        }
        Err(LabError::Protocol { asked: "a line".into(), got: String::from_utf8_lossy(&line).into_owned() })
    }

    fn status(&mut self, asked: &str) -> Result<String> {
        let line = self.line()?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match line.strip_prefix("+OK") {
            Some(text) => Ok(text.trim().to_owned()),
            None => Err(LabError::Protocol { asked: asked.into(), got: line }),
        }
    }
}
