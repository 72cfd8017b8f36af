//! Dovecot's splitting once more, written for clearness on a whole file in memory and without a look at the engine: an oracle for
//! generated mailboxes. Its From_ grammar is that of the generators: a line that begins with `From good@`.

/// The messages, as clients see them; `None` if the file is no mbox.
pub fn messages(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut messages = Vec::new();
    if data.is_empty() {
        return Some(messages);
    }
    let mut from = 0;
    while from < data.len() {
        if !is_separator_line(&data[from..]) {
            return None;
        }
        let header = from + line_length(&data[from..]);
        let end = end_of_message(data, header);
        messages.push(without_hidden(&data[header..end]));
        from = end + separator_length(&data[end..]);
    }
    Some(messages)
}

fn line_length(data: &[u8]) -> usize {
    data.iter().position(|b| *b == b'\n').map_or(data.len(), |i| i + 1)
}

fn is_separator_line(data: &[u8]) -> bool {
    data.starts_with(b"From good@") && data.contains(&b'\n')
}

/// LF or CRLF at the beginning.
fn separator_length(data: &[u8]) -> usize {
    if data.starts_with(b"\r\n") { 2 } else { usize::from(data.starts_with(b"\n")) }
}

fn natural_end(data: &[u8], header: usize) -> usize {
    let mut lf = header;
    while lf < data.len() {
        let candidate = data[lf..].starts_with(b"\nFrom ");
        if candidate && is_separator_line(&data[lf + 1..]) {
            let cr = lf > header && data[lf - 1] == b'\r';
            return lf - usize::from(cr);
        }
        // Dovecot's scanner loses the byte behind a candidate.
        lf += if candidate { 7 } else { 1 };
    }
    let body = &data[header..];
    let body = body.strip_suffix(b"\n").map_or(body, |b| b.strip_suffix(b"\r").unwrap_or(b));
    header + body.len()
}

fn end_of_message(data: &[u8], header: usize) -> usize {
    let natural = natural_end(data, header);
    let mut at = header;
    let mut length = None;
    // The Content-Length under way, with the lines that continue it, and whether all of them are whole.
    let mut open: Option<(String, bool)> = None;
    while at < natural {
        let line = &data[at..natural.min(at + line_length(&data[at..]))];
        let next = at + line.len();
        if line == b"\n" || line == b"\r\n" {
            let Some(length) = length.or(open.and_then(|(value, _)| number(&value))) else { return natural };
            return if next + length > natural {
                lands(data, next, length).unwrap_or(natural)
            } else {
                natural
            };
        }
        let text = String::from_utf8_lossy(line).to_ascii_lowercase();
        let whole = line.ends_with(b"\n");
        if let (Some((value, all_whole)), true) = (&mut open, text.starts_with([' ', '\t'])) {
            value.push_str(&text);
            *all_whole = whole;
        } else {
            length = length.or(open.take().and_then(|(value, _)| number(&value)));
            open = text.strip_prefix("content-length: ").map(|value| (value.to_owned(), whole));
        }
        at = next;
    }
    // No empty line: the one that separates a body beginning with From_ from its header looked like a separator.
    let length = length.or(open.filter(|(_, whole)| *whole).and_then(|(value, _)| number(&value)));
    let Some(length) = length.filter(|l| *l > 0) else { return natural };
    let separator = separator_length(&data[natural..]);
    let blank = if natural == header { separator == 1 } else { data[natural - 1] == b'\n' };
    lands(data, natural + if blank { separator } else { 0 }, length).unwrap_or(natural)
}

fn number(value: &str) -> Option<usize> {
    value.trim_end_matches(['\n', '\r', ' ', '\t']).parse().ok()
}

fn lands(data: &[u8], body: usize, length: usize) -> Option<usize> {
    let at = body.checked_add(length).filter(|at| *at < data.len())?;
    let rest = &data[at..];
    let separator = separator_length(rest);
    let lands = separator > 0 && (rest.len() == separator || is_separator_line(&rest[separator..]));
    if lands && separator == 1 && length > 0 && data[at - 1] == b'\r' {
        return Some(at - 1);
    }
    lands.then_some(at)
}

fn without_hidden(message: &[u8]) -> Vec<u8> {
    const HIDDEN: [&str; 7] =
        ["content-length", "status", "x-imap", "x-imapbase", "x-keywords", "x-status", "x-uid"];
    let mut out = Vec::new();
    let (mut at, mut hidden, mut first) = (0, false, true);
    while at < message.len() {
        let line = &message[at..at + line_length(&message[at..])];
        at += line.len();
        let (text, end): (&[u8], &[u8]) = match line.strip_suffix(b"\n") {
            Some(text) => (text.strip_suffix(b"\r").unwrap_or(text), b"\n"),
            // Cut off: Dovecot ends it when it adds its own headers.
            None => (line.strip_suffix(b"\r").unwrap_or(line), b"\n"),
        };
        if text.is_empty() {
            out.extend_from_slice(b"\n");
            break;
        }
        let mut text = text.to_vec();
        if first || !(text.starts_with(b" ") || text.starts_with(b"\t")) {
            hidden = false;
            if let Some(colon) = text.iter().position(|b| *b == b':') {
                let blanks = text[..colon].iter().rev().take_while(|b| b" \t".contains(b)).count();
                let end = colon - blanks;
                // A NUL ends the name, and what is behind it in the name is lost.
                let nul = text[..end].iter().position(|b| *b == 0).unwrap_or(end);
                text.drain(nul..end);
                hidden =
                    HIDDEN.contains(&String::from_utf8_lossy(&text[..nul]).to_ascii_lowercase().as_str());
            }
        }
        first = false;
        if !hidden {
            out.extend_from_slice(&text);
            out.extend_from_slice(end);
        }
    }
    out.extend_from_slice(&message[at..]);
    out
}
