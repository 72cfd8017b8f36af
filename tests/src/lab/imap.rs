//! A small, strict IMAP client (RFC 3501) that keeps every byte as the server sent it.
//!
//! It understands just enough of the grammar to cut responses into atoms, strings, literals and lists. Anything that it does
//! not understand is an error: a lenient client would hide the differences that the tests look for.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::error::{Doing, LabError, Result};
use super::machine::Machine;

/// No answer of a healthy server takes this long, post-login script included.
const DEADLINE: Duration = Duration::from_secs(50);

/// One element of a response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// An atom, a flag, a number, `NIL`, or a bracketed section name such as `BODY[]`.
    Atom(String),
    /// A quoted string or a literal, its bytes.
    Bytes(Vec<u8>),
    /// A parenthesised list.
    List(Vec<Item>),
}

impl Item {
    /// The text of an atom or string; bytes that are no UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Atom(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::text).collect();
                format!("({})", items.join(" "))
            }
        }
    }

    /// The elements of a list; an atom or string is a list of one.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            other => std::slice::from_ref(other),
        }
    }
}

/// One untagged response, cut into its elements, `*` left out; or the tagged one, tag left out.
pub type Response = Vec<Item>;

/// What a command brought.
#[derive(Debug)]
pub struct Answer {
    /// All untagged responses, in order.
    pub untagged: Vec<Response>,
    /// `OK`, `NO` or `BAD`.
    pub status: String,
    /// The rest of the tagged line.
    pub text: String,
}

/// A mailbox name as a quoted string.
#[must_use]
pub fn quoted(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A connection to an IMAP server.
pub struct Imap {
    stream: BufReader<TcpStream>,
    commands: u32,
    /// The greeting, without `* `.
    pub greeting: String,
}

impl Imap {
    /// Connects to the machine's IMAP port and reads the greeting.
    ///
    /// # Errors
    /// If there is no server or it does not greet.
    pub fn connect(machine: &Machine) -> Result<Self> {
        let stream = machine.connect(143).doing(|| "connect to IMAP")?;
        stream.set_read_timeout(Some(DEADLINE)).doing(|| "set a deadline")?;
        let mut client = Self { stream: BufReader::new(stream), commands: 0, greeting: String::new() };
        let line = client.line()?;
        let greeting = String::from_utf8_lossy(&line).into_owned();
        match greeting.strip_prefix("* OK ") {
            Some(text) => client.greeting = text.to_owned(),
            None => return Err(unexpected("a greeting", &greeting)),
        }
        Ok(client)
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// If the login is refused.
    pub fn login(machine: &Machine, user: &str, password: &str) -> Result<Self> {
        let mut client = Self::connect(machine)?;
        client.ok(&format!("LOGIN {user} {password}"))?;
        Ok(client)
    }

    /// Sends a command, and reads to its tagged answer, whatever it says.
    ///
    /// # Errors
    /// If the connection ends or the server does not speak IMAP.
    pub fn command(&mut self, command: &str) -> Result<Answer> {
        let tag = self.send(command)?;
        self.finish(&tag, command)
    }

    /// Sends a command and does not wait; its answer comes by [`Self::finish`].
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn send(&mut self, command: &str) -> Result<String> {
        self.send_bytes(command.as_bytes())
    }

    fn send_bytes(&mut self, command: &[u8]) -> Result<String> {
        self.commands += 1;
        let tag = format!("a{}", self.commands);
        let line = [tag.as_bytes(), b" ", command, b"\r\n"].concat();
        self.stream
            .get_mut()
            .write_all(&line)
            .doing(|| format!("send {}", String::from_utf8_lossy(&command[..command.len().min(80)])))?;
        Ok(tag)
    }

    /// Reads to the tagged answer of a command sent before.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn finish(&mut self, tag: &str, command: &str) -> Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let mut response = self.response()?;
            if response.is_empty() {
                return Err(unexpected(command, "an empty line"));
            }
            let first = response.remove(0).text();
            if first == "*" {
                untagged.push(response);
            } else if first == tag {
                let words: Vec<_> = response.iter().map(Item::text).collect();
                let status = words.first().cloned().unwrap_or_default();
                return Ok(Answer { untagged, status, text: words.get(1..).unwrap_or_default().join(" ") });
            } else {
                return Err(unexpected(command, &format!("a line that begins with {first:?}")));
            }
        }
    }

    /// Sends a command that must succeed.
    ///
    /// # Errors
    /// [`LabError::Protocol`] if the server says anything but `OK`.
    pub fn ok(&mut self, command: &str) -> Result<Answer> {
        let answer = self.command(command)?;
        if answer.status == "OK" {
            return Ok(answer);
        }
        Err(unexpected(command, &format!("{} {}", answer.status, answer.text)))
    }

    /// Saves a message in a folder, with the arguments that stand between them (flags, date), as a client with a copy of its
    /// own does it.
    ///
    /// # Errors
    /// As [`Self::ok`].
    pub fn append(&mut self, folder: &[u8], arguments: &str, message: &[u8]) -> Result<Answer> {
        let mut command =
            format!("APPEND {}{arguments} {{{}+}}\r\n", quoted(folder), message.len()).into_bytes();
        command.extend_from_slice(message);
        let tag = self.send_bytes(&command)?;
        let answer = self.finish(&tag, "APPEND")?;
        if answer.status == "OK" {
            return Ok(answer);
        }
        Err(unexpected("APPEND", &format!("{} {}", answer.status, answer.text)))
    }

    /// Says goodbye and waits until the server has closed, so that all it had to write is written.
    ///
    /// # Errors
    /// If the server does not take its leave.
    pub fn logout(mut self) -> Result<()> {
        self.ok("LOGOUT")?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).doing(|| "read to the end after LOGOUT")?;
        Ok(())
    }

    /// The underlying connection, for tests that break it.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// A line up to CRLF, which is not given back.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).doing(|| "read from the IMAP server")?;
        match line.strip_suffix(b"\r\n") {
            Some(whole) => Ok(whole.to_vec()),
            None if line.is_empty() => Err(unexpected("a line", "the end of the connection")),
            None => Err(unexpected("a line with CRLF", &String::from_utf8_lossy(&line))),
        }
    }

    /// One response: lines as long as they end in the announcement of a literal, the literals between them.
    fn response(&mut self) -> Result<Response> {
        let mut lists: Vec<Vec<Item>> = vec![Vec::new()];
        loop {
            let line = self.line()?;
            let literal = Parser { line: &line, at: 0 }.items(&mut lists)?;
            let Some(length) = literal else { break };
            let mut bytes = vec![0; length];
            self.stream.read_exact(&mut bytes).doing(|| "read a literal")?;
            push(&mut lists, Item::Bytes(bytes));
        }
        match (lists.pop(), lists.is_empty()) {
            (Some(items), true) => Ok(items),
            _ => Err(unexpected("a response", "a list that does not end")),
        }
    }
}

fn push(lists: &mut [Vec<Item>], item: Item) {
    if let Some(innermost) = lists.last_mut() {
        innermost.push(item);
    }
}

struct Parser<'a> {
    line: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    /// Cuts one line into elements; gives back the length of the literal that the line announces at its end.
    fn items(&mut self, lists: &mut Vec<Vec<Item>>) -> Result<Option<usize>> {
        while let Some(&byte) = self.line.get(self.at) {
            // Human text follows a status word: it is free, and no grammar holds in it.
            if lists.len() == 1 && is_status(&lists[0]) && byte != b' ' {
                let text = String::from_utf8_lossy(&self.line[self.at..]).into_owned();
                push(lists, Item::Atom(text));
                return Ok(None);
            }
            self.at += 1;
            match byte {
                b' ' => {}
                b'(' => lists.push(Vec::new()),
                b')' => {
                    let (Some(list), false) = (lists.pop(), lists.is_empty()) else {
                        return Err(self.bad("a closing parenthesis too many"));
                    };
                    push(lists, Item::List(list));
                }
                b'"' => {
                    let string = self.quoted()?;
                    push(lists, Item::Bytes(string));
                }
                b'{' => {
                    let digits =
                        self.line[self.at..].strip_suffix(b"}").ok_or_else(|| self.bad("a literal"))?;
                    let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                    return length.map(Some).ok_or_else(|| self.bad("a literal's length"));
                }
                _ => {
                    let atom = self.atom();
                    push(lists, Item::Atom(atom));
                }
            }
        }
        Ok(None)
    }

    fn quoted(&mut self) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        loop {
            let byte =
                self.line.get(self.at).copied().ok_or_else(|| self.bad("a quoted string without end"))?;
            self.at += 1;
            match byte {
                b'"' => return Ok(string),
                b'\\' => {
                    string.push(
                        self.line.get(self.at).copied().ok_or_else(|| self.bad("an escape without end"))?,
                    );
                    self.at += 1;
                }
                other => string.push(other),
            }
        }
    }

    /// From the byte before `at` to the next delimiter; a section in brackets belongs to its atom, blanks and all.
    fn atom(&mut self) -> String {
        let start = self.at - 1;
        let mut brackets = usize::from(self.line[start] == b'[');
        while let Some(&byte) = self.line.get(self.at) {
            match byte {
                b'[' => brackets += 1,
                b']' => brackets = brackets.saturating_sub(1),
                b' ' | b'(' | b')' if brackets == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        String::from_utf8_lossy(&self.line[start..self.at]).into_owned()
    }

    fn bad(&self, what: &str) -> LabError {
        unexpected("IMAP", &format!("{what} in {:?}", String::from_utf8_lossy(self.line)))
    }
}

/// Whether the elements so far are `* OK` or `a1 NO`, so that human text follows.
fn is_status(items: &[Item]) -> bool {
    matches!(items, [_, Item::Atom(word)] if matches!(word.as_str(), "OK" | "NO" | "BAD" | "BYE" | "PREAUTH"))
}

fn unexpected(asked: &str, got: &str) -> LabError {
    let mut shown = String::new();
    for character in got.chars().take(300) {
        if character.is_control() {
            // A string takes every write.
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    LabError::Protocol { asked: asked.into(), got: shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> Result<(Vec<Item>, Option<usize>)> {
        let mut lists = vec![Vec::new()];
        let literal = Parser { line, at: 0 }.items(&mut lists)?;
        Ok((lists.remove(0), literal))
    }

    fn atom(text: &str) -> Item {
        Item::Atom(text.into())
    }

    #[test]
    fn a_fetch_response_is_cut_into_its_elements() {
        let (items, literal) =
            parse(br#"* 1 FETCH (UID 7 FLAGS (\Seen $x) INTERNALDATE " 1-Jan-2026 00:00:00 +0000")"#)
                .unwrap();
        assert_eq!(literal, None);
        assert_eq!(items.len(), 4);
        let flags = Item::List(vec![atom("\\Seen"), atom("$x")]);
        let date = Item::Bytes(b" 1-Jan-2026 00:00:00 +0000".to_vec());
        let facts = vec![atom("UID"), atom("7"), atom("FLAGS"), flags, atom("INTERNALDATE"), date];
        assert_eq!(items[3], Item::List(facts));
    }

    #[test]
    fn a_section_keeps_its_blanks_and_a_literal_is_announced() {
        let mut lists = vec![Vec::new()];
        let line = b"* 1 FETCH (BODY[HEADER.FIELDS (SUBJECT)] {12}";
        let literal = Parser { line, at: 0 }.items(&mut lists).unwrap();
        assert_eq!(literal, Some(12));
        assert_eq!(lists[1], [atom("BODY[HEADER.FIELDS (SUBJECT)]")]);
    }

    #[test]
    fn human_text_may_hold_anything() {
        let (items, _) = parse(b"* OK [UIDVALIDITY 5] it's (\"fine").unwrap();
        assert_eq!(items[2], atom("[UIDVALIDITY 5] it's (\"fine"));
    }

    #[test]
    fn what_is_no_imap_is_refused() {
        assert!(parse(b"* LIST )").is_err());
        assert!(parse(b"* LIST \"x").is_err());
        assert!(parse(b"* 1 FETCH {x}").is_err());
    }
}
